"""What connections share: the places at a host that bears little, its connections, and reads on their way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

import mediasql
from mediasql.config import Config
from mediasql.storage import loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk
from mediasql.storage.store import Store
from tests.servers.http import HttpServer
from tests.storage.limited import LimitedServer
from tests.waiting import LONG, eventually

pytestmark = pytest.mark.usefixtures("transport")

ROOT = Path(mediasql.__file__).parents[1]


@pytest.fixture
def limited(environment: object) -> Iterator[LimitedServer]:
    server = LimitedServer(4, 0.1)
    yield server
    server.stop()


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
    assert time.monotonic() - began > 4
    assert limited.refused < count
    assert limited.most == (limited.places if readahead == "on" else 1)
    con.close()


def test_a_host_that_hangs_is_given_less_time(limited: LimitedServer) -> None:
    """Each cohort would take the timeout: nine seconds in all. And what is behind them is found."""
    limited.places = 1000
    con = mediasql.connect(timeout=3, concurrency=16)
    table(con, [*(f"{limited.url}/hang/{n}.jpg" for n in range(48)), f"{limited.url}/good.jpg"])
    assert con.execute("SELECT count(width(u)), max(k) FILTER (WHERE width(u) = 8) FROM t").fetchall() == [(1, 49)]
    assert sorted(limited.waited)[0] < 0.75 * sorted(limited.waited)[-16]
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
    http_server.reset()
    stores = [Store(Config.load(timeout=60)) for _ in range(2)]
    first, second = [read(store, f"{http_server.url}/held/a.bin?{n}") for n, store in enumerate(stores)]
    eventually(lambda: len(http_server.requests()) == 2)
    stores[0].close()
    http_server.release()
    assert second.result(60).data == b"x" * 10
    assert first.result(60).data == b"x" * 10
    http_server.reset()
    assert read(stores[1], f"{http_server.url}/a.bin").result(60).data == b"x" * 10
    assert read(stores[0], f"{http_server.url}/a.bin").result(60).data == b"x" * 10
    for store in stores:
        store.close()


def test_the_last_connection_closes_what_they_shared(limited: LimitedServer, transport: str) -> None:
    """In a process of its own, since what else is open in this one shares, too."""
    code = """
import gc, sys, mediasql
def read(con, name): assert con.execute("SELECT length(content(?))", (f"{sys.argv[1]}/{name}.jpg",)).get
def at(place): print(place, flush=True), sys.stdin.readline()
cons = [mediasql.connect(timeout=60, transport=sys.argv[2]) for _ in range(3)]
for n, con in enumerate(cons):
    read(con, n)
at("all")
cons[0].close()
del con, cons[:2]  # the second is never closed
gc.collect()
read(cons[0], 3)
at("one")
cons[0].close()
at("none")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, limited.url, transport], stdin=PIPE, stdout=PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for place, connections in (("all", 1), ("one", 1), ("none", 0)):
            assert process.stdout.readline().strip() == place
            eventually(lambda: limited.connections == connections)  # noqa: B023 - called before the next turn
            process.stdin.write("\n")
            process.stdin.flush()
        assert process.wait(LONG) == 0


def both(limited: LimitedServer, **second: Any) -> int:
    """How many requests two connections make that read the same at the same time."""
    stores = [Store(Config.load(timeout=20)), Store(Config.load(**{"timeout": 20, **second}))]
    before = limited.served
    location = Location.parse(f"{limited.url}/a.jpg")

    async def together() -> list[Chunk]:
        return await asyncio.gather(*(store.read(location, 0, 1000) for store in stores))

    chunks = loop.run(together())
    assert [chunk.data for chunk in chunks] == [limited.body] * 2
    for store in stores:
        store.close()
    return limited.served - before


def test_connections_share_a_read_where_they_may(limited: LimitedServer) -> None:
    assert both(limited) == 1
    assert both(limited, timeout=30) == 2
    assert both(limited, deny="s3://b") == 2
    assert both(limited, storage_options={"http": {"headers": {"Authorization": "Bearer x"}}}) == 2
