"""Boxes of the ISO base media file format (ISO/IEC 14496-12 4.2), of which MP4, MOV, AVIF, HEIC are made."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from typing import NamedTuple

from ...errors import DecodeError
from . import GiveUp, Span

# More boxes than any honest file has side by side, so that a hostile one does not keep us walking.
_MOST_BOXES = 4096
_MOST_TOP_BOXES = 64
# What lies behind the media data is asked for in one go up to this size: nearly always it is the index alone.
_TAIL = 1 << 20

_header = struct.Struct(">I4s").unpack_from
_large = struct.Struct(">Q").unpack_from


class Box(NamedTuple):
    """A box whose content is at `start` up to, but not including, `stop`."""

    kind: bytes
    start: int
    stop: int


def boxes(data: bytes, start: int, stop: int) -> Iterator[Box]:
    """The boxes side by side in `data[start:stop]`. One that overruns its parent is cut, as in FFmpeg."""
    for _ in range(_MOST_BOXES):
        if start + 8 > stop:
            return
        size, kind = _header(data, start)
        body = start + 8
        if size == 1 and body + 8 <= stop:
            (size,) = _large(data, body)
            body += 8
        elif size == 0:  # to the end of the parent; also the four zero bytes that close a QuickTime user data list
            size = stop - start
        if size < body - start:
            return
        yield Box(kind, body, min(start + size, stop))
        start += size
    raise GiveUp(f"more than {_MOST_BOXES} boxes side by side")


def children(data: bytes, start: int, stop: int) -> dict[bytes, Box]:
    """The first box of each kind in `data[start:stop]`.

    As `boxes` finds them, which it spares where all is plain: a moov box is some fifty boxes.
    """
    found: dict[bytes, Box] = {}
    at, last, header, new = start, stop - 8, _header, tuple.__new__
    for _ in range(_MOST_BOXES):
        if at > last:
            return found
        size, kind = header(data, at)
        behind = at + size
        if size < 8 or behind > stop:
            break
        if kind not in found:
            found[kind] = new(Box, (kind, at + 8, behind))  # what Box(…) does, in half the time
        at = behind
    for box in boxes(data, at, stop):
        found.setdefault(box.kind, box)
    return found


def find(
    head: bytes, size: int | None, wanted: bytes, most: int, where: str
) -> Generator[Span, bytes, tuple[bytes, int]]:
    """The content of the first `wanted` box of the file, and where in the file it starts.

    Walks over all others by the sizes in their headers, so the media data are never asked for.
    """
    at, behind = 0, False
    known, base = head, 0  # bytes of the file from `base` on
    for _ in range(_MOST_TOP_BOXES):
        if size is not None and at + 8 > size:
            break
        have = base + len(known) - at
        if have < 16 and (size is None or base + len(known) < size):
            tail = size is not None and behind and size - at <= _TAIL
            known, base = (yield Span(at, size if tail and size else at + 16)), at
            have = len(known)
        if have < 8:
            break
        length, kind = _header(known, at - base)
        body = 8
        if length == 1:
            if have < 16:
                break
            (length,) = _large(known, at - base + 8)
            body = 16
        if length and length < body:
            raise DecodeError(f"{where} has a {kind!r} box of {length} bytes, less than its own header")
        if kind == wanted:
            if length == 0:
                if size is None:
                    raise GiveUp(f"a {kind!r} box up to the end of a file of unknown size")
                length = size - at
            if length > most:
                raise GiveUp(f"a {kind!r} box of {length} bytes")
            if at + length <= base + len(known):
                content = known[at - base + body : at - base + length]
            else:
                content = (yield Span(at, at + length))[body:]
            if len(content) < length - body:
                raise GiveUp(f"{where} ends inside its {kind.decode('latin-1')} box")
            return content, at + body
        if length == 0:
            break
        behind = behind or kind == b"mdat"
        at += length
    else:
        raise GiveUp(f"more than {_MOST_TOP_BOXES} boxes before {wanted!r}")
    raise DecodeError(f"{where} ends before its {wanted.decode('latin-1')} box")
