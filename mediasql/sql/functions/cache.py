"""The cache: asking anew, fetching before it is needed, and throwing away."""

from __future__ import annotations

from ...errors import ForbiddenByPolicy
from ...storage.location import Location
from ..memory import file_name
from ..registry import Media, Session, function


@function(deterministic=False, directonly=True, ahead=True)
def media_refresh(media: Media) -> int:
    """Ask the store now whether the object changed: 1 when it did, or was not known, 0 when it is as it was.

    What was kept of another version is not used any more. Otherwise the store is asked after `max_age`.

    sql> SELECT width('photo.jpg'), media_refresh('photo.jpg')
    640|0
    """
    return int(media.refresh())


@function(deterministic=False, directonly=True, ahead=True)
def media_prefetch(media: Media) -> int:
    """Bring all bytes of the object into the cache, so that what is asked later makes no request. Its size in bytes.

    NULL, with the reason in `media_errors`, where it could not be read, or is not kept: it is larger than the cache,
    its server forbids it, or there is no cache. Of a local file nothing needs to be kept.

    sql> SELECT media_prefetch('photo.jpg') = byte_size('photo.jpg')
    1
    """
    return media.prefetch()


@function(deterministic=False, directonly=True, ahead=True)
def local_path(media: Media) -> str:
    """The path of a file with all bytes of the object, for other programs to read; of a local file, its own.

    A file of the cache stays there as long as the statement runs, at least, and must not be changed.

    sql> SELECT local_path('photo.jpg') GLOB '/*/photo.jpg'
    1
    """
    return media.local_path()


@function(deterministic=False, directonly=True)
def media_cache_evict(session: Session, url: str) -> int:
    """Forget what the cache knows of one URL: answers and bytes, of whichever account. How many bytes that frees.

    sql> SELECT media_cache_evict('photo.jpg')
    0
    """
    location = Location.parse(url)
    identity = session.store.identity(location)
    session.memory.forget(session.version(url))
    session.forget_values()
    name = file_name(url) if location.scheme == "file" else identity.key if identity is not None else url
    if session.memory.disk is not None:
        session.memory.disk.forget_all(name)
    return session.store.blocks.evict(None, name) if session.store.blocks is not None else 0


@function(deterministic=False, directonly=True)
def media_cache_clear(session: Session) -> int:
    """Forget everything that the cache knows. How many bytes of media that frees.

    sql> SELECT media_cache_clear()
    0
    """
    if session.store.policy is not None:
        raise ForbiddenByPolicy("only the owner of the cache may clear it")
    session.memory.clear()
    session.forget_values()
    if session.memory.disk is not None:
        session.memory.disk.clear()
    return session.store.blocks.clear() if session.store.blocks is not None else 0
