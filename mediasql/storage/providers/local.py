"""Local files: plain paths, absolute, relative or with `~`, and file:// URLs."""

from __future__ import annotations

import mimetypes
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote_to_bytes

from ...errors import UnavailableError, Unsupported
from .. import threads
from ..location import Location
from ..paths import absolute
from .base import Chunk, Entry, KeyRange, ObjectInfo, Provider, Signer, iso_time

# Not to wait for whoever may write into a named pipe. Windows has none among its files.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)


class LocalProvider(Provider):
    schemes: ClassVar[tuple[str, ...]] = ("file",)

    def cached(self, location: Location) -> bool:
        return False

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        with open(os.open(local_path(location), os.O_RDONLY | _NONBLOCK), "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            self._judge(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError("is a directory") if stat.S_ISDIR(status.st_mode) else _not_a_file()
            file.seek(start)
            data = bytearray()
            wanted = min(stop, status.st_size) - start
            while len(data) < wanted and (part := file.read(wanted - len(data))):
                data += part
            return Chunk(bytes(data), start, _info(status))

    def _judge(self, descriptor: int) -> None:
        """Raise ForbiddenByPolicy for an open file that may not be read: links may have come since its path was judged.

        Only Linux tells where an open file is.
        """
        if self.policy is None:
            return
        with suppress(FileNotFoundError):
            self.policy.check(Location.parse(os.readlink(f"/proc/self/fd/{descriptor}")))

    async def pages(
        self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int
    ) -> AsyncIterator[list[Entry]]:
        files = _files(self.glob_path(prefix), recursive, as_url=_is_url(prefix))
        while page := await threads.run("file", lambda: list(islice(files, page_size))):
            yield page

    async def signer(self, location: Location) -> Signer:
        raise Unsupported("a local file has no presigned URL")

    def glob_path(self, location: Location) -> str:
        paths = possible_paths(location)
        return next((path for path in paths if os.path.isdir(os.path.dirname(path) or ".")), paths[0])

    def url_at(self, location: Location, path: str) -> str:
        return _url(path) if _is_url(location) else path

    def file_url(self, location: Location) -> str:
        return Path(absolute(local_path(location), normalised=False)).as_uri()


def local_path(location: Location) -> str:
    """The path in the file system that `location` stands for."""
    likeliest, *others = possible_paths(location)
    if not others:
        return likeliest  # a path is looked at with each call, and asking whether it is there would double that
    return next((path for path in (likeliest, *others) if os.path.lexists(path)), likeliest)


def _is_url(location: Location) -> bool:
    return location.path != location.url


def possible_paths(location: Location) -> tuple[str, ...]:
    """The paths that a location may mean, likeliest first.

    A file:// URL is percent-encoded (RFC 8089), but people paste paths behind `file://` as they are.
    """
    if not _is_url(location):
        return (os.path.expanduser(location.path),)
    path = location.path
    if path[:10].lower() == "localhost/":
        path = path[9:]
    elif path.startswith("///"):  # file:/path, written with two more slashes
        path = path[2:]
    return tuple(dict.fromkeys((os.fsdecode(unquote_to_bytes(path)), path)))


def _url(path: str) -> str:
    return f"file://{quote(os.fsencode(path))}"


def _files(start: str, recursive: bool, as_url: bool) -> Iterator[Entry]:
    """The files whose path starts with `start`: those of a directory by name, and then those below it.

    Links to directories are not followed below `start`, as with `find`: they may lead round in circles.
    """
    pending = [(os.path.dirname(start), os.path.basename(start))]
    top = True
    while pending:
        directory, begins = pending.pop()
        try:
            found = sorted(os.scandir(directory or "."), key=lambda item: item.name)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError:
            if top:
                raise
            continue  # as `find` goes on
        finally:
            top = False
        below = []
        for item in found:
            if not item.name.startswith(begins):
                continue
            path = os.path.join(directory, item.name)
            if item.is_dir(follow_symlinks=False):
                below.append((path, ""))
            elif item.is_file() and (entry := _entry(path, item, as_url)) is not None:
                yield entry
        if recursive:
            pending.extend((os.path.join(path, ""), begins) for path, begins in reversed(below))


def _entry(path: str, item: os.DirEntry[str], as_url: bool) -> Entry | None:
    """A file of a listing; None when it has gone meanwhile."""
    try:
        status = item.stat()
    except OSError:
        return None
    try:
        path.encode()
        url = _url(path) if as_url else path
    except UnicodeEncodeError:
        # The name is not UTF-8, so that no SQL text can hold it; the URL can.
        url, path = _url(absolute(path)), os.fsencode(path).decode("utf-8", "replace")
    return Entry(url, path, _info(status, mimetypes.guess_type(path)[0]))


def _not_a_file() -> UnavailableError:
    return UnavailableError("it is not a regular file")


def _info(status: os.stat_result, mime_type: str | None = None) -> ObjectInfo:
    # No file system keeps ETags; size and time in one serve the same purpose, as in nginx.
    return ObjectInfo(
        size=status.st_size,
        last_modified=iso_time(status.st_mtime),
        etag=f"{status.st_mtime_ns:x}-{status.st_size:x}",
        mime_type=mime_type,
    )
