"""How many requests one host gets at a time: as many as it bears, found as TCP finds it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque

FIRST = 64
LEAST = 4
BETWEEN = 1.0  # seconds; refusals come in bursts, and one burst halves once


class Gate:
    """Lets requests to one host through, on one event loop.

    limit   requests at a time: 64 at first, one more with each answer, half with a refusal
    most    that the limit may reach
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.limit = min(FIRST, most)
        self.active = 0
        self._halved = 0.0
        self._until = 0.0  # time.monotonic() to which the server asked to be left alone
        self._waiting: deque[tuple[asyncio.Future[None], float]] = deque()  # and when each is given up
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether a request may pass without waiting."""
        return self.active < self.limit and not self._waiting and not (self._until and self._pause() > 0)

    async def enter(self, deadline: float = math.inf) -> None:
        """Wait for a place; first come, first served. `leave` gives it back.

        A request that would be given up, at `deadline`, before the server wants to be asked again does not wait for
        that: it has nothing to lose, and the server may mean other objects only.
        """
        if self.open:
            self.active += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append((place, deadline))
        self._admit()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # admitted and cancelled in the same turn of the loop
                self.leave()
            raise

    def leave(self) -> None:
        """Give back the place of a request."""
        self.active -= 1
        if self._waiting:
            self._admit()

    def answered(self) -> None:
        """The host bears what it gets."""
        if self.limit < self.most:
            self.limit += 1

    def refused(self, after: float | None = None) -> None:
        """The host has too much to do, or did not answer in time. `after` is its Retry-After."""
        now = time.monotonic()
        if after:
            self._until = max(self._until, now + after)
            self._admit()
        if now - self._halved >= BETWEEN:
            self._halved = now
            self.limit = max(min(LEAST, self.most), self.limit // 2)

    def _pause(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            self._until = 0.0
        return left

    def _admit(self) -> None:
        left = self._pause() if self._until else 0.0
        if left > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._resume)
        patient: list[tuple[asyncio.Future[None], float]] = []
        while self._waiting and self.active < self.limit:
            place, deadline = self._waiting.popleft()
            if left > 0 and deadline > self._until:
                patient.append((place, deadline))
            elif not place.done():
                self.active += 1
                place.set_result(None)
        self._waiting.extendleft(reversed(patient))

    def _resume(self) -> None:
        self._timer = None
        self._admit()
