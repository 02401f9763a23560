"""Scans of servers that bear little: every file has its answer, and few requests are refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import mediasql
from mediasql.storage.transport.limiter import AdaptiveLimiter
from tests.servers.process import running
from tests.storage.limited import LimitedServer

pytestmark = pytest.mark.usefixtures("transport")


def refusals(places: int, files: int) -> int:
    """How often a server with so many places refused in a scan, at the end of which every file has its answer."""
    server = LimitedServer(places, 0.05)
    with mediasql.connect(cache_size=0) as connection:
        connection.execute("CREATE TABLE t(url TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{server.url}/{n}.jpg",) for n in range(files)])
        assert connection.execute("SELECT count(width(url)) FROM t").fetchone() == (files,)
    server.stop()
    return server.refused


def test_a_server_that_refuses_is_asked_less(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adaptive = refusals(10, 200)
    monkeypatch.setattr(AdaptiveLimiter, "on_throttle", lambda self, after=None: None)
    assert adaptive < refusals(10, 200)


@pytest.fixture
def python_server(tmp_path: Path) -> Iterator[str]:
    """`python -m http.server` with 60 pictures: HTTP/1.0, no ranges, a backlog of 5."""
    for number in range(60):
        Image.new("RGB", (10 + number, 10)).save(tmp_path / f"{number}.png")
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with running(lambda port: [*command, str(port)]) as child:
        yield f"http://127.0.0.1:{child.port}"


def test_the_server_of_python(python_server: str) -> None:
    with mediasql.connect() as connection:
        connection.execute("CREATE TABLE t(url TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{python_server}/{n}.png",) for n in range(60)])
        assert connection.execute("SELECT sum(width(url)) FROM t").get == sum(range(10, 70))
