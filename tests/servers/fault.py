"""A TCP proxy that makes the network misbehave between a client and any of our servers.

It runs in a thread of the test, which sets the fault. What is signed with the proxy's host and port stays
valid behind it, since Host passes through unchanged.
"""

from __future__ import annotations

import asyncio
import re
import threading
from dataclasses import dataclass
from typing import Any

from tests.servers.wire import reset


@dataclass(frozen=True)
class Fault:
    """Limits count the bytes that one connection sends to the client, response heads included."""

    latency: float = 0  # seconds before each request is passed on
    bandwidth: float | None = None  # bytes per second, downwards
    cut_after: int | None = None  # then RST
    fin_after: int | None = None  # then an orderly end
    stall_after: int | None = None  # then silence
    refuse: bool = False  # RST as soon as the connection is accepted
    content_length: int = 0  # added to the Content-Length of each answer
    first: int | None = None  # only the first n connections after set()


class FaultProxy:
    """`with FaultProxy(server.port) as proxy: proxy.set(cut_after=1000)`; `proxy.set()` heals it."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.fault = Fault()
        self.connections = 0
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, **fault: Any) -> None:
        """The fault of connections made from now on; live ones keep theirs."""
        self.connections = 0
        self.fault = Fault(**fault)

    def __enter__(self) -> FaultProxy:
        self.thread.start()
        asyncio.run_coroutine_threadsafe(self.open(), self.loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result(60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(60)
        self.loop.close()

    async def open(self) -> None:
        self.server = await asyncio.start_server(self.connection, "127.0.0.1", 0, backlog=1024)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self.server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        fault = self.fault
        if fault.first is not None and self.connections > fault.first:
            fault = Fault()
        if fault.refuse:
            return reset(writer)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        upwards = asyncio.create_task(self.upwards(reader, up_writer, fault))
        try:
            await self.downwards(up_reader, writer, fault)
        except OSError:
            pass  # one side left
        finally:
            upwards.cancel()
            up_writer.close()
            writer.close()

    async def upwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(fault.latency)
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            pass

    async def downwards(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault) -> None:
        limits = [n for n in (fault.cut_after, fault.fin_after, fault.stall_after) if n is not None]
        left = min(limits, default=None)
        while data := await reader.read(65536):
            if fault.content_length and data.startswith(b"HTTP/1."):
                data = lengthened(data, fault.content_length)
            if fault.bandwidth:
                await asyncio.sleep(len(data) / fault.bandwidth)
            writer.write(data if left is None else data[:left])
            await writer.drain()
            if left is None:
                continue
            left -= len(data)
            if left <= 0:
                await self.end(writer, fault)
                return

    async def end(self, writer: asyncio.StreamWriter, fault: Fault) -> None:
        if fault.stall_after is not None:
            await asyncio.Event().wait()
        if fault.cut_after is not None:
            await asyncio.sleep(0.05)  # what was sent must reach the client before the reset wipes it out
            reset(writer)


def lengthened(data: bytes, more: int) -> bytes:
    return re.sub(
        rb"(?i)(\r\ncontent-length: *)(\d+)",
        lambda found: found[1] + str(int(found[2]) + more).encode(),
        data,
        count=1,
    )
