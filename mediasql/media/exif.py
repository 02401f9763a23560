"""Looks for single tags in an EXIF block, or any TIFF directory, that may be damaged.

Follows TIFF 6.0 section 2, and Pillow where a block is damaged, so that `orientation` and Pillow's
`getexif()` give one answer: the first acceptable entry of a tag counts, and the first value that lies
outside the block ends the directory.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Container, Iterator
from typing import Literal, NamedTuple, TypeAlias

ORIENTATION = 0x0112

# Bytes per value of each TIFF type (TIFF 6.0 section 2; 16 is BigTIFF's LONG8); other types are passed over.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
_INTEGERS = {3: "H", 4: "L", 6: "b", 8: "h", 9: "l", 13: "L", 16: "Q"}

_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')

_ENTRIES = {"<": struct.Struct("<HHL4s"), ">": struct.Struct(">HHL4s")}
_BIG_ENTRIES = {"<": struct.Struct("<HHQ8s"), ">": struct.Struct(">HHQ8s")}


class Entry(NamedTuple):
    """One entry of a directory: `size` bytes of value, in `field` when they fit there, else at `offset`."""

    tag: int
    type: int
    size: int
    field: bytes
    offset: int | None


def entries(
    directory: bytes,
    order: str,
    *,
    limit: int | None = None,
    big: bool = False,
    only: Container[int] | None = None,
) -> Iterator[Entry]:
    """The entries of the directory whose first entry starts `directory`; values must end before `limit`.

    `order` is '<' or '>'; `big` is for BigTIFF; `only` names the tags that are wanted. A trailing incomplete
    entry is ignored.
    """
    layout, room = (_BIG_ENTRIES[order], 8) if big else (_ENTRIES[order], 4)
    byteorder: Literal["little", "big"] = "little" if order == "<" else "big"
    end = sys.maxsize if limit is None else limit
    total = 0
    for tag, type_, count, field in layout.iter_unpack(directory[: len(directory) - len(directory) % layout.size]):
        size = count * _SIZES.get(type_, 0)
        if not size:
            continue
        if size <= room:
            if only is None or tag in only:
                yield Entry(tag, type_, size, field[:size], None)
            continue
        offset = int.from_bytes(field, byteorder)
        if offset >= 1 << 63:
            continue
        total += size
        if total > end:
            continue
        if offset + size > end:
            return
        if only is None or tag in only:
            yield Entry(tag, type_, size, field, offset)


def byte_order(block: bytes) -> str | None:
    """'<' or '>' when `block` starts with a TIFF header, valid or half-swapped as some cameras write it."""
    start = block[:4]
    if start in (b"II*\0", b"II\0*"):
        return "<"
    if start in (b"MM\0*", b"MM*\0"):
        return ">"
    return None


def find(block: bytes, *tags: int, total: int | None = None) -> dict[int, Entry]:
    """The first entry of each of `tags` in the first directory of `block`.

    `block` may be only the start of a block of `total` bytes.
    """
    order = byte_order(block)
    if order is None or len(block) < 8:
        return {}
    (start,) = struct.unpack_from(order + "L", block, 4)
    if start + 2 > len(block):
        return {}
    (count,) = struct.unpack_from(order + "H", block, start)
    found: dict[int, Entry] = {}
    directory = block[start + 2 : start + 2 + 12 * count]
    for entry in entries(directory, order, limit=len(block) if total is None else total, only=tags):
        found.setdefault(entry.tag, entry)
        if len(found) == len(tags):
            break
    return found


def integers(entry: Entry, order: str, data: bytes | None = None) -> tuple[int, ...]:
    """The values of an entry of an integer type, from `data` where the entry does not hold them; else ()."""
    code = _INTEGERS.get(entry.type)
    raw = entry.field if data is None else data
    if code is None or not raw or (data is None and entry.offset is not None):
        return ()
    return struct.unpack_from(f"{order}{len(raw) // _SIZES[entry.type]}{code}", raw)


# A directory to write: types and values as they stand in the file, and directories that tags point to.
Directory: TypeAlias = "dict[int, tuple[int, bytes] | Directory]"


def write(order: str, directory: Directory) -> bytes:
    """An EXIF block that holds `directory`, whose values are in byte order `order`."""
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)
    return start + _write(order, directory, 8)


def _write(order: str, directory: Directory, at: int) -> bytes:
    fields, values = b"", b""
    behind = at + 2 + 12 * len(directory) + 4
    for tag, value in sorted(directory.items()):
        if isinstance(value, dict):
            type_, count = 4, 1
            field = struct.pack(order + "L", behind + len(values))
            values += _write(order, value, behind + len(values))
        else:
            type_, field = value
            count = len(field) // _SIZES[type_]
            if len(field) > 4:
                field, values = struct.pack(order + "L", behind + len(values)), values + field
        fields += struct.pack(order + "HHL", tag, type_, count) + field.ljust(4, b"\0")
        values += bytes(len(values) % 2)
    return struct.pack(order + "H", len(directory)) + fields + bytes(4) + values


def orientation(block: bytes, *, total: int | None = None) -> int | None:
    """Tag 0x0112 of an EXIF block; None when it is absent, 0 when it is there but is not one of 1..8."""
    entry = find(block, ORIENTATION, total=total).get(ORIENTATION)
    if entry is None:
        return None
    data = None if entry.offset is None else block[entry.offset : entry.offset + entry.size]
    values = integers(entry, byte_order(block) or "<", data)
    return values[0] if values and 1 <= values[0] <= 8 else 0


def xmp_orientation(packet: bytes) -> int | None:
    """`tiff:Orientation` of an XMP packet, which counts where EXIF has no orientation."""
    match = _XMP_ORIENTATION.search(packet)
    return int(match[1]) if match else None


def strip_prefix(block: bytes) -> bytes | None:
    """`block` without the one or two b'Exif\\0\\0' of careless writers; None if no TIFF header follows."""
    for _ in range(2):
        block = block.removeprefix(b"Exif\0\0")
    return block if byte_order(block) else None
