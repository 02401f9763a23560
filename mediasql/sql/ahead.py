"""Answers on their way: many objects asked at once, each waited for when its row comes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

from ..errors import MediaError, TransientError
from ..media.probe import PLANS, Answer, Want, probe
from ..storage import loop
from ..storage.location import Location
from ..storage.store import Store

_FEW = 16
_GATHER = 0.005  # seconds for which answers are gathered while more than a few are on their way
_POLL = 0.05  # seconds between looks at whether the query was interrupted


@dataclass(frozen=True, slots=True)
class Wanted:
    """One answer that is needed, or will be. `key` tells objects, and versions of local files, apart."""

    key: Hashable
    location: Location
    want: Want


class Ahead:
    """Fetches what is wanted, `concurrency` objects at a time, in the order in which it was wanted.

    One thread, that of the connection, calls it; the fetching loop does the work.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._concurrency = store.config.concurrency
        self._plan = PLANS[store.config.readahead]
        self._wanted: set[Hashable] = set()
        self._outcomes: dict[Hashable, Answer | MediaError] = {}
        self._queue: deque[Wanted] = deque()
        self._active = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._awaited: Hashable = None
        self._arrived = threading.Event()
        self.files = 0  # answers that arrived, for progress

    def expect(self, wanted: Wanted) -> None:
        """Count this as on its way; `start` will be told in a moment."""
        self._wanted.add(wanted.key)
        self._outcomes.pop(wanted.key, None)

    def start(self, wanted: list[Wanted]) -> None:
        """Ask for these, in one hop to the loop."""
        for item in wanted:
            self.expect(item)
        if wanted:
            loop.get().call_soon_threadsafe(self._enqueue, wanted)

    def has(self, key: Hashable) -> bool:
        """Whether an answer is on its way, or there; perhaps one that was wanted for less."""
        return key in self._wanted

    def peek(self, key: Hashable) -> Answer | MediaError | None:
        """The outcome, if it arrived."""
        return self._outcomes.get(key)

    def take(self, key: Hashable, check: Callable[[], None]) -> Answer | MediaError:
        """The outcome, waited for. `check` is called while waiting, and may raise to give up."""
        while key not in self._outcomes:
            self._awaited = key
            self._arrived.clear()
            if key in self._outcomes:
                break
            if not self._arrived.wait(_POLL):
                check()
        self._wanted.discard(key)
        return self._outcomes.pop(key)

    def leftovers(self) -> list[tuple[Hashable, Answer]]:
        """Answers that arrived and that nobody took; they are forgotten here."""
        arrived = [(key, outcome) for key, outcome in list(self._outcomes.items()) if isinstance(outcome, Answer)]
        for key in list(self._outcomes):
            del self._outcomes[key]
            self._wanted.discard(key)
        return arrived

    def cancel(self) -> None:
        """Do not start what waits in the queue. What was started goes on, and its answers may still be taken."""
        queue, self._queue = self._queue, deque()
        for item in queue:
            self._wanted.discard(item.key)

    def _enqueue(self, items: list[Wanted]) -> None:
        self._queue.extend(items)
        self._fill()

    def _fill(self) -> None:
        here = asyncio.get_running_loop()
        while self._active < self._concurrency:
            try:
                item = self._queue.popleft()
            except IndexError:  # the connection's thread may empty the queue at any time
                return
            self._active += 1
            task = here.create_task(self._fetch(item))
            self._tasks.add(task)  # the loop itself holds tasks only weakly
            task.add_done_callback(self._tasks.discard)

    async def _fetch(self, item: Wanted) -> None:
        deadline = time.monotonic() + self._store.config.timeout
        read = partial(self._store.read, item.location, deadline=deadline)
        outcome: Answer | MediaError
        try:
            outcome = await probe(read, extension=item.location.extension, want=item.want, plan=self._plan)
        except MediaError as error:
            outcome = error.again()
        except asyncio.CancelledError:
            outcome = TransientError("given up")
        except Exception as error:  # whatever it is, somebody waits for an outcome
            outcome = TransientError(f"a mistake in mediasql: {error!r}")
        self._outcomes[item.key] = outcome
        self._active -= 1
        self.files += 1
        if item.key == self._awaited:
            # Waking the connection's thread for each answer would cost as much as fetching it.
            if self._active > _FEW:
                asyncio.get_running_loop().call_later(_GATHER, self._arrived.set)
            else:
                self._arrived.set()
        self._fill()
