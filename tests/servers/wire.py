"""HTTP/1.1 as it goes over the wire, for servers that must see the raw path and be able to misbehave.

A server is one coroutine `handler(Call) -> Answer`. Every server so made also keeps a log of the requests
and has test-only paths, which no bucket can be named after: `GET /_log`, `DELETE /_log`,
`PUT /_object?bucket=&key=` and `POST /_seed?bucket=&n=&size=`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import stat
import struct
import time
import traceback
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.client import responses
from typing import Literal

BODILESS = {204, 304}


@dataclass(frozen=True)
class Call:
    """A request as received; header names are in lower case, nothing else is changed."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def parameters(self) -> dict[str, str]:
        return dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))


@dataclass
class Answer:
    """What to send, after `delay` seconds and the event `until`. The last four fields are for servers that break their
    word."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0
    until: asyncio.Event | None = None
    declared: int | None = None  # the Content-Length to announce; None: the true one
    chunked: bool = False
    ending: Literal["keep", "close", "reset"] = "keep"


Handler = Callable[[Call], Awaitable[Answer]]
Put = Callable[[str, str, bytes, str | None], None]
Control = Callable[[Call], Answer]


class Service:
    """Answers connections with `handler`, stores test objects with `put`, logs all but the test paths."""

    def __init__(
        self,
        handler: Handler,
        put: Put,
        controls: dict[str, Control] | None = None,
        reset: Callable[[], None] = lambda: None,
    ) -> None:
        self.handler, self.put, self.reset = handler, put, reset
        self.controls = controls or {}
        self.log: list[dict[str, object]] = []

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while call := await receive(reader, writer):
                if not await self.turn(call, writer):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client left
        finally:
            writer.close()

    async def turn(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False when the connection is not to be used again."""
        return await send(writer, call, await self.answer(call))

    async def answer(self, call: Call) -> Answer:
        try:
            return self.control(call) or await self.logged(call)
        except Exception:  # our own mistake: the test should see it, not a connection that closed
            return Answer(500, traceback.format_exc().encode())

    async def logged(self, call: Call) -> Answer:
        # A handler may change the headers that it works on.
        arrived, asked = time.time(), call.headers.get("range")
        answer = await self.handler(call)
        empty = call.method == "HEAD" or answer.status in BODILESS
        self.log.append(
            {
                "method": call.method,
                "path": call.path,
                "query": call.query,
                "status": answer.status,
                "bytes": 0 if empty else len(answer.body),
                "range": asked,
                "at": arrived,
            }
        )
        return answer

    def control(self, call: Call) -> Answer | None:
        if call.path == "/_log" and call.method == "DELETE":
            self.log.clear()
            self.reset()
            return Answer(204)
        if call.path == "/_log":
            return Answer(body=json.dumps(self.log).encode(), headers={"Content-Type": "application/json"})
        if call.path == "/_object" and call.method == "PUT":
            named = call.parameters
            self.put(named.get("bucket", ""), named["key"], call.body, call.headers.get("content-type"))
            return Answer(204)
        if call.path == "/_seed" and call.method == "POST":
            bucket, n, size = (call.parameters[name] for name in ("bucket", "n", "size"))
            for index in range(int(n)):
                self.put(bucket, f"d{index // 1000:03d}/o{index:06d}.jpg", b"x" * int(size), "image/jpeg")
            return Answer(204)
        return self.controls[call.path](call) if call.path in self.controls else None


async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Call | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head[:-4].split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if "chunked" in headers.get("transfer-encoding", ""):
        body = await receive_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Call(method, target, headers, body)


async def receive_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body


async def send(writer: asyncio.StreamWriter, call: Call, answer: Answer) -> bool:
    """Send it; False when the connection is not to be used again."""
    if answer.delay:
        await (asyncio.Event().wait() if math.isinf(answer.delay) else asyncio.sleep(answer.delay))
    if answer.until:
        await answer.until.wait()
    given = {name.lower() for name in answer.headers}
    headers = dict(answer.headers)
    if "date" not in given:
        headers["Date"] = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
    if answer.chunked:
        headers["Transfer-Encoding"] = "chunked"
    elif answer.status not in BODILESS and "content-length" not in given:
        headers["Content-Length"] = str(len(answer.body) if answer.declared is None else answer.declared)
    lines = [
        f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if call.method != "HEAD" and answer.status not in BODILESS:
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer.body), answer.body) if answer.chunked else answer.body)
    await writer.drain()
    if answer.ending == "reset":
        await asyncio.sleep(0.05)  # what was sent must reach the client before the reset wipes it out
        reset(writer)
    return answer.ending == "keep" and call.headers.get("connection", "").lower() != "close"


def reset(writer: asyncio.StreamWriter) -> None:
    """Close so that the client sees a reset: with a linger time of zero the kernel sends RST, not FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def ranged(body: bytes, asked: str | None, headers: dict[str, str]) -> Answer:
    """The answer to a GET of `body`, with one byte range when one is asked for (RFC 9110, section 14)."""
    headers = {"Accept-Ranges": "bytes", **headers}
    unit, _, spec = (asked or "").partition("=")
    first, dash, last = spec.strip().partition("-")
    if unit.strip() != "bytes" or not dash or not (first + last).isdigit():
        return Answer(200, body, headers)
    if first:
        start, stop = int(first), min(int(last or len(body)) + 1, len(body))
    else:
        start, stop = max(0, len(body) - int(last)), len(body)
    if last and first and int(last) < int(first):
        return Answer(200, body, headers)
    if start >= len(body):
        return Answer(416, b"", {**headers, "Content-Range": f"bytes */{len(body)}"})
    return Answer(206, body[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})


def serve(service: Service, port: int) -> None:
    """Serve until SIGTERM, Ctrl-C, or the end of the process that started us (its pipe to stdin closes)."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end(*_: object) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)

        # Not the loop's own handlers, which go with it: a signal behind the end of stdin would then kill the process
        # while its caller tidies up.
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, end)
        if stat.S_ISFIFO(os.fstat(0).st_mode):
            loop.add_reader(0, stop.set)
        server = await asyncio.start_server(service.connection, "127.0.0.1", port, backlog=1024, limit=2**20)
        await stop.wait()
        # An end that is not read is told again and again: the loop would spin as long as a request holds it up.
        loop.remove_reader(0)
        server.close()

    asyncio.run(main())
