"""What the catalogue of kept bytes says, and how it is changed: all SQL of the bytes level.

Presence is kept by parts of 128 blocks of 64 KB, four bytes a block: 0 where it is absent, else its CRC-32.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import apsw

from ..providers.base import ObjectInfo, changed
from .database import AHEAD, Database
from .identity import Identity

BLOCK = 64 * 1024
BLOCKS = 128  # in a part
VERSION = 1
_CHECKED = f"checked = max(iif(checked > ?1 + {AHEAD}, 0, checked), ?1)"

SCHEMA = """
CREATE TABLE totals(generation BLOB, held INTEGER, hits INTEGER, misses INTEGER, saved INTEGER, fetched INTEGER);
INSERT INTO totals VALUES (randomblob(8), 0, 0, 0, 0, 0);
CREATE TABLE objects(
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    scope TEXT NOT NULL,
    key TEXT NOT NULL,
    etag TEXT,
    last_modified TEXT,
    size INTEGER NOT NULL,
    mime_type TEXT,
    file TEXT NOT NULL UNIQUE,   -- below the folder 'files'
    checked REAL NOT NULL,       -- when the store last said that this is the version; seconds since 1970
    held INTEGER NOT NULL DEFAULT 0,
    first_use REAL NOT NULL,
    last_use REAL NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    leases INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, key)
);
CREATE INDEX idle ON objects(last_use) WHERE leases = 0;
CREATE TABLE parts(object INTEGER, part INTEGER, checks BLOB NOT NULL, PRIMARY KEY (object, part)) WITHOUT ROWID;
CREATE TABLE removed(file TEXT PRIMARY KEY) WITHOUT ROWID;   -- to be deleted, if that was not done
CREATE TABLE leases(file TEXT NOT NULL, process TEXT NOT NULL);
CREATE INDEX leased ON leases(file);
CREATE TABLE cleaned(folder TEXT PRIMARY KEY) WITHOUT ROWID;   -- of processes that ended: nothing in it is unknown
CREATE TRIGGER held AFTER UPDATE OF held ON objects BEGIN
    UPDATE totals SET held = held + new.held - old.held;
END;
CREATE TRIGGER gone AFTER DELETE ON objects BEGIN
    UPDATE totals SET held = held - old.held;
    DELETE FROM parts WHERE object = old.id;
    INSERT OR IGNORE INTO removed VALUES (old.file);
END;
CREATE TRIGGER leased_again AFTER INSERT ON leases BEGIN
    UPDATE objects SET leases = leases + 1 WHERE file = new.file;
END;
CREATE TRIGGER released AFTER DELETE ON leases BEGIN
    UPDATE objects SET leases = leases - 1 WHERE file = old.file;
END;
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

    @property
    def size(self) -> int:
        assert self.info.size is not None
        return self.info.size

    def check(self, block: int) -> int:
        """The CRC of a block; 0 where it is not there."""
        own = self.own.get(block)
        return self.checks.get(block, 0) if own is None else own

    def length(self, block: int) -> int:
        """Bytes of a block: the last of the object is shorter."""
        return min(BLOCK, self.size - block * BLOCK)


def find(database: Database, identity: Identity, first: int, stop: int) -> Entry | None:
    """What the catalogue says of an object, and of its blocks `first` to `stop`."""
    rows = database.read(
        "SELECT id, file, checked, held, size, last_modified, etag, mime_type FROM objects WHERE scope = ? AND key = ?",
        (identity.scope, identity.key),
    )
    if not rows:
        return None
    id, file, checked, held, *info = rows[0]
    if checked > time.time() + AHEAD:
        checked = 0.0  # the clock was set back since, and nobody knows how long ago that was
    entry = Entry(identity, file, ObjectInfo(*info), checked, id, held)
    parts = database.read(
        "SELECT part, checks FROM parts WHERE object = ? AND part BETWEEN ? AND ?",
        (id, first // BLOCKS, max(first, stop - 1) // BLOCKS),
    )
    for part, checks in parts:
        entry.checks.update(enumerate(array("I", checks), part * BLOCKS))
    return entry


def add(connection: apsw.Connection, entry: Entry, blocks: Mapping[int, int], now: float) -> Callable[[], None] | None:
    """Say that `blocks`, with their CRCs, are in the entry's file."""
    row = connection.execute(
        "SELECT id, file, checked, size, last_modified, etag FROM objects WHERE scope = ? AND key = ?",
        (entry.identity.scope, entry.identity.key),
    ).fetchone()
    lost = entry.dead
    if row is None or row[1] != entry.file:
        # Another has taken its place, or it was evicted meanwhile; or this is a new one.
        lost = lost or entry.id is not None
        if row is not None and not lost:
            newer = row[1] == entry.replaces or (row[2] < entry.checked and changed(ObjectInfo(*row[3:]), entry.info))
            if newer:
                connection.execute("DELETE FROM objects WHERE id = ?", (row[0],))
                row = None
            lost = not newer
    if lost:
        if entry.id is None:
            connection.execute("INSERT OR IGNORE INTO removed VALUES (?)", (entry.file,))
        return lambda: _die(entry)
    if row is None:
        info = entry.info
        id = connection.execute(
            "INSERT INTO objects "
            "(scope, key, etag, last_modified, size, mime_type, file, checked, first_use, last_use) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
            (
                *_key(entry),
                info.etag,
                info.last_modified,
                info.size,
                info.mime_type,
                entry.file,
                entry.checked,
                now,
                now,
            ),
        ).get
    else:
        id = row[0]
        connection.execute(
            f"UPDATE objects SET {_CHECKED}, last_use = max(last_use, ?2) WHERE id = ?3",
            (entry.checked, now, id),
        )
    if more := _mark(connection, entry, id, blocks):
        connection.execute("UPDATE objects SET held = held + ? WHERE id = ?", (more, id))
    return lambda: setattr(entry, "id", id)


def _key(entry: Entry) -> tuple[str, str]:
    return entry.identity.scope, entry.identity.key


def _die(entry: Entry) -> None:
    entry.dead = True


def _mark(connection: apsw.Connection, entry: Entry, id: int, blocks: Mapping[int, int]) -> int:
    """Write the checks of `blocks`; how many more bytes are held by that."""
    more = 0
    for part in sorted({block // BLOCKS for block in blocks}):
        stored = connection.execute("SELECT checks FROM parts WHERE object = ? AND part = ?", (id, part)).get
        checks = array("I", stored or b"")
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
        if stored and array("I", stored)[place : place + 1] == array("I", [check]):
            less = _mark(connection, entry, row, {block: 0})
            connection.execute("UPDATE objects SET held = held + ? WHERE id = ?", (less, row))


def drop(connection: apsw.Connection, file: str) -> None:
    """Forget the version that is in `file`."""
    connection.execute("DELETE FROM objects WHERE file = ?", (file,))


def evict(connection: apsw.Connection, capacity: int) -> None:
    """Forget what was not used for longest, until no more than `capacity` bytes are held."""
    held = connection.execute("SELECT held FROM totals").get
    while held > capacity:
        idle = connection.execute("SELECT id, held FROM objects WHERE leases = 0 ORDER BY last_use LIMIT 32").fetchall()
        if not idle:
            break
        for id, size in idle:
            connection.execute("DELETE FROM objects WHERE id = ?", (id,))
            held -= size
            if held <= capacity:
                break


def doomed(connection: apsw.Connection, most: int) -> list[str]:
    """Files that nothing refers to any more, and that nobody uses."""
    return [
        file
        for (file,) in connection.execute(
            "SELECT file FROM removed WHERE file NOT IN (SELECT file FROM leases) LIMIT ?", (most,)
        )
    ]


def validate(connection: apsw.Connection, identity: Identity, info: ObjectInfo, now: float) -> None:
    """A listing says that `info` is the version now."""
    row = connection.execute(
        "SELECT file, size, last_modified, etag FROM objects WHERE scope = ? AND key = ?",
        (identity.scope, identity.key),
    ).fetchone()
    if row is None:
        return
    known = ObjectInfo(*row[1:])
    if changed(known, info):
        drop(connection, row[0])
    elif certain(known, info):
        connection.execute(f"UPDATE objects SET {_CHECKED} WHERE file = ?2", (now, row[0]))


def certain(known: ObjectInfo, info: ObjectInfo) -> bool:
    """Whether two answers that do not differ are about the same version for sure; the size alone does not say."""
    return (known.etag is not None and known.etag == info.etag) or (
        known.last_modified is not None and known.last_modified == info.last_modified
    )


def rows(database: Database) -> Iterator[tuple[Any, ...]]:
    """(scope, key, held, size, etag, last_modified, first_use, last_use, hits, pinned, checked) of each object."""
    yield from database.read(
        "SELECT scope, key, held, size, etag, last_modified, first_use, last_use, hits, leases > 0, checked "
        "FROM objects"
    )


def confirm(connection: apsw.Connection, file: str, now: float) -> None:
    """The store says that the version in `file` is the one there is."""
    connection.execute(f"UPDATE objects SET {_CHECKED} WHERE file = ?2", (now, file))


def forget(connection: apsw.Connection, which: str, bindings: tuple[Any, ...]) -> int:
    """Forget the objects that fit the condition `which`; how many bytes they held."""
    held = connection.execute(f"SELECT total(held) FROM objects WHERE {which}", bindings).get
    connection.execute(f"DELETE FROM objects WHERE {which}", bindings)
    return int(held)


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
