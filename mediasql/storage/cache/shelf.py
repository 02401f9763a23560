"""Where bytes are kept: the catalogue, the files and their folders, who writes them down and who cleans up."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from .. import loop, threads
from ..providers.base import Chunk, ObjectInfo
from . import catalogue, room
from .catalogue import Entry
from .claims import Claims
from .database import Database
from .folders import Dead, Folder, is_gone, remove
from .identity import Identity
from .keeper import Keeper
from .listed import among
from .removals import AT_ONCE, Removals

PAUSE = 30.0  # seconds for which nothing is kept after that failed
FULL_PAUSE = 1.0  # where there was no room on the disk: until files are gone
_MAKE_ROOM = 16  # the part of what is held that goes when the disk is full
_FULL = (errno.ENOSPC, errno.EDQUOT)
_LOOK = 1.0  # seconds between looks at whether anything is kept


@dataclass(frozen=True, slots=True)
class Counts:
    """How reads went. `hits` needed no byte from the network; `saved` and `fetched` are bytes."""

    hits: int = 0
    misses: int = 0
    saved: int = 0
    fetched: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What is held, in bytes, of how much at most; how reads went since the cache was made, and in this process."""

    held: int
    capacity: int
    ever: Counts
    here: Counts


class Shelf:
    """The state of a `Blocks`, and all that is not reading."""

    def __init__(self, folder: Path, capacity: int, warn: Callable[[str], None]) -> None:
        self.folder = folder / "bytes-v1"
        self.capacity = capacity
        self._warn = warn
        self._graves: list[Any] = []
        self._begin()

    def _begin(self) -> None:
        self._database = Database(self.folder / "catalog.db", catalogue.SCHEMA, catalogue.VERSION, self._tell)
        self.keeper = Keeper(self._database, self._settle, self._lost)
        self.files = Folder(self.folder / "files")
        self._spare: Folder | None = None
        self._claims = Claims(self.folder / "claims")
        self._entries: dict[Identity, Entry] = {}  # with something that the catalogue may not know yet
        self._flying: dict[tuple[Identity, int], asyncio.Future[Chunk | Exception | None]] = {}
        self._said: dict[Identity, tuple[ObjectInfo, float]] = {}
        self.staying: Counter[Identity] = Counter()  # are not to be evicted as soon as they come
        self.loose: set[Path] = set()  # files of leases that the catalogue does not know
        self._keeping: set[asyncio.Task[bool]] = set()
        self._unwritten = 0
        self._drained: list[asyncio.Future[None]] = []
        self._counts = [0, 0, 0, 0]
        self._counted = [0, 0, 0, 0]
        self._removals = Removals(self.files.root)
        self._generation: bytes | None = None
        self._looked = float("-inf"), False
        self._unkept_until = 0.0
        self._closing = False
        self._started = False
        self._starting = threading.Lock()
        self._cleaning = threading.Lock()

    def forget(self) -> None:
        """Begin anew in a forked child. What it inherited is its parent's, and is neither written nor deleted."""
        self.files.let_go()
        if self._spare is not None:
            self._spare.let_go()
        self._claims.close()
        self._graves.append((self._database, self.keeper, self._entries))
        self._begin()

    def spare(self) -> Folder:
        """Return the folder for copies that find no room in `files`: this user's below the system's temporary one.

        Raises OSError where no temporary folder can be written to.
        """
        if self._spare is None:
            # The name tells users apart, where all have one folder for temporary files.
            user = getattr(os, "geteuid", lambda: 0)()
            self._spare = Folder(Path(tempfile.gettempdir()) / f"mediasql-{user}")
        return self._spare

    def _working(self) -> bool:
        if self._database.unusable or self._closing:
            return False
        if not self._started:
            with self._starting:
                if not self._started:
                    self._started = True
                    threads.start(self.clean, "cleaner")
        return True

    def holds(self, age: float = _LOOK) -> bool:
        """Whether anything is kept at all, or was `age` seconds ago: most scans read headers, of which nothing is."""
        if self._entries:
            return True
        now = time.monotonic()
        if now - self._looked[0] > age:
            self._looked = now, os.path.exists(self._database.path) and self._working() and self.held() > 0
        return self._looked[1]

    def _hit(self, entry: Entry | None, size: int) -> None:
        self._counts[0] += 1
        self._counts[2] += size
        if entry is not None and entry.id is not None:
            self.keeper.touch(entry.id, time.time())

    def _missed(self, size: int) -> None:
        self._counts[1] += 1
        self._counts[3] += size

    def keeps(self) -> bool:
        """Whether it is worth trying to keep anything."""
        return self._working() and time.monotonic() >= self._unkept_until

    def _tell(self, why: str) -> None:
        with suppress(Warning):  # one that is made an error must not end the thread that happens to be here
            self._warn(why)

    def _failed(self, error: OSError, size: int) -> None:
        """Nothing can be written for now; `size` bytes could not be. What is there is read all the same."""
        full = error.errno in _FULL
        self._unkept_until = time.monotonic() + (FULL_PAUSE if full else PAUSE)
        self._tell(error.strerror or str(error))
        if full:

            def make_room(connection: apsw.Connection) -> Callable[[], None]:
                held = room.totals(connection).held
                room.evict(connection, max(0, held - max(held // _MAKE_ROOM, 2 * size)))
                return self._database.shrink

            self.keeper.submit(make_room)

    def _lost(self, why: str) -> None:
        """The catalogue could not be written."""
        self._unkept_until = time.monotonic() + (FULL_PAUSE if self._database.full else PAUSE)
        if why:
            self._tell(why)
        if self._database.full:
            # Not even what is to be deleted can be written down before: whoever misses a file fetches its bytes again.
            gone = []
            freed, wanted = 0, max(self.held() // _MAKE_ROOM, 1 << 20)
            for file, size in self._database.read(
                "SELECT file, held FROM objects WHERE leases = 0 ORDER BY last_use LIMIT ?", (AT_ONCE,)
            ):
                # What is gone already makes no room again, or this would have no end.
                if freed < wanted and os.path.exists(self.files.root / str(file)) and remove(self.files.root, file):
                    gone.append(file)
                    freed += int(size)
            if gone:
                self._database.shrink()

                def drop(connection: apsw.Connection) -> None:
                    for file in gone:
                        catalogue.drop(connection, file)

                self.keeper.submit(drop)

    def _settle(self, connection: apsw.Connection) -> Callable[[], None]:
        """The end of each transaction: what is too much goes, and files that nothing refers to."""
        generation = room.totals(connection).generation
        counts = list(self._counts)
        if counts != self._counted:
            connection.execute(
                "UPDATE totals SET hits = hits + ?, misses = misses + ?, saved = saved + ?, fetched = fetched + ?",
                [now - then for now, then in zip(counts, self._counted, strict=True)],
            )
        room.evict(connection, self.capacity)
        doomed = self._removals.next(connection)

        def then() -> None:
            self._counted = counts
            self._looked = float("-inf"), False
            if self._removals.carry_out(doomed):
                self.keeper.submit(lambda connection: None)
            if self._generation not in (None, generation):
                # It was made anew and knows nothing of the files that we made: they are for cleaning.
                self.files.abandon()
                self._started = False
            self._generation = generation

        return then

    def clean(self) -> int:
        """Delete what processes that died left behind; how many files that were. Each of their folders is seen once."""
        with self._cleaning:
            cleaned: set[str] | None = self.keeper.call(
                lambda connection: {name for (name,) in connection.execute("SELECT folder FROM cleaned")}, None
            )
            if cleaned is None:
                return 0
            count = 0
            for name in self.files.others():
                with suppress(OSError):
                    if name not in cleaned and (dead := Dead.take(self.files.root, name)) is not None:
                        count += self._clean(dead, name)
            self.keeper.call(self._tidy, None)
            return count

    def _clean(self, dead: Dead, name: str) -> int:
        count = 0
        try:
            self.keeper.call(lambda connection: catalogue.release_all(connection, name), None)
            files = dead.files()
            for at in range(0, len(files), AT_ONCE):
                some = files[at : at + AT_ONCE]
                unknown = self.keeper.call(lambda connection, some=some: catalogue.unknown(connection, some), None)  # type: ignore[misc]
                if unknown is None:
                    return count
                count += sum(remove(self.files.root, file) for file in unknown)
            self.keeper.call(
                lambda connection: connection.execute("INSERT OR IGNORE INTO cleaned VALUES (?)", (name,)).get, None
            )
        finally:
            dead.close()
        return count

    def _tidy(self, connection: apsw.Connection) -> None:
        room.count_anew(connection)
        for table, column in (("cleaned", "folder"), ("leases", "process")):
            for (name,) in connection.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall():
                if is_gone(self.files.root / str(name)):
                    connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (name,))

    def rows(self, keys: Collection[str] | None = None) -> list[tuple[Any, ...]]:
        """See `catalogue.rows`."""
        self.flush()
        return catalogue.rows(self._database, keys)

    def held(self) -> int:
        """Bytes that are held, as far as the catalogue knows."""
        found = self._database.look(room.totals, None)
        return found.held if found else 0

    def stats(self) -> Stats:
        """What is held, and how reads went."""
        self.flush()
        here = Counts(*self._counts)
        found = self._database.look(room.totals, None)
        if found is None:
            return Stats(0, self.capacity, here, here)
        return Stats(found.held, self.capacity, Counts(*found[-4:]), here)

    def evict(self, scope: str | None, key: str) -> int:
        """Forget an object, of any scope where that is None; how many bytes that frees."""
        return self._forget(key, scope)

    def clear(self) -> int:
        """Forget all objects; how many bytes that frees. What is leased goes when it is released."""
        return self._forget(None, None)

    def _forget(self, key: str | None, scope: str | None) -> int:
        self.flush()
        freed, count = self.keeper.call(lambda connection: room.forget(connection, key, scope), (0, 0))
        for _ in range(count // AT_ONCE):  # so many transactions delete their files, whatever others have to delete
            self.keeper.call(lambda connection: None, None)
        return freed

    def validate(self, identity: Identity, info: ObjectInfo) -> None:
        """A listing says that `info` is the version now: an entry is fresh if it is of that, and dropped if not."""
        if not self._working() or not catalogue.storable(identity, info):
            return
        now = time.time()
        said = self._said[identity] = info, now

        def done(written: bool) -> None:
            if self._said.get(identity) is said:
                del self._said[identity]

        self.keeper.submit(lambda connection: catalogue.validate(connection, identity, info, now), done)

    def listed(self, scope: str, objects: Mapping[str, ObjectInfo]) -> None:
        """A listing says that these are the versions now; see `validate`."""
        known = among(self._database, scope, objects)
        known.update(key for within, key in list(self._entries) if within == scope and key in objects)
        for key in known:
            self.validate(Identity(scope, key), objects[key])

    def flush(self) -> None:
        """Return when the catalogue knows all that was kept before."""
        self.keeper.flush()

    def close(self) -> None:
        """Write what is to be written, and give up leases. The next read opens all again."""
        for path in list(self.loose):
            with suppress(OSError):
                path.unlink()
        if self.keeper.running:
            self._closing = True
            name = self.files.name

            def last(connection: apsw.Connection) -> None:
                if name is not None:
                    catalogue.release_all(connection, name)
                    if not self._entries:
                        connection.execute("INSERT OR IGNORE INTO cleaned VALUES (?)", (name,))

            self.keeper.flush()
            if self._entries:
                loop.run(asyncio.sleep(0))  # what the keeper has left for the loop to do
            self.keeper.call(last, None)
            self.keeper.call(lambda connection: None, None)
            if self._entries:
                self.files.abandon()
            else:
                self.files.leave()
        if self._spare is not None:
            self._spare.leave()
        self.keeper.close()
        self._database.close()
        self._claims.close()
        self._closing = self._started = False
