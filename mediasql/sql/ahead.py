"""Answers on their way: many objects asked at once, each waited for when its row comes."""

from __future__ import annotations

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Hashable
from dataclasses import dataclass, replace
from functools import partial
from weakref import WeakSet

from ..errors import MediaError, TransientError
from ..media.probe import PLANS, Answer, Read, Want, probe_job
from ..progress import Waiting
from ..storage import forking, loop
from ..storage.location import Location
from ..storage.providers.base import Chunk, ObjectInfo
from ..storage.store import Store
from ..storage.transport.jobs import Engine, Job, Steps
from ..storage.transport.requests import NotModified
from .workshop import Result, Work, Workshop

_FEW = 16
_GATHER = 0.01  # seconds for which answers are gathered while more than a few are on their way
_GRACE = 0.1  # seconds without a question, after which no more files are opened ahead
_POLL = 0.05  # seconds between looks at whether the query was interrupted


@dataclass(slots=True)
class Wanted:
    """One answer that is needed, or will be. `key` tells objects, and versions of local files, apart."""

    key: Hashable
    url: str  # '' where there is a call to be made
    want: Want
    work: Work | None = None  # a call to be made, not an object to be probed
    known: Answer | None = None  # the answer as long as the object is still of that version
    anew: bool = False  # not from what is on disk

    @property
    def given(self) -> int:
        """Bytes that it holds already."""
        return self.work.given if self.work is not None else 0

    @property
    def least(self) -> int:
        """How many of its kind should be on their way together."""
        return 2 * self.work.together if self.work is not None and self.work.together > 1 else 0


Outcome = Answer | Result | MediaError


class GivenUp(Exception):
    """What was on its way will not come."""


class Ahead:
    """Fetches what is wanted, `concurrency` objects at a time, in the order in which it was wanted.

    One thread, that of the connection, calls it; the fetching loop does the work.
    """

    def __init__(self, store: Store, moment: Callable[[], Hashable] = lambda: None) -> None:
        self._store = store
        self.waiting = Waiting(store.config.progress, lambda: (self.files, store.fetcher.bytes), moment)
        self._concurrency = store.config.concurrency
        self._plan = PLANS[store.config.readahead]
        self.files = 0  # answers that arrived, for progress
        self.begin()
        _all.add(self)

    def begin(self) -> None:
        """Expect nothing. Also in a forked child, where what was on its way would never arrive."""
        self._wanted: dict[Hashable, Hashable] = {}  # keys, and for which execution
        self._outcomes: dict[Hashable, tuple[float, Outcome]] = {}
        self._queue: deque[Wanted] = deque()
        self._active = 0
        self._jobs: dict[Hashable, Job] = {}  # under way
        self._awaited: Hashable = None
        self._asked = 0.0
        self._resting = False
        self._arrived = threading.Event()
        self.low = 0  # files on their way at which `take` asks for more; 0 where it should not
        self._calls: dict[Hashable, int] = {}  # keys of those that the workshop makes, and the bytes given to them
        self.given = 0
        self._workshop = Workshop(self._store, self._deliver, self._forget, lambda: self._rests)

    @property
    def _engine(self) -> Engine:
        return self._store.fetcher.engine

    def expect(self, wanted: Wanted, owner: Hashable = None) -> None:
        """Count this as on its way, for the execution `owner`; `start` will be told in a moment."""
        self._wanted[wanted.key] = owner
        self._outcomes.pop(wanted.key, None)
        if wanted.work is not None:
            self.given += wanted.given - self._calls.get(wanted.key, 0)
            self._calls[wanted.key] = wanted.given

    def start(self, wanted: list[Wanted], owner: Hashable = None) -> None:
        """Ask for these, in one hop to the loop."""
        for item in wanted:
            self.expect(item, owner)
        if wanted:
            self._asked = time.monotonic()
            if any(item.work is not None for item in wanted):
                calls = [item for item in wanted if item.work is not None]
                wanted = [item for item in wanted if item.work is None]
                loop.get().call_soon_threadsafe(self._workshop.add, calls)
            self._queue.extend(wanted)
            self._engine.call(self._fill)

    def has(self, key: Hashable) -> bool:
        """Whether an answer is on its way, or there; perhaps one that was wanted for less."""
        return key in self._wanted

    def is_coming(self, key: Hashable) -> bool:
        """Whether an answer is on its way, and not there yet."""
        return key in self._wanted and key not in self._outcomes

    def owner(self, key: Hashable) -> Hashable:
        """The execution for which it is on its way."""
        return self._wanted.get(key)

    def peek(self, key: Hashable) -> Outcome | None:
        """The outcome, if it arrived."""
        found = self._outcomes.get(key)
        return found[1] if found else None

    @property
    def coming(self) -> int:
        """Files on their way."""
        return self._active + len(self._queue)

    def take(
        self, key: Hashable, check: Callable[[], None], more: Callable[[], None] = lambda: None
    ) -> tuple[float, Outcome]:
        """The outcome and when it arrived, waited for. `check` is called meanwhile, and may raise to give up; `more`
        once when no more than `low` files are on their way. Raises GivenUp when somebody else gave it up."""
        called = key in self._calls
        try:
            self._asked = time.monotonic()
            self._awaited = key  # from now on the loop does not rest; it may have begun to
            if self._resting:
                self._engine.call(self._fill)
                loop.get().call_soon_threadsafe(self._workshop.go_on)
            if called:
                loop.get().call_soon_threadsafe(self._workshop.urge, key)
            self._wait(key, check, more)
        finally:
            self._asked = time.monotonic()
            self._awaited = None
        if self.waiting.shown:
            self.waiting.clear()
        self._wanted.pop(key, None)
        if called:
            self._end_call(key)
            loop.get().call_soon_threadsafe(self._workshop.taken, key)
        return self._outcomes.pop(key)

    def _wait(self, key: Hashable, check: Callable[[], None], more: Callable[[], None]) -> None:
        while key not in self._outcomes:
            if key not in self._wanted:
                raise GivenUp
            self._awaited = key
            self._arrived.clear()
            if key in self._outcomes:
                break
            if self.low and self.coming <= self.low:
                self.low = 0
                more()
                continue
            if time.monotonic() >= self.waiting.next:
                self.waiting.look()
            if not self._arrived.wait(_POLL):
                check()

    def give_up(self, *owners: Hashable) -> None:
        """Nobody comes any more for what is on its way for these executions; None stands for what is for none. Who asks
        again does not want to wait for what hangs."""
        self._awaited = None
        self.waiting.clear()
        self.cancel()
        self._engine.call(self._give_up, [key for key, owner in list(self._wanted.items()) if owner in owners])

    def adopt(self, key: Hashable) -> None:
        """It is on its way for an execution that ended, and now for whoever waits for it."""
        self._wanted[key] = None

    def leftovers(self, alive: Container[Hashable]) -> list[tuple[Hashable, float, Answer]]:
        """Answers that arrived for executions that ended. They, and what still waits for these, are forgotten here."""
        started = [key for key, owner in list(self._wanted.items()) if owner is not None and owner not in alive]
        self._engine.call(self._abandon, started)
        for item in self._emptied():
            if self._wanted.get(item.key) in alive:
                self._queue.append(item)
            else:
                self._wanted.pop(item.key, None)
        if self._queue:
            self._engine.call(self._fill)
        arrived = []
        self._give_up_calls([key for key in self._calls if self._wanted.get(key) not in alive])
        for key in [key for key in list(self._outcomes) if self._wanted.get(key) not in alive]:
            self._wanted.pop(key, None)
            at, outcome = self._outcomes.pop(key)
            if isinstance(outcome, Answer):
                arrived.append((key, at, outcome))
        return arrived

    def cancel(self) -> None:
        """Do not start what waits in the queue. What was started goes on, and its answers may still be taken."""
        for item in self._emptied():
            self._wanted.pop(item.key, None)
        self._give_up_calls(list(self._calls))

    def _give_up_calls(self, keys: list[Hashable]) -> None:
        """Calls that nobody will come for; their results are forgotten as well, since they may be large."""
        keys = [key for key in keys if key != self._awaited]
        for key in keys:
            self._wanted.pop(key, None)
            self._outcomes.pop(key, None)
            self._end_call(key)
        if keys:
            loop.get().call_soon_threadsafe(self._workshop.cancel, frozenset(keys))

    def _end_call(self, key: Hashable) -> None:
        self.given -= self._calls.pop(key, 0)

    def _deliver(self, item: Wanted, outcome: Result | MediaError) -> None:
        self._outcomes[item.key] = time.monotonic(), outcome
        self.files += 1
        if item.key == self._awaited:
            self._arrived.set()

    def _forget(self, key: Hashable) -> None:
        self._outcomes.pop(key, None)

    def close(self) -> None:
        """Give up everything."""
        self.cancel()
        if self._jobs and not sys.is_finalizing():  # then its thread has ended
            self._engine.call(lambda: self._give_up(list(self._jobs)))  # there, where one may be beginning now
        self._wanted.clear()
        self._outcomes.clear()

    def _give_up(self, keys: list[Hashable]) -> None:
        for key in keys:
            self._cancel(key)

    def _abandon(self, keys: list[Hashable]) -> None:
        """Give up what was started; where there is room for others, it may as well go on."""
        if self._active >= self._concurrency:
            self._give_up(keys)

    def _cancel(self, key: Hashable) -> None:
        job = self._jobs.pop(key, None)
        if job is not None:
            self._active -= 1
            self._wanted.pop(key, None)
            self._engine.cancel(job)
            self._fill()

    def _emptied(self) -> list[Wanted]:
        """Everything that was in the queue; the loop may take from it meanwhile."""
        items = []
        while True:
            try:
                items.append(self._queue.popleft())
            except IndexError:
                return items

    @property
    def _rests(self) -> bool:
        # SQLite does not tell that a cursor was closed. Who does not come for answers may not want more.
        self._resting = self._awaited is None and time.monotonic() - self._asked > _GRACE
        return self._resting

    def _fill(self) -> None:
        while self._active < self._concurrency:
            if self._rests:
                return
            try:
                item = self._queue.popleft()
            except IndexError:  # the connection's thread may empty the queue at any time
                return
            self._active += 1
            job = Job(self._fetch(item), partial(self._done, item))
            self._jobs[item.key] = job
            self._engine.begin(job)

    def _fetch(self, item: Wanted) -> Steps[Answer | MediaError]:
        deadline = time.monotonic() + self._store.config.timeout
        try:
            location = Location.parse(item.url)
            read = self._store.reader(location, deadline, anew=item.anew)
            if item.known is not None:
                read = _unless(item.known.object, read)
            return (yield from probe_job(read, extension=location.extension, want=item.want, plan=self._plan))
        except NotModified as answer:
            assert item.known is not None
            if answer.no_store:
                return replace(item.known, object=replace(item.known.object, no_store=True))
            return item.known
        except MediaError as error:
            return error.again()
        except Exception as error:  # whatever it is, somebody waits for an outcome
            return TransientError(f"a mistake in mediasql: {error!r}")

    def _done(self, item: Wanted, outcome: Answer | MediaError, error: BaseException | None) -> None:
        self._jobs.pop(item.key, None)
        self._active -= 1
        self._outcomes[item.key] = time.monotonic(), outcome
        self.files += 1
        if item.key == self._awaited:
            # Waking the connection's thread for each answer would cost as much as fetching it.
            if self._active > _FEW:
                self._engine.call_later(_GATHER, self._arrived.set)
            else:
                self._arrived.set()
        elif self.low and self.coming - 1 <= self.low:
            self._arrived.set()
        self._fill()


_all: WeakSet[Ahead] = WeakSet()


def _in_child() -> None:
    for ahead in _all:
        ahead.begin()


forking.at_fork(in_child=_in_child)


def _unless(version: ObjectInfo, read: Callable[..., Steps[Chunk]]) -> Read:
    """`read`, whose first call raises NotModified where the object is still of that version: it sends no byte then, and
    costs no request where it is not."""
    first = [version]
    return lambda start, stop: read(start, stop, unless=first.pop() if first else None)
