"""Answers that outlive their process: what is known of objects, in one SQLite database for all processes.

They are looked up by scope and key, many at a time where they lie together as they were written, and written behind,
in batches. What is in the database is a copy: whatever is wrong with it, the answer is asked for again.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import apsw

from ..config import Config
from ..storage.cache import place
from ..storage.cache.database import AHEAD, Database
from ..storage.cache.identity import Identity
from .info import PARSERS
from .kept import COLUMNS, Kept, Outcome, as_columns

LAYOUT = 1  # of the database
BATCH = 1000  # answers that are written together
DELAY = 0.2  # seconds that they wait for each other
ROW = 500  # bytes of an answer, about
LOOK = 1.0  # seconds between looks at which stores there are answers of
MOST_USED = 10_000  # answers that were used, before that is written
REACH = 8  # rows to look through for each that is wanted, so that one look-up never goes through all there are
SURPLUS = 0.1  # of the answers that may be kept go at once when there are more

_SCHEMA = f"""
CREATE TABLE scopes(id INTEGER PRIMARY KEY, scope TEXT NOT NULL UNIQUE);
CREATE TABLE answers(
  id INTEGER PRIMARY KEY, scope INTEGER NOT NULL, key TEXT NOT NULL,
  parsers INTEGER NOT NULL, first_use REAL NOT NULL, last_use REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0,
  {", ".join(COLUMNS)},
  UNIQUE(scope, key));
CREATE INDEX by_use ON answers(last_use);
CREATE TABLE total(answers INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER one_more AFTER INSERT ON answers BEGIN UPDATE total SET answers = answers + 1; END;
CREATE TRIGGER one_less AFTER DELETE ON answers BEGIN UPDATE total SET answers = answers - 1; END
"""
_INSERT = f"""
INSERT INTO answers(scope, key, parsers, first_use, last_use, {", ".join(COLUMNS)})
VALUES (?1, ?2, {PARSERS}, ?3, ?3, {", ".join(f"?{at}" for at in range(4, 4 + len(COLUMNS)))})
ON CONFLICT(scope, key) DO UPDATE SET parsers = {PARSERS}, last_use = excluded.last_use,
  {", ".join(f"{name} = excluded.{name}" for name in COLUMNS)}
WHERE excluded.checked >= answers.checked OR answers.checked > ?3 + {AHEAD}
"""
_ONE = f"""
SELECT id, {", ".join(COLUMNS)} FROM answers
WHERE scope = (SELECT id FROM scopes WHERE scope = ?) AND key = ? AND parsers = {PARSERS}
"""
# Those that were written after one lie behind it, and a statement that asks again mostly asks in the same order.
# The plus keeps SQLite from going through the index of all keys, and sorting them.
_RUN = """
SELECT id, key, {columns} FROM answers
WHERE id >= (SELECT id FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = :scope) AND key = :key)
AND id <= :reach + (SELECT id FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = :scope) AND key = :key)
AND +scope = (SELECT id FROM scopes WHERE scope = :scope) AND parsers = :parsers AND version IS NULL {filter}
ORDER BY id LIMIT :count
"""

_ROWS = "SELECT scopes.scope, key, size, etag, last_modified, checked, first_use, last_use, hits, message"
_FORGET = "DELETE FROM answers WHERE (scope, key) IN (SELECT id, ? FROM scopes)"
_OF_SCOPE = "WHERE answers.scope = scopes.id"


class Listener(Protocol):
    """Who keeps what `Answers` told, and is to look again when there is something new."""

    def outdated(self) -> None:
        """Called from any thread."""


_opened: dict[Path, Answers] = {}


def opened(config: Config) -> Answers | None:
    """The answers that connections with this configuration share; None where nothing is to be kept."""
    folder = place.folder(config)
    if folder is None:
        return None
    found = _opened.get(folder)
    if found is None:
        # The bytes take most of the room; of answers there are at most as many as fill a tenth of it.
        most = max(1000, place.capacity(config, folder) // 10 // ROW)
        found = _opened.setdefault(folder, Answers(folder, most, partial(place.warn, folder)))
    return found


def _forget_inherited() -> None:
    for answers in _opened.values():
        answers.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_inherited)


class Answers:
    """The answers in `folder`, of which about `most` are kept, those used last.

    trouble  is told why nothing can be kept; see Database

    Any thread may call it.
    """

    def __init__(self, folder: Path, most: int, trouble: Callable[[str], None]) -> None:
        self.database = Database(folder / "answers.db", _SCHEMA, LAYOUT, trouble)
        self.most = most
        self.hits = self.misses = 0
        self.generation = 0  # another when what sessions know of themselves may be old
        self._listeners: WeakSet[Listener] = WeakSet()
        self._scopes: dict[str, int] = {}
        self._stored: set[str] = set()  # scopes that something was kept of, when that was looked at
        self._looked = -LOOK
        self.begin_anew()
        atexit.register(self.close)

    def begin_anew(self) -> None:
        """Also in a forked child: what waits is its parent's, and so are the locks that a thread held there."""
        self._waiting: dict[Identity, Kept | None] = {}  # None: to be deleted
        self._used: list[int] = []
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False

    def find(self, identity: Identity, version: str | None = None) -> list[tuple[str, Kept]]:
        """What is known of an object, as (key, kept); of local files, only of this version."""
        try:
            columns = self._waiting[identity]
        except KeyError:
            rows = self.database.read(_ONE, identity) if self._has(identity.scope) else []
            columns = rows[0][1:] if rows else None
            if columns is not None:
                self._use(rows)
        if columns is None or columns[0] != version:
            self.misses += 1
            return []
        self.hits += 1
        return [(identity.key, columns)]

    def _has(self, scope: str) -> bool:
        """Whether there may be answers of this scope: a first scan of a store need not look for each."""
        if scope not in self._stored and (now := time.monotonic()) - self._looked > LOOK:
            self._stored = {known for (known,) in self.database.read("SELECT scope FROM scopes")}
            self._looked = now
        return scope in self._stored

    def run(self, identity: Identity, count: int) -> list[tuple[str, Kept]]:
        """The same of `identity` and of those written after it in the same scope: `count` at most."""
        if identity in self._waiting:
            return self.find(identity)
        rows = self._run(identity, ", ".join(COLUMNS), "", count)
        self.misses += not rows
        return [(row[1], row[2:]) for row in rows]

    def values(self, identity: Identity, column: str, since: float, count: int) -> list[tuple[str, Any]]:
        """The same for one column of MediaInfo: keys and values that are known and were so at `since` or later."""
        latest = time.time() + AHEAD
        rows = self._run(identity, column, f"AND {column} IS NOT NULL AND checked BETWEEN {since} AND {latest}", count)
        return [row[1:] for row in rows]

    def _run(self, identity: Identity, columns: str, condition: str, count: int) -> list[Any]:
        rows = self.database.read(
            _RUN.format(columns=columns, filter=condition),
            {
                "scope": identity.scope,
                "key": identity.key,
                "parsers": PARSERS,
                "count": count,
                "reach": REACH * count + BATCH,
            },
        )
        self.hits += len(rows)
        self._use(rows)
        waiting = self._waiting
        return [row for row in rows if Identity(identity.scope, row[1]) not in waiting] if waiting else rows

    def _use(self, rows: list[Any]) -> None:
        self._used.extend([row[0] for row in rows])
        if len(self._used) >= MOST_USED:
            with self._wake:
                self._start()
                self._wake.notify()

    def put(self, identity: Identity, outcome: Outcome, version: str | None = None, at: float | None = None) -> None:
        """Keep an outcome, which was so at `at` (time.time(); now by default)."""
        self._enqueue(identity, as_columns(outcome, version, time.time() if at is None else at))

    def forget(self, identity: Identity) -> None:
        """Know nothing of this object any more."""
        self._enqueue(identity, None)

    def forget_all(self, key: str) -> None:
        """Know nothing of objects with this key, of whichever scope."""
        self.flush()
        self.database.write(lambda connection: connection.execute(_FORGET, (key,)).get)
        self.outdate()

    def outdate(self) -> int:
        """Have all sessions of this process look here again. Returns what tells this state from earlier ones."""
        self.generation += 1
        with self._wake:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.outdated()
        return self.generation

    def tell(self, listener: Listener) -> None:
        """Tell it of `outdate`, as long as it is there."""
        with self._wake:
            self._listeners.add(listener)

    def clear(self) -> int:
        """Know nothing of any object. Returns how many were known."""
        self.flush()

        def work(connection: apsw.Connection) -> int:
            connection.execute("DELETE FROM answers")
            return connection.changes()

        gone = self.database.write(work) or 0
        self.outdate()
        return gone

    def rows(self, keys: Collection[str] | None = None) -> Iterator[Any]:
        """For `media_cache`: scope, key, size, etag, last_modified, checked, first_use, last_use, hits, message.

        Of these keys only, where they are given.
        """
        self.flush()
        if keys is not None:
            for key in keys:
                yield from self.database.read(f"{_ROWS} FROM scopes CROSS JOIN answers {_OF_SCOPE} AND key = ?", (key,))
            return
        last = -1
        while rows := self.database.read(
            f"{_ROWS}, answers.id FROM answers CROSS JOIN scopes {_OF_SCOPE} AND answers.id > ? "
            "ORDER BY answers.id LIMIT 1000",
            (last,),
        ):
            yield from (row[:-1] for row in rows)
            last = rows[-1][-1]

    def count(self) -> int:
        """How many are known."""
        self.flush()
        rows = self.database.read("SELECT answers FROM total")
        return rows[0][0] if rows else 0

    def _enqueue(self, identity: Identity, columns: Kept | None) -> None:
        with self._wake:
            self._waiting[identity] = columns
            if not self._start() and len(self._waiting) in (1, BATCH):
                self._wake.notify()

    def _start(self) -> bool:
        """Have a thread that writes. Whether it had to be started; not at the end of Python, when `close` writes."""
        self._closing = False
        if self._thread is not None and self._thread.is_alive():
            return False
        self._thread = threading.Thread(target=self._write_behind, name="mediasql-answers", daemon=True)
        with suppress(RuntimeError):
            self._thread.start()
        return True

    def _write_behind(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing and len(self._used) < MOST_USED:
                    self._wake.wait()
                if not self._closing and len(self._waiting) < BATCH:
                    self._wake.wait(DELAY)
                if self._closing and not self._waiting:
                    self._thread = None
                    return
            self.flush()

    def flush(self) -> None:
        """Write what waits to be written."""
        with self._writing:
            waiting = dict(self._waiting)
            used, self._used = self._used, []
            if waiting or used:
                self.database.write(lambda connection: self._write(connection, waiting, used))
            with self._wake:
                for identity, columns in waiting.items():
                    if self._waiting[identity] is columns:
                        del self._waiting[identity]

    def _write(self, connection: apsw.Connection, waiting: dict[Identity, Any], used: list[int]) -> None:
        now = time.time()
        self._scopes.clear()  # another file may be there now
        rows = [
            (self._scope(connection, identity.scope), identity.key, now, *columns)
            for identity, columns in waiting.items()
            if columns is not None
        ]
        for row in rows:
            with suppress(UnicodeError, OverflowError):  # what a hostile file says may not fit into SQLite
                connection.execute(_INSERT, row)
        self._stored.update(self._scopes)
        gone = [identity for identity, columns in waiting.items() if columns is None]
        connection.executemany(
            "DELETE FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = ?) AND key = ?", gone
        )
        connection.executemany(
            "UPDATE answers SET last_use = ?, hits = hits + 1 WHERE id BETWEEN ? AND ?",
            [(now, *span) for span in _spans(used)],
        )
        count = connection.execute("SELECT answers FROM total").get
        if count > self.most:
            surplus = count - self.most + int(self.most * SURPLUS)
            connection.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY last_use LIMIT ?)", (surplus,)
            )

    def _scope(self, connection: apsw.Connection, scope: str) -> int:
        if scope not in self._scopes:
            connection.execute("INSERT OR IGNORE INTO scopes(scope) VALUES (?)", (scope,))
            found = connection.execute("SELECT id FROM scopes WHERE scope = ?", (scope,)).get
            self._scopes[scope] = found
        return self._scopes[scope]

    def close(self) -> None:
        """Write what waits, and close the database. The next call opens it again."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.flush()
        self.database.close()


def _spans(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Numbers as spans of those that follow each other; one that comes twice is in two."""
    # Where each is one more than the one before, the difference to its place stays the same.
    for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        span = [number for _, number in group]
        yield span[0], span[-1]
