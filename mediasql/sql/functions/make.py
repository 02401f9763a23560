"""Pictures made of media."""

from __future__ import annotations

from .. import calls
from ..pictures import Picture
from ..registry import Media, Session, function


@function(remembered=False)
def thumbnail(session: Session, media: Media, width: int, height: int = 0) -> bytes:
    """A small picture, as a BLOB: JPEG, or WebP where it has transparent parts; upright, and without metadata.

    It fits into `width` by `height` pixels, a square unless the height is given, keeps its proportions and is never
    enlarged. Of video it is the first key frame, for which little of the file is read; of audio the cover.

    sql> SELECT width(thumbnail('photo.jpg', 128)), image_format(thumbnail('clip.mp4', 64, 64))
    96|JPEG
    """
    height = height or width
    work = Picture(media.value, width, height)
    value: bytes = calls.call(session, calls.wanted(session, "thumbnail", media.value, (width, height), work))
    return value
