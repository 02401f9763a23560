"""Read-ahead for plain SQL: the scout runs a statement ahead of itself to learn what it will ask for.

SQLite calls functions one row at a time and waits for each answer. So when the first answer is not at hand, the same
statement is run again, nested, on the same connection: there our functions answer from memory, or note what they would
need and return NULL. When a window of notes is full the nested run ends; everything noted is fetched at once, and the
outer run finds its answers on their way. The window of a statement with a LIMIT is what it has consumed and 16 more, so
that no more than twice of what is needed, and 16, is ever fetched; n rows are scouted log(n) times. A statement
without LIMIT is taken to run to its end: its window begins at 64 and is eight times what it consumed, since each step
costs the latency of its slowest file; and while it waits for a slow one, it is scouted on before the line runs dry.

Wrong guesses cost time, never results: what the scout did not foresee is fetched when it is asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw

from ..media.probe import Answer, Want
from .ahead import Ahead, GivenUp, Outcome, Wanted
from .tokens import tokenize

if TYPE_CHECKING:
    from .bindings import Bindings
    from .executions import Executions
    from .session import Session

SMALLEST_WINDOW = 16
UNBOUNDED_WINDOW = 64  # for a statement without LIMIT, which is mostly run to its end
LARGEST_WINDOW = 20_000  # answers held ahead; some 20 MB
MOST_GIVEN = 64 * 1024 * 1024  # bytes of BLOBs that calls wait with
BATCH = 256  # notes handed over while the scout goes on
_USELESS = 3  # scouts that did not meet the call at hand, after which a statement is scouted no more
_PATIENCE = 0.05  # seconds that a scout may take, where the statement itself took less
_LOOK = 0.002  # seconds between looks at whether the statement still runs; many idle ones make them costly
_STEPS = 10_000  # of SQLite's virtual machine, between looks at the clock


_LIMIT = re.compile(r"\blimit\b", re.IGNORECASE)


def _has_limit(sql: str) -> bool:
    return _LIMIT.search(sql) is not None and any(token.is_word("LIMIT") for token in tokenize(sql))


class Noted(Exception):
    """The scout is told what is needed here; the call has no value yet."""


class _Full(Exception):
    """The window is full of notes."""


@dataclass(slots=True)
class Execution:
    """One run of a statement, and `sql`, the SELECT that makes the same calls.

    takes      how many of the statement's positional bindings `sql` takes; None for those in place, or all by name
    ignored    functions that a write calls without using what they return: VIRTUAL columns, mostly
    consumed   cold calls that it made
    ahead      notes that it has not come to
    frontier   the key of the last note; the next scout begins to note behind it
    ended      the last scout came to the end of the statement
    useless    scouts that did not meet the call at hand
    least      calls that should be on their way together, for those that are made in batches
    """

    identity: Hashable
    sql: str
    started: float
    takes: int | None = None
    ignored: frozenset[str] = frozenset()
    consumed: int = 0
    ahead: int = 0
    frontier: Hashable = None
    ended: bool = False
    useless: int = 0
    least: int = 0
    bounded: bool = field(init=False)

    def __post_init__(self) -> None:
        self.bounded = _has_limit(self.sql)

    def taken(self, bindings: Any) -> Any:
        """Those of the statement's bindings that `sql` takes."""
        return bindings if self.takes is None else bindings[: self.takes]

    @property
    def window(self) -> int:
        """How many answers to hold ahead."""
        if self.bounded:
            most = min(2 * self.consumed, self.consumed + SMALLEST_WINDOW)
            return min(max(SMALLEST_WINDOW, self.least, most), LARGEST_WINDOW)
        return min(max(UNBOUNDED_WINDOW, self.least, 8 * self.consumed), LARGEST_WINDOW)


class Scout:
    """Read-ahead for one session. While it runs a statement, `active`, functions note instead of fetching."""

    def __init__(self, session: Session, ahead: Ahead) -> None:
        self.active = False
        self.ignored: frozenset[str] = frozenset()
        self._session = session
        self._ahead = ahead
        self.executions: Executions | None = None  # given by the binding, where the scout is wanted and possible
        self._known: dict[Hashable, Execution | None] = {}
        self._last: Hashable = None
        self._notes: dict[Hashable, Wanted] = {}
        self._noted: Hashable = None
        self._budget = 0
        self._marker: Hashable = None
        self._met = False
        self.noted = 0  # calls, ever
        self.batches: dict[Hashable, Bindings] = {}  # of executemany, under way
        self.identity: Hashable = None  # of the execution that is run ahead
        self._alive: set[Hashable] = set()
        self._looked = 0.0

    def answer(self, wanted: Wanted) -> Outcome:
        """The answer to a call that has none at hand: on its way already, or fetched with those that follow it."""
        try:
            return self._answer(wanted)
        except BaseException:  # an interrupt, also what a signal raises, wherever that is
            self._ahead.give_up(self._ahead.owner(wanted.key), self.identity)
            raise

    def _answer(self, wanted: Wanted) -> Outcome:
        if self.executions is not None:
            self._look_ahead(wanted)
        owner, asked = self._ahead.owner(wanted.key), time.monotonic()
        at, outcome = self._take(wanted)
        old = at < asked and self._is_old(outcome, owner)
        if old or (isinstance(outcome, Answer) and not outcome.satisfies(wanted.want)):
            self._ahead.start([wanted])  # it was noted for a call that needs less, or for an earlier statement
            _, outcome = self._take(wanted)
        return outcome

    def _take(self, wanted: Wanted) -> tuple[float, Outcome]:
        while True:
            if not self._ahead.has(wanted.key):
                self._ahead.start([wanted])
            try:
                return self._ahead.take(wanted.key, self._session.check, self._go_further)
            except GivenUp:  # it was on its way for an earlier statement, which ended
                continue

    def _go_further(self) -> None:
        """The statement waits for one file while most of those behind it are there: do not let the line run dry."""
        execution = self._known.get(self._last)
        if execution is None or execution.bounded or execution.ended or execution.identity not in self.alive():
            return
        execution.least = min(4 * execution.window, LARGEST_WINDOW)
        if execution.ahead < execution.window:
            self._run(execution, execution.frontier)

    def _is_old(self, outcome: Outcome, owner: Hashable) -> bool:
        """Whether it was fetched for a statement that is over, and may be another by now."""
        if owner is None or (isinstance(outcome, Answer) and self._session.config.max_age is None):
            return False
        return owner not in self.alive()

    def alive(self) -> set[Hashable]:
        """What identifies the executions that are under way."""
        if self.executions is None:
            return set()
        if self.active:
            return self._alive
        return {identity for identity, _ in self.executions.under_way()} | self.batches.keys()

    def note(self, wanted: Wanted) -> None:
        """While scouting: an answer is needed that is not at hand. Raises Noted, or _Full."""
        self.meets(wanted.key)
        if wanted.key in self._notes and self._notes[wanted.key].want < wanted.want:
            self._notes[wanted.key] = wanted
        elif self._met and not self._ahead.has(wanted.key):
            if wanted.given and self._ahead.given + wanted.given > MOST_GIVEN:
                raise _Full
            self._ahead.expect(wanted, self.identity)
            self._notes[wanted.key] = wanted
            self._noted = wanted.key
            self._budget -= 1
            self.noted += 1
            if len(self._notes) >= BATCH:
                self._hand_over()
            if self._budget <= 0:
                raise _Full
        raise Noted

    def awaits(self, url: str) -> bool:
        """While scouting: whether the header of a remote object is on its way, so that nothing is to be noted."""
        if not self._ahead.is_coming(url) or ((noted := self._notes.get(url)) and noted.want < Want.HEADER):
            return False
        self.meets(url)
        return True

    @property
    def repeats(self) -> bool:
        """Whether the scout runs over what the statement itself has come by already."""
        return self.active and not self._met

    def meets(self, key: Hashable) -> None:
        """While scouting: a call came by. Behind the one where the last scout ended, notes are taken."""
        if key == self._marker:
            self._met = True

    def _hand_over(self) -> None:
        notes, self._notes = self._notes, {}
        self._ahead.start(list(notes.values()), self.identity)

    def _look_ahead(self, wanted: Wanted) -> None:
        assert self.executions is not None
        for batch in self.batches.values():
            batch.wake(wanted.least)
        owner = self._ahead.owner(wanted.key)
        now = time.monotonic()
        if owner is not None and (owner != self._last or now - self._looked > _LOOK):
            self._looked = now
            if owner not in (alive := self.alive()):
                self._ahead.adopt(wanted.key)
                self._forget(alive)  # of an earlier statement
        if self._ahead.has(wanted.key):
            self._last = self._last if owner is None else owner
            execution = self._known.get(self._last)
            if execution is not None:
                execution.consumed += 1
                execution.ahead -= 1
                low = not execution.ended and execution.ahead <= execution.window // 2
                if low and execution.identity in (alive := self.alive()):
                    self._run(execution, execution.frontier)
                elif low:
                    self._forget(alive)
            return
        self._find_caller(wanted)

    def _find_caller(self, wanted: Wanted) -> None:
        """Run those under way ahead, until one meets the call at hand: that one made it."""
        missed = []
        for execution in self._candidates():
            execution.consumed += 1
            execution.least = max(execution.least, wanted.least)
            self._run(execution, wanted.key)
            if self._ahead.has(wanted.key):
                execution.ahead -= 1
                self._last = execution.identity
                return
            execution.consumed -= 1
            missed.append(execution)
        for execution in missed:  # where another one made it, they may still be of use
            execution.useless += 1

    def _candidates(self) -> list[Execution]:
        """The executions under way that are worth scouting: new ones, then the one that was right the last time."""
        assert self.executions is not None
        running = self.executions.under_way()
        identities = {identity for identity, _ in running}
        if any(identity not in identities for identity in self._known):
            self._forget(identities)
        new = set()
        for identity, statement in running:
            if identity not in self._known:
                self._known[identity] = self.executions.execution(identity, statement)
                new.add(identity)
        found = [known for known in self._known.values() if known is not None and known.useless < _USELESS]
        return sorted(found, key=lambda execution: (execution.identity not in new, execution.identity != self._last))

    def _forget(self, alive: Collection[Hashable]) -> None:
        """Want nothing more for executions that ended; what came for them is kept as an answer like any other."""
        self._known = {identity: known for identity, known in self._known.items() if identity in alive}
        for key, at, answer in self._ahead.leftovers(alive):
            self._session.memory.keep(key, at, answer)

    def _run(self, execution: Execution, marker: Hashable) -> None:
        """Run the statement until the window is full, it ends, or patience does."""
        budget = execution.window - max(execution.ahead, 0)
        self._noted = None
        try:
            self.run_ahead(execution, budget, [None], marker)
        finally:
            execution.ahead = max(execution.ahead, 0) + budget - self._budget
            if self._noted is not None:
                execution.frontier = self._noted
            self._ahead.low = 0 if execution.ended or execution.bounded else self._ahead.coming // 2

    def repeated(self, identity: Hashable, sql: str, bindings: Any, started: float) -> Execution | None:
        """The executions of `sql` with many bindings, such as these; None where it should not be run ahead."""
        self._last = identity
        return self.executions.repeated(identity, sql, bindings, started) if self.executions is not None else None

    def run_ahead(self, execution: Execution, budget: int, many: Iterable[Any], marker: Hashable = None) -> None:
        """Run the statement with each of these bindings, until so many calls are noted or it took too long.

        Notes are taken behind the call `marker`, where there is one.
        """
        self._budget, self._notes, self._marker, self._met = budget, {}, marker, marker is None
        clock = _Clock(late_from(execution.started))
        self.identity, self._alive = execution.identity, self.alive()
        connection = self._session.connection
        cursor = self._session.statement.cursor()
        connection.set_progress_handler(clock.is_late, _STEPS, id=clock)
        self.active, self.ignored = True, execution.ignored
        try:
            with self._session.statement.unwatched():
                for bindings in many:
                    for _ in cursor.execute(execution.sql, execution.taken(bindings)):
                        pass
            execution.ended = True
        except _Full:
            execution.ended = False
        except apsw.InterruptError:
            execution.ended = False  # by the clock; where it was the application, the statement itself will be told too
        except Exception:  # of SQLite, ours, or of a function of the application, which may not like our NULLs
            execution.useless = _USELESS
            execution.ended = True
        finally:
            self.active = False
            connection.set_progress_handler(None, id=clock)
            cursor.close(True)
            self._hand_over()


def late_from(started: float) -> float:
    """When looking ahead, for what was started at that time, takes too long if it begins now."""
    now = time.monotonic()
    return now + max(_PATIENCE, now - started)


class _Clock:
    """Ends a scout that takes too long."""

    def __init__(self, limit: float) -> None:
        self._limit = limit

    def is_late(self) -> bool:
        return time.monotonic() > self._limit
