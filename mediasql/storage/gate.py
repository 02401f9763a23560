"""How many requests one host gets at a time: as many as it bears, found as TCP finds it."""

from __future__ import annotations

import asyncio
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
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether a request may pass without waiting."""
        return self.active < self.limit and not self._waiting and not (self._until and self._pause() > 0)

    async def enter(self) -> None:
        """Wait for a place; first come, first served. `leave` gives it back."""
        if self.open:
            self.active += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
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
        if now - self._halved >= BETWEEN:
            self._halved = now
            self.limit = max(min(LEAST, self.most), self.limit // 2)

    def _pause(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            self._until = 0.0
        return left

    def _admit(self) -> None:
        if self._until and (left := self._pause()) > 0:
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(left, self._resume)
            return
        while self._waiting and self.active < self.limit:
            place = self._waiting.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)

    def _resume(self) -> None:
        self._timer = None
        self._admit()
