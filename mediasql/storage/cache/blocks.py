"""The bytes of remote objects, kept on disk in blocks: read through it, and what was read before costs no request.

Under `bytes-v1` lie the catalogue, and the files of the objects with holes where nothing was read. Bytes are written
before the catalogue says that they are there, and what it says is checked whenever they are read: whatever happens to
processes, disk or database, what is not there or not right is fetched again. Where nothing can be kept, all is fetched.
"""

from __future__ import annotations

import asyncio
import atexit
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from ... import errors
from .. import forking
from ..fetch import in_parts
from ..futures import shared_result
from ..providers.base import Chunk, ObjectInfo
from ..transport.requests import NotModified
from . import catalogue, leases, pieces
from .catalogue import BLOCK, Entry
from .entries import INLINE, Entries, nothing
from .identity import Identity
from .leases import Lease

# Reads bytes `start` to `stop` of one object as Store.read does, `unless` they are of a version that is known.
Reader = Callable[..., Awaitable[Chunk]]

_ROUNDS = 8


class Blocks(Entries):
    """The kept bytes under one folder. There should be one in a process: see `blocks`.

    folder    the cache folder; everything lies in `bytes-v1` there
    capacity  bytes that all processes together may keep
    warn      is told why nothing can be kept, each time

    Coroutines run on the loop of `mediasql.storage.loop`; the other methods may be called from any other thread.
    """

    async def read(
        self,
        identity: Identity,
        read: Reader,
        start: int,
        stop: int,
        *,
        max_age: float | None = None,
        since: float | None = None,
        whole: bool = False,
        within: float = 60.0,
    ) -> Chunk:
        """Bytes `start` to `stop` of an object; fewer only where it ends. All are of one version.

        read     asks the store: `read(start, stop)`, `read(start, stop, unless=version)`
        max_age  seconds for which what the store said last holds; None: for ever
        since    a time.time(): what the store said later holds in any case; now by default
        whole    all of the object is being read: it is not kept when it is larger than the cache
        within   seconds that `read` has; for a part of that, what another process fetches is waited for

        Raises what `read` raises.
        """
        now = time.time()
        oldest = 0.0 if max_age is None else min(now - max_age, now if since is None else since)
        first, end = start // BLOCK, -(-stop // BLOCK)
        rounds = 0
        while rounds < _ROUNDS and self._working():
            entry = self.find(identity, first, end)
            wanted = pieces.missing(entry, first, end)
            unless = None
            if wanted is None:
                assert entry is not None
                if entry.checked >= oldest:
                    if (chunk := await self._kept(entry, start, stop)) is not None:
                        return chunk
                    rounds += 1
                    continue
                unless, wanted = entry.info, range(first, max(end, first + 1))
            if other := next((self._flying[key] for at in wanted if (key := (identity, at)) in self._flying), None):
                found = await shared_result(other)
                if isinstance(found, errors.UnavailableError):
                    raise found.again()
                if isinstance(found, Chunk) and (part := pieces.cut(found, start, stop)) is not None:
                    self._hit(None, len(part.data))
                    return part
                continue
            rounds += 1
            fetched = await self._fetch(identity, read, wanted, unless, oldest, whole, within)
            if fetched is not None and (part := pieces.cut(fetched, start, stop)) is not None:
                return part
        chunk = await read(start, stop)
        self._missed(len(chunk.data))
        return chunk

    async def _fetch(
        self,
        identity: Identity,
        read: Reader,
        wanted: range,
        unless: ObjectInfo | None,
        oldest: float,
        whole: bool,
        within: float,
    ) -> Chunk | None:
        """Fetch and keep blocks; None where there is nothing to fetch any more."""
        outcome: Chunk | Exception | None = None
        future = asyncio.get_running_loop().create_future()
        for at in wanted:
            self._flying[identity, at] = future
        give: Callable[[], None] = nothing
        try:
            if unless is None and self.keeps():
                # A new object gets a file, and is claimed as a whole; and then as those do who know it a moment later.
                new = self.find(identity, wanted.start, wanted.stop) is None
                places: list[int] = []
                give = partial(self._claims.give, places)
                claims = ((*identity, ""), (*identity, wanted.start // catalogue.BLOCKS))
                await self._claims.take(places, *claims[not new :], within=within)
                known = self.find(identity, wanted.start, wanted.stop)
                if new != (known is None) or pieces.missing(known, wanted.start, wanted.stop) != wanted:
                    return None  # another process was quicker, or wrote some of it
            try:
                chunk = await read(wanted.start * BLOCK, wanted.stop * BLOCK, unless=unless)
            except NotModified as answer:
                if answer.no_store:
                    self.discard(identity)
                else:
                    self._confirm(identity)
                return None
            self._missed(len(chunk.data))
            chunk = replace(chunk, info=pieces.measured(chunk, wanted.stop * BLOCK))
            if chunk.info.no_store:
                self.discard(identity)
                outcome = chunk
                return chunk
            keep = self.keep(identity, chunk, oldest, whole, give)
            give = nothing
            if len(chunk.data) <= INLINE:
                await keep
            else:
                task = asyncio.create_task(keep)
                self._keeping.add(task)
                task.add_done_callback(self._keeping.discard)
                await shared_result(task)  # who gives up now would leave a file by halves
            outcome = chunk
            return chunk
        except errors.UnavailableError as error:
            if isinstance(error, errors.NotFound):
                self.discard(identity)
            outcome = error
            raise
        finally:
            for at in wanted:
                if self._flying.get((identity, at)) is future:
                    del self._flying[identity, at]
            future.set_result(outcome)
            give()
            del outcome  # it may hold its traceback, which holds this frame

    def parts(
        self,
        identity: Identity,
        read: Reader,
        *,
        max_age: float | None = None,
        since: float | None = None,
        within: float = 60.0,
    ) -> AsyncIterator[Chunk]:
        """The whole object; see `in_parts`."""
        since = time.time() if since is None else since
        return in_parts(partial(self.read, identity, read, max_age=max_age, since=since, whole=True, within=within))

    async def peek(
        self,
        identity: Identity,
        read: Reader,
        start: int,
        stop: int,
        *,
        max_age: float | None = None,
        unless: ObjectInfo | None = None,
    ) -> Chunk:
        """Bytes `start` to `stop` from disk where all are there, and from `read` if not. They are not kept."""
        if unless is None:
            oldest = 0.0 if max_age is None else time.time() - max_age
            first, end = start // BLOCK, -(-stop // BLOCK)
            entry = self.find(identity, first, end)
            if entry is not None and entry.checked >= oldest and pieces.missing(entry, first, end) is None:
                chunk = await self._kept(entry, start, stop)
                if chunk is not None:
                    return chunk
        return await read(start, stop, unless=unless)

    async def _kept(self, entry: Entry, start: int, stop: int) -> Chunk | None:
        """Bytes that are all there, from disk; None where they are not what was written."""
        data = await self._load(entry, start, min(stop, entry.size))
        if data is None:
            return None
        self._hit(entry, len(data))
        return Chunk(data, start, entry.info, checked=entry.checked)

    async def lease(
        self,
        identity: Identity,
        read: Reader,
        extension: str,
        *,
        max_age: float | None = None,
        since: float | None = None,
        within: float = 60.0,
    ) -> Lease:
        """A file with the whole object, which stays until it is released; see `Lease`.

        `extension` is what its name ends with, without a dot. Raises what `read` raises, and TransientError where there
        is no room for the file.
        """
        since = time.time() if since is None else since
        with self.stay(identity):
            return await leases.lease(
                self,
                identity,
                partial(self.read, identity, read, max_age=max_age, since=since, within=within),
                partial(self.parts, identity, read, max_age=max_age, since=since, within=within),
                extension,
            )

    def discard(self, identity: Identity) -> None:
        """Keep nothing of an object any more. Runs on the loop."""
        if (known := self.find(identity, 0, 0)) is not None:
            self._drop(known)

    def complete(self, identity: Identity) -> bool:
        """Whether all of an object is there."""
        entry = self.find(identity)
        if entry is None:
            return False
        count = -(-entry.size // BLOCK)
        entry = self.find(identity, 0, count)
        return entry is not None and pieces.missing(entry, 0, count) is None

    @contextmanager
    def stay(self, identity: Identity) -> Iterator[None]:
        """What is read of an object meanwhile is kept like what comes for the first time."""
        self.staying[identity] += 1
        try:
            yield
        finally:
            self.staying[identity] -= 1
            self.staying += Counter()


_known: dict[Path, Blocks] = {}
_knowing = forking.lock()


def blocks(folder: Path, capacity: Callable[[int], int], warn: Callable[[str], None]) -> Blocks:
    """The one Blocks of this process for `folder`. The latest `capacity`, of what is held, holds for all who use it."""
    folder = folder.absolute()
    with _knowing:
        found = _known.get(folder)
        if found is None:
            # Until it is known what fits nothing may be evicted, and to look at what is held may begin to clean.
            found = _known[folder] = Blocks(folder, sys.maxsize, warn)
        found.capacity = capacity(found.held() if found.holds() else 0)
        return found


def _close_all() -> None:
    for kept in list(_known.values()):
        kept.close()


def _forget_all() -> None:
    for kept in _known.values():
        kept.forget()


atexit.register(_close_all)
forking.at_fork(in_child=_forget_all)
