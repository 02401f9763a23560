"""Values of the DB-API module: what may be a parameter, and the constructors and type objects of PEP 249."""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import ProgrammingError

Parameters = Sequence[Any] | Mapping[str, Any]


class TypeObject:
    """Equal to the declared types, as `Cursor.description` has them, that contain one of some words."""

    def __init__(self, *words: str) -> None:
        self._words = words

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return any(word in other.upper() for word in self._words)
        return self is other

    __hash__ = object.__hash__


STRING = TypeObject("CHAR", "CLOB", "TEXT", "IMAGE", "VIDEO", "AUDIO", "MEDIA")
BINARY = TypeObject("BLOB", "BINARY")
NUMBER = TypeObject("INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")
DATETIME = TypeObject("DATE", "TIME")
ROWID = TypeObject("INTEGER")

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:
    """The day of a POSIX time, in local time."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:
    """The time of day of a POSIX time, in local time."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:
    """The local time of a POSIX time."""
    return Timestamp(*time.localtime(ticks)[:6])


_PLAIN = frozenset({int, float, str, bytes, bool, type(None), memoryview, bytearray})


def adapted(given: Parameters) -> Parameters:
    """Parameters as APSW takes them: dates as ISO 8601 text, NumPy's numbers as Python's."""
    if isinstance(given, Mapping):
        return {name: _value(value) for name, value in given.items()}
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise ProgrammingError(f"parameters are a sequence or a mapping, not a {type(given).__name__}")
    return given if _PLAIN.issuperset(map(type, given)) else tuple(map(_value, given))


def _value(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    # SQLite would get the bytes of a number in memory: they present the buffer protocol.
    return _value(value.item()) if getattr(value, "shape", None) == () and hasattr(value, "item") else value
