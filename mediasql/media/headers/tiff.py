"""TIFF 6.0 and BigTIFF, and so the raw photographs that are TIFF files: their first directory."""

from __future__ import annotations

import struct

from ...errors import DecodeError
from .. import exif as exif_block
from ..exif import Entry
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _PLANAR, _COLOR_MAP, _TILES = 273, 277, 284, 320, 324
_EXTRA, _FORMAT, _XMP, _ORIENTATION, _MEDIA_PHOTO = 338, 339, 700, 274, 0xBC01
# Scalars with their defaults, and the lists that tell the mode.
_SCALARS = (_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR, _ORIENTATION)
_LISTS = (_BITS, _EXTRA, _FORMAT)

# A directory of forty entries, or one of twenty and the short values that libtiff and Pillow write behind it.
_PEEK = 512
# More entries than this, or samples than this, no image has that Pillow reads.
_MAX_ENTRIES = 4096
_MAX_LIST = 64
_MAX_XMP = 16 << 20

_START = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}


@header(matches=lambda head: head[:4] in _START)
def tiff(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read the first directory, wherever it is, and the values that tell the mode.

    EXIF is spread over the file. Pillow collects it when it is asked for; orientation is in the directory.
    """
    order, big = _START[head[:4]]
    if want_exif:
        raise GiveUp("EXIF of a TIFF")
    if len(head) < 16:
        raise DecodeError(f"TIFF ends at byte {len(head)}, inside its header")
    (start,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    room, per_entry = (8, 20) if big else (2, 12)
    if start < 8 or start >= 1 << 63 or (size is not None and start + room > size):
        raise DecodeError(f"TIFF has its directory at byte {start}, outside the file")
    window, base = head, 0
    if start + room > len(head):
        window, base = (yield Span(start, start + _PEEK)), start
    if len(window) < start - base + room:
        raise DecodeError(f"TIFF has its directory at byte {start}, outside the file")
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), window, start - base)
    if count > _MAX_ENTRIES:
        raise GiveUp(f"TIFF with {count} entries in its directory")
    first = start + room - base
    last = first + count * per_entry
    if len(window) < last and (base or size is None or len(window) < size):
        window += yield Span(base + len(window), base + last)

    found: dict[int, Entry] = {}
    for entry in exif_block.entries(window[first:last], order, limit=size, big=big):
        found.setdefault(entry.tag, entry)
    values: dict[int, tuple[int, ...]] = {}
    for tag in _SCALARS + _LISTS:
        if tag in found:
            entry = found[tag]
            data = None
            if entry.offset is not None:
                if entry.size > _MAX_LIST:
                    raise GiveUp(f"TIFF with {entry.size} bytes in tag {tag}")
                data = window[max(0, entry.offset - base) : entry.offset - base + entry.size]
                if entry.offset < base or len(data) < entry.size:
                    data = head[entry.offset : entry.offset + entry.size]
                if len(data) < entry.size:
                    data = yield Span(entry.offset, entry.offset + entry.size)
            values[tag] = exif_block.integers(entry, order, data)
            if not values[tag] or (tag in _SCALARS and len(values[tag]) > 1):
                raise GiveUp(f"TIFF whose tag {tag} has type {entry.type} and {entry.size} bytes")

    if _WIDTH not in values or _HEIGHT not in values:
        raise DecodeError("TIFF has no dimensions in its first directory")
    width, height = values[_WIDTH][0], values[_HEIGHT][0]
    if width <= 0 or height <= 0:
        raise DecodeError(f"TIFF is {width} x {height} pixels")
    mode = _mode("II" if order == "<" else "MM", found, values)
    orientation = values.get(_ORIENTATION, (None,))[0]
    if orientation is not None and 5 <= orientation <= 8:
        # Pillow turns TIFFs, and no other format, while it decodes them, and gives the size that results.
        width, height = height, width
    return MediaInfo(
        media_type="image",
        mime_type="image/tiff",
        format="TIFF",
        width=width,
        height=height,
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,
        mode=mode,
        exif_read=False,
    )


def _mode(order: str, found: dict[int, Entry], values: dict[int, tuple[int, ...]]) -> str:
    """Pillow's mode, as its TiffImageFile._setup() finds it; GiveUp for what that refuses as yet."""
    # Pillow's own table, since a copy would fall behind. Imported here: only TIFF needs the plugin.
    from PIL.TiffImagePlugin import COMPRESSION_INFO, OPEN_INFO

    def scalar(tag: int, default: int) -> int:
        return values.get(tag, (default,))[0]

    compression = COMPRESSION_INFO.get(scalar(_COMPRESSION, 1))
    photometric = 6 if compression == "tiff_jpeg" else scalar(_PHOTOMETRIC, 0)
    formats = values.get(_FORMAT, (1,))
    if len(set(formats)) == 1:
        formats = formats[:1]
    bits, extra = values.get(_BITS, (1,)), values.get(_EXTRA, ())
    samples = scalar(_SAMPLES, 3 if compression == "tiff_jpeg" else 1)
    if scalar(_PLANAR, 1) == 2 and extra and max(extra) == 0:
        # Extra planes without meaning are left aside.
        bits, samples, extra = bits[: -len(extra)], samples - len(extra), ()
    if samples > _MAX_LIST:
        raise GiveUp(f"TIFF with {samples} samples per pixel")
    bits = bits * samples if len(bits) == 1 else bits[:samples]
    fill = scalar(_FILL_ORDER, 1)
    if fill == 2 and compression != "raw":
        fill = 1  # libtiff reverses the bits itself
    key = (order.encode(), photometric, formats, fill, bits, extra)
    raw = compression == "raw"
    if (
        compression is None
        or _MEDIA_PHOTO in found
        or len(bits) != samples
        or key not in OPEN_INFO
        or (raw and _STRIPS not in found and _TILES not in found)
    ):
        raise GiveUp(f"TIFF with compression {compression} and pixels of {key}")
    mode: str = OPEN_INFO[key][0]
    if mode in ("P", "PA") and _COLOR_MAP not in found:
        raise GiveUp("TIFF with a palette image and no palette")
    return "RGB" if photometric == 6 and not raw else mode
