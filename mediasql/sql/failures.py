"""What failed on one connection, and how a call is spelled to whoever reads of it."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any

from ..errors import (
    Forbidden,
    ForbiddenByPolicy,
    MediaError,
    NotFound,
    SetupError,
    TransientError,
    UnavailableError,
    Unsupported,
)

MOST = 100_000
_SHOWN = 200  # characters of an argument in an error message


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that failed, for `media_errors`. Times are ISO 8601 in UTC."""

    url: str
    function: str
    error: str
    kind: str
    status: int | None
    attempts: int
    first_time: float
    last_time: float


_KINDS: list[tuple[type[MediaError], str]] = [
    (NotFound, "not found"),
    (Forbidden, "forbidden"),
    (Unsupported, "unsupported"),
    (SetupError, "setup"),
    (TransientError, "transient"),
    (ForbiddenByPolicy, "refused"),
    (UnavailableError, "damaged"),
]


class Failures:
    """What failed, by URL and function; the oldest are forgotten beyond 100,000.

    total      values that ever failed
    transient  those of them that failed for the moment, and may be read by the same statement later
    """

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Failure] = OrderedDict()
        self.total = 0
        self.transient = 0

    def add(self, url: str, function: str, error: MediaError) -> None:
        now = time.time()
        known = self._all.pop((url, function), None)
        kind = next(name for cls, name in _KINDS if isinstance(error, cls))
        failure = Failure(url, function, str(error), kind, error.status, 1, now, now)
        if known is not None:
            failure = replace(failure, attempts=known.attempts + 1, first_time=known.first_time)
        self._all[url, function] = failure
        self.total += 1
        self.transient += isinstance(error, TransientError)
        if len(self._all) > MOST:
            self._all.popitem(last=False)

    def mended(self, url: str, function: str) -> None:
        """The call succeeded, so that it is no longer among the failures."""
        self._all.pop((url, function), None)

    def __iter__(self) -> Any:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)


def shown(arguments: tuple[Any, ...]) -> str:
    """Arguments as they would be written in SQL, cut to a readable length."""
    return ", ".join(map(_literal, arguments))


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<BLOB of {len(value)} bytes>"
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
        return "'" + text.replace("'", "''").replace("\0", "\\0") + "'"
    return "NULL" if value is None else str(value)


def about(arguments: tuple[Any, ...]) -> str:
    """What a call is about, for `media_errors`: a URL, or a text that tells BLOBs apart."""
    first = arguments[0] if arguments else ""
    if isinstance(first, bytes):
        return f"BLOB of {len(first)} bytes, SHA-256 {hashlib.sha256(first).hexdigest()[:16]}"
    return str(first)
