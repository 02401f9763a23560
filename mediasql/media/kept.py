"""What is kept of an outcome: a row of values, and the outcome again."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from .. import errors
from ..storage.providers.base import ObjectInfo
from .info import MediaInfo, StreamInfo
from .probe import Answer

_INFO = tuple(field.name for field in fields(MediaInfo) if field.name not in ("exif", "streams"))
_OBJECT = ("size", "last_modified", "etag", "declared_type")
COLUMNS = ("version", "checked", *_OBJECT, "failure", "message", "status", *_INFO, "exif", "streams")
VALUES = (*_OBJECT, *_INFO)
_AS_THEY_ARE = frozenset({str, int, type(None)})
_INFO_AT = COLUMNS.index(_INFO[0])
_FAILURE_AT = COLUMNS.index("failure")

Outcome = Answer | errors.MediaError
# What is kept of an outcome, as `found` reads it: values for COLUMNS, of which the second is the time.time() at which
# it was so.
Kept = tuple[Any, ...]


def as_columns(outcome: Outcome, version: str | None, at: float) -> Kept:
    """An outcome as values for COLUMNS."""
    known = outcome.object if isinstance(outcome, Answer) else ObjectInfo()
    failure = outcome.error if isinstance(outcome, Answer) else outcome
    info = outcome.info if isinstance(outcome, Answer) else None
    # A failure without an object is one of asking, with it one of understanding.
    kind = None if failure is None else type(failure).__name__
    told = [None] * len(_INFO) if info is None else _told(info)
    streams = json.dumps([_given(stream) for stream in info.streams]) if info is not None and info.streams else None
    return (
        version,
        at,
        known.size,
        known.last_modified,
        known.etag,
        known.mime_type,
        kind,
        None if failure is None else str(failure),
        None if failure is None else failure.status,
        *told,
        None if info is None else info.exif,
        streams,
    )


def _told(info: MediaInfo) -> list[Any]:
    values = [getattr(info, name) for name in _INFO]
    return [value if value.__class__ in _AS_THEY_ARE else _plain(value) for value in values]


def _plain(value: Any) -> Any:
    """A value as SQLite gives it back."""
    return int(value) if isinstance(value, bool) else None if value != value else value


def _given(stream: StreamInfo) -> dict[str, Any]:
    values = ((field.name, getattr(stream, field.name)) for field in fields(StreamInfo))
    return {name: value for name, value in values if value is not None}


# Failures that are the object's. Others, such as a wrong call, are nobody else's business.
_FAILURES = {kind.__name__: kind for kind in (errors.NotFound, errors.Forbidden, errors.UnavailableError)}
_DECODING = errors.DecodeError.__name__


def is_of_statement(outcome: Outcome) -> bool:
    """Whether the store forbids to keep this outcome, so that the statement that asked is the only one to have it."""
    return outcome.object.no_store if isinstance(outcome, Answer) else outcome.no_store


def is_kept(outcome: Outcome) -> bool:
    """Whether another statement should have this outcome too."""
    return isinstance(outcome, Answer) or type(outcome).__name__ in _FAILURES


def is_failure(columns: Kept) -> bool:
    """Whether an object could not be read."""
    return columns[_FAILURE_AT] in _FAILURES


def found(columns: Kept) -> Outcome:
    """The outcome that was kept."""
    _, _, size, last_modified, etag, declared_type, kind, message, status = columns[:_INFO_AT]
    if kind in _FAILURES:
        return _FAILURES[kind](message, status=status)
    known = ObjectInfo(size, last_modified, etag, declared_type)
    if kind == _DECODING:
        return Answer(known, error=errors.DecodeError(message, status=status))
    if columns[_INFO_AT] is None:
        return Answer(known)
    info = dict(zip(_INFO, columns[_INFO_AT:-2], strict=True))
    info["exif_read"] = bool(info["exif_read"])
    streams = tuple(StreamInfo(**given) for given in json.loads(columns[-1])) if columns[-1] else ()
    return Answer(known, MediaInfo(**info, exif=columns[-2], streams=streams))
