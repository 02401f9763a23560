"""media_cache and media_cache_stats: what is kept on disk, and what that is good for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from ...media.answers import Answers
from ...storage.cache.blocks import Blocks
from ...storage.location import Location
from ...storage.paths import path_text
from ...storage.providers.base import iso_time
from ..functions import image, properties, timed
from ..registry import Column, Condition, Session, table


@dataclass(frozen=True, slots=True)
class Kept:
    """One object in the cache. Times are time.time()."""

    scope: str
    url: str
    bytes: int
    size: int | None
    etag: str | None
    last_modified: str | None
    checked: float
    first_use: float
    last_use: float
    hits: int
    pinned: int = 0
    error: str | None = None
    header: Mapping[str, Any] = field(default_factory=dict)


def _time(name: str) -> Column:
    doc = {
        "checked": "When the store last said that this is so, ISO 8601 in UTC.",
        "first_use": "When it came into the cache, ISO 8601 in UTC.",
        "last_use": "When it was last used, to within a statement, ISO 8601 in UTC.",
    }[name]
    return Column(name, "TEXT", doc, lambda row: iso_time(getattr(row, name)))


_HEADER: dict[Callable[..., Any], str] = {
    properties.media_type: "TEXT",
    properties.mime_type: "TEXT",
    image.width: "INTEGER",
    image.height: "INTEGER",
    image.orientation: "INTEGER",
    image.image_format: "TEXT",
    image.image_mode: "TEXT",
    timed.duration: "REAL",
    timed.frame_rate: "REAL",
    timed.frame_count: "INTEGER",
    timed.video_codec: "TEXT",
    timed.audio_codec: "TEXT",
    timed.bit_rate: "INTEGER",
    timed.sample_rate: "INTEGER",
    timed.channels: "INTEGER",
}


def _header(function: Callable[..., Any], type: str) -> Column:
    """What `function` says of media, as far as it was kept."""
    name = function.__name__
    field = name.removeprefix("image_")
    of_images = name == "image_format"

    def told(row: Kept) -> Any:
        return None if of_images and row.header.get("media_type") != "image" else row.header.get(field)

    return Column(name, type, (function.__doc__ or "").partition("\n")[0], told)


@table(
    Column("url", "TEXT", "The URL, without secrets; of a local file its path.", attrgetter("url"), pushed=True),
    Column("bytes", "INTEGER", "How many of its bytes are on disk; 0 where only answers are.", attrgetter("bytes")),
    Column("size", "INTEGER", "How many it has.", attrgetter("size")),
    Column("etag", "TEXT", "The entity tag of the version that is kept.", attrgetter("etag")),
    Column("last_modified", "TEXT", "ISO 8601 in UTC.", attrgetter("last_modified")),
    _time("checked"),
    _time("first_use"),
    _time("last_use"),
    Column("hits", "INTEGER", "How often it was used since it came.", attrgetter("hits")),
    Column("pinned", "INTEGER", "How many statements and programs keep it from being evicted.", attrgetter("pinned")),
    Column("error", "TEXT", "Why it cannot be read as media, where it was looked at.", attrgetter("error")),
    *(_header(function, type) for function, type in _HEADER.items()),
    Column("store", "TEXT", "The endpoint and account that it was read from.", attrgetter("scope")),
)
def media_cache(session: Session, conditions: list[Condition], limit: int) -> Iterator[Kept]:
    """What is kept on disk of remote objects, and of local files what their headers told.

    sql> SELECT count(*) FROM media_cache WHERE pinned > 0
    0
    """
    answers, blocks, policy = session.memory.disk, session.store.blocks, session.store.policy
    if answers is None or blocks is None:
        return
    urls = next((condition.value for condition in conditions if condition.operator in ("=", "IN")), None)
    wanted = {urls} if isinstance(urls, str) else urls
    for kept in _kept(answers, blocks, None if wanted is None else {url for url in wanted if isinstance(url, str)}):
        # What others asked for is nobody's business: a schema may carry it away.
        mine = policy is None or policy.digest in kept.scope or kept.scope == "file"
        if mine and (policy is None or policy.permits(Location.parse(kept.url))):
            yield kept


def _kept(answers: Answers, blocks: Blocks, urls: set[str] | None) -> Iterator[Kept]:
    """Of `urls`, or all: bytes with the answers for the same object, then answers without bytes."""
    held = {(scope, key): rest for scope, key, *rest in blocks.rows(urls)}
    for scope, key, first, last, hits, told in answers.rows(urls):
        bytes_held, pinned = 0, 0
        if (found := held.pop((scope, key), None)) is not None:
            bytes_held, _, _, _, bytes_first, bytes_last, bytes_hits, pinned, _ = found
            first, last, hits = min(first, bytes_first), max(last, bytes_last), hits + bytes_hits
        of_object = told["size"], told["etag"], told["last_modified"], told["checked"]
        yield Kept(scope, key, bytes_held, *of_object, first, last, hits, pinned, told["message"], told)
    for (scope, key), (count, size, etag, modified, first, last, hits, pinned, checked) in held.items():
        yield Kept(scope, key, count, size, etag, modified, checked, first, last, hits, pinned)


@dataclass(frozen=True, slots=True)
class Figures:
    """How the cache did."""

    folder: str | None
    objects: int
    bytes: int
    capacity: int
    answer_hits: int
    answer_misses: int
    byte_hits: int
    byte_misses: int
    bytes_saved: int
    bytes_fetched: int

    @property
    def hit_rate(self) -> float | None:
        hits = self.answer_hits + self.byte_hits
        asked = hits + self.answer_misses + self.byte_misses
        return hits / asked if asked else None


@table(
    Column("folder", "TEXT", "Where the cache is; NULL in profile 'hosted'.", attrgetter("folder")),
    Column("objects", "INTEGER", "How many objects something is known of.", attrgetter("objects")),
    Column("bytes", "INTEGER", "How many bytes of media are on disk.", attrgetter("bytes")),
    Column("capacity", "INTEGER", "How many may be, by all processes together.", attrgetter("capacity")),
    Column(
        "hit_rate", "REAL", "The share of questions that the disk answered, in this process.", attrgetter("hit_rate")
    ),
    Column("answer_hits", "INTEGER", "Answers that came from disk, in this process.", attrgetter("answer_hits")),
    Column("answer_misses", "INTEGER", "Answers that were not there.", attrgetter("answer_misses")),
    Column("byte_hits", "INTEGER", "Reads of bytes that needed no request, in this process.", attrgetter("byte_hits")),
    Column("byte_misses", "INTEGER", "Reads of bytes that did.", attrgetter("byte_misses")),
    Column(
        "bytes_saved", "INTEGER", "Bytes that were read from disk, since the cache was made.", attrgetter("bytes_saved")
    ),
    Column("bytes_fetched", "INTEGER", "Bytes that were fetched to be kept, since then.", attrgetter("bytes_fetched")),
)
def media_cache_stats(session: Session) -> Iterator[Figures]:
    """How full the cache is, and how much it spares. One row; none where there is no cache.

    sql> SELECT bytes, capacity > 0 FROM media_cache_stats
    0|1
    """
    answers, blocks = session.memory.disk, session.store.blocks
    if answers is None or blocks is None:
        return
    stats = blocks.stats()
    yield Figures(
        None if session.config.profile == "hosted" else path_text(str(blocks.folder.parent)),
        answers.count(),
        stats.held,
        stats.capacity,
        answers.hits,
        answers.misses,
        stats.here.hits,
        stats.here.misses,
        stats.ever.saved,
        stats.ever.fetched,
    )
