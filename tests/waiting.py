"""Wait for what another thread, process or server does, however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(look: Callable[[], T], seconds: float = 60) -> T:
    """Return the first true value that `look` gives; fail when there is none within so many seconds.

    The bound is there so that a test which fails ends. It is no property of what is tested.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {look}"
        time.sleep(0.01)
    return found
