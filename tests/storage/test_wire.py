"""GETs over connections of our own: what they understand, and what they leave to aiohttp."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from mediasql.storage.fetch import Retry
from mediasql.storage.wire import Reply, Wire

T = TypeVar("T")
OK = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n"


class Host:
    """A server that sends what it is told, and notes what it was sent."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                if self.answers:
                    writer.write(self.answers.pop(0))
                if self.close:
                    break
        except asyncio.IncompleteReadError:
            pass
        writer.close()


@asynccontextmanager
async def talking(host: Host, silence: float = 5.0) -> Any:
    server = await asyncio.start_server(host.serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    wire = Wire(most=4, silence=silence, connect=5, agent="test")
    wire._ordinary.add(("http", "127.0.0.1", port))
    try:
        yield wire, f"http://127.0.0.1:{port}"
    finally:
        await wire.close()
        server.close()


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 10))


def asked(host: Host, *, times: int = 1, silence: float = 5.0, **headers: str) -> list[Reply | None]:
    async def main() -> list[Reply | None]:
        async with talking(host, silence) as (wire, base):
            return [await wire.get(f"{base}/a%20b?c=d", headers, 0, 5) for _ in range(times)]

    return run(main())


def test_an_answer() -> None:
    host = Host(OK + b'ETag: "x"\r\n\r\nhello')
    (reply,) = asked(host, Range="bytes=0-4")
    assert reply is not None
    assert (reply.status, reply.data, reply.content_length, reply.headers["etag"]) == (206, b"hello", 5, '"x"')
    assert host.requests[0].startswith(b"GET /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:")
    assert b"\r\nRange: bytes=0-4\r\n" in host.requests[0]


def test_a_connection_is_used_again() -> None:
    host = Host(*[OK + b"\r\nhello"] * 3)
    assert [reply.data for reply in asked(host, times=3) if reply] == [b"hello"] * 3
    assert host.connections == 1


@pytest.mark.parametrize("also", [b"Connection: close\r\n\r\nhello", b"\r\nhello and more"])
def test_one_that_must_not_be_used_again_is_not(also: bytes) -> None:
    host = Host(OK + also, OK + also)
    assert [reply.data for reply in asked(host, times=2) if reply] == [b"hello"] * 2
    assert host.connections == 2


def test_one_that_was_closed_meanwhile_costs_no_attempt() -> None:
    host = Host(*[OK + b"\r\nhello"] * 3, close=True)
    assert [reply.data for reply in asked(host, times=3) if reply] == [b"hello"] * 3


def test_a_long_body_is_read_as_far_as_it_is_needed() -> None:
    host = Host(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"0123456789")
    (reply,) = asked(host)
    assert reply is not None
    assert (reply.data, reply.content_length) == (b"01234", 1000000)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: y\r\n folded\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\nhello",
        b"HTTP/1.1 200 OK\r\n\xff: x\r\nContent-Length: 5\r\n\r\nhello",
        b"nonsense\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_what_is_not_ordinary_is_left_to_aiohttp(answer: bytes) -> None:
    host = Host(answer, answer)
    assert asked(host, times=2) == [None, None]
    assert len(host.requests) == 1  # and the host is left alone for a while


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rb", "a\0b"])
def test_headers_cannot_be_smuggled_in(value: str) -> None:
    host = Host(OK + b"\r\nhello")
    assert asked(host, Authorization=value) == [None]
    assert host.requests == []


@pytest.mark.parametrize("url", ["http://[::1]/a", "http://u:p@h/a", "http://h?a", "http://h/a b", "http://h/a#b", "x"])
def test_other_urls_are_left_to_aiohttp(url: str) -> None:
    async def main() -> Reply | None:
        return await Wire(most=1, silence=1, connect=1, agent="").get(url, {}, 0, 5)

    assert run(main()) is None


@pytest.mark.parametrize("answer", [OK + b"\r\nhel", OK[:30], b""])
def test_a_broken_connection_is_worth_another_attempt(answer: bytes) -> None:
    with pytest.raises(Retry):
        asked(Host(answer, close=True))


@pytest.mark.parametrize("answer", [OK + b"\r\nhel", b""])
def test_silence_is_too(answer: bytes) -> None:
    with pytest.raises(Retry) as raised:
        asked(Host(answer), silence=0.2)
    assert raised.value.timed_out


def test_who_gives_up_takes_his_connection_with_him() -> None:
    host = Host(b"", OK + b"\r\nhello")

    async def main() -> Reply | None:
        async with talking(host) as (wire, base):
            first = asyncio.create_task(wire.get(base, {}, 0, 5))
            await asyncio.sleep(0.1)
            first.cancel()
            return await wire.get(base, {}, 0, 5)  # type: ignore[no-any-return]

    reply = run(main())
    assert reply is not None
    assert (reply.data, host.connections) == (b"hello", 2)
