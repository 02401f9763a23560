"""One object, or a range of it, sent to a browser as fast as that takes it, and no further than it listens."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote

from ...storage.fetch import Changed
from ...storage.location import Location
from ...storage.providers.base import Chunk, ObjectInfo, changed
from ...storage.store import Store
from .reach import on_loop

PART = 1024 * 1024  # bytes that are read of the store at a time
_RANGE = re.compile(r"bytes=\s*(\d{0,18})-(\d{0,18})\s*", re.ASCII)


class Stream:
    """A response for Datasette: 200, 206, 304 or 416 (RFC 9110, sections 13 and 14)."""

    def __init__(
        self,
        store: Store,
        location: Location,
        object: ObjectInfo,
        mime_type: str,
        headers: dict[str, str],
        request: Any,
        receive: Any,
    ) -> None:
        self._store = store
        self._location = location
        self._object = object
        self._head = request.method == "HEAD"
        self._receive = receive
        self._headers = {**headers, "Content-Type": mime_type, "Accept-Ranges": "bytes"}
        name = quote(location.name, safe="")
        self._headers["Content-Disposition"] = f"inline; filename*=UTF-8''{name}" if name else "inline"
        etag = _etag(object)
        if etag is not None:
            self._headers["ETag"] = etag
        if object.last_modified is not None:
            moment = datetime.fromisoformat(object.last_modified)
            self._headers["Last-Modified"] = format_datetime(moment, usegmt=True)
        self.status = 200
        self._start, self._stop = 0, object.size
        if etag is not None and etag in re.split(r"\s*,\s*", request.headers.get("if-none-match", "")):
            self.status = 304
        elif request.headers.get("if-range") in (None, etag):
            self._cut(request.headers.get("range", ""))

    def _cut(self, wanted: str) -> None:
        """Keep to the range that was asked for; what is not one range in bytes is as if nothing was."""
        size = self._object.size
        match = _RANGE.fullmatch(wanted)
        if size is None or match is None or match[1] == match[2] == "":
            return
        if not match[1]:
            start, stop = max(0, size - int(match[2])), size
        else:
            start, stop = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
            if match[2] and int(match[2]) < start:
                return
        if start >= size:
            self.status = 416
            self._headers["Content-Range"] = f"bytes */{size}"
            return
        self.status, self._start, self._stop = 206, start, stop
        self._headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"

    async def asgi_send(self, send: Any) -> None:
        """Send it all, unless the browser goes before."""
        headers = dict(self._headers)
        if self.status == 416:
            headers["Content-Length"] = "0"
        elif self._stop is not None and self.status != 304:
            headers["Content-Length"] = str(self._stop - self._start)
        raw = [[name.lower().encode("latin-1"), value.encode("latin-1")] for name, value in headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": raw})
        if not self._head and self.status in (200, 206):
            await self._send_body(send)
        await send({"type": "http.response.body", "body": b""})

    async def _send_body(self, send: Any) -> None:
        gone = asyncio.ensure_future(self._gone())
        try:
            async for data in self._body():
                if gone.done():
                    return
                await send({"type": "http.response.body", "body": data, "more_body": True})
        finally:
            gone.cancel()

    async def _gone(self) -> None:
        """Wait until the browser is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _body(self) -> AsyncIterator[bytes]:
        """The bytes, in parts. Raises MediaError, Changed when the object is another than the headers say."""
        at, stop = self._start, self._stop
        while stop is not None and at < stop:
            chunk = await on_loop(self._read(at, min(at + PART, stop)))
            if not chunk.ranged:
                break
            if changed(self._object, chunk.info) or not chunk.data:
                raise Changed
            yield chunk.data
            at += len(chunk.data)
        else:
            if stop is not None:
                return
        # The server does not tell the size, or would send all that comes before with each part.
        parts = self._store.parts(self._location)
        position = 0
        try:
            while (part := await on_loop(_next(parts))) is not None and (stop is None or position < stop):
                if changed(self._object, part.info):
                    raise Changed
                yield part.data[max(0, at - position) : None if stop is None else max(0, stop - position)]
                position += len(part.data)
        finally:
            await on_loop(_close(parts))

    async def _read(self, start: int, stop: int) -> Chunk:
        read = self._store.keeper(self._location, time.monotonic() + self._store.config.timeout)
        return await read(start, stop)


async def _next(parts: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(parts, None)


async def _close(parts: Any) -> None:
    await parts.aclose()


def _etag(object: ObjectInfo) -> str | None:
    """An entity tag of our own: that of the store may hold what no header should. None where nothing tells versions."""
    if object.etag is None and object.last_modified is None:
        return None
    told = f"{object.etag}\n{object.last_modified}\n{object.size}"
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'
