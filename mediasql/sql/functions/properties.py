"""Properties of any media."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..registry import Media, function


@function(field="media_type")
def media_type(media: Media) -> str:
    """'image', 'video' or 'audio', by what the file holds rather than by its name.

    sql> SELECT media_type('photo.jpg'), media_type('clip.mp4'), media_type('song.flac')
    image|video|audio
    """
    return media.info.media_type


@function(field="mime_type")
def mime_type(media: Media) -> str:
    """The MIME type, by what the file holds.

    sql> SELECT mime_type('photo.jpg'), mime_type('clip.mp4')
    image/jpeg|video/mp4
    """
    return media.info.mime_type


@function(field="size")
def byte_size(media: Media) -> int | None:
    """The size in bytes; of anything, media or not.

    sql> SELECT byte_size('photo.jpg') > 1000, byte_size(x'FFD8FF')
    1|3
    """
    return media.object.size


@function(field="etag")
def etag(media: Media) -> str | None:
    """The entity tag that the store gives this version of the object, without quotes.

    sql> SELECT etag('photo.jpg') = etag('photo.jpg'), etag('photo.jpg') = etag('clip.mp4')
    1|0
    """
    return media.object.etag


@function(field="last_modified")
def last_modified(media: Media) -> str | None:
    """When the object was last written: ISO 8601 in UTC, as SQLite's date functions read it.

    sql> SELECT last_modified('photo.jpg') <= strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+1 second')
    1
    """
    return media.object.last_modified


@function(remembered=False)
def media_info(media: Media) -> dict[str, Any]:
    """All that the header tells, as JSON; unknown properties are left out.

    sql> SELECT media_info('photo.jpg') ->> 'mode', json_array_length(media_info('clip.mp4'), '$.streams')
    RGB|2
    """
    info = dataclasses.asdict(media.info)
    for bulky in ("exif", "exif_read"):
        del info[bulky]
    info["streams"] = [_known(stream) for stream in info["streams"]]
    return _known(info)


def _known(properties: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in properties.items() if value not in (None, [], ())}


@function(remembered=False)
def media_error(media: Media) -> str | None:
    """Why the media cannot be read; NULL when it can.

    sql> SELECT media_error('missing.jpg'), media_error('photo.jpg') IS NULL
    no such file|1
    """
    return media.error()


@function(remembered=False)
def content(media: Media) -> bytes:
    """All bytes of the file, as a BLOB. Reads the whole object.

    sql> SELECT hex(substr(content('photo.jpg'), 1, 3))
    FFD8FF
    """
    return media.content


@function(remembered=False)
def content_hash(media: Media) -> str:
    """The SHA-256 of the file's bytes, in hexadecimal: the same for identical files. Reads the whole object.

    sql> SELECT content_hash(content('photo.jpg')) = content_hash('photo.jpg')
    1
    """
    return media.sha256()
