"""How many requests one host gets at a time, and how many connections are opened to it: as many as it bears.

The limit grows as TCP's does in slow start, one more with each answer, as long as answers come about as fast as at
first; it holds when latency rises with load, and shrinks when it has multiplied. That is the idea of TCP Vegas
(Brakmo, O'Malley and Peterson: "TCP Vegas: New Techniques for Congestion Detection and Avoidance", SIGCOMM 1994) and of
the gradient limits of Netflix's concurrency-limits. Refusals (429, 503), refused or slow connections, and silence
shrink it at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .deadline import Deadline
    from .jobs import Engine, Job, Timer

FIRST = 8  # requests at a time to a host that nothing is known of
FIRST_AT_CLOUD = 64  # to the front of S3, GCS or Azure, which is made for it
LEAST = 4
OPENING = 4  # connections that are opened to one host at a time, at first: the backlog of a small server is 5
BETWEEN = 1.0  # seconds; refusals come in bursts, and one burst halves once
PROBES = 10  # of so many pauses that a host asked for, the time until it is tried whether it bears more
IDLE = 1.0  # seconds without a request, after which a host that was silent is believed in again
SHORTEST = 1.0  # seconds that an object of a silent host gets, at least
FAR = 0.1  # seconds of latency for each of which an answer opens the limit by one more: ramping up takes round trips
RARELY = 25  # times as many answers open the limit of a host that closes its connections
RISEN, HIGH = 2.0, 4.0  # times the lowest latency at which the limit stops growing, and at which it shrinks
SLACK = 0.02  # seconds of latency that say nothing: our own threads cause them
SLOW_CONNECT = 0.5  # seconds; a SYN that a full backlog dropped is sent again after one second
KEPT = 15.0  # seconds that connections are kept open without a request
FORGET = 30.0  # seconds after which the lowest latency is measured anew
_LOOK = 0.5  # seconds between looks at those that wait, at most


class AdaptiveLimiter:
    """Places at one host, on the thread of one engine.

    A request waits here without using up its own time. It is given up when the host answers nothing for as long as an
    object may take; from then on, until the host answers again, objects have an eighth of their time. Hung requests
    occupy places, so the limit is lifted after half the timeout without a response.

    limit      requests at a time
    most       that the limit may reach
    active     requests under way
    connected  open connections, as far as is known
    opening    connections being opened
    """

    def __init__(self, engine: Engine, most: int, *, first: int = FIRST) -> None:
        self._engine = engine
        self.most = most
        self.limit = min(first, most)
        self.active = 0
        self.connected = 0
        self.opening = 0
        self.multiplexed = False  # many requests share one connection (HTTP/2)
        self._may_open = OPENING if first == FIRST else first // 2
        self._most_opening = 64
        self._slow_start = True
        self._lowest = math.inf  # seconds of latency
        self._measured = 0.0  # since when that is
        self._latency = 0.0  # seconds, smoothed
        self.known = False  # it has answered, so that it is known whether connections can be used again
        self._reuses = True
        self._halved = self._throttled = -math.inf
        self._until = 0.0  # time.monotonic() to which the server asked to be left alone
        self._content = 0.0  # to which no more is tried than it bears
        self._refusals = 0  # with which it asked for the pause
        self._full = False  # all of the limit was in use at the first
        self._accepted = 0  # those that it had accepted at the last
        self._grown = 0.0  # answers since the limit grew
        self._answered = 0.0  # when the host last answered, or was first asked
        self._spoke = 0.0  # the same, with refusals
        self._missed = 0  # requests without an answer since then
        self._left = -math.inf  # when the last request ended
        self._waiting: deque[Turn] = deque()
        self._timer: Timer | None = None
        self._watch: Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request may go without waiting."""
        if self.active >= self.limit or self._waiting or (self._until and self._pause() > 0):
            return False
        return self._has_connection()

    def try_acquire(self) -> Place | None:
        """Return a place, if one is to be had without waiting."""
        now = time.monotonic()
        if not self.active and not self._waiting and now - self._left > IDLE:
            self._answered = self._spoke = now
            self._missed = 0
            if now - self._left > KEPT:
                self.connected = 0
        return None if not self.is_open or self._missed >= LEAST else Place(self)

    def on_success(self, latency: float | None = None) -> None:
        """The host answered, after so many seconds where that was measured."""
        now = self._answered = self._spoke = time.monotonic()
        self._missed = 0
        growing = True
        if latency is not None:
            if now - self._measured > FORGET or latency < self._lowest:
                self._lowest, self._measured = latency, now
            self._latency += (latency - self._latency) / 8 if self._latency else latency
            load = self._latency - SLACK
            growing = load <= RISEN * self._lowest
            if not growing:
                self._slow_start = False
            if load > HIGH * self._lowest and now - self._halved >= max(BETWEEN, self._latency):
                self._halved = now
                self.limit = max(min(FIRST, self.most), self.limit * 3 // 4)
        self._grown += 1 + min((latency or 0.0) / FAR, 7.0) if self._slow_start else 1
        # One more with each answer in slow start, else with as many answers as the limit.
        each = 0 if self._slow_start and not self._content else self.limit * (1 if self._reuses else RARELY)
        if growing and self.limit < self.most and self._answered >= self._content and self._grown > each:
            self.limit = min(self.most, self.limit + (max(1, int(self._grown)) if not each else 1))
            self._grown = 0.0

    def on_throttle(self, after: float | None = None) -> None:
        """The host has too much to do. `after` is its Retry-After, in seconds."""
        now = self._spoke = time.monotonic()
        self._slow_start = False
        if after:
            if not self._refusals:
                self._full = self.active >= self.limit
            self._refusals += 1
            self._accepted = self.active - 1
            self._until = self._spoke = max(self._until, now + after)  # it is not expected to speak before
            self._content = self._until + PROBES * after
            self._admit()
        else:
            # The first refusals tell how many it bears; more of them, later, that even these are too many.
            if now - self._throttled > PROBES * BETWEEN:
                self._halved = now
            self._throttled = now
            self._content = now + PROBES * BETWEEN
            self.limit = max(min(LEAST, self.most), min(self.limit, self.active - 1))
            self._halve(now)

    def on_timeout(self) -> None:
        """The host did not answer in time."""
        self._missed += 1
        self._slow_start = False
        self._halve(time.monotonic())

    def on_no_reuse(self) -> None:
        """The server closes each connection after one answer, so that each request opens another."""
        if self._reuses:
            self._reuses = self._slow_start = False
            self._may_open = self._most_opening = min(self._may_open, OPENING)
            self.limit = min(self.limit, OPENING)  # a backlog that overflows costs a second

    def _has_connection(self) -> bool:
        """Whether one more request finds a connection, or may open one."""
        if not self.known:
            return self.active < self._may_open
        return not self.needs_connection or self.opening < self._may_open

    @property
    def needs_connection(self) -> bool:
        """Whether one more request has to open a connection."""
        return not self.multiplexed and self.active >= self.connected - self.opening

    def on_opened(self, seconds: float) -> None:
        """A connection was opened, which took so many seconds."""
        if seconds > SLOW_CONNECT and seconds > HIGH * self._lowest:
            self._may_open = self._most_opening = max(LEAST, self._may_open // 2)
        elif self.known and self._may_open < self._most_opening:
            self._may_open += 1
        if self._waiting:
            self._admit()

    def on_not_opened(self) -> None:
        """A connection could not be opened."""
        self._may_open = self._most_opening = max(LEAST, self._may_open // 2)
        self._slow_start = False
        self._halve(time.monotonic())

    def on_released(self) -> None:
        """A place was given back."""
        self._left = time.monotonic()
        if self._waiting:
            self._admit()

    def _halve(self, now: float) -> None:
        if now - self._halved >= BETWEEN:
            self._halved = now
            self.limit = max(min(LEAST, self.most), self.limit // 2)

    def _patience(self, seconds: float) -> float:
        """Seconds of an object's time that it is given. A table full of the objects of a dead host would take all of it
        for each few of them."""
        if self._missed >= LEAST and time.monotonic() - self._answered >= seconds:
            return min(seconds, max(SHORTEST, seconds / 8))
        return seconds

    def _pause(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            self._until = 0.0
        return left

    def enter(self, turn: Turn) -> None:
        """Have a turn wait for a place, or give it one."""
        if self.is_open:
            turn.go(Place(self))
            return
        self._waiting.append(turn)
        self._admit()
        if self._watch is None and self._waiting:
            self._look()

    def leave(self, turn: Turn) -> None:
        """A turn waits no more."""
        if turn in self._waiting:
            self._waiting.remove(turn)

    def _admit(self) -> None:
        left = self._pause() if self._until else 0.0
        if left > 0 and self._timer is None:
            self._timer = self._engine.call_later(left, self._resume)
        hangs = bool(self._waiting) and time.monotonic() - self._spoke >= self._waiting[0].seconds / 2
        limit = self.most if hangs else self.limit
        patient: list[Turn] = []
        admitted: list[tuple[Turn, Place]] = []
        while self._waiting and self.active < limit and (hangs or self._has_connection()):
            turn = self._waiting.popleft()
            if left > 0 and self._until < self._given_up(turn):
                patient.append(turn)
            else:
                admitted.append((turn, Place(self)))
        self._waiting.extendleft(reversed(patient))
        for turn, place in admitted:
            turn.go(place)

    def _given_up(self, turn: Turn) -> float:
        return max(turn.since, self._answered) + self._patience(turn.seconds)

    def _resume(self) -> None:
        self._timer = None
        if self._refusals and self._pause() <= 0:
            # Halving would take a pause for each step. One refusal among few requests is that of an object.
            if self._full or self._refusals > 1:
                self.limit = max(min(LEAST, self.most), min(self.limit, self._accepted))
            self._refusals = 0
        self._admit()

    def _look(self) -> None:
        """Give up those that waited too long; and let others go where the host hangs."""
        self._watch = None
        now = time.monotonic()
        late = [turn for turn in self._waiting if now >= self._given_up(turn)]
        for turn in late:
            self._waiting.remove(turn)
            turn.give_up()
        self._admit()
        if self._waiting:
            wait = min(_LOOK, self._waiting[0].seconds / 8)
            self._watch = self._engine.call_later(wait, self._look)

    def patience(self, seconds: float) -> float:
        """Seconds that an object may take from now on, of `seconds`."""
        return self._patience(seconds) if self._missed >= LEAST else seconds


class Place:
    """One request under way. `release` gives it back, and must be called."""

    __slots__ = ("_began", "_limiter", "_reusable", "answered", "opens", "sent")

    def __init__(self, limiter: AdaptiveLimiter) -> None:
        self._limiter = limiter
        self.sent = self.answered = 0.0  # time.monotonic() of the request, and of the first byte of the answer
        self._reusable = True
        self.opens = limiter.needs_connection
        if self.opens:
            limiter.opening += 1
            self._began = time.monotonic()
        limiter.active += 1

    def on_open(self) -> None:
        """A connection is being opened for it."""
        self._limiter.connected += 1

    def on_lost(self) -> None:
        """The connection cannot be used again: the exchange broke, or was given up before its end."""
        if self.sent and not self._limiter.multiplexed:
            self._reusable = False

    def on_head(self, *, reusable: bool, multiplexed: bool) -> None:
        """The head of the answer came, on a connection that is `reusable` by one request at a time or more."""
        self.answered = time.monotonic()
        self._limiter.known = True
        if multiplexed:
            self._limiter.multiplexed = True
        elif not reusable:
            self._reusable = False
            self._limiter.on_no_reuse()

    def on_success(self) -> None:
        """The host answered."""
        latency = self.answered - self.sent if self.answered and self.sent else None
        self._limiter.on_success(latency)

    def on_connected(self) -> None:
        """The request has a connection; perhaps it had to be opened."""
        if self.opens:
            self.opens = False
            limiter = self._limiter
            limiter.opening -= 1
            limiter.on_opened(time.monotonic() - self._began)

    def on_not_connected(self) -> None:
        """No connection could be opened."""
        limiter = self._limiter
        if self.opens:
            self.opens = False
            limiter.opening -= 1
        limiter.on_not_opened()

    def release(self) -> None:
        """Give the place back."""
        limiter = self._limiter
        if self.opens:
            self.opens = False
            limiter.opening -= 1
        if not self._reusable:
            limiter.connected = max(0, limiter.connected - 1)
        limiter.active -= 1
        limiter.on_released()


class Turn:
    """Wait for a Place; first come, first served. Raises TimeoutError where the host seems dead.

    The time is not the object's, and moves its `deadline`. An object that would be given up before the server wants to
    be asked again does not wait for that: it has nothing to lose, and the server may mean other objects only.
    """

    __slots__ = ("_deadline", "_engine", "_job", "_limiter", "seconds", "since")

    def __init__(self, limiter: AdaptiveLimiter, deadline: Deadline | None = None) -> None:
        self._limiter = limiter
        self._deadline = deadline
        self.seconds = deadline.seconds if deadline is not None else math.inf
        self.since = time.monotonic()

    def begin(self, engine: Engine, job: Job) -> None:
        self._engine, self._job = engine, job
        self._limiter.enter(self)

    def cancel(self, engine: Engine) -> None:
        self._limiter.leave(self)

    def go(self, place: Place) -> None:
        """Hand over the place."""
        if self._job.over:
            place.release()
            return
        if self._deadline is not None:
            now = time.monotonic()
            self._deadline.at += now - self.since
            patience = self._limiter.patience(self.seconds)
            if patience < self.seconds:
                self._deadline.at = min(self._deadline.at, now + patience)
        self._engine.resume(self._job, place)

    def give_up(self) -> None:
        self._engine.fail(self._job, TimeoutError())
