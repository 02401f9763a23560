"""The shell: its arguments, scripts, failures and exit status, and Ctrl-C on a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import picture
from tests.waiting import eventually


def shell(*arguments: str, script: str = "", **environment: str) -> tuple[str, str, int]:
    """Standard output, standard error and exit status of `python -m mediasql`."""
    done = subprocess.run(
        [sys.executable, "-m", "mediasql", *arguments],
        input=script,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    return done.stdout, done.stderr, done.returncode


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "photo.jpg").write_bytes(picture(64, 48))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_database_and_sql() -> None:
    made = "CREATE TABLE t(image, w AS (width(image))); INSERT INTO t VALUES ('photo.jpg')"
    assert shell("photos.db", made) == ("", "", 0)
    assert shell("photos.db", "SELECT image, w FROM t") == ("photo.jpg|64\n", "", 0)
    assert shell("-list", "-separator", ";", "photos.db", "SELECT image, w FROM t")[0] == "photo.jpg;64\n"
    assert shell("-csv", "-header", "photos.db", "SELECT w FROM t")[0].split() == ["w", "64"]
    assert '"w": 64' in shell("-json", "photos.db", "SELECT w FROM t")[0]
    assert "64" in shell("-box", "photos.db", "SELECT w FROM t")[0]


def test_scripts(folder: Path) -> None:
    (folder / "ask.sql").write_text("SELECT width('photo.jpg');\n")
    assert shell(script="SELECT 1;\n.read ask.sql\nSELECT height('photo.jpg');\n") == ("1\n64\n48\n", "", 0)
    assert shell("-init", "ask.sql", script="SELECT 2;\n") == ("64\n2\n", "", 0)
    assert shell(":memory:", ".read ask.sql") == ("64\n", "", 0)
    assert shell(script=".open other.db\nSELECT width('photo.jpg');\n") == ("64\n", "", 0)


def test_version_and_help() -> None:
    expected = f"mediasql {mediasql.__version__}, SQLite {apsw.sqlite_lib_version()}\n"
    assert shell("-version") == (expected, "", 0) == shell("--version")
    for option in ("-help", "--help"):
        out, err, status = shell(option)
        assert "usage: mediasql [OPTIONS] [FILE]" in out + err
        assert status == 0


def test_what_fails_shows_in_the_exit_status() -> None:
    out, err, status = shell(":memory:", "SELECT no_column")
    assert (out, status) == ("", 1)
    assert "no such column: no_column" in err
    out, err, status = shell(":memory:", "SELECT width('nowhere://x')")
    assert (out, status) == ("", 1)
    assert "width('nowhere://x')" in err
    assert "Traceback" not in err
    out, err, status = shell("no/such/folder/x.db", "SELECT 1")
    assert status == 1
    assert "unable to open database file" in err
    out, err, status = shell(script="SELECT no_column;\nSELECT 2;\n")
    assert (out, status) == ("2\n", 1)
    assert err.startswith("no such column: no_column")
    assert shell("-bail", script="SELECT no_column;\nSELECT 2;\n")[::2] == ("", 1)
    out, err, status = shell("-nonsense")
    assert status == 1
    assert "nonsense" in err


@pytest.mark.parametrize("script", ["", "SELECT 1;\n"])
def test_a_variable_that_is_not_valid(script: str) -> None:
    out, err, status = shell(script=script, MEDIASQL_TIMEOUT="soon")
    assert (out, status) == ("", 1)
    assert re.fullmatch(r"mediasql: MEDIASQL_TIMEOUT: 'soon' is not valid.*\n", err)


def test_failures_are_counted_for_each_statement() -> None:
    one = "1 value failed and is NULL; to see why: SELECT * FROM media_errors\n"
    two = "2 values failed and are NULL; to see why: SELECT * FROM media_errors\n"
    missing = "SELECT width('a.jpg') IS NULL"
    assert shell(":memory:", missing) == ("1\n", one, 0)
    assert shell(":memory:", f"{missing} AND height('a.jpg') IS NULL") == ("1\n", two, 0)
    assert shell(script=f"{missing};\nSELECT 1;\n{missing};\n.tables\n") == ("1\n1\n1\n", one + one, 0)
    assert shell(":memory:", "SELECT width(NULL), width('photo.jpg')") == ("|64\n", "", 0)
    script = "CREATE TABLE t(i, w AS (width(i)) STORED);\nINSERT INTO t VALUES ('a.jpg');\nSELECT count(*) FROM t;\n"
    assert shell(script=script) == ("1\n", one, 0)


def test_what_failed_for_the_moment_is_told_once(http_server: HttpServer) -> None:
    failing = f"SELECT width('{http_server.at('s/500/a.jpg')}') IS NULL"
    one = "1 value failed and is NULL; to see why: SELECT * FROM media_errors\n"
    assert shell(":memory:", failing, MEDIASQL_TIMEOUT="0.2", PYTHONWARNINGS="error::UserWarning") == ("1\n", one, 0)


class Terminal:
    """The shell on a pseudo-terminal."""

    def __init__(self) -> None:
        self.process, self.file = pty.fork()
        if self.process == 0:
            os.execv(sys.executable, [sys.executable, "-m", "mediasql"])
        self.shown = ""

    def expect(self, text: str, seconds: float = 60) -> None:
        """Wait for `text`; what is shown up to it is forgotten."""
        end = time.monotonic() + seconds
        while text not in self.shown:
            ready, _, _ = select.select([self.file], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} did not come; shown: {self.shown!r}"
            self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", os.read(self.file, 10_000).decode(errors="replace"))
        self.shown = self.shown.partition(text)[2]

    def type(self, text: str) -> None:
        os.write(self.file, text.encode())

    def close(self) -> None:
        os.close(self.file)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "600")
    opened = Terminal()
    yield opened
    opened.close()


def test_ctrl_c_on_a_terminal(terminal: Terminal, http_server: HttpServer) -> None:
    """A fetch that hangs is given up at once, and the shell goes on."""
    terminal.expect(f"mediasql {mediasql.__version__}")
    terminal.expect("sqlite> ")
    for _ in range(2):
        http_server.reset()
        terminal.type(f"SELECT width('{http_server.url}/hang/x.jpg');\n")
        eventually(http_server.requests)
        terminal.type("\x03")
        terminal.expect("sqlite> ")
        terminal.type("SELECT 'still' || ' here', width('photo.jpg');\n")
        terminal.expect("still here")
        terminal.expect("64")
        terminal.expect("sqlite> ")
    terminal.type("SELECT width('a.jpg') IS NULL;\n")
    terminal.expect("1 value failed and is NULL; to see why")
