"""Local files: plain paths, absolute, relative or with `~`, and file:// URLs."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote

from ...errors import Unsupported
from ..location import Location
from .base import Chunk, Entry, ObjectInfo, Provider, Signer, iso_time


class LocalProvider(Provider):
    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        with open(local_path(location), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            data = bytearray()
            wanted = min(stop, status.st_size) - start
            while len(data) < wanted and (part := os.pread(file.fileno(), wanted - len(data), start + len(data))):
                data += part
            return Chunk(bytes(data), start, _info(status))

    async def pages(self, prefix: Location, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        directories = await asyncio.to_thread(_directories, prefix, recursive)
        while (page := await asyncio.to_thread(next, directories, None)) is not None:
            if page:
                yield page

    async def signer(self, location: Location) -> Signer:
        raise Unsupported("a local file has no presigned URL")

    def glob_path(self, location: Location) -> str:
        return os.path.expanduser(_path(location)[0])

    def url_at(self, location: Location, path: str) -> str:
        return f"file://{quote(path)}" if location.url.lower().startswith("file:") else path

    def file_url(self, location: Location) -> str:
        return Path(local_path(location)).absolute().as_uri()


def _path(location: Location) -> tuple[str, ...]:
    """The paths that a location may mean, likeliest first.

    A file:// URL is percent-encoded (RFC 8089), but people paste paths behind `file://` as they are.
    """
    if not location.url.lower().startswith("file:"):
        return (os.path.expanduser(location.path),)
    path = location.path.removeprefix("localhost")
    return tuple(dict.fromkeys((unquote(path), path)))


def local_path(location: Location) -> str:
    """The path in the file system that `location` stands for."""
    paths = _path(location)
    return next((path for path in paths if os.path.exists(path)), paths[0])


def _directories(prefix: Location, recursive: bool) -> Iterator[list[Entry]]:
    """The files that start with the prefix, a page for each directory, in the order of their names."""
    start = os.path.expanduser(_path(prefix)[0])
    pending = [(os.path.dirname(start), os.path.basename(start))]
    while pending:
        directory, begins = pending.pop()
        try:
            found = sorted(os.scandir(directory or "."), key=lambda item: item.name)
        except FileNotFoundError:
            continue
        entries, below = [], []
        for item in found:
            if not item.name.startswith(begins):
                continue
            path = os.path.join(directory, item.name)
            if item.is_dir(follow_symlinks=False):
                below.append((path, ""))
            elif item.is_file():
                status = item.stat()
                url = f"file://{quote(path)}" if prefix.url.lower().startswith("file:") else path
                entries.append(Entry(url, path, _info(status, mimetypes.guess_type(path)[0])))
        if recursive:
            pending.extend(reversed(below))
        yield entries


def _info(status: os.stat_result, mime_type: str | None = None) -> ObjectInfo:
    # No file system keeps ETags; size and time in one serve the same purpose, as in nginx.
    return ObjectInfo(
        size=status.st_size,
        last_modified=iso_time(status.st_mtime),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        mime_type=mime_type,
    )
