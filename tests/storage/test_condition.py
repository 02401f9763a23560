"""Reads that are conditional on a version: a known one is not sent again, another one is, in one request either way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mediasql.config import Config
from mediasql.storage import loop
from mediasql.storage.fetch import NotModified
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk, ObjectInfo
from mediasql.storage.providers.http import HttpProvider
from mediasql.storage.store import Store
from tests.servers.http import HttpServer

SERVERS = {
    "s3_server": "s3://conditional/a.bin",
    "gcs_server": "gs://conditional/a.bin",
    "azure_server": "az://conditional/a.bin",
    "nginx_server": "{url}/conditional/a.bin",
    "http_server": "{url}/conditional/a.bin",
}


@pytest.fixture(params=list(SERVERS))
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.fixture
def url(server: Any, request: pytest.FixtureRequest) -> str:
    return SERVERS[request.node.callspec.params["server"]].format(url=server.url)


@pytest.fixture
def read() -> Iterator[Callable[..., Chunk]]:
    stores: list[Store] = []

    def read(server: Any, url: str, start: int, stop: int, unless: ObjectInfo | None = None) -> Chunk:
        if not stores:
            stores.append(Store(Config.load(timeout=20, storage_options=server.storage_options)))
        return loop.run(stores[0].read(Location.parse(url), start, stop, unless=unless))

    yield read
    for store in stores:
        store.close()


def test_what_did_not_change_is_not_sent(server: Any, url: str, read: Callable[..., Chunk]) -> None:
    server.put("conditional", "a.bin", b"first version " * 100)
    known = read(server, url, 0, 100).info
    server.reset()
    for start in (0, 50):
        with pytest.raises(NotModified):
            read(server, url, start, 100, known)
    requests = server.requests()
    assert [request.status for request in requests] == [304, 304]
    assert sum(request.bytes for request in requests) == 0


def test_what_changed_comes_in_the_same_request(server: Any, url: str, read: Callable[..., Chunk]) -> None:
    server.put("conditional", "a.bin", b"first version " * 100)
    known = read(server, url, 0, 100).info
    server.put("conditional", "a.bin", b"another version " * 90)
    server.reset()
    chunk = read(server, url, 0, 100, known)
    assert chunk.data == (b"another version " * 90)[:100]
    assert chunk.info.etag != known.etag
    assert len(server.requests()) == 1


def test_time_alone_is_a_condition_too(http_server: HttpServer, read: Callable[..., Chunk]) -> None:
    http_server.put("", "a.bin", b"x" * 100)
    known = read(http_server, http_server.at("a.bin"), 0, 10).info
    provider = HttpProvider({}, loop.get())
    assert provider.condition(ObjectInfo(last_modified="2023-11-14T22:13:20Z")) == {
        "If-Modified-Since": "Tue, 14 Nov 2023 22:13:20 GMT"
    }
    with pytest.raises(NotModified):
        read(http_server, http_server.at("a.bin"), 0, 10, ObjectInfo(last_modified=known.last_modified))


def test_without_anything_to_go_by_it_is_read(http_server: HttpServer, read: Callable[..., Chunk]) -> None:
    http_server.put("", "a.bin", b"x" * 100)
    assert read(http_server, http_server.at("a.bin"), 0, 10, ObjectInfo(size=100)).data == b"x" * 10
