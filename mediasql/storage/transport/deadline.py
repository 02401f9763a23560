"""How long an object may take."""

from __future__ import annotations

import time


class Deadline:
    """When an object is given up: `seconds` after it was begun, and later by all that it waited at limiters.

    at       a time.monotonic()
    excused  a refusal that our own load caused was not counted; once only, since the object may be what is refused
    """

    __slots__ = ("at", "excused", "seconds")

    def __init__(self, seconds: float, at: float | None = None) -> None:
        self.seconds = seconds
        self.excused = False
        self.at = time.monotonic() + seconds if at is None else at

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.at - time.monotonic()
