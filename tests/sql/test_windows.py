"""mediasql without what Python lacks on Windows; see tests/windows.py for what that is, and what it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mediasql
from tests import example_media
from tests.sql.conftest import Web

ROOT = Path(mediasql.__file__).parents[1]


def on_windows(code: str, *arguments: object) -> str:
    """What `code` prints. It may neither warn nor write to standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"from tests import windows\nwindows.simulate()\n{code}"]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    example_media.write(tmp_path)
    return tmp_path


ATTEMPTS = """
import ctypes, os, select, sys
file = open(sys.argv[1], "w")
for attempt in (
    lambda: __import__("fcntl"),
    lambda: os.O_NONBLOCK,
    lambda: os.register_at_fork(before=print),
    lambda: select.epoll(),
    lambda: ctypes.CDLL(None),
    lambda: os.unlink(file.name),
    lambda: os.replace(__file__, file.name),
):
    try:
        attempt()
    except Exception as error:
        print(type(error).__name__)
file.close()
os.unlink(file.name)
"""


def test_what_is_simulated(tmp_path: Path) -> None:
    """A test that nothing could fail shows nothing."""
    assert on_windows(f"__file__ = {__file__!r}\n{ATTEMPTS}", tmp_path / "open.txt").split() == [
        "ModuleNotFoundError",
        "AttributeError",
        "AttributeError",
        "AttributeError",
        "TypeError",
        "PermissionError",
        "PermissionError",
    ]


IMPORTS = """
import importlib, pkgutil, mediasql
for module in pkgutil.walk_packages(mediasql.__path__, "mediasql."):
    if module.name.rpartition(".")[2] not in ("__main__", "mediasql"):  # the second is the loadable extension
        importlib.import_module(module.name)
        print(module.name)
"""


def test_all_modules_can_be_imported() -> None:
    assert len(on_windows(IMPORTS).split()) > 100


LOCAL = """
import sys, mediasql
con = mediasql.connect()
folder = sys.argv[1]
print(con.execute("SELECT width(?1), mime_type(?1), media_error(?1)", (f"{folder}/photo.jpg",)).get)
print(con.execute("SELECT duration(?1), frame_count(?1)", (f"file://{folder}/clip.mp4",)).get)
print(con.execute("SELECT width(thumbnail(?, 32, 32))", (f"{folder}/photo.jpg",)).get)
print(con.execute("SELECT count(*), sum(size > 1000) FROM media(?)", (f"{folder}/*",)).get)
print(con.execute("SELECT width(?1), media_error(?1)", (f"{folder}/none.jpg",)).get)
print(con.execute("SELECT count(*) FROM media_errors").get)
con.close()
"""


def test_local_files(folder: Path) -> None:
    assert on_windows(LOCAL, folder).splitlines() == [
        "(640, 'image/jpeg', None)",
        "(2.0, 50)",
        "24",
        "(3, 3)",
        "(None, 'no such file')",
        "1",
    ]


WEB = """
import sys, mediasql
con = mediasql.connect(sys.argv[1])
urls = sys.argv[2:]
con.execute("CREATE TABLE IF NOT EXISTS t(u, w AS (width(u)) STORED)")
con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
print(con.execute("SELECT sum(w), sum(height(u)), sum(length(content(u))) > 1000 FROM t").get)
print(con.execute("SELECT count(local_path(u)) FROM t").get)
con.close()
"""


def test_the_web_and_the_cache(tmp_path: Path, web: Web) -> None:
    """What one process fetched, the next one has."""
    urls = [web.url(number) for number in range(10)]
    first = on_windows(WEB, tmp_path / "a.db", *urls)
    assert first.splitlines() == ["(1045, 500, 1)", "10"]
    assert set(web.asked()) == {f"/p{number}.jpg" for number in range(10)}
    assert on_windows(WEB, tmp_path / "b.db", *urls) == first
    assert web.asked() == {}


EVICTION = """
import os, sys, mediasql
con = mediasql.connect(cache_size=40_000)
paths = []
for url in sys.argv[1:]:
    assert con.execute("SELECT length(content(?))", (url,)).get == 9000
    paths.append(con.execute("SELECT local_path(?)", (url,)).get)
    assert os.path.getsize(paths[-1]) == 9000
con.close()
"""


def test_the_cache_makes_room(environment: Path, web: Web) -> None:
    names = [f"noise{number}.jpg" for number in range(10)]
    for name in names:
        web.server.put("", name, name.encode().ljust(9000))
    on_windows(EVICTION, *(f"{web.server.url}/{name}" for name in names))
    left = list((environment / "mediasql-cache").rglob("*.jpg"))
    assert 1 <= len(left) <= 4


CLEANING = """
import os, sys, time, mediasql
url, dead = sys.argv[1:]
con = mediasql.connect()
assert con.execute("SELECT length(content(?)) > 0", (url,)).get
for _ in range(1200):  # it is cleaned beside the statements, and where the process ends before, by the next one
    if not os.path.exists(dead):
        break
    time.sleep(0.05)
con.close()
"""


def test_what_a_dead_process_left_is_removed(environment: Path, web: Web) -> None:
    """With its lock, which cannot be deleted there while whoever cleans has it open."""
    dead = environment / "mediasql-cache/bytes-v1/files/18ecdb60dccb48ef-5a0e-7701b9"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "7.jpg").write_bytes(b"by halves")
    on_windows(CLEANING, web.url(1), dead)
    assert not dead.exists()
