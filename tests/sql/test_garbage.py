"""Garbage, and who collects it: not the threads that statements wait for."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mediasql
from mediasql.storage import garbage, loop, threads
from tests.clock import Clock
from tests.servers.http import HttpServer
from tests.sql.conftest import picture
from tests.waiting import eventually


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


@pytest.fixture
def by_hand() -> Iterator[None]:
    """Garbage is collected when the test says so."""
    eventually(gc.isenabled)  # what was put off for another test
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def often() -> Iterator[list[str]]:
    """Garbage is collected all the time; the names of the threads that did."""
    names: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            names.append(threading.current_thread().name)

    before = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(note)
    gc.set_threshold(10, 2, 2)
    yield names
    gc.set_threshold(*before)
    gc.callbacks.remove(note)


def failed_statement(connection: sqlite3.Connection) -> None:
    """Leave a cursor that is half-way among the garbage."""
    cursor = connection.execute("SELECT 1 UNION ALL SELECT 2")
    cursor.fetchone()
    cycle: list[Any] = [cursor]
    cycle.append(cycle)


def test_our_threads_collect_no_garbage(
    loadable: str, http_server: HttpServer, often: list[str], tmp_path: Path
) -> None:
    """Over all that has threads: the web, the disk, decoding, functions, listings, and what is written behind."""
    urls = []
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(picture(8, 8))
        http_server.put("", f"g/{number}.jpg", picture(8, 8))
        urls += [str(tmp_path / f"{number}.jpg"), f"{http_server.url}/g/{number}.jpg"]
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection, trust_schema=True)
    connection.execute("CREATE TABLE t(u)")
    connection.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
    del often[:]
    for value in ("width(u)", "width(thumbnail(u, 4))", "length(content(u))"):
        failed_statement(connection)
        found = connection.execute(f"SELECT count({value}) FROM t").fetchall()
        assert found == [(len(urls),)]
    failed_statement(connection)
    assert connection.execute(f"SELECT count(*) FROM media('{tmp_path}/*.jpg')").fetchall() == [(60,)]
    connection.close()
    assert len(often) > 10
    assert not [name for name in often if name.startswith(threads.PREFIX) and name != f"{threads.PREFIX}garbage"]
    eventually(gc.isenabled)


@pytest.mark.usefixtures("often")
def test_what_a_long_function_leaves_is_collected_before_it_ends() -> None:
    """Of all generations, when the oldest has grown."""

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

    con = mediasql.connect()

    @con.media_function
    def busy(name: str) -> int:
        assert not gc.isenabled()
        cycle = Garbage()
        gc.collect(1)
        gc.collect(1)
        left = weakref.ref(cycle)
        del cycle
        kept: list[Any] = []
        while left() is not None:
            kept += [[] for _ in range(20_000)]
            time.sleep(0.01)
        return 1

    assert con.execute("SELECT busy('x')").get == 1
    con.close()


def at_work() -> None:
    loop.run(asyncio.sleep(0))
    assert not gc.isenabled()


def test_python_collects_again_when_nothing_is_under_way() -> None:
    at_work()
    eventually(gc.isenabled)


def test_a_forked_child_collects() -> None:
    at_work()
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_python_collects_when_it_ends() -> None:
    script = (
        "import asyncio, gc\n"
        "from mediasql.storage import loop\n"
        "class Last:\n"
        "    def __init__(self): self.itself = self\n"
        "    def __del__(self): print('collected')\n"
        "Last()\n"
        "loop.run(asyncio.sleep(0))\n"
        "assert not gc.isenabled()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "collected\n"


@pytest.mark.usefixtures("by_hand")
def test_who_switched_it_off_finds_it_off() -> None:
    loop.run(asyncio.sleep(0))
    time.sleep(2 * 1.1)  # longer than it would be put off
    assert not gc.isenabled()


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("query", ["SELECT width(:url || 'a.jpg')", "SELECT * FROM media(:url || '*.jpg')"])
def test_a_cursor_among_the_garbage_does_not_stop_the_loop(loadable: str, silent: socket.socket, query: str) -> None:
    """A function of the application collects it there, which waits for the connection, whose statement waits for the
    loop: the statement gives way."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(connection, timeout=600)
    failed_statement(connection)
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    collected = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        statement = pool.submit(lambda: connection.execute(query, {"url": url}).fetchall())
        asked, _ = silent.accept()
        with asked:
            assert asked.recv(1000).startswith(b"GET /")

            loop.get().call_soon_threadsafe(_collect, collected)
            with pytest.raises(sqlite3.OperationalError, match=r"^interrupted: .* run the statement again$"):
                statement.result(60)
    assert collected.wait(60)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()


def _collect(collected: threading.Event) -> None:
    gc.collect()
    collected.set()


@pytest.mark.usefixtures("by_hand")
def test_a_collection_that_takes_long_is_waited_for() -> None:
    """It keeps the GIL, and whoever waits sees it only when it is over."""
    keeps_the_gil = ctypes.PyDLL(None).usleep

    def slowly(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            keeps_the_gil(1_300_000)

    async def collect() -> str:
        gc.callbacks.append(slowly)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(slowly)
        return "collected"

    looks = []
    assert loop.run(collect(), lambda: looks.append(garbage.stuck())) == "collected"
    assert not any(looks)


@pytest.mark.usefixtures("by_hand")
def test_a_collection_is_stuck_when_it_is_seen_again_and_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many looks at once are as good as one, and so are two with any time between them."""
    clock.stop()

    def looks(*pauses: float) -> list[bool]:
        found = []
        for pause in pauses:
            clock.move(pause)
            found.append(garbage.stuck())
        return found

    monkeypatch.setattr(threading.current_thread(), "name", f"{threads.PREFIX}-test")
    loop.get()
    collector = next(note for note in gc.callbacks if note.__module__ == garbage.__name__)
    collector("start", {})
    try:
        assert not any(looks(0, 100, 100, *[0.001] * 40, 100))
        assert looks(*[0.05] * 120)[-1]
        collector("stop", {})
        assert not any(looks(*[0.05] * 120))
        collector("start", {})
        assert not any(looks(*[0.05] * 5))
    finally:
        collector("stop", {})


def test_python_ends_while_a_listing_is_open(http_server: HttpServer) -> None:
    """What closes it runs on the loop, whose thread has ended by then."""
    http_server.put("", "open/", b'<a href="a.jpg">a</a> <a href="b.jpg">b</a>', "text/html")
    script = (
        "import mediasql\n"
        "con = mediasql.connect()\n"
        f"print(next(con.execute(\"SELECT name FROM media('{http_server.url}/open/')\")))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("('a.jpg',)\n", "")
