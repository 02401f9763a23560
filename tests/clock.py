"""A clock for mediasql that a test moves."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytest


class Clock:
    """The module `time` with the seconds added for which `move` was called. It goes on by itself."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def move(self, seconds: float) -> None:
        self.ahead += seconds

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead

    def time(self) -> float:
        return time.time() + self.ahead

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
