"""Progress of statements that wait: on a terminal, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from tests.sql.conftest import Web

SCRIPT = """
import sys, mediasql
from mediasql import progress
from tests.clock import Clock
if "slow" not in sys.argv[1]:  # where nothing waits, time does not pass, however busy the machine is
    progress.time = Clock()
    progress.time.stop()
con = mediasql.connect(concurrency=2, **({"progress": sys.argv[2]} if len(sys.argv) > 2 else {}))
con.execute("CREATE TABLE t(u)")
con.executemany("INSERT INTO t VALUES (?)", [(f"{sys.argv[1]}?{n}",) for n in range(12)])
print(con.execute("SELECT count(width(u)) FROM t").get)
"""


def run(url: str, *progress: str, terminal: bool) -> str:
    """Standard error of the script, on a terminal or through a pipe."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    command = [sys.executable, "-c", SCRIPT, url, *progress]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave if terminal else subprocess.PIPE) as child:
        os.close(slave)
        shown = b""
        if terminal:
            while True:
                try:
                    part = os.read(master, 4096)
                except OSError:  # how Linux says that the other end is closed
                    break
                if not part:
                    break
                shown += part
        output, piped = child.communicate(timeout=120)
    os.close(master)
    assert child.returncode == 0
    assert output == b"12\n"
    return (shown if terminal else piped).decode()


def on_screen(text: str) -> str:
    """What is left on the line."""
    line = ""
    for part in text.split("\r"):
        line = part + line[len(part) :]
    return line.strip()


@pytest.mark.parametrize(
    ("terminal", "progress", "behaviour", "seen"),
    [
        (True, (), "slow/300/", True),
        (True, (), "", False),
        (True, ("off",), "slow/300/", False),
        (False, (), "slow/300/", False),
        (False, ("on",), "slow/100/", True),
    ],
)
def test_a_bar(web: Web, terminal: bool, progress: tuple[str, ...], behaviour: str, seen: bool) -> None:
    shown = run(web.url(1, behaviour), *progress, terminal=terminal)
    if not seen:
        assert shown == ""
        return
    assert "files" in shown
    assert "MB" in shown
    assert "files/s" in shown
    assert on_screen(shown) == ""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_no_process_is_started_for_a_bar(method: str) -> None:
    """tqdm's own lock is for processes, and has Python start its resource tracker, where forkserver is the default."""
    code = f"""
import multiprocessing, os, sys, time
multiprocessing.set_start_method({method!r})
import mediasql
for progress in (None, True, False):
    con = mediasql.connect(progress=progress)
    con.execute("CREATE TABLE t(u); INSERT INTO t VALUES (x'00'), (x'01')")
    con.add_computed_column("t", "w", "width(u)")
    con.refresh_computed_columns("t")
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("no child")
print("multiprocessing.resource_tracker" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no child\nFalse\n"
    assert "computing" in done.stderr
