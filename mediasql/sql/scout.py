"""Read-ahead for plain SQL: the scout runs a statement ahead of itself to learn what it will ask for.

SQLite calls functions one row at a time and waits for each answer. So when the first answer is not at hand, the same
statement is run again, nested, on the same connection: there our functions answer from memory, or note what they would
need and return NULL. When a window of notes is full the nested run ends; everything noted is fetched at once, and the
outer run finds its answers on their way. The window is twice what the statement has consumed, 16 at least: at most about
twice of what is needed is ever fetched, a LIMIT stays cheap, and a statement over n rows is scouted log2(n) times.

Wrong guesses cost time, never results: what the scout did not foresee is fetched when it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import apsw

from ..media.probe import Answer, Want
from ..errors import MediaError
from ..storage.location import Location
from .ahead import Ahead, Wanted

SMALLEST_WINDOW = 16
LARGEST_WINDOW = 20_000  # answers held ahead; some 20 MB
BATCH = 256  # notes handed over while the scout goes on
_USELESS = 3  # scouts that did not meet the call at hand, after which a statement is scouted no more
_PATIENCE = 0.05  # seconds that a scout may take, where the statement itself took less
_STEPS = 10_000  # of SQLite's virtual machine, between looks at the clock


class Noted(Exception):
    """The scout is told what is needed here; the call has no value yet."""


class _Full(Exception):
    """The window is full of notes."""


@dataclass(slots=True)
class Execution:
    """One run of a statement.

    consumed   cold calls that it made
    ahead      notes that it has not come to
    frontier   the key of the last note; the next scout begins to note behind it
    """

    identity: Hashable
    sql: str
    bindings: Any
    unused: frozenset[str]
    started: float
    consumed: int = 0
    ahead: int = 0
    frontier: Hashable = None
    ended: bool = False
    useless: int = 0

    @property
    def window(self) -> int:
        return min(max(SMALLEST_WINDOW, 2 * self.consumed), LARGEST_WINDOW)


class Scout:
    """Read-ahead for one connection. `executions` finds the statements that are under way, the likeliest first."""

    def __init__(self, session: Any, ahead: Ahead, enabled: bool) -> None:
        self.active = False
        self._session = session
        self._ahead = ahead
        self._enabled = enabled
        self._known: dict[Hashable, Execution] = {}
        self._current: Execution | None = None
        self._notes: list[Wanted] = []
        self._budget = 0
        self._marker: Hashable = None
        self._met = False
        self._gave_up = False
        self._unused: frozenset[str] = frozenset()

    def answer(self, wanted: Wanted) -> Answer | MediaError:
        """The answer to a call that has none at hand: on its way already, or fetched with those that follow it."""
        if self._enabled:
            execution = self._current_execution()
            if execution is not None:
                self._look_ahead(execution, wanted)
        if not self._ahead.has(wanted.key, wanted.want):
            self._ahead.start([wanted])
        return self._ahead.take(wanted.key, self._session.check)

    def ignores(self, function: str) -> bool:
        """While scouting a write: whether it does not use what `function` returns."""
        return function.lower() in self._unused

    def note(self, wanted: Wanted) -> None:
        """While scouting: an answer is needed that is not at hand. Raises Noted, or _Full."""
        if self._met or wanted.key == self._marker:
            if not self._met:
                self._met = True
                if self._ahead.has(wanted.key, wanted.want):
                    raise Noted  # the frontier of the last scout
            if not self._ahead.has(wanted.key, wanted.want):
                self._add(wanted)
        raise Noted

    def meets(self, key: Hashable) -> None:
        """While scouting: an answer was at hand."""
        if key == self._marker:
            self._met = True

    def _add(self, wanted: Wanted) -> None:
        self._notes.append(wanted)
        self._budget -= 1
        if len(self._notes) >= BATCH:
            self._hand_over()
        if self._budget <= 0:
            raise _Full

    def _hand_over(self) -> None:
        notes, self._notes = self._notes, []
        self._ahead.start(notes)

    def _look_ahead(self, execution: Execution, wanted: Wanted) -> None:
        execution.consumed += 1
        if self._ahead.has(wanted.key, wanted.want):
            execution.ahead -= 1
            if not execution.ended and execution.ahead <= execution.window // 2:
                self._run(execution, execution.frontier)
        elif execution.useless < _USELESS:
            self._run(execution, wanted.key)
            if not self._ahead.has(wanted.key, wanted.want):
                execution.useless += 1
            else:
                execution.ahead -= 1

    def _run(self, execution: Execution, marker: Hashable) -> None:
        """Run the statement until the window is full, it ends, or patience does."""
        budget = execution.window - max(execution.ahead, 0)
        self._budget, self._marker, self._met, self._unused = budget, marker, False, execution.unused
        self._notes = []
        self._gave_up = False
        connection = self._session.connection
        limit = time.monotonic() + max(_PATIENCE, time.monotonic() - execution.started)
        cursor = connection.cursor()
        # What the application traces is its own statements, not ours.
        cursor.exec_trace = _let_it_run
        cursor.row_trace = _skip_row
        connection.set_progress_handler(lambda: self._is_late(limit), _STEPS, id=self)
        last = None
        self.active = True
        try:
            with self._session.statement.unwatched():
                for _ in cursor.execute(execution.sql, execution.bindings):
                    pass
            execution.ended = True
        except _Full:
            pass
        except apsw.InterruptError:
            if not self._gave_up:
                raise
        except (apsw.Error, MediaError):
            execution.useless = _USELESS
            execution.ended = True
        finally:
            self.active = False
            self._unused = frozenset()
            connection.set_progress_handler(None, id=self)
            cursor.close(True)
            if self._notes:
                last = self._notes[-1].key
            execution.ahead += budget - self._budget
            self._hand_over()
        if last is not None:
            execution.frontier = last

    def _is_late(self, limit: float) -> bool:
        if time.monotonic() > limit:
            self._gave_up = True
        return self._gave_up

    def _current_execution(self) -> Execution | None:
        found = self._session.statement.execution()
        if found is None:
            return None
        known = self._known.get(found.identity)
        if known is None:
            self._known.clear()
            known = self._known[found.identity] = found
        return known


def _let_it_run(cursor: Any, sql: str, bindings: Any) -> bool:
    return True


def _skip_row(cursor: Any, row: Any) -> None:
    return None
