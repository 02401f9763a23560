"""Ordinary HTTP/1.1 GETs at half of a general client's cost, which is what a scan of small headers is made of.

It knows requests for plain URLs and answers with a Content-Length. For everything else (proxies, chunked or compressed
bodies, hosts that do not accept a connection) it says so, and `Web` asks aiohttp, whose answers and errors are the
reference. A host is asked here once aiohttp has had an ordinary answer from it: an odd one costs no request.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aiohappyeyeballs import start_connection
from multidict import CIMultiDict

from . import loop
from .address import check_addresses
from .fetch import Retry
from .futures import shared_result

if TYPE_CHECKING:
    import aiohttp

IDLE = 15.0  # seconds after which a connection that nobody used is closed
ADDRESSES = 10.0  # seconds for which the addresses of a host are used again
AVOIDED = 10.0  # seconds for which a host that is not ordinary is left to aiohttp
LARGEST_HEAD = 64 * 1024
LARGEST_SKIP = 1024 * 1024  # bytes before those wanted, from a server that sends all
MOST_OF_ERROR = 4096

_URL = re.compile(r"(https?)://([A-Za-z0-9.-]+)(?::(\d{1,5}))?(/[!\"$-~]*)?")
# RFC 9112 sections 4 and 5, without lines that are folded or end in a bare LF.
_HEAD = re.compile(rb"HTTP/1\.([01]) ([2-5]\d\d)(?: [^\r\n\0]*)?((?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*)*)")
_FIELD = re.compile(r"\n([^:]+):[ \t]*([^\r]*)")

_PORTS = {"http": 80, "https": 443}

Host = tuple[str, str, int]


def _host(url: re.Match[str]) -> Host:
    return url[1], url[2], int(url[3]) if url[3] else _PORTS[url[1]]


class Reply:
    """An answer, with as much of its body as was needed. Has of aiohttp's ClientResponse what `Web` uses."""

    __slots__ = ("content_length", "data", "headers", "status")

    def __init__(self, status: int, headers: CIMultiDict[str], content_length: int) -> None:
        self.status = status
        self.headers = headers
        self.content_length = content_length
        self.data = b""


class Unusual(Exception):
    """Nothing that is understood here."""


class _Gone(Exception):
    """The server closed the connection without an answer."""


class _Connection(asyncio.Protocol):
    """One connection, and the one answer that is awaited on it."""

    __slots__ = (
        *("_head", "_lasting", "_need", "_parts", "_seen", "_start", "_stop"),
        *("answer", "at", "keep", "reply", "transport"),
    )

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[Reply] | None = None
        self.reply: Reply | None = None
        self.at = time.monotonic()  # when the last byte came, or the connection became idle
        # Whether another request may follow: not before the answer has ended, or the rest of it would be taken for the
        # next one.
        self.keep = False
        self._lasting = False  # whether the server lets others follow
        self._head = b""
        self._parts: list[bytes] = []
        self._need = self._seen = self._start = self._stop = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def ask(self, request: bytes, start: int, stop: int, answer: asyncio.Future[Reply]) -> None:
        assert self.transport is not None
        self.answer, self.reply, self.keep = answer, None, False
        self._head, self._parts, self._seen, self._start, self._stop = b"", [], 0, start, stop
        self.at = time.monotonic()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        loop.turn.give_way()
        if self.answer is None or self.answer.done():  # nobody asked for it
            self.keep = False
            self.close()
            return
        self.at = time.monotonic()
        if self.reply is None:
            self._head = self._head + data if self._head else data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > LARGEST_HEAD or self._head.count(b"\n") != self._head.count(b"\r\n"):
                    self._fail(Unusual())
                return
            data = self._head[end + 4 :]
            try:
                self._begin(self._head[:end])
            except (Unusual, ValueError):
                self._fail(Unusual())
                return
        assert self.reply is not None
        if data:
            self._parts.append(data)
            self._seen += len(data)
        if self._seen >= self._need:
            self._end(self.reply)

    def _begin(self, head: bytes) -> None:
        """Understand the head of the answer. Raises Unusual."""
        parts = _HEAD.fullmatch(head)
        if parts is None:
            raise Unusual
        fields = _FIELD.findall(parts[3].decode("utf-8", "surrogateescape"))
        headers = CIMultiDict([(name, value.rstrip(" \t")) for name, value in fields])
        code = int(parts[2])
        if code == 304:  # without a body, whatever length it tells (RFC 9112 section 6.3)
            headers["Content-Length"] = "0"
        lengths = headers.getall("Content-Length", ())
        if len(lengths) != 1 or not (lengths[0].isascii() and lengths[0].isdecimal()) or len(lengths[0]) > 18:
            raise Unusual
        length = int(lengths[0])
        if code in (204, 205) or "Transfer-Encoding" in headers or "Upgrade" in headers:
            raise Unusual
        if headers.get("Content-Encoding", "identity").lower() not in ("identity", "aws-chunked", ""):
            raise Unusual
        connection = ",".join(headers.getall("Connection", ())).lower()
        self._lasting = connection == "keep-alive" if parts[1] == b"0" else "close" not in connection
        self.reply = Reply(code, headers, length)
        if code == 206 or (code < 300 and "Content-Range" in headers):
            self._need = min(length, self._stop - self._start)
        elif code < 300:
            if self._start > LARGEST_SKIP:
                raise Unusual
            self._need = min(length, self._stop)
        else:
            self._need = min(length, MOST_OF_ERROR)

    def _end(self, reply: Reply) -> None:
        assert self.answer is not None
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        reply.data = data if len(data) == self._need else data[: self._need]
        self._parts = []
        # Otherwise the rest is not wanted, or should not exist.
        self.keep = self._lasting and self._seen == reply.content_length
        self.answer.set_result(reply)

    def _fail(self, error: BaseException) -> None:
        self.keep = False
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)
        self.close()

    def eof_received(self) -> None:
        self.keep = False

    def connection_lost(self, error: Exception | None) -> None:
        self.keep = False
        self.transport = None
        if self.answer is not None and not self.answer.done():
            if self.reply is not None:
                self._fail(Retry("the connection broke before the body was complete"))
            else:
                self._fail(_Gone() if not self._head else Retry("the connection broke in the head of the answer"))

    def silent(self) -> None:
        self._fail(Retry("timed out: no byte on the connection", timed_out=True))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.abort()
            self.transport = None


class Wire:
    """Connections by host, kept open between requests.

    most     connections at a time that are kept, at most
    silence  seconds without a byte after which an answer is given up
    connect  seconds that a connection may take
    agent    the User-Agent
    guarded  whether only public addresses are connected to
    """

    def __init__(self, *, most: int, silence: float, connect: float, agent: str, guarded: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.closed = False
        self._most, self._silence, self._connect_time = most, silence, connect
        self._guarded = guarded
        self._common = f"Accept: */*\r\nUser-Agent: {agent}\r\n"
        self._idle: dict[Host, list[_Connection]] = {}
        self._kept = 0
        self._busy: set[_Connection] = set()
        self._ordinary: set[Host] = set()
        self._avoided: dict[Host, float] = {}
        self._addresses: dict[Host, tuple[float, asyncio.Future[Any]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._watch: asyncio.TimerHandle | None = None

    async def get(self, url: str, headers: Mapping[str, str], start: int, stop: int) -> Reply | None:
        """The answer to a GET that wants bytes `start` to `stop`; None where aiohttp has to be asked.

        Raises Retry, and ForbiddenByPolicy where it is guarded.
        """
        parsed = _URL.fullmatch(url)
        if parsed is None:
            return None
        host = _host(parsed)
        if host not in self._ordinary:
            return None
        path = parsed[4]
        shown = host[1] if host[2] == _PORTS[host[0]] else f"{host[1]}:{host[2]}"
        lines = "".join([f"{key}: {value}\r\n" for key, value in headers.items()])
        if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
            return None
        if "host:" in lines.lower() or "user-agent:" in lines.lower() or "accept:" in lines.lower():
            return None
        request = f"GET {path or '/'} HTTP/1.1\r\nHost: {shown}\r\n{self._common}{lines}\r\n".encode()
        while True:
            connection = self._take(host)
            reused = connection is not None
            if connection is None:
                try:
                    connection = await self._connect(host)
                except (OSError, ValueError, RuntimeError):  # ssl.SSLError and TimeoutError are OSErrors
                    self._avoid(host)
                    return None
            try:
                return await self._ask(connection, request, start, stop, host)
            except Unusual:
                self._avoid(host)
                return None
            except _Gone:
                if not reused:
                    raise Retry("Server disconnected") from None

    def learn(self, url: str, response: aiohttp.ClientResponse) -> None:
        """Ask the host of `url` here from now on, if this answer of it is an ordinary one."""
        parsed = _URL.fullmatch(url)
        if parsed is None or (host := _host(parsed)) in self._ordinary or response.status != 206:
            return
        if self._avoided.get(host, 0.0) > time.monotonic():
            return
        headers = response.headers
        if "Content-Length" in headers and not {"Transfer-Encoding", "Content-Encoding"} & set(headers):
            self._ordinary.add(host)

    async def _ask(self, connection: _Connection, request: bytes, start: int, stop: int, host: Host) -> Reply:
        loop.turn.give_way()
        answer: asyncio.Future[Reply] = self.loop.create_future()
        self._busy.add(connection)
        if self._watch is None:
            self._watch = self.loop.call_later(self._tick(), self._look)
        try:
            connection.ask(request, start, stop, answer)
            return await answer
        finally:
            self._busy.discard(connection)
            connection.answer = None
            if connection.keep and not self.closed and answer.done() and self._kept < self._most:
                connection.at = time.monotonic()
                self._idle.setdefault(host, []).append(connection)
                self._kept += 1
            else:
                connection.close()

    def _take(self, host: Host) -> _Connection | None:
        idle = self._idle.get(host)
        while idle:
            connection = idle.pop()
            self._kept -= 1
            if connection.keep and connection.transport is not None and not connection.transport.is_closing():
                return connection
            connection.close()
        return None

    async def _connect(self, host: Host) -> _Connection:
        scheme, name, _ = host
        if scheme == "https" and self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        async with asyncio.timeout(self._connect_time):
            known = self._addresses.get(host)
            if known is None or known[0] < time.monotonic():
                looked_up = asyncio.ensure_future(self.loop.getaddrinfo(name, host[2], type=1))
                # Python prints a failure that nobody saw, since all gave up before it came.
                looked_up.add_done_callback(lambda done: done.cancelled() or done.exception())
                known = self._addresses[host] = (time.monotonic() + ADDRESSES, looked_up)
            # Others wait for the same look-up, so that it goes on when this request is given up.
            addresses = await shared_result(known[1])
            if self._guarded:  # these are the ones that are connected to
                check_addresses(name, (str(address[4][0]) for address in addresses))
            socket = await start_connection(addresses, happy_eyeballs_delay=0.25, loop=self.loop)
            tls = {"ssl": self._tls, "server_hostname": name} if scheme == "https" else {}
            try:
                _, made = await self.loop.create_connection(_Connection, sock=socket, **tls)  # type: ignore[call-overload]
            except BaseException:
                socket.close()
                raise
        connection: _Connection = made
        return connection

    def _avoid(self, host: Host) -> None:
        self._ordinary.discard(host)
        self._avoided[host] = time.monotonic() + AVOIDED
        self._addresses.pop(host, None)

    def _tick(self) -> float:
        return min(1.0, self._silence / 10)

    def _look(self) -> None:
        """Give up silent answers and close idle connections. One timer for all: two for each request cost more."""
        self._watch = None
        now = time.monotonic()
        for connection in [busy for busy in self._busy if now - busy.at > self._silence]:
            connection.silent()
        for connections in self._idle.values():
            while connections and now - connections[0].at > IDLE:
                connections.pop(0).close()
                self._kept -= 1
        if self._busy or self._kept:
            self._watch = self.loop.call_later(self._tick(), self._look)

    async def close(self) -> None:
        """Close all connections."""
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        for connection in [*self._busy, *(one for many in self._idle.values() for one in many)]:
            connection._fail(Retry("the connection was closed"))
        self._idle.clear()
        self._kept = 0
