"""Answers that outlive their process: what is known of objects, in one SQLite database for all processes.

They are looked up by scope and key, many at a time where they lie together as they were written, and written behind,
in batches. What is in the database is a copy: whatever is wrong with it, the answer is asked for again.
"""

from __future__ import annotations

import atexit
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

import apsw

from ..config import Config
from ..storage import forking, garbage, threads
from ..storage.cache import forbidden, place
from ..storage.cache.database import AHEAD, Database
from ..storage.cache.identity import Identity
from . import records
from .kept import COLUMNS, Kept, Outcome, as_columns
from .scopes import LAST, Scopes

BATCH = 1000  # answers that are written together
DELAY = 0.2  # seconds that they wait for each other
ROW = 500  # bytes of an answer, about
MOST_USED = 50_000  # answers that were used, before that is written
REACH = 8  # rows to look through for each that is wanted, so that one look-up never goes through all there are
SURPLUS = 0.1  # of the answers that may be kept go at once when there are more
LONGEST_WAIT = 5.0  # seconds that the end of Python waits for the thread that writes

_ROWS = f"SELECT scopes.scope, answers.{records.ROW}, first_use, last_use, hits, answers.id"
_FORGET = "DELETE FROM answers WHERE (scope, key) IN (SELECT id, ? FROM scopes)"
_NUMBER, _KEY, _VALUE = itemgetter(0), itemgetter(1), itemgetter(3)  # of rows of records.VALUES_OF
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


forking.at_fork(in_child=_forget_inherited)


class Answers:
    """The answers in `folder`, of which about `most` are kept, those used last.

    trouble  is told why nothing can be kept; see Database

    Any thread may call it.
    """

    def __init__(self, folder: Path, most: int, trouble: Callable[[str], None]) -> None:
        self._trouble = trouble
        self.database = Database(folder / "answers.db", records.SCHEMA, records.LAYOUT, trouble)
        self.most = most
        self.hits = self.misses = 0
        self.generation = 0  # another when what sessions know of themselves may be old
        self._listeners: WeakSet[Listener] = WeakSet()
        self._scope_ids: dict[str, int] = {}
        self._kept = Scopes(self._read)
        self.begin_anew()
        forbidden.tell(self)
        atexit.register(self._before_python_ends)

    def begin_anew(self) -> None:
        """Also in a forked child: what waits is its parent's, and so are the locks that a thread held there."""
        self._waiting: dict[Identity, Kept | None] = {}  # None: to be deleted
        self._used: list[tuple[int, int]] = []  # the first and the last number of a run
        self._uses = 0
        self._wake = threading.Condition()
        self._writing = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = False

    def find(self, identity: Identity, version: str | None = None) -> tuple[int, Kept] | None:
        """What is known of an object, of a local file only of this version; and its number, 0 where it has none yet."""
        found: tuple[int, Kept] | None = None
        if identity not in self._waiting:
            rows = self._read(records.ANSWER, (identity.key, identity.scope)) if self._kept.may_hold(identity) else []
            for row in records.sound(identity.scope, rows):
                if row[1] == identity.key:
                    found = row[0], row[2:-1]
                    self._use([row[0]])
        elif (columns := self._waiting[identity]) is not None:
            found = 0, columns
        if found is None or found[1][0] != version:
            self.misses += 1
            return None
        self.hits += 1
        return found

    def run(self, identity: Identity, count: int) -> list[tuple[str, Kept]]:
        """The same of `identity` and of those written after it in the same scope: `count` at most, with their keys."""
        rows = records.sound(identity.scope, self._read(records.ANSWERS, (*_run(identity, count), count)))
        return [(row[1], row[2:-1]) for row in self._known(identity.scope, rows)]

    def value(self, identity: Identity, column: str, since: float) -> tuple[int, Any] | None:
        """One column of MediaInfo or ObjectInfo, where it is known and was so at `since` or later; and its number."""
        latest = time.time() + AHEAD
        found = self._read(records.VALUE[column], (identity.key, identity.scope, since, latest))
        rows = records.sound_values(identity.scope, column, found)
        known = [row for row in self._known(identity.scope, rows) if row[1] == identity.key]
        return (known[0][0], known[0][3]) if known else None

    def values(self, identity: Identity, column: str, since: float, count: int) -> dict[str, Any]:
        """The same of `identity` and of those written after it, as `run`; by key, in the order of their numbers."""
        bindings = (*_run(identity, count), since, time.time() + AHEAD, count)
        rows = records.sound_values(identity.scope, column, self._read(records.VALUES_OF[column], bindings))
        rows = self._known(identity.scope, rows)
        return dict(zip(map(_KEY, rows), map(_VALUE, rows), strict=True))

    def _read(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        try:
            return self.database.read(sql, bindings)
        except UnicodeError:  # of a name that no database holds, or of a database that is damaged
            return []

    def _known(self, scope: str, rows: list[Any]) -> list[Any]:
        """Rows with id and key, but for those that something newer waits for to be written."""
        self.hits += len(rows)
        self.misses += not rows
        self._use(list(map(_NUMBER, rows)))
        waiting = self._waiting
        return [row for row in rows if Identity(scope, row[1]) not in waiting] if waiting else rows

    def _use(self, numbers: list[int]) -> None:
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:  # they are in order, and so are without a gap
            self._used.append((numbers[0], numbers[-1]))
        else:
            self._used.extend((number, number) for number in numbers)
        self._uses += len(numbers)
        if self._uses >= MOST_USED:
            with self._wake:
                self._start()
                self._wake.notify()

    def put(self, identity: Identity, outcome: Outcome, version: str | None = None, at: float | None = None) -> None:
        """Keep an outcome, which was so at `at` (time.time(); now by default)."""
        self._enqueue(identity, as_columns(outcome, version, time.time() if at is None else at))

    def forget(self, identity: Identity) -> None:
        """Know nothing of this object any more."""
        self._enqueue(identity, None)

    def forbidden(self, identity: Identity, url: str) -> None:
        """See `forbidden.Keeper`."""
        if identity in self._waiting:
            known = self._waiting[identity] is not None
        else:
            known = self._kept.may_hold(identity) and bool(self._read(records.ANSWER, (identity.key, identity.scope)))
        if known:
            self.forget(identity)
            self.outdate()

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
        """For `media_cache`: scope, key, first_use, last_use, hits, and what was told, by the names of COLUMNS.

        Of these keys only, where they are given.
        """
        self.flush()
        if keys is not None:
            for key in keys:
                sql = f"{_ROWS} FROM scopes CROSS JOIN answers {_OF_SCOPE} AND key = ?"
                yield from self._shown(self._read(sql, (key,)))
            return
        last = -1
        sql = f"{_ROWS} FROM answers CROSS JOIN scopes {_OF_SCOPE} AND answers.id > ? ORDER BY answers.id LIMIT 1000"
        while rows := self._read(sql, (last,)):
            yield from self._shown(rows)
            last = rows[-1][-1]

    def _shown(self, rows: list[Any]) -> Iterator[Any]:
        for scope, *row, first, last, hits, _ in rows:
            if records.sound(scope, [tuple(row)]) and isinstance(first, float) and isinstance(last, float):
                yield scope, row[1], first, last, hits, dict(zip(COLUMNS, row[2:-1], strict=True))

    def count(self) -> int:
        """How many are known."""
        self.flush()
        rows = self._read("SELECT answers FROM total")
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
        with suppress(RuntimeError):
            self._thread = threads.start(self._write_behind, "answers")
        return True

    def _write_behind(self) -> None:
        while True:
            with self._wake:
                while not self._waiting and not self._closing and self._uses < MOST_USED:
                    self._wake.wait()
                if not self._closing and len(self._waiting) < BATCH:
                    self._wake.wait(DELAY)
                if self._closing and not self._waiting:
                    self._thread = None
                    return
            self.flush()

    def flush(self) -> None:
        """Write what waits to be written."""
        garbage.postpone()
        if sys.is_finalizing():  # nothing waits any more, and a thread that is gone may hold the lock
            return
        with self._writing:
            waiting = dict(self._waiting)
            used, self._used, self._uses = self._used, [], 0
            if waiting or used:
                try:
                    last = self.database.write(lambda connection: self._write(connection, waiting, used))
                    if last is not None:
                        self._kept.written(last)
                except (apsw.Error, TypeError, ValueError) as error:  # it is damaged in a way that SQLite does not see
                    self._trouble(f"{type(error).__name__}: {error}")
            with self._wake:
                for identity, columns in waiting.items():
                    if self._waiting[identity] is columns:
                        del self._waiting[identity]

    def _write(self, connection: apsw.Connection, waiting: dict[Identity, Any], used: list[tuple[int, int]]) -> int:
        """Write these. Returns the number of the last record."""
        now = time.time()
        self._kept.expect(connection, waiting)
        self._scope_ids.clear()  # another file may be there now
        rows = [
            (self._scope(connection, identity.scope), *records.sealed(identity.scope, identity.key, columns))
            for identity, columns in waiting.items()
            if columns is not None
        ]
        for size in records.TOGETHER:
            while len(rows) >= size:
                some, rows = rows[:size], rows[size:]
                try:
                    connection.execute(records.insert(size), (now, *chain.from_iterable(some)))
                except (UnicodeError, OverflowError):  # what a hostile file says may not fit into SQLite
                    for row in some:
                        with suppress(UnicodeError, OverflowError):
                            connection.execute(records.insert(1), (now, *row))
        gone = [identity for identity, columns in waiting.items() if columns is None]
        connection.executemany(
            "DELETE FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = ?) AND key = ?", gone
        )
        connection.executemany(
            "UPDATE answers SET last_use = ?, hits = hits + 1 WHERE id BETWEEN ? AND ?",
            [(now, *span) for span in _spans(sorted(used))],
        )
        count = connection.execute("SELECT answers FROM total").get
        if count > self.most:
            surplus = count - self.most + int(self.most * SURPLUS)
            connection.execute(
                "DELETE FROM answers WHERE id IN (SELECT id FROM answers ORDER BY last_use LIMIT ?)", (surplus,)
            )
        return int(connection.execute(LAST).get)

    def _scope(self, connection: apsw.Connection, scope: str) -> int:
        if scope not in self._scope_ids:
            connection.execute("INSERT OR IGNORE INTO scopes(scope) VALUES (?)", (scope,))
            found = connection.execute("SELECT id FROM scopes WHERE scope = ?", (scope,)).get
            self._scope_ids[scope] = found
        return self._scope_ids[scope]

    def close(self) -> None:
        """Write what waits, and close the database. The next call opens it again."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self.flush()
        self.database.close()

    def _before_python_ends(self) -> None:
        """Write, and have no thread that writes: it would keep what it holds for ever when Python stops it."""
        thread = self._thread
        self.close()
        if thread is not None:
            thread.join(LONGEST_WAIT)


def _run(identity: Identity, count: int) -> tuple[Any, ...]:
    return identity.scope, identity.key, REACH * count + BATCH


def _spans(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Runs of numbers, sorted, with those joined that follow each other; one that comes twice is in two."""
    joined: list[tuple[int, int]] = []
    for first, last in runs:
        if joined and first == joined[-1][1] + 1:
            joined[-1] = joined[-1][0], last
        else:
            joined.append((first, last))
    return joined
