"""Calls made in the background: the bytes fetched, the work done in threads, the results held until they are asked for.

What is held ahead, files and results, is bounded: beyond MOST_HELD bytes nothing new is begun but the call that the
query waits for.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ..errors import MediaError, TransientError, Unsupported
from ..storage import loop
from ..storage.fetch import of_one_version
from ..storage.location import Location
from ..storage.providers.base import PART
from ..storage.store import Store

if TYPE_CHECKING:
    from .ahead import Wanted

T = TypeVar("T")

WORKERS = os.cpu_count() or 1  # as many threads as loop.in_worker has
MOST_HELD = 256 * 1024 * 1024  # bytes
LONGEST = 1_000_000_000  # bytes of one file; SQLite takes no longer value, and a server may never end
_OVERHEAD = 100  # bytes of a small result, about


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave, as SQLite takes it."""

    value: Any

    @property
    def size(self) -> int:
        """In bytes, about."""
        return _OVERHEAD + (len(self.value) if isinstance(self.value, str | bytes) else 0)


class Together(Protocol):
    """Calls that are gathered before they are made. `coming` counts those whose bytes are on their way, and not those
    that wait for room: what is gathered may be what takes it."""

    coming: int

    def settle(self) -> None:
        """Begin what may begin now."""


class Work(Protocol):
    """One call. `together` is how many calls of its kind are made at a time, by `gathered` if more than one."""

    @property
    def given(self) -> int:
        """Bytes that it holds before it is begun."""

    @property
    def fetches(self) -> bool:
        """Whether it reads a file."""

    @property
    def together(self) -> int: ...

    @property
    def gathered(self) -> Together | None: ...

    async def run(self, ticket: Ticket) -> Any:
        """The value. Raises MediaError."""


class Ticket:
    """One call under way, and the bytes counted for it."""

    def __init__(self, workshop: Workshop, item: Wanted, work: Work) -> None:
        self.item = item
        self.work = work
        self.urgent = False
        self.held = 0
        self._workshop = workshop
        self._coming = False
        self.coming(True)

    def hold(self, size: int) -> None:
        """Count `size` bytes for this call, in place of what was counted before."""
        self._workshop.held += size - self.held
        self.held = size

    def coming(self, coming: bool) -> None:
        """Whether those that it is gathered with should wait for it."""
        if self.work.gathered is not None and coming != self._coming:
            self._coming = coming
            self.work.gathered.coming += 1 if coming else -1

    @property
    def store(self) -> Store:
        return self._workshop.store

    def changed(self) -> None:
        """Something may begin that waited for this call."""
        self._workshop.go_on()

    async def in_thread(self, work: Callable[[], T]) -> T:
        """The result of `work` in a thread, when there is one for it."""
        return await self._workshop.in_thread(self, work)

    def learn(self, size: int) -> None:
        """So much was read of a file at first; the next ones may be like it."""
        self.hold(size)
        self._workshop.learn(size)

    async def fetch(self, location: Location) -> bytes:
        """The whole object. It pauses between its parts while too much is held. Raises Unsupported beyond LONGEST."""
        return await of_one_version(lambda: self._fetch(location))

    async def _fetch(self, location: Location) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for chunk in self._workshop.store.parts(location):
            parts.append(bytes(chunk.data))
            size += len(chunk.data)
            expected = max(size, chunk.info.size or 0)
            if expected > LONGEST:
                raise Unsupported(
                    f"it has {expected} bytes or more, and {LONGEST} are the most that are held at once; "
                    "content_hash and local_path take any number"
                )
            self.hold(expected)
            await self._workshop.room(self)
        self.hold(size)
        self._workshop.learn(size)
        return b"".join(parts)


class Workshop:
    """Runs calls, in the order in which they were wanted. Everything runs on the loop.

    deliver   is given what each came to
    forget    is told of outcomes that nobody will take
    rests     tells whether nothing should be begun for the moment
    """

    def __init__(
        self,
        store: Store,
        deliver: Callable[[Wanted, Result | MediaError], None],
        forget: Callable[[Hashable], None],
        rests: Callable[[], bool],
    ) -> None:
        self.store = store
        self.held = 0
        self._working = 0
        self._deliver = deliver
        self._forget = forget
        self._rests = rests
        self._queue: deque[Wanted] = deque()
        self._active: dict[Ticket, asyncio.Task[Result | MediaError]] = {}
        self._delivered: dict[Hashable, Ticket] = {}
        self._expected = float(PART)  # bytes of a file that is not begun
        self._gathered: set[Together] = set()
        self._waiting: set[asyncio.Future[None]] = set()

    def add(self, items: list[Wanted]) -> None:
        """Make these calls."""
        self._queue.extend(items)
        self.go_on()

    def urge(self, key: Hashable) -> None:
        """The query waits for this one: it is begun, whatever is held."""
        for ticket in self._active:
            if ticket.item.key == key:
                ticket.urgent = True
        for item in self._queue:
            if item.key == key:
                self._queue.remove(item)
                self._begin(item).urgent = True
                break
        self.go_on()

    def taken(self, key: Hashable) -> None:
        """An outcome was taken, and is held here no more."""
        if (ticket := self._delivered.pop(key, None)) is not None:
            ticket.hold(0)
            self.go_on()

    def cancel(self, keys: frozenset[Hashable]) -> None:
        """Give these calls up. What runs in a thread cannot be stopped, but goes nowhere."""
        self._queue = deque(item for item in self._queue if item.key not in keys)
        for ticket, task in self._active.items():
            if ticket.item.key in keys:
                task.cancel()
        for key in keys & self._delivered.keys():
            self._delivered.pop(key).hold(0)
            self._forget(key)
        self.go_on()

    async def room(self, ticket: Ticket) -> None:
        """Wait while too much is held, unless it is this call's turn: urgent, or the first of all."""
        while self.held > MOST_HELD and not ticket.urgent and ticket is not next(iter(self._active), None):
            ticket.coming(False)
            self._settle()
            await self._change()
        ticket.coming(True)

    async def in_thread(self, ticket: Ticket, work: Callable[[], T]) -> T:
        """The result of `work` in a thread. It is not begun while nobody comes for results, nor before its turn."""
        while self._working >= WORKERS or (self._rests() and not ticket.urgent):
            await self._change()
        self._working += 1
        try:
            return await loop.in_worker(work)
        finally:
            self._working -= 1

    async def _change(self) -> None:
        """Wait until something is another than it was."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)

    def learn(self, size: int) -> None:
        """A file had this size; the next ones may be like it."""
        self._expected += (size - self._expected) / 4

    def go_on(self) -> None:
        """Begin what there is room for."""
        while self._queue and self._may_begin(self._queue[0]):
            self._begin(self._queue.popleft())
        for waiter in list(self._waiting):
            if not waiter.done():
                waiter.set_result(None)
        self._settle()

    def _settle(self) -> None:
        for gathered in self._gathered:
            gathered.settle()

    def _may_begin(self, item: Wanted) -> bool:
        if self._rests():
            return False
        if not self._active and not self.held:
            return True
        assert item.work is not None
        expected = self._expected if item.work.fetches else item.work.given
        return len(self._active) < self.store.config.concurrency and self.held + expected <= MOST_HELD

    def _begin(self, item: Wanted) -> Ticket:
        assert item.work is not None
        ticket = Ticket(self, item, item.work)
        ticket.hold(int(self._expected) if item.work.fetches else item.work.given)
        if item.work.gathered is not None:
            self._gathered.add(item.work.gathered)
        task = asyncio.get_running_loop().create_task(self._run(ticket))
        self._active[ticket] = task
        task.add_done_callback(partial(self._done, ticket))
        return ticket

    async def _run(self, ticket: Ticket) -> Result | MediaError:
        try:
            return Result(await ticket.work.run(ticket))
        except MediaError as error:
            return error.again()
        except Exception as error:  # whatever it is, somebody waits for an outcome
            return TransientError(f"a mistake in mediasql: {error!r}")

    def _done(self, ticket: Ticket, task: asyncio.Task[Result | MediaError]) -> None:
        # Not at the end of `_run`: a task that is cancelled before its first step never comes to it.
        ticket.coming(False)
        del self._active[ticket]
        outcome = None if task.cancelled() else task.result()
        ticket.hold(outcome.size if isinstance(outcome, Result) else 0)
        if outcome is not None:
            if isinstance(outcome, Result):
                self._delivered[ticket.item.key] = ticket
            self._deliver(ticket.item, outcome)
        self.go_on()
