"""Files of the cache for other programs: whole, and there until they are released."""

from __future__ import annotations

import asyncio
import os
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ... import errors
from ..fetch import of_one_version
from ..providers.base import PART, Chunk, ObjectInfo
from . import catalogue
from .catalogue import BLOCK
from .identity import Identity

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from .blocks import Blocks


class Lease:
    """A file that is there, whole and unchanged, until `release`. It is for reading; only this user can.

    path  of the file
    info  of the version that it holds
    """

    def __init__(self, path: Path, info: ObjectInfo, end: Callable[[], None]) -> None:
        self.path = path
        self.info = info
        self._end = weakref.finalize(self, _in_process(end, os.getpid()))
        self._end.atexit = False  # then all leases end, by `Blocks.close`

    def release(self) -> None:
        """Let the file go; it may disappear. From any thread, and more than once."""
        self._end()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _in_process(end: Callable[[], None], process: int) -> Callable[[], None]:
    """`end`, which is not for a forked child to call: the lease is its parent's."""
    return lambda: end() if os.getpid() == process else None


async def lease(
    blocks: Blocks,
    identity: Identity,
    read: Callable[[int, int], Awaitable[Chunk]],
    parts: Callable[[], AsyncIterator[Chunk]],
    extension: str,
) -> Lease:
    """See `Blocks.lease`. `read` and `parts` are those of `blocks` for this object."""
    suffix = f".{extension}" if extension else ""
    for _ in range(3):
        await read(0, PART)
        found = blocks.find(identity)
        if found is None or found.size > blocks.capacity:
            break
        leased = await asyncio.to_thread(_leased, blocks, found.file, suffix)
        if leased is None:
            continue  # evicted meanwhile
        path, end = leased
        lease = Lease(path, found.info, end)
        try:
            if await _filled(blocks, identity, found.file, path, found.size, read):
                return lease
        except BaseException:
            lease.release()
            raise
        lease.release()
    return await of_one_version(lambda: _copied(blocks, parts, suffix))


def _leased(blocks: Blocks, file: str, suffix: str) -> tuple[Path, Callable[[], None]] | None:
    """The path of a file that is kept from eviction now, and how to end that."""
    try:
        process = blocks.files.opened()
        number = blocks.keeper.call(lambda connection: catalogue.lease(connection, file, process), None)
        if number is None:
            return None
        path = blocks.files.root / file
        link: str | None = None
        if path.suffix != suffix:
            link = blocks.files.link(file, suffix)
            path = blocks.files.root / link
            blocks.loose.add(path)
    except OSError:
        return None

    def end() -> None:
        if link is not None:
            blocks.loose.discard(path)
            with suppress(OSError):
                path.unlink()
        blocks.keeper.submit(lambda connection: catalogue.release(connection, number, file, process))

    return path, end


async def _filled(
    blocks: Blocks,
    identity: Identity,
    file: str,
    path: Path,
    size: int,
    read: Callable[[int, int], Awaitable[Chunk]],
) -> bool:
    """Read all of an object, so that it is all in the file, and right."""
    for at in range(0, size, PART):
        await read(at, at + PART)
        entry = blocks.find(identity, at // BLOCK, -(-min(at + PART, size) // BLOCK))
        if entry is None or entry.file != file:
            return False
    entry = blocks.find(identity, 0, -(-size // BLOCK))
    if entry is None or entry.file != file or not all(entry.check(at) for at in range(-(-size // BLOCK))):
        return False
    try:
        if os.stat(path).st_size > size:
            os.truncate(path, size)
        return os.stat(path).st_size == size
    except OSError:
        return False


async def _copied(blocks: Blocks, parts: Callable[[], AsyncIterator[Chunk]], suffix: str) -> Lease:
    """A file that the catalogue does not know, for one lease: for what does not fit, and where nothing is kept."""
    path, handle = await asyncio.to_thread(_somewhere, blocks, suffix)
    info: ObjectInfo | None = None
    try:
        try:
            async for chunk in parts():
                await asyncio.to_thread(_write, handle, chunk.data)
                info = info or chunk.info
        finally:
            os.close(handle)
    except BaseException as error:
        _discard(blocks, path)
        if isinstance(error, OSError):
            raise errors.TransientError(f"there is no room for a local copy: {error.strerror or error}") from None
        raise
    assert info is not None
    return Lease(path, info, partial(_discard, blocks, path))


def _somewhere(blocks: Blocks, suffix: str) -> tuple[Path, int]:
    """A new file in the cache's folder, or else where the system has its temporary files."""
    try:
        name, handle = blocks.files.create(suffix)
        path = blocks.files.root / name
    except OSError:
        try:
            handle, text = tempfile.mkstemp(suffix, "mediasql-")
        except OSError as error:
            raise errors.TransientError(f"there is no place for a local copy: {error.strerror or error}") from None
        path = Path(text)
    blocks.loose.add(path)
    return path, handle


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _discard(blocks: Blocks, path: Path) -> None:
    blocks.loose.discard(path)
    with suppress(OSError):
        path.unlink()
