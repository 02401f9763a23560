"""media(pattern): what is in a bucket, a directory or under a URL, with everything a header tells."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from ...storage.providers.base import KeyRange, ObjectInfo
from ..functions import image, properties, timed
from ..media import Media
from ..registry import Column, Condition, Session, table

_PAGE = 1000  # what S3, GCS and Azure return at most, or by default, per list request


@dataclass(slots=True)
class Listed:
    """One object of a listing; `media` opens it."""

    url: str
    name: str
    listed: ObjectInfo
    media: Media

    def known(self, attribute: str) -> Any:
        """What the listing tells, or else the object itself: a single URL was not listed."""
        value = getattr(self.listed, attribute)
        return value if value is not None or self.listed.size is not None else getattr(self.media.object, attribute)

    @property
    def mime_type(self) -> str | None:
        return self.listed.mime_type or mimetypes.guess_type(self.name)[0]


def _lazy(function: Callable[[Media], Any], type: str) -> Column:
    doc = (function.__doc__ or "").partition("\n")[0]
    return Column(function.__name__, type, doc, lambda row: function(row.media), opens=True)


_ERROR = "Why the object cannot be read as media; NULL when it can."


@table(
    Column("url", "TEXT", "The URL of the object.", lambda row: row.url, pushed=True),
    Column(
        "name",
        "TEXT",
        "The path below the directory that the pattern starts in.",
        lambda row: row.name,
        pushed=True,
    ),
    Column("size", "INTEGER", "The size in bytes.", lambda row: row.known("size"), opens=True),
    Column("last_modified", "TEXT", "ISO 8601 in UTC.", lambda row: row.known("last_modified"), opens=True),
    Column("etag", "TEXT", "The entity tag, without quotes.", lambda row: row.known("etag"), opens=True),
    Column(
        "mime_type",
        "TEXT",
        "As the store lists it, or by the extension of the name.",
        lambda row: row.mime_type,
    ),
    _lazy(properties.media_type, "TEXT"),
    _lazy(image.width, "INTEGER"),
    _lazy(image.height, "INTEGER"),
    _lazy(image.orientation, "INTEGER"),
    _lazy(image.image_format, "TEXT"),
    _lazy(image.image_mode, "TEXT"),
    _lazy(timed.duration, "REAL"),
    _lazy(timed.frame_rate, "REAL"),
    _lazy(timed.frame_count, "INTEGER"),
    _lazy(timed.video_codec, "TEXT"),
    _lazy(timed.audio_codec, "TEXT"),
    _lazy(timed.bit_rate, "INTEGER"),
    _lazy(timed.sample_rate, "INTEGER"),
    _lazy(timed.channels, "INTEGER"),
    Column("error", "TEXT", _ERROR, lambda row: row.media.error()),
)
def media(session: Session, pattern: str, conditions: list[Condition], limit: int) -> Iterator[Listed]:
    """The objects that match a glob, lie under a prefix, or the one that a URL names.

    `*`, `?`, `[...]` and `{a,b}` match within a directory, `**` across directories; a pattern that ends in '/' stands
    for everything below it. Objects are listed page by page while rows are read, and opened only for the columns after
    `mime_type`.

    sql> SELECT name, width, height FROM media('*.jpg')
    photo.jpg|640|480
    sql> SELECT name, duration FROM media('*.{mp4,flac}') WHERE duration > 2.5
    song.flac|3.0
    """
    narrowed = _narrowed(conditions, pattern, session)
    if narrowed is None:
        return
    page_size = min(limit, _PAGE) if limit else _PAGE
    for root, entries in session.listings.pages(pattern, narrowed=narrowed, page_size=page_size):
        for entry in entries:
            yield Listed(entry.url, entry.path[len(root) :], entry.info, Media(session, entry.url, entry.info))


def _narrowed(conditions: list[Condition], pattern: str, session: Session) -> KeyRange | None:
    """Return names to list no more than, relative to the directory that the pattern starts in; None for no name."""
    root = session.store.root_url(pattern)
    start, after = "", ""
    until: str | None = None
    for condition in conditions:
        value, operator = condition.value, condition.operator
        if value is None:
            return None
        if operator in _BOUNDS:
            bound = _bound(root, condition)
            if bound is None:
                continue
            if operator in ("<", "<="):
                until = bound if until is None else min(until, bound)
            else:
                after = max(after, bound if operator == ">" else _just_before(bound))
            continue
        prefix = _PREFIXES[operator](value)
        if condition.column == "url" and prefix is not None:
            prefix = _below(root, prefix, operator)
        if prefix is not None and operator == "LIKE":
            prefix = re.split(r"[^\W\d_]", prefix, maxsplit=1)[0]  # LIKE ignores the case of letters, stores do not
        if prefix is None or not (prefix.startswith(start) or start.startswith(prefix)):
            return None
        start = max(start, prefix, key=len)
    return KeyRange(start, after, until)


_BOUNDS = ("<", "<=", ">", ">=")


def _bound(root: str, condition: Condition) -> str | None:
    """The name that names are compared with; None where the condition tells nothing about names below `root`."""
    value = condition.value
    # Stores answer in XML, which has no control characters.
    if not isinstance(value, str) or not value.isprintable():
        return None
    if condition.column == "name":
        return value
    return value[len(root) :] if value.startswith(root) else None


def _just_before(name: str) -> str:
    """A name that `name` follows, with few between them: stores list what comes behind a name, and not that itself."""
    if not name:
        return ""
    last = ord(name[-1]) - 1
    return name[:-1] if last < ord(" ") or not chr(last).isprintable() else name[:-1] + chr(last) + "\U0010fffd"


_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)  # the letters that LIKE takes for the same


def _below(root: str, prefix: str, operator: str) -> str | None:
    """The part of a URL's prefix that is behind `root`; '' when it ends before, None when it leads elsewhere."""
    same = prefix[: len(root)], root[: len(prefix)]
    if operator == "LIKE":
        same = same[0].translate(_LOWER), same[1].translate(_LOWER)
    return prefix[len(root) :] if same[0] == same[1] else None


# What is no text is compared in ways of SQLite's own, and tells nothing about names here.


def _whole(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _common(values: Any) -> str:
    """What all values of IN begin with. NULL among them matches nothing."""
    texts = [value for value in values if value is not None]
    if not texts or not all(isinstance(value, str) for value in texts):
        return ""
    first, last = str(min(texts)), str(max(texts))
    differ = (at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return first[: next(differ, len(first))]


def _literal_of_like(value: Any) -> str:
    return re.split(r"[%_]", _whole(value), maxsplit=1)[0]


def _literal_of_glob(value: Any) -> str:
    return re.split(r"[*?\[]", _whole(value), maxsplit=1)[0]


_PREFIXES: dict[str, Callable[[Any], str | None]] = {
    "=": _whole,
    "IN": _common,
    "GLOB": _literal_of_glob,
    "LIKE": _literal_of_like,
}
