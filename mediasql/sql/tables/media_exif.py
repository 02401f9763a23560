"""media_exif(media): a row for each EXIF tag."""

from __future__ import annotations

import json
from collections.abc import Iterator
from operator import itemgetter
from typing import Any

from ...media.image import exif_tags
from ..media import Media
from ..registry import Column, Session, table


def _value(row: tuple[str, int, str, Any]) -> Any:
    value = row[3]
    if isinstance(value, list):
        return json.dumps([part.hex() if isinstance(part, bytes) else part for part in value])
    return value


@table(
    Column("directory", "TEXT", "'Image', 'Exif', 'GPS' or 'Interoperability'.", itemgetter(0)),
    Column("tag", "INTEGER", "The number of the tag.", itemgetter(1)),
    Column("name", "TEXT", "The name of the tag.", itemgetter(2)),
    Column("value", "", "TEXT, a number, a BLOB, or a JSON array of several.", _value),
)
def media_exif(session: Session, media: Media) -> Iterator[tuple[str, int, str, Any]]:
    """A row for each EXIF tag; none for media without EXIF, nor for what cannot be read.

    sql> SELECT directory, name, value FROM media_exif('photo.jpg') WHERE name IN ('Model', 'GPSLatitudeRef')
    Image|Model|Sample X100
    GPS|GPSLatitudeRef|N
    """
    block = media.info_with_exif.exif
    if block is not None:
        yield from exif_tags(block)
