"""TIFF 6.0 and BigTIFF, and so the raw photographs that are TIFF files: their first directory."""

from __future__ import annotations

import struct
from collections.abc import Container, Generator

from ...errors import DecodeError
from .. import exif as exif_block
from ..exif import Directory, Entry
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _SAMPLES, _PLANAR, _COLOR_MAP, _TILES = 273, 277, 284, 320, 324
_EXTRA, _FORMAT, _XMP, _ORIENTATION, _MEDIA_PHOTO = 338, 339, 700, 274, 0xBC01
# Scalars with their defaults, and the lists that tell the mode.
_SCALARS = (_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANAR, _ORIENTATION)
_LISTS = (_BITS, _EXTRA, _FORMAT)
_NEEDED = frozenset({*_SCALARS, *_LISTS, _STRIPS, _TILES, _COLOR_MAP, _MEDIA_PHOTO})

# A directory of forty entries, or one of twenty and the short values that libtiff and Pillow write behind it.
_PEEK = 512
# More entries than this, or samples than this, no image has that Pillow reads.
_MAX_ENTRIES = 4096
_MAX_LIST = 64
_MAX_XMP = 16 << 20
_MAX_VALUE = 65536
_MAX_EXIF = 1 << 20
_MAX_TOLD = 500

# Where pixels and their colors are, and formats inside this one: XMP, IPTC, Photoshop, ICC.
_BULK = frozenset({273, 279, 288, 289, 301, 320, 324, 325, 347, 700, 33723, 34377, 34675, 37724})
# Tags that point to directories, and the levels where they belong: else they could go round for ever.
_EXIF, _GPS, _INTEROPERABILITY = _POINTERS = (34665, 34853, 40965)
_LEVELS: tuple[tuple[int, ...], ...] = ((_EXIF, _GPS), (_INTEROPERABILITY,), ())

_START = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}


@header(matches=lambda head: head[:4] in _START)
def tiff(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read the first directory, wherever it is, and the values that tell the mode.

    EXIF is no block of its own here, but tags of this directory and of those it points to.
    """
    order, big = _START[head[:4]]
    if len(head) < 16:
        raise DecodeError(f"TIFF ends at byte {len(head)}, inside its header")
    (start,) = struct.unpack_from(order + ("Q" if big else "L"), head, 8 if big else 4)
    file = _File(head, size, order, big)
    found = yield from file.directory(start, None if want_exif else _NEEDED)
    if found is None:
        raise DecodeError(f"TIFF has its directory at byte {start}, outside the file")

    values: dict[int, tuple[int, ...]] = {}
    for tag in _SCALARS + _LISTS:
        if tag in found:
            entry = found[tag]
            if entry.size > _MAX_LIST:
                raise GiveUp(f"TIFF with {entry.size} bytes in tag {tag}")
            values[tag] = exif_block.integers(entry, order, (yield from file.value(entry)))
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
    exif = None
    if want_exif:
        exif = exif_block.write(order, (yield from _exif(file, found)))
        if orientation is None and _XMP in found:
            if found[_XMP].size > _MAX_XMP:
                raise GiveUp(f"TIFF with XMP of {found[_XMP].size} bytes")
            orientation = exif_block.xmp_orientation((yield from file.value(found[_XMP])))
    return MediaInfo(
        media_type="image",
        mime_type="image/tiff",
        format="TIFF",
        width=width,
        height=height,
        orientation=orientation if orientation is not None and 1 <= orientation <= 8 else None,
        mode=mode,
        exif=exif,
        exif_read=want_exif,
    )


class _File:
    """The parts of a file that are at hand."""

    def __init__(self, head: bytes, size: int | None, order: str, big: bool) -> None:
        self.order, self.big, self._size = order, big, size
        self._parts = [(0, head)]

    def read(self, start: int, stop: int) -> Generator[Span, bytes, bytes]:
        """Bytes `start` to `stop`, fewer where the file ends."""
        for base, part in reversed(self._parts):
            if base <= start and stop <= base + len(part):
                return part[start - base : stop - base]
        data = yield Span(start, stop)
        self._parts.append((start, data))
        return data

    def value(self, entry: Entry) -> Generator[Span, bytes, bytes]:
        if entry.offset is None:
            return entry.field
        return (yield from self.read(entry.offset, entry.offset + entry.size))

    def directory(
        self, start: int, only: Container[int] | None = None
    ) -> Generator[Span, bytes, dict[int, Entry] | None]:
        """The entries of a directory, None when it is outside the file; the first of a tag counts."""
        room, per_entry = (8, 20) if self.big else (2, 12)
        if start < 8 or start >= 1 << 63 or (self._size is not None and start + room > self._size):
            return None
        window = yield from self.read(start, start + room if start + room <= len(self._parts[0][1]) else start + _PEEK)
        if len(window) < room:
            return None
        (count,) = struct.unpack_from(self.order + ("Q" if self.big else "H"), window)
        if count > _MAX_ENTRIES:
            raise GiveUp(f"TIFF with {count} entries in a directory")
        stop = room + count * per_entry
        if len(window) < stop:
            window += yield from self.read(start + len(window), start + stop)
        found: dict[int, Entry] = {}
        for entry in exif_block.entries(window[room:stop], self.order, limit=self._size, big=self.big, only=only):
            found.setdefault(entry.tag, entry)
        return found


def _exif(file: _File, found: dict[int, Entry], level: int = 0) -> Generator[Span, bytes, Directory]:
    """What getexif() tells of a TIFF, but for what describes or holds pixels, and what is large."""
    told: Directory = {}
    total = 0
    for tag, entry in found.items():
        if tag in _BULK or entry.size > _MAX_VALUE or (tag in _POINTERS and tag not in _LEVELS[level]):
            continue
        total += entry.size
        if total > _MAX_EXIF or len(told) > _MAX_TOLD:
            raise GiveUp(f"TIFF with more than {len(told)} tags, or {total} bytes of them")
        value = yield from file.value(entry)
        if tag in _POINTERS:
            starts = exif_block.integers(entry, file.order, value)
            inner = (yield from file.directory(starts[0])) if starts else None
            if inner is not None:
                told[tag] = yield from _exif(file, inner, level + 1)
        elif len(value) == entry.size:
            told[tag] = (entry.type, value)
    return told


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
    key = (order.encode(), photometric, formats, scalar(_FILL_ORDER, 1), bits, extra)
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
