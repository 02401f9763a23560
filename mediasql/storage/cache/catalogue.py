"""What the catalogue of kept bytes says, and how it is changed: all SQL of the bytes level.

Presence is kept by parts of 128 blocks of 64 KB, four bytes a block: 0 where it is absent, else its CRC-32. That begins
with a digest of what the bytes are of, so that no damage makes the bytes of one version of one object those of another.
"""

from __future__ import annotations

import time
import zlib
from array import array
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import apsw

from ..providers.base import ObjectInfo, changed
from . import room
from .database import AHEAD, Damaged, Database
from .identity import Identity

BLOCK = 64 * 1024
BLOCKS = 128  # in a part
VERSION = 2
_CHECKED = f"checked = max(iif(checked > ?1 + {AHEAD}, 0, checked), ?1)"

SCHEMA = f"""
CREATE TABLE objects(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT,
    last_modified TEXT,
    size INTEGER NOT NULL,
    mime_type TEXT,
    file TEXT NOT NULL UNIQUE,   -- below the folder 'files'
    seal INTEGER NOT NULL,       -- a digest of all columns above but `id`
    checked REAL NOT NULL,       -- when the store last said that this is the version; seconds since 1970
    held INTEGER NOT NULL DEFAULT 0,
    first_use REAL NOT NULL,
    last_use REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    leases INTEGER NOT NULL DEFAULT 0,
    passing INTEGER NOT NULL DEFAULT 0,   -- see `room`
    UNIQUE (key, scope)          -- those who ask by hand do not know the scope
);
CREATE TABLE parts(object INTEGER, part INTEGER, checks BLOB NOT NULL, PRIMARY KEY (object, part)) WITHOUT ROWID;
CREATE TABLE removed(file TEXT PRIMARY KEY) WITHOUT ROWID;   -- to be deleted, if that was not done
CREATE TABLE leases(file TEXT NOT NULL, process TEXT NOT NULL);
CREATE INDEX leased ON leases(file);
CREATE TABLE cleaned(folder TEXT PRIMARY KEY) WITHOUT ROWID;   -- of processes that ended: nothing in it is unknown
CREATE TRIGGER dropped AFTER DELETE ON objects BEGIN
    DELETE FROM parts WHERE object = old.id;
    INSERT OR IGNORE INTO removed VALUES (old.file);
END;
CREATE TRIGGER leased_again AFTER INSERT ON leases BEGIN
    UPDATE objects SET leases = leases + 1 WHERE file = new.file;
END;
CREATE TRIGGER released AFTER DELETE ON leases BEGIN
    UPDATE objects SET leases = leases - 1 WHERE file = old.file;
END;
{room.SCHEMA}
"""


@dataclass(slots=True, eq=False)
class Entry:
    """One version of one object, as far as this process knows.

    id        None until the catalogue has it
    own       blocks that this process wrote (or found damaged: 0), which the catalogue may not know yet
    replaces  the file of the version that was there before
    """

    identity: Identity
    file: str
    info: ObjectInfo
    checked: float
    id: int | None = None
    held: int = 0
    checks: dict[int, int] = field(default_factory=dict)
    own: dict[int, int] = field(default_factory=dict)
    replaces: str | None = None
    unsettled: int = 0
    dead: bool = False
    seal: int = field(init=False)

    def __post_init__(self) -> None:
        info = self.info
        said = (*self.identity, self.file, info.size, info.last_modified, info.etag, info.mime_type)
        text = repr(said).encode(errors="surrogatepass")
        self.seal = int.from_bytes(blake2b(text, digest_size=8).digest(), signed=True)

    @property
    def size(self) -> int:
        assert self.info.size is not None
        return self.info.size

    def check(self, block: int) -> int:
        """The CRC of a block; 0 where it is not there."""
        own = self.own.get(block)
        return self.checks.get(block, 0) if own is None else own

    def sum(self, block: int, data: bytes | memoryview) -> int:
        """The CRC of a block with these bytes."""
        return zlib.crc32(data, zlib.crc32(b"%d %d" % (block, self.seal))) or 1

    def length(self, block: int) -> int:
        """Bytes of a block: the last of the object is shorter."""
        return min(BLOCK, self.size - block * BLOCK)


def storable(identity: Identity, info: ObjectInfo) -> bool:
    """Whether a database can hold what a server said, which may be no text, and no number of this world."""
    try:
        "".join((*identity, info.last_modified or "", info.etag or "", info.mime_type or "")).encode()
    except UnicodeEncodeError:
        return False
    return (info.size or 0) < 1 << 63


def find(database: Database, identity: Identity, first: int, stop: int) -> Entry | None:
    """What the catalogue says of an object, and of its blocks `first` to `stop`."""

    def look(connection: apsw.Connection) -> Entry | None:
        entry = _stored(connection, identity)
        if entry is None:
            return None
        if entry.checked > time.time() + AHEAD:
            entry.checked = 0.0  # the clock was set back since, and nobody knows how long ago that was
        for part, checks in connection.execute(
            "SELECT part, checks FROM parts WHERE object = ? AND part BETWEEN ? AND ?",
            (entry.id, first // BLOCKS, max(first, stop - 1) // BLOCKS),
        ):
            entry.checks.update(enumerate(_checks(checks), part * BLOCKS))
        return entry

    return database.look(look, None)


def _stored(connection: apsw.Connection, identity: Identity) -> Entry | None:
    """What the catalogue says of an object, but for its blocks. Raises Damaged."""
    row = connection.execute(
        "SELECT file, size, last_modified, etag, mime_type, checked, id, held, seal FROM objects "
        "WHERE scope = ? AND key = ?",
        identity,
    ).fetchone()
    return None if row is None else _entry(identity, row)


def _entry(identity: Identity, row: tuple[Any, ...]) -> Entry:
    file, size, last_modified, etag, mime_type, checked, id, held, seal = row
    entry = Entry(identity, file, ObjectInfo(size, last_modified, etag, mime_type), checked, id, held)
    if entry.seal != seal or not isinstance(checked, float) or not isinstance(held, int):
        raise Damaged("an object in the catalogue is not as it was written")
    return entry


def _checks(stored: Any) -> array[int]:
    if not isinstance(stored, bytes) or len(stored) % 4 or len(stored) > 4 * BLOCKS:
        raise Damaged("the presence of blocks in the catalogue is not as it was written")
    return array("I", stored)


def add(
    connection: apsw.Connection, entry: Entry, blocks: Mapping[int, int], now: float, stays: bool
) -> Callable[[], None] | None:
    """Say that `blocks`, with their CRCs, are in the entry's file. `stays`: it is not passing in any case."""
    stored = _stored(connection, entry.identity)
    lost = entry.dead
    if stored is None or stored.file != entry.file:
        # Another has taken its place, or it was evicted meanwhile; or this is a new one.
        lost = lost or entry.id is not None
        if stored is not None and not lost:
            newer = stored.file == entry.replaces or (
                stored.checked < entry.checked and changed(stored.info, entry.info)
            )
            if newer:
                connection.execute("DELETE FROM objects WHERE id = ?", (stored.id,))
                stored = None
            lost = not newer
    if lost:
        if entry.id is None:
            connection.execute("INSERT OR IGNORE INTO removed VALUES (?)", (entry.file,))
        return lambda: _die(entry)
    id = stored.id if stored is not None else None
    if id is None:
        info = entry.info
        passing = room.passes(connection, entry.identity) and not stays
        id = connection.execute(
            "INSERT INTO objects "
            "(scope, key, etag, last_modified, size, mime_type, file, seal, checked, first_use, last_use, passing) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                *entry.identity,
                info.etag,
                info.last_modified,
                info.size,
                info.mime_type,
                entry.file,
                entry.seal,
                entry.checked,
                now,
                now,
                passing,
            ),
        ).get
    else:
        connection.execute(
            f"UPDATE objects SET {_CHECKED}, last_use = max(last_use, ?2) WHERE id = ?3",
            (entry.checked, now, id),
        )
    if more := _mark(connection, entry, id, blocks):
        connection.execute("UPDATE objects SET held = held + ? WHERE id = ?", (more, id))
    return lambda: setattr(entry, "id", id)


def _die(entry: Entry) -> None:
    entry.dead = True


def _mark(connection: apsw.Connection, entry: Entry, id: int, blocks: Mapping[int, int]) -> int:
    """Write the checks of `blocks`; how many more bytes are held by that."""
    more = 0
    for part in sorted({block // BLOCKS for block in blocks}):
        stored = connection.execute("SELECT checks FROM parts WHERE object = ? AND part = ?", (id, part)).get
        checks = _checks(stored or b"")
        for block, check in blocks.items():
            place = block - part * BLOCKS
            if not 0 <= place < BLOCKS:
                continue
            checks.extend([0] * (place + 1 - len(checks)))
            more += entry.length(block) * (bool(check) - bool(checks[place]))
            checks[place] = check
        connection.execute("REPLACE INTO parts VALUES (?, ?, ?)", (id, part, checks.tobytes()))
    return more


def damaged(connection: apsw.Connection, entry: Entry, blocks: Mapping[int, int]) -> None:
    """Say that `blocks` are not what their CRCs say, unless they were written anew."""
    row = connection.execute("SELECT id FROM objects WHERE id = ? AND file = ?", (entry.id, entry.file)).get
    if row is None:
        return
    for block, check in blocks.items():
        part, place = divmod(block, BLOCKS)
        stored = connection.execute("SELECT checks FROM parts WHERE object = ? AND part = ?", (row, part)).get
        if stored and _checks(stored)[place : place + 1] == array("I", [check]):
            less = _mark(connection, entry, row, {block: 0})
            connection.execute("UPDATE objects SET held = held + ? WHERE id = ?", (less, row))


def drop(connection: apsw.Connection, file: str) -> None:
    """Forget the version that is in `file`."""
    connection.execute("DELETE FROM objects WHERE file = ?", (file,))


def validate(connection: apsw.Connection, identity: Identity, info: ObjectInfo, now: float) -> None:
    """A listing says that `info` is the version now."""
    known = _stored(connection, identity)
    if known is None:
        return
    if changed(known.info, info):
        drop(connection, known.file)
    elif certain(known.info, info):
        connection.execute(f"UPDATE objects SET {_CHECKED} WHERE file = ?2", (now, known.file))


def certain(known: ObjectInfo, info: ObjectInfo) -> bool:
    """Whether two answers that do not differ are about the same version for sure; the size alone does not say."""
    return (known.etag is not None and known.etag == info.etag) or (
        known.last_modified is not None and known.last_modified == info.last_modified
    )


def rows(database: Database, keys: Collection[str] | None) -> list[tuple[Any, ...]]:
    """(scope, key, held, size, etag, last_modified, first_use, last_use, hits, pinned, checked) of each object.

    Of these keys only, where they are given.
    """
    sql = (
        "SELECT scope, key, first_use, last_use, hits, leases, "
        "file, size, last_modified, etag, mime_type, checked, id, held, seal FROM objects"
    )

    def look(connection: apsw.Connection) -> list[tuple[Any, ...]]:
        found: list[Any] = []
        if keys is None:
            found += connection.execute(sql)
        for key in keys or ():
            found += connection.execute(f"{sql} WHERE key = ?", (key,))
        return [_row(*row) for row in found]

    return database.look(look, [])


def _row(scope: str, key: str, first: float, last: float, hits: int, pinned: int, *row: Any) -> tuple[Any, ...]:
    entry = _entry(Identity(scope, key), row)
    if not (isinstance(first, float) and isinstance(last, float) and isinstance(hits, int) and isinstance(pinned, int)):
        raise Damaged("the use of an object in the catalogue is not as it was written")
    info = entry.info
    return scope, key, entry.held, info.size, info.etag, info.last_modified, first, last, hits, pinned, entry.checked


def confirm(connection: apsw.Connection, file: str, now: float) -> None:
    """The store says that the version in `file` is the one there is."""
    connection.execute(f"UPDATE objects SET {_CHECKED} WHERE file = ?2", (now, file))


def lease(connection: apsw.Connection, file: str, process: str) -> int | None:
    """Keep a file from eviction; None where it is not there any more."""
    if connection.execute("SELECT 1 FROM objects WHERE file = ?", (file,)).get is None:
        return None
    connection.execute("INSERT INTO leases VALUES (?, ?)", (file, process))
    return connection.last_insert_rowid()


def release(connection: apsw.Connection, number: int, file: str, process: str) -> None:
    """End what `lease` began."""
    connection.execute("DELETE FROM leases WHERE rowid = ? AND file = ? AND process = ?", (number, file, process))


def release_all(connection: apsw.Connection, process: str) -> None:
    """End all leases of a process."""
    connection.execute("DELETE FROM leases WHERE process = ?", (process,))


def unknown(connection: apsw.Connection, files: list[str]) -> list[str]:
    """Those of `files` that no object and no lease refers to."""
    return [
        file
        for file in files
        if connection.execute(
            "SELECT EXISTS (SELECT 1 FROM objects WHERE file = ?1) OR EXISTS (SELECT 1 FROM leases WHERE file = ?1)",
            (file,),
        ).get
        == 0
    ]
