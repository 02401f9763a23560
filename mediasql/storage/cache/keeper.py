"""The thread that writes the catalogue: many small changes in one transaction, behind whoever makes them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import apsw

from .. import garbage, threads
from .database import Database
from .room import USED

T = TypeVar("T")

BATCH = 0.05  # seconds that a change waits for others
IDLE = 1.0  # seconds that it may wait when it is only about what was used
MOST = 1_000  # changes in one batch

# A change is made in a transaction, and says what to do when that was committed. It may be run twice.
Change = Callable[[apsw.Connection], Callable[[], None] | None]


class Keeper:
    """Writes to `database`.

    settle   is the last change of every transaction
    failed   is told when a batch was lost, and why where the database has not told that
    """

    def __init__(self, database: Database, settle: Change, failed: Callable[[str], None]) -> None:
        self._database = database
        self._settle = settle
        self._failed = failed
        self._condition = threading.Condition()
        self._changes: list[tuple[Change, Callable[[bool], None]]] = []
        self._counts: dict[Any, list[float]] = {}
        self._thread: threading.Thread | None = None
        self._urgent = False
        self._closing = False
        self._busy = False

    def submit(self, change: Change, done: Callable[[bool], None] = lambda written: None) -> None:
        """Make a change soon. `done` is told, in the keeper's thread, whether it was written."""
        garbage.postpone()
        with self._condition:
            self._changes.append((change, done))
            self._start()
            if len(self._changes) in (1, MOST):
                self._condition.notify_all()

    def touch(self, key: int, now: float) -> None:
        """Note that the object `key` was used, for `touches`."""
        with self._condition:
            count = self._counts.get(key)
            if count is None:
                self._counts[key] = [now, 1]
                if len(self._counts) == 1:
                    self._start()
                    self._condition.notify_all()
            else:
                count[0] = now
                count[1] += 1

    def call(self, change: Callable[[apsw.Connection], T], otherwise: T) -> T:
        """The result of `change`, at once; `otherwise` where nothing can be written. Not for the event loop."""
        if sys.is_finalizing():  # the thread has ended
            return otherwise
        ended = threading.Event()
        result = [otherwise]

        def work(connection: apsw.Connection) -> Callable[[], None]:
            found = change(connection)
            return lambda: result.__setitem__(0, found)

        self.submit(work, lambda written: ended.set())
        self.urge()
        ended.wait()
        return result[0]

    @property
    def running(self) -> bool:
        """Whether there ever was something to write; if not, the end of Python is too late to begin."""
        return self._thread is not None

    def urge(self) -> None:
        """Write what there is, now."""
        with self._condition:
            self._urgent = True
            self._condition.notify_all()

    def flush(self) -> None:
        """Return when all that was submitted before is written. Not for the event loop."""
        with self._condition:
            idle = self._thread is None or not (self._changes or self._counts or self._busy)
        if not idle:
            self.call(lambda connection: None, None)

    def close(self) -> None:
        """Write all, and end the thread; the next change starts another."""
        with self._condition:
            thread, self._closing = self._thread, True
            self._condition.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._closing = False

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threads.start(self._run, "keeper")

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                while not (self._changes or self._counts or self._closing):
                    self._condition.wait()
                if not self._changes:
                    self._condition.wait_for(lambda: self._hurry() or bool(self._changes), IDLE)
                self._condition.wait_for(self._hurry, BATCH)
                if self._closing and not (self._changes or self._counts):
                    self._thread = None
                    return
                changes, self._changes = self._changes, []
                counts, self._counts = self._counts, {}
                self._urgent = False
                self._busy = True
            garbage.postpone()  # it may have waited for longer than that holds
            self._write(changes, counts)

    def _hurry(self) -> bool:
        return self._urgent or self._closing or len(self._changes) >= MOST

    def _write(self, changes: list[tuple[Change, Callable[[bool], None]]], counts: dict[Any, list[float]]) -> None:
        def work(connection: apsw.Connection) -> list[Callable[[], None] | None]:
            connection.executemany(
                USED,
                [(key, last, hits) for key, (last, hits) in counts.items()],
            )
            return [change(connection) for change, _ in changes] + [self._settle(connection)]

        why = ""
        try:
            after = self._database.write(work)
        except Exception as error:  # a mistake of ours must not end the thread that everybody waits for
            after, why = None, f"{type(error).__name__}: {error}"
        told: list[Callable[[], None]] = [partial(self._failed, why)] if after is None else []
        told += [then for then in after or () if then is not None]
        told += [partial(done, after is not None) for _, done in changes]
        for tell in told:
            try:
                tell()
            except Exception as error:  # nor may one, for the others
                with suppress(Exception):
                    self._failed(f"{type(error).__name__}: {error}")
