"""Small pictures with the metadata that real ones have, written by Pillow."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

from PIL import Image


def picture(format: str, mode: str = "RGB", size: tuple[int, int] = (7, 5), **options: Any) -> bytes:
    out = io.BytesIO()
    image = Image.new(mode, size)
    if mode == "P":
        image.putpalette(bytes(range(255, -1, -1)) * 3)
    image.save(out, format, **options)
    return out.getvalue()


def exif(orientation: int | None, filler: int = 0) -> bytes:
    """An EXIF block after b'Exif\\0\\0', with texts before and `filler` bytes of note behind the tag."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = "Maker of cameras", "A camera"
    if orientation is not None:
        tags[0x0112] = orientation
    if filler:
        tags.get_ifd(0x8769)[0x927C] = b"\x55" * filler
    return tags.tobytes()


def xmp(orientation: int | None, filler: int = 0) -> bytes:
    """An XMP packet."""
    said = "" if orientation is None else f'tiff:Orientation="{orientation}"'
    return f"<x:xmpmeta><rdf:Description {said}/>{' ' * filler}</x:xmpmeta>".encode()


def chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def segment(marker: int, data: bytes) -> bytes:
    """A segment of a JPEG file."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data
