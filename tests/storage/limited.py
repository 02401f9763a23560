"""A server that bears few requests at a time."""

from __future__ import annotations

import asyncio
import io
import re
import threading
import time

from PIL import Image


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    return buffer.getvalue()


class LimitedServer:
    """Serves a picture under any URL, `places` at a time, each in `seconds`; to others it says to come in a second.

    `waited` has the seconds for which each request for `/hang/…` was waited for.
    """

    def __init__(self, places: int, seconds: float) -> None:
        self.places, self.seconds = places, seconds
        self.active = self.most = self.refused = self.served = self.connections = 0
        self.waited: list[float] = []
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

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.stopped.set)

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
                if b"hang" in head.split(b"\r\n")[0]:
                    began = time.monotonic()
                    await reader.read(1)
                    self.waited.append(time.monotonic() - began)
                    return
                await asyncio.sleep(self.seconds)
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
