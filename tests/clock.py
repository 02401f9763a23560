"""A clock for mediasql that a test moves."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest


class Clock:
    """The module `time`, ahead by the seconds for which `move` was called. It goes on by itself until `stop`."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stopped: tuple[float, float] | None = None

    def move(self, seconds: float) -> None:
        self._ahead += seconds

    def stop(self) -> None:
        """Stand still from now on but for `move`: what is done where there is time is done then."""
        self._stopped = time.monotonic(), time.time()

    def monotonic(self) -> float:
        return (self._stopped[0] if self._stopped else time.monotonic()) + self._ahead

    def time(self) -> float:
        return (self._stopped[1] if self._stopped else time.time()) + self._ahead

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time that the modules of mediasql see, those that are imported; asyncio and the servers keep their own."""
    moved = Clock()
    for name, module in list(sys.modules.items()):
        if name.startswith("mediasql.") and vars(module).get("time") is time:
            monkeypatch.setattr(module, "time", moved)
    return moved
