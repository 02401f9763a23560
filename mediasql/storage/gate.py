"""How many requests one host gets at a time: as many as it bears, found as TCP finds it."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import dataclass

FIRST = 64
LEAST = 4
BETWEEN = 1.0  # seconds; refusals come in bursts, and one burst halves once
PROBES = 10  # of so many pauses that a host asked for, the time until it is tried whether it bears more
IDLE = 1.0  # seconds without a request, after which a host that was silent is believed in again
SHORTEST = 1.0  # seconds that an object of a silent host gets, at least
_LOOK = 0.5  # seconds between looks at those that wait, at most


class Deadline:
    """When an object is given up: `seconds` after it was begun, and later by all that it waited at gates.

    at       a time.monotonic()
    excused  a refusal that was our fault was not counted; once only, since the object itself may be what is refused
    """

    __slots__ = ("at", "excused", "seconds")

    def __init__(self, seconds: float, at: float | None = None) -> None:
        self.seconds = seconds
        self.excused = False
        self.at = time.monotonic() + seconds if at is None else at

    @property
    def left(self) -> float:
        return self.at - time.monotonic()


@dataclass(slots=True, eq=False)
class _Place:
    """One that waits, since when, and for how long while the host gives no answer."""

    future: asyncio.Future[None]
    since: float
    seconds: float


class Gate:
    """Lets requests to one host through, on one event loop.

    Who waits here is given up when the host answers nothing for as long as an object may take; from then on, until it
    answers again, objects have an eighth of their time. Requests that hang hold their places for nothing; so where the
    host is silent for half of that time, all pass.

    limit   requests at a time: 64 at first, one more with each answer, half with a refusal. A host that asks for a
            pause is asked for as many as it had accepted then, and rarely tried for more: that may cost a pause
    most    that the limit may reach
    """

    def __init__(self, most: int, first: int = FIRST) -> None:
        self.most = most
        self.limit = min(first, most)
        self.active = 0
        self._halved = 0.0
        self._until = 0.0  # time.monotonic() to which the server asked to be left alone
        self._content = 0.0  # to which no more is tried than it bears
        self._refusals = 0  # with which it asked for the pause
        self._full = False  # all of the limit was in use at the first
        self._borne = 0  # those that it had accepted at the last
        self._grown = 0  # answers since the limit grew
        self._answered = 0.0  # when the host last answered, or was first asked
        self._spoke = 0.0  # the same, with refusals
        self._missed = 0  # requests without an answer since then
        self._left = -math.inf  # when the last request ended
        self._waiting: deque[_Place] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None

    @property
    def open(self) -> bool:
        """Whether a request may pass without waiting."""
        return self.active < self.limit and not self._waiting and not (self._until and self._pause() > 0)

    def passes(self) -> bool:
        """Take a place, if one is to be had without waiting. `leave` gives it back."""
        now = time.monotonic()
        if not self.active and not self._waiting and now - self._left > IDLE:
            self._answered = self._spoke = now
            self._missed = 0
        if not self.open or self._missed >= LEAST:
            return False
        self.active += 1
        return True

    async def enter(self, deadline: Deadline | None = None) -> None:
        """Wait for a place; first come, first served. `leave` gives it back. Raises TimeoutError.

        The time is not the object's, and moves its `deadline`. Who would be given up before the server wants to be
        asked again does not wait for that: it has nothing to lose, and the server may mean other objects only.
        """
        if self.passes():
            return
        began = time.monotonic()
        if self.open:
            self.active += 1
        else:
            await self._wait(began, deadline.seconds if deadline is not None else math.inf)
        if deadline is not None:
            now = time.monotonic()
            deadline.at += now - began
            if self._missed >= LEAST:
                deadline.at = min(deadline.at, now + self._patience(deadline.seconds))

    async def _wait(self, since: float, seconds: float) -> None:
        place = _Place(asyncio.get_running_loop().create_future(), since, seconds)
        self._waiting.append(place)
        self._admit()
        if self._watch is None:
            self._look()
        try:
            await place.future
        except asyncio.CancelledError:
            if place.future.done() and not place.future.cancelled() and place.future.exception() is None:
                self.leave()  # admitted and cancelled in the same turn of the loop
            raise

    def leave(self) -> None:
        """Give back the place of a request."""
        self.active -= 1
        self._left = time.monotonic()
        if self._waiting:
            self._admit()

    def answered(self) -> None:
        """The host bears what it gets."""
        self._answered = self._spoke = time.monotonic()
        self._missed = 0
        self._grown += 1
        each = self.limit if self._content else 0  # answers for one more
        if self.limit < self.most and self._answered >= self._content and self._grown > each:
            self.limit += 1
            self._grown = 0

    def refused(self, after: float | None = None) -> None:
        """The host has too much to do. `after` is its Retry-After."""
        now = self._spoke = time.monotonic()
        if after:
            if not self._refusals:
                self._full = self.active >= self.limit
            self._refusals += 1
            self._borne = self.active - 1
            self._until = self._spoke = max(self._until, now + after)  # it is not expected to speak before
            self._content = self._until + PROBES * after
            self._admit()
        else:
            self._halve(now)

    def missed(self) -> None:
        """The host did not answer in time."""
        self._missed += 1
        self._halve(time.monotonic())

    def _halve(self, now: float) -> None:
        if now - self._halved >= BETWEEN:
            self._halved = now
            self.limit = max(min(LEAST, self.most), self.limit // 2)

    def _patience(self, seconds: float) -> float:
        """How much of an object's time it is given. A table full of the objects of a dead host would take all of it for
        each few of them."""
        if self._missed >= LEAST and time.monotonic() - self._answered >= seconds:
            return min(seconds, max(SHORTEST, seconds / 8))
        return seconds

    def _pause(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            self._until = 0.0
        return left

    def _admit(self) -> None:
        left = self._pause() if self._until else 0.0
        if left > 0 and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(left, self._resume)
        hangs = self._waiting and time.monotonic() - self._spoke >= self._waiting[0].seconds / 2
        limit = self.most if hangs else self.limit
        patient: list[_Place] = []
        while self._waiting and self.active < limit:
            place = self._waiting.popleft()
            if place.future.done():
                continue
            if left > 0 and self._until < self._given_up(place):
                patient.append(place)
            else:
                self.active += 1
                place.future.set_result(None)
        self._waiting.extendleft(reversed(patient))

    def _given_up(self, place: _Place) -> float:
        return max(place.since, self._answered) + self._patience(place.seconds)

    def _resume(self) -> None:
        self._timer = None
        if self._refusals and self._pause() <= 0:
            # Halving would take a pause for each step. One refusal among few requests is that of an object.
            if self._full or self._refusals > 1:
                self.limit = max(min(LEAST, self.most), min(self.limit, self._borne))
            self._refusals = 0
        self._admit()

    def _look(self) -> None:
        """Give up those that waited too long; and let others pass where the host hangs."""
        self._watch = None
        now = time.monotonic()
        for place in self._waiting:
            if now >= self._given_up(place) and not place.future.done():
                place.future.set_exception(TimeoutError())
        self._waiting = deque(place for place in self._waiting if not place.future.done())
        self._admit()
        if self._waiting:
            wait = min(_LOOK, self._waiting[0].seconds / 8)
            self._watch = asyncio.get_running_loop().call_later(wait, self._look)
