"""From an SQL call to a Python call and back: NULLs, argument kinds, and what becomes of failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ..errors import MediaError, UsageError
from .media import Media
from .registry import Function, Parameter
from .session import Session

_LARGEST_INTEGER = 2**63 - 1
_SHOWN = 200  # characters of an argument in an error message


def bind(function: Function, session: Session) -> Callable[..., Any]:
    """What SQLite calls for `function`: any SQL values in, an SQL value out."""
    parameters = function.parameters
    target, name, reads_media = function.call, function.name, function.reads_media
    leading = (session,) if function.wants_session else ()
    statement, failures = session.statement, session.failures

    def call(*arguments: Any) -> Any:
        for argument in arguments:
            if argument is None:
                return None
        if reads_media and not statement.needs(name):
            return None
        try:
            values = [convert(session, *pair) for pair in zip(parameters, arguments, strict=False)]
            result = target(*leading, *values)
        except MediaError as error:
            session.failed(name, shown(arguments), url_of(session, arguments), error)
            return None
        if len(failures) and reads_media:
            failures.mended(url_of(session, arguments), name)
        return sql_value(result)

    call.__name__ = name
    return call


def _media(session: Session, parameter: str, value: Any) -> Media:
    if isinstance(value, str | bytes):
        return Media(session, value)
    raise UsageError(f"{parameter} is a number; a URL (TEXT) or the media itself (BLOB) is needed")


def _text(session: Session, parameter: str, value: Any) -> str:
    if isinstance(value, bytes):
        raise UsageError(f"{parameter} is a BLOB; TEXT is needed")
    return str(value)


def _integer(session: Session, parameter: str, value: Any) -> int:
    try:
        number = float(value)
        if number.is_integer():
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise UsageError(f"{parameter} is {value!r}; a whole number is needed")


def _any(session: Session, parameter: str, value: Any) -> Any:
    return value


def convert(session: Session, parameter: Parameter, value: Any) -> Any:
    """An SQL value as the kind of argument that `parameter` takes. Raises UsageError when it is none."""
    return _CONVERTERS[parameter.kind](session, parameter.name, value)


_CONVERTERS: dict[Any, Callable[[Session, str, Any], Any]] = {
    Media: _media,
    str: _text,
    int: _integer,
    object: _any,
}


def sql_value(value: Any) -> Any:
    """A Python value as SQLite stores it: lists and dicts as JSON text, integers of more than 64 bits as floats."""
    if value is None or isinstance(value, str | bytes):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER else float(value)
    if isinstance(value, float):
        return value if value == value else None
    return json.dumps(value, ensure_ascii=False)


def url_of(session: Session, arguments: tuple[Any, ...]) -> str:
    """The URL that a call is about, for `media_errors`."""
    first = arguments[0] if arguments else ""
    return Media(session, first).url if isinstance(first, str | bytes) else str(first)


def shown(arguments: tuple[Any, ...]) -> str:
    """Arguments as they would be written in SQL, cut to a readable length."""
    return ", ".join(map(_literal, arguments))


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<BLOB of {len(value)} bytes>"
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
        return "'" + text.replace("'", "''") + "'"
    return "NULL" if value is None else str(value)
