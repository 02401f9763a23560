"""AVIF and HEIC stills: their meta box tells all (ISO/IEC 23008-12 HEIF, ISO/IEC 14496-12 8.11, AVIF 1.1).

Sizes are those of the primary item before it is turned, as libavif and Pillow have them; for a picture made
of tiles, those of the whole. Turns and mirrors (irot, imir) become an EXIF orientation as in Pillow's AVIF
plugin: by HEIF 6.5.10 they count, and the orientation in EXIF data does not. Sequences are left to Pillow.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import NamedTuple

from ...errors import DecodeError
from .. import exif as exif_block
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header
from .isobmff import Box, boxes, children, find

_AVIF = frozenset([b"avif", b"avis"])
_HEIC = frozenset([b"heic", b"heix", b"heim", b"heis"])
_STILLS = _AVIF | _HEIC | {b"mif1", b"msf1", b"mif2"}
_SEQUENCES = frozenset([b"avis", b"msf1"])
# Tiles of a large picture are an item each; this is room for thousands.
_MOST_META = 1 << 19
_MOST_ITEM = 1 << 24
_MOST_ITEMS = 16384
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0", b"urn:mpeg:hevc:2015:auxid:1\0")
# Counter-clockwise quarter turns, then the axis of the mirror that follows if any -> EXIF orientation.
_ORIENTATION = {
    (0, None): 1,
    (0, 0): 4,
    (0, 1): 2,
    (1, None): 8,
    (1, 0): 5,
    (1, 1): 7,
    (2, None): 3,
    (2, 0): 2,
    (2, 1): 4,
    (3, None): 6,
    (3, 0): 7,
    (3, 1): 5,
}


class _Meta(NamedTuple):
    """The meta box (8.11.1)."""

    data: bytes
    primary: int
    types: dict[int, bytes]
    references: list[tuple[bytes, int, list[int]]]  # kind, from, to
    properties: dict[bytes, bytes]  # of the primary item
    coding: dict[bytes, bytes]  # properties of its first tile, or its own
    alpha: bool
    parts: dict[bytes, Box]


@header(matches=lambda head: head[4:8] == b"ftyp" and head[8:12] in _STILLS)
def heif(head: bytes, size: int | None, want_exif: bool) -> Steps:
    if len(head) < 16:
        raise DecodeError("HEIF ends inside its ftyp box")
    (length,) = struct.unpack_from(">I", head)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, min(length, len(head), 1024) - 3, 4))}
    if head[8:12] in _SEQUENCES:
        raise GiveUp("a sequence of images")
    content, _ = yield from find(head, size, b"meta", _MOST_META, "HEIF")
    try:
        meta = _meta(content)
        info = _still(meta, brands, head[8:12])
        exif_item, xmp_item = _place(meta, b"Exif"), _place(meta, b"mime")
    except (KeyError, struct.error, IndexError) as error:
        raise GiveUp(f"an unusual meta box: {error!r}") from None
    exif = yield from _read(meta, head, size, exif_item, want_exif)
    block = exif[4 + int.from_bytes(exif[:4], "big") :] if exif else None
    known = exif is not None
    turned = info.orientation
    if turned == 1:
        # As Pillow: where the picture is upright EXIF must not say otherwise, if it says anything. HEIF does
        # not speak of XMP, but Pillow listens to it.
        turned = 1 if block and exif_block.orientation(block) is not None else None
        if turned is None and info.format == "AVIF" and known:
            xmp = yield from _read(meta, head, size, xmp_item, want_exif)
            turned = exif_block.xmp_orientation(xmp) if xmp else None
            known = xmp is not None
    return replace(info, orientation=turned, exif=block or None, exif_read=known)


def _meta(data: bytes) -> _Meta:
    parts = children(data, 4, len(data))
    pitm = parts[b"pitm"].start
    (primary,) = struct.unpack_from(">I" if data[pitm] else ">H", data, pitm + 4)
    types = dict(_items(data, parts[b"iinf"]))
    references = list(_references(data, parts[b"iref"])) if b"iref" in parts else []
    properties = children(data, parts[b"iprp"].start, parts[b"iprp"].stop)
    made = list(boxes(data, properties[b"ipco"].start, properties[b"ipco"].stop))
    auxiliary = {source for kind, source, targets in references if kind == b"auxl" and primary in targets}
    tiles = next((targets for kind, source, targets in references if kind == b"dimg" and source == primary), [])
    coded = tiles[0] if tiles else primary
    of_primary: dict[bytes, bytes] = {}
    of_coded = {} if tiles else of_primary
    alpha = False
    for item, number in _associations(data, properties[b"ipma"], {primary, coded} | auxiliary):
        if not 0 < number <= len(made):
            continue
        kind, start, stop = made[number - 1]
        if item == primary:
            of_primary.setdefault(kind, data[start:stop])
        elif item == coded:
            of_coded.setdefault(kind, data[start:stop])
        elif item in auxiliary and kind == b"auxC" and data[start + 4 : stop].startswith(_ALPHA):
            alpha = True
    return _Meta(data, primary, types, references, of_primary, of_coded, alpha, parts)


def _items(data: bytes, box: Box) -> Iterator[tuple[int, bytes]]:
    """Items and their types, from iinf (8.11.6)."""
    for kind, start, _ in boxes(data, box.start + (8 if data[box.start] else 6), box.stop):
        if kind == b"infe" and data[start] >= 2:
            yield struct.unpack_from(">I2x4s" if data[start] > 2 else ">H2x4s", data, start + 4)


def _references(data: bytes, box: Box) -> Iterator[tuple[bytes, int, list[int]]]:
    """Which item refers to which, and as what, from iref (8.11.12)."""
    code, width = ("I", 4) if data[box.start] else ("H", 2)
    for kind, start, stop in boxes(data, box.start + 4, box.stop):
        source, count = struct.unpack_from(f">{code}H", data, start)
        count = min(count, (stop - start - width - 2) // width)
        yield kind, source, list(struct.unpack_from(f">{count}{code}", data, start + width + 2))


def _associations(data: bytes, box: Box, wanted: set[int]) -> Iterator[tuple[int, int]]:
    """The `wanted` items and the numbers, from 1, of their properties, from ipma (23008-12 9.3.1)."""
    version, wide = data[box.start], data[box.start + 3] & 1
    (count,) = struct.unpack_from(">I", data, box.start + 4)
    at = box.start + 8
    for _ in range(min(count, _MOST_ITEMS)):
        item, numbers = struct.unpack_from(">IB" if version else ">HB", data, at)
        at += 5 if version else 3
        if item not in wanted:
            at += numbers * (2 if wide else 1)
            continue
        for _ in range(numbers):
            if wide:
                yield item, (data[at] << 8 | data[at + 1]) & 0x7FFF
            else:
                yield item, data[at] & 0x7F
            at += 2 if wide else 1


def _still(meta: _Meta, brands: set[bytes], major: bytes) -> MediaInfo:
    kind = meta.types[meta.primary]
    if kind not in (b"av01", b"hvc1", b"grid", b"jpeg", b"avc1"):
        raise GiveUp(f"a primary item of type {kind!r}")
    width, height = struct.unpack_from(">II", meta.properties[b"ispe"], 4)
    if not width or not height:
        raise DecodeError(f"HEIF of {width} by {height} pixels")
    turns = meta.properties.get(b"irot", b"\0")[0] & 3
    mirror = meta.properties.get(b"imir")
    # AV1 says so in a flag, HEVC in its chroma format.
    av1, hevc = meta.coding.get(b"av1C"), meta.coding.get(b"hvcC")
    grey = bool(av1 and av1[2] & 0x10) or bool(hevc and not hevc[16] & 3)
    avif = major in _AVIF or (major not in _HEIC and bool(brands & _AVIF))
    return MediaInfo(
        media_type="image",
        mime_type="image/avif" if avif else "image/heic" if major in _HEIC else "image/heif",
        format="AVIF" if avif else "HEIF",
        width=width,
        height=height,
        orientation=_ORIENTATION[turns, mirror[0] & 1 if mirror else None],
        mode="RGBA" if meta.alpha else "L" if grey else "RGB",
    )


def _place(meta: _Meta, kind: bytes) -> list[tuple[int, int, int]]:
    """How and where the pieces of the item of a kind lie that describes the primary: from iloc (8.11.3)."""
    about = {source for name, source, to in meta.references if name == b"cdsc" and meta.primary in to}
    wanted = next((item for item in sorted(about) if meta.types.get(item) == kind), None)
    if wanted is None:
        return []
    data, start = meta.data, meta.parts[b"iloc"].start
    version, widths, more = data[start], data[start + 4], data[start + 5]
    offset_width, length_width, base_width = widths >> 4, widths & 15, more >> 4
    index_width = more & 15 if version else 0
    count = int.from_bytes(data[start + 6 : start + (10 if version == 2 else 8)], "big")
    at = start + (10 if version == 2 else 8)

    def take(width: int) -> int:
        nonlocal at
        if at + width > len(data):
            raise IndexError("iloc")
        at += width
        return int.from_bytes(data[at - width : at], "big")

    for _ in range(min(count, _MOST_ITEMS)):
        item = take(4 if version == 2 else 2)
        method = take(2) & 15 if version else 0
        take(2)  # data reference
        base = take(base_width)
        extents = []
        for _ in range(take(2)):
            take(index_width)
            offset, length = take(offset_width), take(length_width)
            extents.append((method, base + offset, length))
        if item == wanted:
            return extents
    return []


def _read(
    meta: _Meta, head: bytes, size: int | None, extents: list[tuple[int, int, int]], wanted: bool
) -> Generator[Span, bytes, bytes | None]:
    """The content of an item, empty if there is none, None if it was not read."""
    if not extents:
        return b""
    method, start, length = extents[0]
    stop = start + length
    if len(extents) > 1 or not 0 < length <= _MOST_ITEM or method > 1:
        return None
    if method == 1:
        idat = meta.parts.get(b"idat")
        return meta.data[idat.start + start : min(idat.start + stop, idat.stop)] if idat else None
    if stop <= len(head):
        return head[start:stop]
    if size is not None and stop > size:
        return b""
    return (yield Span(start, stop)) if wanted else None
