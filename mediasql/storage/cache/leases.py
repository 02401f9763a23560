"""Files of the cache for other programs: whole, and there until they are released."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ... import errors
from .. import threads
from ..fetch import of_one_version
from ..providers.base import PART, Chunk, ObjectInfo
from . import catalogue
from .catalogue import BLOCK
from .database import make_private
from .folders import Dead, Folder, remove
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
        try:
            leased = await threads.run("cache", _leased, blocks, found.file, suffix)
        except OSError:  # a disk without links, or none at all
            break
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
        if not blocks.keeps():
            break
    return await of_one_version(lambda: _copied(blocks, parts, suffix))


def _leased(blocks: Blocks, file: str, suffix: str) -> tuple[Path, Callable[[], None]] | None:
    """The path of a file that is kept from eviction now, and how to end that; None where it is gone. Raises OSError."""
    process = blocks.files.opened()
    number = blocks.keeper.call(lambda connection: catalogue.lease(connection, file, process), None)
    if number is None:
        return None
    path = blocks.files.root / file
    link: str | None = None

    def end() -> None:
        if link is not None:
            blocks.loose.discard(path)
            with suppress(OSError):
                path.unlink()
        blocks.keeper.submit(lambda connection: catalogue.release(connection, number, file, process))

    if path.suffix != suffix:
        try:
            link = blocks.files.link(file, suffix)
        except OSError as error:
            end()
            if isinstance(error, FileNotFoundError):  # somebody deleted the folder
                return None
            raise
        path = blocks.files.root / link
        blocks.loose.add(path)
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
    copy = await threads.run("cache", _Copy, blocks, suffix)
    info: ObjectInfo | None = None
    try:
        async for chunk in parts():
            await threads.run("cache", copy.write, chunk.data)
            info = info or chunk.info
        copy.close()
    except BaseException:
        copy.discard()
        raise
    assert info is not None
    return Lease(copy.path, info, copy.discard)


class _Copy:
    """A new file: in the cache's folder or, where that has no room, in the system's for temporary files.

    Raises TransientError where there is none either.
    """

    def __init__(self, blocks: Blocks, suffix: str) -> None:
        self._blocks = blocks
        self._suffix = suffix
        self._handle = -1
        self._temporary = False
        self._size = 0
        try:
            name, self._handle = blocks.files.create(suffix)
            self.path = blocks.files.root / name
            blocks.loose.add(self.path)
        except OSError:
            self._move()

    def write(self, data: bytes) -> None:
        try:
            _write(self._handle, data)
        except OSError as error:
            if self._temporary:
                raise _no_room(error) from None
            self._move()
            self.write(data)
        else:
            self._size += len(data)

    def _move(self) -> None:
        """Go on in the other folder."""
        try:
            path, handle = _temporary(self._blocks.spare(), self._suffix)
        except OSError as error:
            raise _no_room(error) from None
        written = self._size
        if self._handle >= 0:
            before = os.dup(self._handle)
            self.discard()
        self.path, self._handle, self._temporary, self._size = path, handle, True, 0
        self._blocks.loose.add(self.path)
        if written:
            with open(before, "rb") as source:
                source.seek(0)
                while self._size < written:
                    self.write(source.read(min(PART, written - self._size)))

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def discard(self) -> None:
        self.close()
        self._blocks.loose.discard(self.path)
        with suppress(OSError):
            self.path.unlink()


def _temporary(spare: Folder, suffix: str) -> tuple[Path, int]:
    """A new file that whoever comes next deletes when this process is killed. Raises OSError."""
    try:
        if spare.name is None:
            make_private(spare.root)
            status = os.lstat(spare.root)
            if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "geteuid") and status.st_uid != os.geteuid()):
                raise OSError(errno.EPERM, "another user has made it", os.fspath(spare.root))
            for name in spare.others():
                if (dead := Dead.take(spare.root, name)) is not None:
                    for file in dead.files():
                        remove(spare.root, file)
                    dead.close()
        name, handle = spare.create(suffix)
        return spare.root / name, handle
    except OSError:
        handle, text = tempfile.mkstemp(suffix, "mediasql-")
        return Path(text), handle


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _no_room(error: OSError) -> errors.TransientError:
    return errors.TransientError(
        "there is no room for a local copy, neither in the cache's folder nor in that for temporary files (TMPDIR): "
        f"{error.strerror or error}"
    )
