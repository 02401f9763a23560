"""An engine without a network, on a clock of its own: exchanges are answered by a function, timers by `advance`."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from mediasql.storage.transport import deadline, limiter
from mediasql.storage.transport.exchange import Exchange
from mediasql.storage.transport.jobs import Engine, Job


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeEngine(Engine):
    name = "fake"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 1000.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()
        for module in (limiter, deadline):
            monkeypatch.setattr(module, "time", self)

    def monotonic(self) -> float:
        return self.now

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        callback(*arguments)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), timer))
        return timer

    def send(self, exchange: Exchange, job: Job) -> object:
        raise NotImplementedError

    def abort(self, exchange: Exchange, handle: Any) -> None:
        raise NotImplementedError

    def close_idle(self) -> None:
        return

    def advance(self, seconds: float) -> None:
        """Let time go on, and all that was planned for it happen."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if timer.callback is not None:
                timer.callback()
        self.now = end
