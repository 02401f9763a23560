"""What this process knows of kept objects beyond the catalogue, and how bytes get to disk and from it."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import apsw

from .. import threads
from ..location import Location
from ..providers.base import Chunk, ObjectInfo, changed
from . import catalogue, pieces
from .catalogue import BLOCK, Entry
from .folders import remove
from .identity import Identity
from .shelf import Shelf

INLINE = 128 * 1024  # bytes that are read or written without a thread
_MOST_UNWRITTEN = 64 * 1024 * 1024  # bytes on disk that the catalogue does not know yet, in one process
_SUFFIX = re.compile(r"\.[a-z0-9]{1,10}", re.ASCII)
_BINARY = getattr(os, "O_BINARY", 0)  # of Windows


def nothing() -> None:
    """There is no claim to give up."""


class Entries(Shelf):
    """Writes chunks and finds them again, for `Blocks`. All runs on the event loop."""

    def find(self, identity: Identity, first: int = 0, end: int = 0) -> Entry | None:
        """What is known of an object, and of its blocks `first` to `end`."""
        entry = self._entries.get(identity)
        if entry is None or entry.dead or entry.id is not None:
            entry = pieces.together(entry, catalogue.find(self._database, identity, first, end))
        if entry is not None and (said := self._said.get(identity)) is not None and entry.checked < said[1]:
            if changed(entry.info, said[0]):
                entry.dead = True
                return None
            if catalogue.certain(entry.info, said[0]):
                entry.checked = said[1]
        return entry

    def _mine(self, entry: Entry) -> Entry:
        """The one Entry that all who change it share, until `_settled`."""
        mine = self._entries.get(entry.identity)
        if mine is None or mine.dead:
            mine = self._entries[entry.identity] = entry
        elif mine.file != entry.file:
            mine = entry
        mine.unsettled += 1
        return mine

    def _submit(
        self,
        entry: Entry,
        change: Callable[[apsw.Connection], Callable[[], None] | None],
        size: int = 0,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Have a change of an entry that `_mine` gave written."""
        here = asyncio.get_running_loop()
        keeper = self.keeper
        self._unwritten += size

        def done(written: bool) -> None:
            if not written:
                entry.dead = True
                if entry.id is None:
                    remove(self.files.root, entry.file)
            with suppress(RuntimeError):  # the loop has ended
                here.call_soon_threadsafe(settled)

        def settled() -> None:
            then()
            self._settled(entry)
            if self.keeper is keeper:
                self._unwritten -= size
                for waiter in self._drained:
                    if not waiter.done():
                        waiter.set_result(None)
                self._drained.clear()

        keeper.submit(change, done)

    def _settled(self, entry: Entry) -> None:
        entry.unsettled -= 1
        if not entry.unsettled and self._entries.get(entry.identity) is entry:
            del self._entries[entry.identity]

    def _confirm(self, identity: Identity) -> None:
        """The store says that the version known is the one there is."""
        entry = self.find(identity, 0, 0)
        if entry is not None:
            entry = self._mine(entry)
            entry.checked = now = time.time()
            self._submit(entry, lambda connection: catalogue.confirm(connection, entry.file, now))

    def _drop(self, entry: Entry) -> None:
        entry.dead = True
        self._submit(self._mine(entry), lambda connection: catalogue.drop(connection, entry.file))

    async def _load(self, entry: Entry, start: int, stop: int) -> bytes | None:
        """Bytes from disk; None where they are not what was written."""
        if start >= stop:
            return b""
        first, end = start // BLOCK, -(-stop // BLOCK)
        checks = [entry.check(at) for at in range(first, end)]
        path = self.files.root / entry.file
        work = partial(pieces.load, path, entry, checks, first, start, stop)
        try:
            data, bad = work() if stop - start <= INLINE else await threads.run("cache", work)
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                self._tell(error.strerror or str(error))
            self._drop(entry)
            return None
        if bad:
            entry = self._mine(entry)
            entry.own.update(dict.fromkeys(bad, 0))
            self._submit(entry, lambda connection: catalogue.damaged(connection, entry, bad))
            return None
        return data

    async def keep(
        self, identity: Identity, chunk: Chunk, oldest: float, whole: bool, give: Callable[[], None]
    ) -> bool:
        """Write a chunk that begins with a block; `give` is called when all processes can see it."""
        entry: Entry | None = None
        try:
            if not pieces.whole_blocks(chunk) or not self._worth(identity, chunk, whole) or not self.keeps():
                return False
            entry, handle = self._place(identity, chunk.info, chunk.start // BLOCK, oldest)
            work = partial(pieces.store, handle, entry, chunk)
            checks = work() if len(chunk.data) <= INLINE else await threads.run("cache", work)
        except OSError as error:
            if entry is not None:
                self._abandon(entry)
            self._failed(error, len(chunk.data))
            return False
        else:
            added, entry = entry, None
            now = time.time()
            added.own.update(checks)
            added.held += len(chunk.data)
            added.checked = max(added.checked, now)
            given, give = give, nothing
            stays = self.staying[identity] > 0
            self._submit(
                added, lambda connection: catalogue.add(connection, added, checks, now, stays), len(chunk.data), given
            )
        finally:
            give()
        while self._unwritten > min(max(self.capacity // 64, 4 * BLOCK), _MOST_UNWRITTEN):
            self.keeper.urge()
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(waiter)
            await waiter
        return True

    def _worth(self, identity: Identity, chunk: Chunk, whole: bool) -> bool:
        """Whether to keep a chunk: not of what is larger than the cache, unless little of that is read."""
        if not catalogue.storable(identity, chunk.info):
            return False
        if (chunk.info.size or 0) <= self.capacity:
            return True
        entry = self.find(identity, 0, 0)
        return not whole and len(chunk.data) + (entry.held if entry else 0) <= self.capacity // 2

    def _place(self, identity: Identity, info: ObjectInfo, first: int, oldest: float) -> tuple[Entry, int]:
        """Where to write bytes of this version of an object: an entry for `_submit`, and its file. Raises OSError."""
        entry = self.find(identity, first, first + 1)
        replaces = None
        if entry is not None:
            sure = entry.checked >= oldest or catalogue.certain(entry.info, info)
            if sure and not changed(entry.info, info):
                try:
                    handle = os.open(self.files.root / entry.file, os.O_WRONLY | _BINARY)
                    return self._mine(entry), handle
                except FileNotFoundError:  # evicted, or somebody deleted it
                    pass
            replaces = entry.file
            entry.dead = True
        suffix = _SUFFIX.fullmatch(f".{Location.parse(identity.key).extension}")
        file, handle = self.files.create(suffix[0] if suffix else "")
        return self._mine(Entry(identity, file, info, time.time(), replaces=replaces)), handle

    def _abandon(self, entry: Entry) -> None:
        """Nothing came of what `_place` gave."""
        self._settled(entry)
        if entry.id is None and not entry.unsettled:
            entry.dead = True
            remove(self.files.root, entry.file)
