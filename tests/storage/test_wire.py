"""GETs over connections of our own: what they understand, and what they leave to aiohttp."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mediasql.storage.fetch import Retry
from mediasql.storage.wire import Reply, Wire
from tests.servers import web
from tests.waiting import eventually

T = TypeVar("T")
OK = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-4/10\r\nContent-Length: 5\r\n"


class Host:
    """A server that sends what it is told, and notes what it was sent."""

    def __init__(self, *answers: bytes, close: bool = False) -> None:
        self.answers = list(answers)
        self.close = close
        self.requests: list[bytes] = []
        self.connections = 0
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
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
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]],
    silence: float = 5.0,
    scheme: str = "http",
    name: str = "127.0.0.1",
    tls: ssl.SSLContext | None = None,
) -> Any:
    server = await asyncio.start_server(serve, "127.0.0.1", ssl=tls)
    port = server.sockets[0].getsockname()[1]
    wire = Wire(most=4, silence=silence, connect=5, agent="test")
    wire._ordinary.add((scheme, name, port))
    try:
        yield wire, f"{scheme}://{name}:{port}"
    finally:
        await wire.close()
        server.close()


def talking(host: Host, silence: float = 5.0) -> Any:
    return listening(host.serve, silence)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


async def until(look: Callable[[], object]) -> None:
    """Wait for what happens on this loop."""
    await asyncio.to_thread(eventually, look)


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


@pytest.mark.parametrize(
    "also",
    [
        b"Connection: close\r\n\r\nhello",
        b"Connection: keep-alive\r\nConnection: close\r\n\r\nhello",
        b"Connection: Keep-Alive, Close\r\n\r\nhello",
        b"\r\nhello and more",
        b"\r\nhello" + OK + b"\r\nevil!",
    ],
)
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
        b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        b"HTTP/1.1 200 OK\r\nX: y\nContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: y\rContent-Length: 6\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: \0\r\nContent-Length: 5\r\n\r\nhello",
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
            await until(lambda: host.requests)
            first.cancel()
            return await wire.get(base, {}, 0, 5)  # type: ignore[no-any-return]

    reply = run(main())
    assert reply is not None
    assert (reply.data, host.connections) == (b"hello", 2)


@pytest.mark.parametrize("sent", [OK + b"\r\n", OK + b"\r\nhel"])
def test_the_rest_of_an_answer_that_was_given_up_is_no_answer(sent: bytes) -> None:
    """Whoever comes next must not get it, though the server says that the connection lasts."""
    rest = OK + b"\r\nevil!"
    begun, given_up = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            request = await reader.readuntil(b"\r\n\r\n")
            if b"GET /first" in request:
                writer.write(sent.replace(b"Content-Length: 5", b"Content-Length: %d" % len(rest)))
                begun.set()
                await given_up.wait()
                writer.write(rest)
            else:
                writer.write(OK + b"\r\nhello")
            await reader.read()
        writer.close()

    async def main() -> Reply | None:
        async with listening(serve) as (wire, base):
            first = asyncio.create_task(wire.get(f"{base}/first", {}, 0, 100))
            await begun.wait()
            await asyncio.sleep(0.1)  # it is here, and perhaps read
            first.cancel()
            await asyncio.wait([first])
            second = asyncio.create_task(wire.get(f"{base}/second", {}, 0, 5))
            await asyncio.sleep(0.05)
            given_up.set()
            return await second  # type: ignore[no-any-return]

    reply = run(main())
    assert reply is not None
    assert reply.data == b"hello"


def test_a_body_behind_an_answer_without_one_is_no_answer() -> None:
    """304 has none, whatever its length says; what comes nevertheless belongs to nothing."""
    host = Host(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 60\r\n\r\n" + OK + b"\r\nevil!", OK + b"\r\nhello")
    first, second = asked(host, times=2)
    assert first is not None
    assert second is not None
    assert (first.status, first.data, second.data) == (304, b"", b"hello")


def test_what_comes_unasked_ends_a_connection() -> None:
    host = Host(OK + b"\r\nhello", OK + b"\r\nhello")

    async def main() -> Reply | None:
        async with talking(host) as (wire, base):
            await wire.get(base, {}, 0, 5)
            host.writers[0].write(OK + b"\r\nevil!")
            await asyncio.sleep(0.1)
            return await wire.get(base, {}, 0, 5)  # type: ignore[no-any-return]

    reply = run(main())
    assert reply is not None
    assert (reply.data, host.connections) == (b"hello", 2)


@pytest.mark.parametrize(
    "head", [OK.replace(b"Length: 5", b"Length: 10000000000"), b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n"]
)
def test_a_body_without_end_is_not_read_to_its_end(head: bytes) -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head + b"\r\n")
        with suppress(ConnectionError):
            while sent < 1_000_000_000:
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
        writer.close()

    async def main() -> Reply | None:
        async with listening(serve) as (wire, base):
            return await wire.get(base, {}, 0, 5)  # type: ignore[no-any-return]

    reply = run(main())
    assert reply is not None
    assert reply.data == b"xxxxx"
    assert sent < 20_000_000


def test_who_gives_up_while_connecting_leaves_no_connection() -> None:
    """The server accepts, and says nothing where TLS should begin."""
    begun: list[bytes] = []
    ended: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        begun.append(b"")
        with suppress(ConnectionError):
            while part := await reader.read(1000):
                del part
        ended.append(b"")
        writer.close()

    async def main() -> None:
        async with listening(serve, scheme="https") as (wire, base):
            task = asyncio.create_task(wire.get(base, {}, 0, 5))
            await until(lambda: begun)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await until(lambda: len(ended) == 1)
            wire._connect_time = 0.1
            assert await wire.get(base, {}, 0, 5) is None
            await until(lambda: len(ended) == len(begun))

    run(main())


def test_a_look_up_that_fails_when_nobody_waits_is_not_printed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> Any:
        failing.wait(60)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main() -> None:
        wire = Wire(most=1, silence=1, connect=0.05, agent="")
        wire._ordinary.add(("http", "name.example", 80))
        assert await wire.get("http://name.example/", {}, 0, 5) is None
        failing.set()
        await asyncio.sleep(0.1)
        await wire.close()

    run(main())
    gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize(("name", "answered"), [("www.example.com", True), ("other.example.com", False)])
def test_a_certificate_must_be_of_the_host(
    name: str, answered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = web.certify(tmp_path)
    host = Host(OK + b"\r\nhello")
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _, *args, **kwargs: resolve("127.0.0.1", *args, **kwargs))

    async def main(authority: Path | None) -> Reply | None:
        if authority is not None:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        async with listening(host.serve, scheme="https", name=name, tls=tls) as (wire, base):
            return await wire.get(base, {}, 0, 5)  # type: ignore[no-any-return]

    assert run(main(None)) is None, "nobody vouches for it"
    assert host.requests == []
    reply = run(main(tmp_path / "authority.pem"))
    assert (reply is not None and reply.data == b"hello") is answered
    assert len(host.requests) == answered
