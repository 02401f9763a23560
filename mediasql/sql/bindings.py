"""Read-ahead for executemany: the bindings whose turn comes next are looked at early.

SQLite knows nothing of the executions that will follow, so the iterator of the bindings does it: once an execution had
to wait for an answer, it takes some more of them, runs for each the SELECT that makes the same calls, as the scout
does with other statements, and then hands them on one by one. Each is still executed in its turn, and what the
iterator raises is raised in its turn.

To advance an iterator can have consequences: a generator that acknowledges a message behind its `yield` relies on the
row being written by then. So only what stands still, such as a list, is read ahead without being asked for
(`rows_ahead`); and no iterator where that could be noticed on the connection: behind bindings for which it ran a
statement there, and behind ones that might change until their turn.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Generator, Iterator, Mapping, MappingView, Sequence, Set
from contextlib import closing
from itertools import chain
from types import NoneType
from typing import Any

import apsw

from ..errors import UsageError
from .scout import LARGEST_WINDOW, MOST_GIVEN, UNBOUNDED_WINDOW, Execution, late_from
from .session import Session

_CONSTANT = frozenset({str, int, float, bool, bytes, NoneType})
# Not whatever has a length: tqdm(generator, total=10) has one.
_STANDING_STILL = (Sequence, Set, Mapping, MappingView)


def rows_ahead(given: Any, asked: int | None) -> int:
    """Return how many rows of `given` may be taken ahead of the one that is executed.

    asked   what the caller of executemany said: None for as many as are of use where `given` stands still (sequences,
            sets, mappings, their views, arrays), and for no row of anything else, which is taken for an iterator

    Raises UsageError for what is not a number of rows.
    """
    if asked is None:
        array = hasattr(type(given), "__array__")  # of NumPy and the like, which are none of the abstract types
        stands_still = (array or isinstance(given, _STANDING_STILL)) and not isinstance(given, Iterator)
        return LARGEST_WINDOW if stands_still else 0
    if not isinstance(asked, int) or asked < 0:
        raise UsageError(
            f"executemany: readahead_rows is {asked!r}; a whole number of rows is needed, 0 for none ahead"
        )
    return min(asked, LARGEST_WINDOW)


class Bindings:
    """The bindings of one executemany of `sql`; iterating gives them in their order.

    most   how many may be taken ahead of the one that is executed
    """

    def __init__(self, session: Session, sql: str, given: Any, most: int) -> None:
        self._session = session
        self._sql = sql
        self._most = most
        self._given = given if type(given) in (list, tuple) else iter(given)
        self._identity = object()
        self._started = time.monotonic()
        self._awake = False  # a call had to wait, so that looking ahead is of use
        self._hopeless = False  # nobody knows what the statement will call
        self._least = UNBOUNDED_WINDOW
        self._uncut: list[Any] = []
        self._cut: list[Any] = []
        self._reading: Any = None
        self._execution: Execution | None = None
        self._alone = False  # the next bindings are taken when all before them were executed
        self._ending: BaseException | None = None
        self._taken: deque[Any] = deque()  # not looked at
        self._ready: deque[tuple[Any, int]] = deque()  # looked at, with the number of calls noted for each
        self._noted = 0  # calls of those in `_ready`
        self._handed_on = 0

    def __iter__(self) -> Iterator[Any]:
        return chain.from_iterable(self._parts())

    def wake(self, least: int) -> None:
        """A call had to wait; `least` of its kind should be on their way together."""
        self._awake = not self._hopeless
        self._least = max(self._least, least)
        if self._reading is not None:
            at = len(self._uncut) - self._reading.__length_hint__()
            self._cut, self._uncut[:] = self._uncut[at:], []  # `_reading` ends here
            self._reading = None

    def _parts(self) -> Iterator[Iterator[Any]]:
        batches = self._session.scout.batches
        batches[self._identity] = self
        try:
            rest = self._given
            if isinstance(rest, list | tuple):  # costs nothing per row while nothing waits
                self._uncut = list(rest)
                self._reading = iter(self._uncut)
                yield self._reading
                rest = self._cut
            yield self._in_turn(iter(rest))
        finally:
            batches.pop(self._identity, None)

    def _in_turn(self, source: Iterator[Any]) -> Iterator[Any]:
        while self._ending is None:
            if not self._awake:
                for item in source:
                    yield item
                    if self._awake:
                        break
                else:
                    return
            yield from self._ahead_of_turn(source)
        if not isinstance(self._ending, StopIteration):
            raise self._ending

    def _ahead_of_turn(self, source: Iterator[Any]) -> Iterator[Any]:
        """Bindings that were looked at early, until that is of no use, or there are no more."""
        while True:
            half = self._window // 2
            if self._awake and len(self._ready) <= half and self._noted <= half:
                self._look(source)
            if self._ready:
                item, noted = self._ready.popleft()
                self._noted -= noted
            elif self._taken:
                item = self._taken.popleft()
            else:
                return
            self._handed_on += 1
            yield item

    @property
    def _window(self) -> int:
        """How many bindings to be ahead, and how many calls."""
        return min(max(self._least, 8 * self._handed_on), self._most)

    def _look(self, source: Iterator[Any]) -> None:
        if not self._taken and self._ending is None:
            self._take(source)
        if not self._taken:
            return
        scout, looked, noted = self._session.scout, len(self._ready), self._noted
        if self._execution is None:
            self._execution = scout.repeated(self._identity, self._sql, self._taken[0], self._started)
        if self._execution is None:
            self._hopeless, self._awake = True, False
            return
        with closing(self._early()) as early:
            scout.run_ahead(self._execution, self._window - self._noted, early)
        looked = len(self._ready) - looked
        if self._execution.useless or (looked >= UNBOUNDED_WINDOW and self._noted == noted):
            self._awake, self._execution = False, None  # until another call has to wait

    def _early(self) -> Generator[Any]:
        scout = self._session.scout
        while self._taken:
            item, before = self._taken[0], scout.noted
            try:
                if _is_constant(item):
                    yield item
            finally:
                noted = scout.noted - before
                self._noted += noted
                self._ready.append((self._taken.popleft(), noted))

    def _take(self, source: Iterator[Any]) -> None:
        """Take bindings: a window full, or as many as may be had early."""
        if self._alone and self._ready:
            return
        self._alone = False
        connection, most = self._session.connection, self._window - len(self._ready)
        ran: list[Any] = []  # statements, by the iterator
        size, late = 0, late_from(self._started)
        connection.trace_v2(apsw.SQLITE_TRACE_STMT, ran.append, id=self._identity)
        try:
            while not self._alone and len(self._taken) < most and size < MOST_GIVEN and time.monotonic() < late:
                item = next(source)
                constant = _is_constant(item)
                self._taken.append(item.copy() if constant and not isinstance(item, tuple) else item)
                self._alone = bool(ran) or not constant
                size += _size(item) if constant else 0
        except KeyboardInterrupt:  # Ctrl-C is not of the iterator
            raise
        except BaseException as error:  # in its turn
            self._ending = error
        finally:
            connection.trace_v2(0, None, id=self._identity)


def _values(item: Any) -> Collection[Any]:
    return item.values() if isinstance(item, dict) else item


def _is_constant(item: Any) -> bool:
    """Whether these bindings, or a copy of them, will be the same when it is their turn."""
    plain = type(item) in (list, dict) or isinstance(item, tuple)
    return plain and all(type(value) in _CONSTANT for value in _values(item))


def _size(item: Any) -> int:
    return sum(len(value) for value in _values(item) if isinstance(value, str | bytes))
