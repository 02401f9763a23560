"""Garbage that is collected on the fetching loop while a statement waits for that."""

from __future__ import annotations

import ctypes
import gc
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import mediasql
from mediasql.storage import loop, threads
from tests.clock import Clock
from tests.servers.http import HttpServer


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


@pytest.fixture
def by_hand() -> Iterator[None]:
    """Garbage is collected when the test says so."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("by_hand")
@pytest.mark.parametrize("query", ["SELECT width(:url || 'a.jpg')", "SELECT * FROM media(:url || '*.jpg')"])
def test_a_cursor_among_the_garbage_does_not_stop_the_loop(loadable: str, silent: socket.socket, query: str) -> None:
    """Collecting it waits for the connection, whose statement waits for the loop: the statement gives way."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(connection, timeout=600)
    cursor = connection.execute("SELECT 1 UNION ALL SELECT 2")
    cursor.fetchone()  # it is half-way, so that it has to be reset
    garbage: list[Any] = [cursor]
    garbage.append(garbage)
    del cursor, garbage
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
    assert loop.run(collect(), lambda: looks.append(loop.stuck())) == "collected"
    assert not any(looks)


@pytest.mark.usefixtures("by_hand")
def test_a_collection_is_stuck_when_it_is_seen_again_and_again(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many looks at once are as good as one, and so are two with any time between them."""
    clock.stop()

    def looks(*pauses: float) -> list[bool]:
        found = []
        for pause in pauses:
            clock.move(pause)
            found.append(loop.stuck())
        return found

    monkeypatch.setattr(threading.current_thread(), "name", f"{threads.PREFIX}-test")
    loop.get()
    collector = next(note for note in gc.callbacks if note.__module__ == loop.__name__)
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
