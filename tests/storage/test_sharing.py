"""What connections share: the places at a host that bears little, its connections, and reads on their way."""

from __future__ import annotations

import asyncio
import gc
import io
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

import mediasql
from mediasql.config import Config
from mediasql.storage import loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk
from mediasql.storage.store import Store
from tests.servers.http import HttpServer


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


class LimitedServer:
    """Serves a picture under any URL, `places` at a time, each in `seconds`; to others it says to come in a second."""

    def __init__(self, places: int, seconds: float) -> None:
        self.places, self.seconds = places, seconds
        self.active = self.most = self.refused = self.served = self.connections = 0
        self.body = picture()
        self.ready = threading.Event()
        threading.Thread(target=asyncio.run, args=(self.serve(),), daemon=True).start()
        self.ready.wait()

    async def serve(self) -> None:
        self.loop, self.stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0, backlog=1000)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.ready.set()
        await self.stopped.wait()
        server.close()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if self.active >= self.places:
                    self.refused += 1
                    writer.write(b"HTTP/1.1 429 Too Many\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
                    continue
                self.active += 1
                self.most = max(self.most, self.active)
                await asyncio.sleep(3600 if b"hang" in head.split(b"\r\n")[0] else self.seconds)
                self.active -= 1
                self.served += 1
                found = re.search(rb"bytes=(\d+)-(\d+)", head)
                assert found is not None
                start, stop, size = int(found[1]), int(found[2]) + 1, len(self.body)
                part = self.body[start:stop]
                about = b"Content-Range: bytes %d-%d/%d" % (start, start + len(part) - 1, size)
                writer.write(b"HTTP/1.1 206 Partial\r\n%s\r\nContent-Length: %d\r\n\r\n" % (about, len(part)) + part)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections -= 1
            writer.close()


@pytest.fixture
def limited(environment: object) -> Iterator[LimitedServer]:
    server = LimitedServer(4, 0.1)
    yield server
    server.loop.call_soon_threadsafe(server.stopped.set)


def table(con: mediasql.MediaConnection, urls: list[str]) -> mediasql.MediaConnection:
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, u)")
    con.executemany("INSERT INTO t(u) VALUES (?)", [(url,) for url in urls])
    return con


@pytest.mark.parametrize("readahead", ["on", "off"])
def test_good_files_of_a_host_that_bears_little(limited: LimitedServer, readahead: str) -> None:
    """All of them take longer than one may, and are answered; the host is soon asked for as much as it bears."""
    count = 160 if readahead == "on" else 50
    con = table(mediasql.connect(timeout=4, readahead=readahead), [f"{limited.url}/{n}.jpg" for n in range(count)])
    began = time.monotonic()
    assert con.execute("SELECT count(width(u)) FROM t").get == count
    assert 4 < time.monotonic() - began < 15
    assert limited.refused < count
    con.close()


def test_a_host_that_hangs_is_given_less_time(limited: LimitedServer) -> None:
    """Each cohort would take the timeout: nine seconds in all. And what is behind them is found."""
    limited.places = 1000
    con = mediasql.connect(timeout=3, concurrency=16)
    table(con, [*(f"{limited.url}/hang/{n}.jpg" for n in range(48)), f"{limited.url}/good.jpg"])
    began = time.monotonic()
    assert con.execute("SELECT count(width(u)), max(k) FILTER (WHERE width(u) = 8) FROM t").fetchall() == [(1, 49)]
    assert 3 < time.monotonic() - began < 8.5
    con.close()


def test_a_host_gets_no_more_from_two_connections_than_from_one(limited: LimitedServer) -> None:
    limited.places, limited.seconds = 1000, 0.1
    urls = [[f"{limited.url}/{which}{n}.jpg" for n in range(20)] for which in "ab"]
    answered: list[int] = []

    def ask(which: int) -> None:
        con = table(mediasql.connect(timeout=20, concurrency=3), urls[which])
        answered.append(con.execute("SELECT count(width(u)) FROM t").get)
        con.close()

    threads = [threading.Thread(target=ask, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answered == [20, 20]
    assert limited.most == 3


def read(store: Store, url: str) -> Any:
    return asyncio.run_coroutine_threadsafe(store.read(Location.parse(url), 0, 1000), loop.get())


def test_closing_one_connection_leaves_those_of_others(http_server: HttpServer) -> None:
    http_server.put("", "a.bin", b"x" * 10)
    stores = [Store(Config.load(timeout=20)) for _ in range(2)]
    first, second = [read(store, f"{http_server.url}/slow/400/a.bin?{n}") for n, store in enumerate(stores)]
    time.sleep(0.1)
    stores[0].close()
    assert second.result(5).data == b"x" * 10
    assert first.result(5).data == b"x" * 10
    http_server.reset()
    assert read(stores[1], f"{http_server.url}/a.bin").result(5).data == b"x" * 10
    assert read(stores[0], f"{http_server.url}/a.bin").result(5).data == b"x" * 10
    for store in stores:
        store.close()


def test_the_last_connection_closes_what_they_shared(limited: LimitedServer) -> None:
    stores = [Store(Config.load(timeout=20)) for _ in range(3)]
    for n, store in enumerate(stores):
        assert read(store, f"{limited.url}/{n}.jpg").result(5).data == limited.body
    assert limited.connections == 2  # the first is aiohttp's
    stores[0].close()
    del store, stores[:2]  # the second is never closed
    gc.collect()
    assert read(stores[0], f"{limited.url}/3.jpg").result(5).data == limited.body
    assert limited.connections == 2  # the first is aiohttp's
    stores[0].close()
    deadline = time.monotonic() + 5
    while limited.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert limited.connections == 0


def both(limited: LimitedServer, **second: Any) -> int:
    """How many requests two connections make that read the same at the same time."""
    limited.seconds = 0.2
    stores = [Store(Config.load(timeout=20)), Store(Config.load(**{"timeout": 20, **second}))]
    before = limited.served
    chunks: list[Chunk] = [each.result(5) for each in [read(store, f"{limited.url}/a.jpg") for store in stores]]
    assert [chunk.data for chunk in chunks] == [limited.body] * 2
    for store in stores:
        store.close()
    return limited.served - before


def test_connections_share_a_read_where_they_may(limited: LimitedServer) -> None:
    assert both(limited) == 1
    assert both(limited, timeout=30) == 2
    assert both(limited, deny="s3://b") == 2
    assert both(limited, storage_options={"http": {"headers": {"Authorization": "Bearer x"}}}) == 2
