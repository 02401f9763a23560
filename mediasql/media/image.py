"""Images as Pillow sees them."""

from __future__ import annotations

import warnings
from typing import Any

from ..errors import DecodeError
from .info import MediaInfo

# Moving pictures, which Pillow names by their first bytes alone: PyAV knows more of them.
_MOVING = frozenset({"MPEG"})
# Measurements, which Pillow would hand to whoever knows how to draw them.
_DATA = frozenset({"BUFR", "GRIB", "HDF5"})
# Programs, for which Pillow would start Ghostscript.
_PROGRAMS = frozenset({"EPS"})
# Where Pillow knows no type, or another than the header parsers.
_MIME_TYPES = {"DDS": "image/vnd.ms-dds", "MPO": "image/jpeg"}
_ORIENTATION = 0x0112  # TIFF 6.0 section 8; EXIF 2.32 section 4.6.4


def read_image(file: Any) -> MediaInfo | None:
    """The header of an image as Pillow reads it; None when Pillow does not know the format."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header is read, no pixel decoded, so no size is a danger
            image = Image.open(file)
    except UnidentifiedImageError:
        return None
    except Exception as error:  # the plugins for rare formats raise whatever a damaged file leads them to
        raise DecodeError(f"a damaged image: {error}") from None
    with image:
        if image.format in _MOVING:
            return None
        if image.format in _DATA:
            raise DecodeError(f"{image.format} holds data and no picture")
        orientation, exif = exif_of(image)
        return MediaInfo(
            media_type="image",
            mime_type=_mime_type(image),
            format=image.format or "",
            width=image.width,
            height=image.height,
            mode=image.mode,
            orientation=orientation,
            exif=exif,
        )


def draws(image: Any) -> bool:
    """Whether the pixels of an open image are for Pillow to decode. Raises DecodeError where they are for nobody."""
    if image.format in _DATA:
        raise DecodeError(f"{image.format} holds data and no picture")
    if image.format in _PROGRAMS:
        raise DecodeError(f"{image.format} is a program, which mediasql does not run")
    return image.format not in _MOVING


def _mime_type(image: Any) -> str:
    format = str(image.format)
    known = _MIME_TYPES.get(format) or image.get_format_mimetype()
    return str(known or f"image/x-{format.lower()}")


def exif_of(image: Any) -> tuple[int | None, bytes | None]:
    """Orientation and EXIF block; nothing where they are damaged."""
    try:
        exif = image.getexif()
        return _orientation(exif), exif.tobytes()[6:] if exif else None
    except Exception:  # as above; the image itself is fine
        return None, None


def _orientation(exif: Any) -> int | None:
    value = exif.get(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else None


def exif_tags(block: bytes) -> list[tuple[str, int, str, Any]]:
    """The tags of an EXIF block as (directory, number, name, value).

    Directories are 'Image' (IFD0), 'Exif', 'GPS' and 'Interoperability' (EXIF 2.32 section 4.6). Values are str, int,
    float, bytes, or lists of these; text ends at its first NUL. Raises DecodeError for a block that is damaged.
    """
    from PIL import Image
    from PIL.ExifTags import GPSTAGS, IFD, TAGS

    exif = Image.Exif()
    try:
        exif.load(b"Exif\x00\x00" + block)
        directories: list[tuple[str, Any, dict[int, str]]] = [
            ("Image", dict(exif), TAGS),
            ("Exif", exif.get_ifd(IFD.Exif), TAGS),
            ("GPS", exif.get_ifd(IFD.GPSInfo), GPSTAGS),
            ("Interoperability", exif.get_ifd(IFD.Interop), TAGS),
        ]
    except Exception as error:  # as above: anything may come out of a damaged block
        raise DecodeError(f"its EXIF is damaged: {error}") from None
    pointers = {int(IFD.Exif), int(IFD.GPSInfo), int(IFD.Interop), int(IFD.MakerNote)}
    return [
        (directory, tag, names.get(tag, f"0x{tag:04X}"), _plain(value))
        for directory, tags, names in directories
        for tag, value in tags.items()
        if tag not in pointers or not isinstance(value, int)
    ]


def _plain(value: Any) -> Any:
    """A tag's value in types that JSON and SQL have."""
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, str):
        return value.partition("\x00")[0].rstrip()
    if isinstance(value, bytes | int):
        return value
    try:
        number = float(value)  # a rational
    except (ZeroDivisionError, TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else (number if number == number else None)
