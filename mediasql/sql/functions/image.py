"""Properties of images; `width` and `height` also of video."""

from __future__ import annotations

import base64
from typing import Any

from ...media.image import exif_tags
from ..registry import Media, function


@function(field="width")
def width(media: Media) -> int | None:
    """Width in stored pixels, before any orientation is applied; as Pillow's `Image.size` reports it.

    sql> SELECT width('photo.jpg'), width('clip.mp4'), width(content('photo.jpg'))
    640|320|640
    """
    return media.info.width


@function(field="height")
def height(media: Media) -> int | None:
    """Height in stored pixels, before any orientation is applied.

    sql> SELECT height('photo.jpg'), height('clip.mp4')
    480|240
    """
    return media.info.height


@function()
def orientation(media: Media) -> int | None:
    """How to turn the picture for viewing: 1 to 8 as in EXIF tag 0x0112; NULL when the file does not say.

    sql> SELECT orientation('photo.jpg')
    6
    """
    return media.info_with_exif.orientation


@function()
def image_format(media: Media) -> str | None:
    """The format of an image, by Pillow's name; NULL for video and audio.

    sql> SELECT image_format('photo.jpg'), image_format('clip.mp4') IS NULL
    JPEG|1
    """
    info = media.info
    return info.format if info.media_type == "image" else None


@function(field="mode")
def image_mode(media: Media) -> str | None:
    """The pixel format of an image, by Pillow's name: 'RGB', 'RGBA', 'L', 'P', 'CMYK' and others.

    sql> SELECT image_mode('photo.jpg')
    RGB
    """
    return media.info.mode


@function(remembered=False)
def exif(media: Media) -> dict[str, Any] | None:
    """EXIF as a JSON object of tag names; NULL when there is none. `media_exif` has a row for each tag.

    Tags of the Exif, GPS and Interoperability directories follow those of the image; bytes are given in Base64.

    sql> SELECT exif('photo.jpg') ->> 'Model', exif('photo.jpg') ->> 'GPSLatitudeRef'
    Sample X100|N
    """
    block = media.info_with_exif.exif
    if block is None:
        return None
    tags: dict[str, Any] = {}
    for _, _, name, value in exif_tags(block):
        tags.setdefault(name, _json(value))
    return tags


def _json(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return [_json(part) for part in value] if isinstance(value, list) else value
