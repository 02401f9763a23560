"""How much the catalogue says is held, and what goes when that is too much.

What was used least recently goes first. Where a scan is larger than the cache, that is just what it reads next time: so
what comes back after it went, while all that stayed was used since, is only passing. It has a small share of the room,
and leaves the rest alone, until it is used again later or comes back once more to find that nobody used the rest.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import apsw

from .database import Damaged
from .identity import Identity

PASSING = 16  # the part of the capacity for what is passing
AT_ONCE = 10.0  # seconds in which an object is used many times by who uses it once: its header is read, then the rest
REMEMBERED = 100_000  # objects that went, and of which it is known when each was used last

SCHEMA = """
CREATE TABLE totals(
    generation BLOB, held INTEGER, passing INTEGER, evicted INTEGER,
    hits INTEGER, misses INTEGER, saved INTEGER, fetched INTEGER);
INSERT INTO totals VALUES (randomblob(8), 0, 0, 0, 0, 0, 0, 0);
CREATE TABLE gone(place INTEGER PRIMARY KEY, object INTEGER NOT NULL UNIQUE, last_use REAL NOT NULL);
CREATE INDEX idle ON objects(passing, last_use) WHERE leases = 0;
CREATE TRIGGER held AFTER UPDATE OF held, passing ON objects
WHEN new.held != old.held OR new.passing != old.passing BEGIN
    UPDATE totals SET held = held + new.held - old.held,
        passing = passing + new.passing * new.held - old.passing * old.held;
END;
CREATE TRIGGER went AFTER DELETE ON objects BEGIN
    UPDATE totals SET held = held - old.held, passing = passing - old.passing * old.held;
END;
"""
OF_KEY = "key = ?1 AND (?2 IS NULL OR scope = ?2)"
# The parameters are the object, when it was used, and how often.
USED = f"""
UPDATE objects SET last_use = max(last_use, ?2), hits = hits + ?3,
    passing = passing AND ?2 < first_use + {AT_ONCE} WHERE id = ?1
"""


class Totals(NamedTuple):
    """What the catalogue says of itself. `generation` tells it from one that was made anew."""

    generation: bytes
    held: int
    passing: int
    evicted: int
    hits: int
    misses: int
    saved: int
    fetched: int


def totals(connection: apsw.Connection) -> Totals:
    """Raises Damaged."""
    row: Any = connection.execute(f"SELECT {', '.join(Totals._fields)} FROM totals").fetchone()
    if (
        row is None
        or not isinstance(row[0], bytes)
        or not all(isinstance(count, int) and count >= 0 for count in row[1:])
    ):
        raise Damaged("the totals of the catalogue are not as they were written")
    return Totals(*row)


def count_anew(connection: apsw.Connection) -> None:
    """Whatever went wrong with what is held in all would else be wrong for as long as there is a cache."""
    connection.execute(
        "UPDATE totals SET (held, passing) = "
        "(SELECT coalesce(sum(held), 0), coalesce(sum(held * passing), 0) FROM objects)"
    )


def passes(connection: apsw.Connection, identity: Identity) -> bool:
    """Whether an object that comes is only passing."""
    name = _name(identity)
    last: Any = connection.execute("SELECT last_use FROM gone WHERE object = ?", (name,)).get
    if last is None:
        return False
    connection.execute("DELETE FROM gone WHERE object = ?", (name,))
    oldest: Any = connection.execute(
        "SELECT last_use FROM objects WHERE leases = 0 AND passing = 0 ORDER BY last_use LIMIT 1"
    ).get
    return oldest is not None and bool(last < oldest)


def evict(connection: apsw.Connection, capacity: int) -> None:
    """Forget objects until no more than `capacity` bytes are held, or all that are left are in use."""
    now = totals(connection)
    held, passing, evicted = now.held, now.passing, now.evicted
    while held > capacity:
        found = _next(connection, passing > capacity // PASSING)
        if not found:
            break
        for id, scope, key, size, last_use, kind in found:
            connection.execute("DELETE FROM objects WHERE id = ?", (id,))
            connection.execute(
                "REPLACE INTO gone VALUES (?, ?, ?)", (evicted % REMEMBERED, _name(Identity(scope, key)), last_use)
            )
            evicted += 1
            held -= size
            passing -= size * kind
            if held <= capacity or (kind and passing <= capacity // PASSING):
                break
    if evicted != now.evicted:
        connection.execute("UPDATE totals SET evicted = ?", (evicted,))


def _next(connection: apsw.Connection, passing_first: bool) -> list[Any]:
    passing = _idle(connection, 1)
    if passing_first and len(passing) > 1:
        return passing[:-1]  # the last may be about to be read again, whatever its size
    return _idle(connection, 0) or passing


def _idle(connection: apsw.Connection, passing: int) -> list[Any]:
    return connection.execute(
        "SELECT id, scope, key, held, last_use, passing FROM objects WHERE leases = 0 AND passing = ? "
        "ORDER BY last_use LIMIT 32",
        (passing,),
    ).fetchall()


def _name(identity: Identity) -> int:
    """By what `gone` knows an object: two of one name would only mean that one is evicted early."""
    return int.from_bytes(blake2b("\0".join(identity).encode(), digest_size=8).digest(), signed=True)


def doomed(connection: apsw.Connection, most: int) -> list[str]:
    """Files that nothing refers to any more, and that nobody uses."""
    return [
        file
        for (file,) in connection.execute(
            "SELECT file FROM removed WHERE file NOT IN (SELECT file FROM leases) LIMIT ?", (most,)
        )
    ]


def forget(connection: apsw.Connection, key: str | None, scope: str | None) -> tuple[int, int]:
    """Forget the objects with this key, of any scope where that is None, or all; the bytes they held, and how many."""
    which, bindings = (OF_KEY, (key, scope)) if key is not None else ("TRUE", ())
    found: Any = connection.execute(f"SELECT total(held), count(*) FROM objects WHERE {which}", bindings).fetchone()
    connection.execute(f"DELETE FROM objects WHERE {which}", bindings)
    if key is None:
        connection.execute("DELETE FROM gone")
    return int(found[0]), found[1]
