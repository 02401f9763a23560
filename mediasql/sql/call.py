"""From an SQL call to a Python call and back: NULLs, argument kinds, and what becomes of failures."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from ..errors import ForbiddenByPolicy, MediaError, UnavailableError, UsageError
from .failures import shown
from .media import Media
from .memory import Reader
from .registry import Function, Parameter
from .scout import Noted
from .session import Session

_MISSING = object()


def bind(function: Function, session: Session, arity: int) -> Callable[..., Any]:
    """What SQLite calls for `function` with `arity` arguments: any SQL values in, an SQL value out."""
    call = _bind(function, session)
    return _remembering(call, session, function.field) if function.remembered and arity == 1 else call


def _remembering(call: Callable[..., Any], session: Session, field: str | None) -> Callable[[Any], Any]:
    """`call`, with the values of remote media that it gave before; they cost no more than looking them up.

    Where the value is a `field` of what was kept on disk, those that were kept after it come with it.
    """
    known = session.remembered()
    clock, scout = time.monotonic, session.scout
    reader = Reader()

    def remembering(argument: Any) -> Any:
        if argument.__class__ is str:
            value = known.get(argument, _MISSING)
            if value is not _MISSING and clock() < session.remembered_until:
                return value
            if field and scout.active and scout.awaits(argument):
                return None
            if (
                field
                and not scout.repeats
                and (argument == reader.next or reader.worth)
                and session.may_remember(argument)
            ):
                session.foresee(reader, argument, field, known)
                value = known.get(argument, _MISSING)
                if value is not _MISSING:
                    return value
        session.good_until = math.inf
        value = call(argument)
        # What the scout meets is still to be asked for, and is kept then.
        if value is None or argument.__class__ is not str or scout.active:
            return value
        if session.may_remember(argument) and session.good_until >= session.remembered_until:
            known[argument] = value
            if session.memory.recalled == argument:
                session.foresee(reader, argument, field, known)
        return value

    return remembering


def _bind(function: Function, session: Session) -> Callable[..., Any]:
    parameters = function.parameters
    target, name, reads_media = function.call, function.name, function.reads_media
    leading = (session,) if function.wants_session else ()
    statement, scout = session.statement, session.scout
    # They change the cache or the database, or tell about this machine.
    refused = function.directonly and session.config.profile == "hosted"

    def call(*arguments: Any) -> Any:
        if refused:
            raise ForbiddenByPolicy(f"{name}(): profile 'hosted' is for the SQL of strangers, who may not call it")
        for argument in arguments:
            if argument is None:
                return None
        if reads_media and (name in scout.ignored if scout.active else not statement.needs(name)):
            return None
        try:
            values = [convert(session, *pair) for pair in zip(parameters, arguments, strict=False)]
            result = target(*leading, *values)
        except Noted:
            return None
        except MediaError as error:
            if not reads_media:  # it is not about the media of a row, for which NULL could stand
                raise error.again(f"{name}({shown(arguments)}): {error}") from error
            session.failed(name, arguments, error)
            return None
        if reads_media:
            session.mended(name, arguments)
        return sql_value(result)

    call.__name__ = name
    return call


def _media(session: Session, parameter: str, value: Any) -> Media:
    if isinstance(value, str | bytes):
        if isinstance(value, str) and "\0" in value:
            raise UnavailableError("a URL has no NUL characters")
        return Media(session, value)
    raise UsageError(f"{parameter} is a number; a URL (TEXT) or the media itself (BLOB) is needed")


def _text(session: Session, parameter: str, value: Any) -> str:
    if isinstance(value, bytes):
        raise UsageError(f"{parameter} is a BLOB; TEXT is needed")
    return str(value)


def _integer(session: Session, parameter: str, value: Any) -> int:
    if isinstance(value, int):
        return value
    try:
        number = float(value) if isinstance(value, float | str) else math.nan
        if number.is_integer():
            return int(number)
    except ValueError:
        pass
    raise UsageError(f"{parameter} is {shown((value,))}; a whole number is needed")


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
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, float):
        return value if value == value else None
    if (plain := _plain(value)) is not value:
        return sql_value(plain)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    return json.dumps(value, ensure_ascii=False, default=_jsonable)


def _plain(value: Any) -> Any:
    """Arrays and scalars of NumPy and the like as lists and numbers; anything else as it is."""
    if hasattr(value, "tolist") and not isinstance(value, memoryview):
        return value.tolist()
    return value.item() if hasattr(value, "item") else value


def _jsonable(value: Any) -> Any:
    if (plain := _plain(value)) is value:
        raise TypeError(f"{type(value).__name__} is not a value of JSON")
    return plain
