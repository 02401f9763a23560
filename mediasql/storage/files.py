"""Objects as files that programs read: by ranges, through the cache, with the errors of files."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from fsspec.caching import BaseCache, register_cache
from fsspec.spec import AbstractBufferedFile

from .. import errors
from . import loop
from .cache.catalogue import BLOCK
from .location import Location
from .providers.base import Chunk, ObjectInfo, changed
from .store import Store

_LARGEST = 1024 * 1024  # bytes read ahead


class Object:
    """One object, read through the cache where it is worth keeping.

    here  whether it lies on this machine already
    """

    def __init__(self, store: Store, location: Location) -> None:
        self.location = location
        self._store = store
        self._read = store.keeper(location, since=time.time())
        self.here = store.identity(location) is None

    async def read(self, start: int, stop: int) -> Chunk:
        """Bytes `start` to `stop`; those on disk hold as long as this lives, if they did when it was made."""
        return await self._read(start, stop)

    async def content(self) -> bytes:
        return (await self._store.content(self.location))[0]

    def parts(self) -> AsyncIterator[Chunk]:
        return self._store.parts(self.location)

    async def slice(self, start: int | None, end: int | None) -> bytes:
        """What `[start:end]` means of bytes."""
        start = start or 0
        if start < 0 or (end is not None and end < 0) or (end is None and start):
            size = (await self.read(0, BLOCK)).info.size
            if size is None:
                return (await self.content())[start:end]
            start, end, _ = slice(start, end).indices(size)
        if end is None:
            return await self.content()
        return (await self.read(start, end)).data if start < end else b""


class MediaFile(AbstractBufferedFile):  # type: ignore[misc]
    """An open object of a MediaFileSystem. It stays of the version that it was opened as, or raises OSError."""

    def __init__(self, *args: Any, target: Object, info: ObjectInfo, **kwargs: Any) -> None:
        self._object = target
        self._info = info
        super().__init__(*args, **kwargs)

    def _fetch_range(self, start: int, end: int) -> bytes:
        with as_os_errors(self.path):
            chunk = loop.run(self._object.read(start, end))
        if changed(self._info, chunk.info):
            raise OSError(errno.ESTALE, "the object changed while it was read", self.path)
        return chunk.data


class Growing(BaseCache):  # type: ignore[misc]
    """Reads ahead by little, and fourfold with each read that goes on where the last ended: headers cost little."""

    name = "mediasql"

    def __init__(self, blocksize: int, fetcher: Any, size: int) -> None:
        super().__init__(blocksize, fetcher, size)
        self._start = 0
        self._data = b""
        self._ahead = blocksize

    def _fetch(self, start: int | None, stop: int | None) -> bytes:
        start = min(start or 0, self.size)
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return b""
        end = self._start + len(self._data)
        before = b""
        if self._data and self._start <= start <= end:
            if stop <= end:
                self.hit_count += 1
                return self._data[start - self._start : stop - self._start]
            before = self._data[start - self._start :]
            self._ahead = min(self._ahead * 4, max(_LARGEST, self.blocksize))
        else:
            self._ahead = self.blocksize
        self.miss_count += 1
        self._start = start + len(before)
        wanted = max(stop, self._start + self._ahead)
        wanted = min(wanted + -wanted % BLOCK, self.size)
        self._data = self.fetcher(self._start, wanted)
        self.total_requested_bytes += len(self._data)
        return before + self._data[: stop - self._start]


register_cache(Growing, clobber=True)


@contextmanager
def as_os_errors(path: str) -> Iterator[None]:
    """Errors as programs expect them of a filesystem; wrong calls stay what they are."""
    try:
        yield
    except (errors.UnavailableError, errors.TransientError) as error:
        raise os_error(path, error) from error


def os_error(path: str, error: errors.MediaError) -> OSError:
    text = errors.redact(path)
    if isinstance(error, errors.NotFound):
        return FileNotFoundError(errno.ENOENT, str(error), text)
    if isinstance(error, errors.Forbidden):
        return PermissionError(errno.EACCES, str(error), text)
    return OSError(errno.EIO, str(error), text)


def details(path: str, info: ObjectInfo) -> dict[str, Any]:
    return {
        "name": path,
        "size": info.size,
        "type": "file",
        "etag": info.etag,
        "last_modified": info.last_modified,
        "mime_type": info.mime_type,
    }


async def next_part(parts: AsyncIterator[Chunk]) -> Chunk | None:
    return await anext(parts, None)


def read_only(path: str) -> OSError:
    return OSError(errno.EROFS, "mediasql only reads", path)
