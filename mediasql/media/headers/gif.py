"""GIF87a and GIF89a (CompuServe's GIF89a specification, 1990)."""

from __future__ import annotations

import struct

from ...errors import DecodeError
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

# What stands before the first image is small, but for comments and XMP; past this Pillow may read on.
_PEEK = 4096
_MAX_HEADER = 1 << 20

_GREYS = bytes(shade for shade in range(256) for _ in "RGB")


@header(matches=lambda head: head.startswith((b"GIF87a", b"GIF89a")))
def gif(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read the logical screen and the first image descriptor, which may exceed the screen and so enlarge it.

    Pillow calls an image 'L' when its palette is the grey ramp 0, 1, 2, … or missing, and 'P' otherwise.
    """
    data = head
    ended = size is not None and len(head) >= size
    screen: tuple[int, int] | None = None
    coloured = False
    pos = 0
    while True:
        # Sections 20 and 23 to 26: each turn of the loop takes one image or extension, or asks for more.
        if screen is None:
            after = 13 + _palette_size(data[10]) if len(data) > 10 else 13
        elif pos >= len(data):
            after = pos + 1
        elif data[pos] == 0x2C:
            # The byte after the palette is LZW's minimum code size (section 22).
            after = pos + 11 + (_palette_size(data[pos + 9]) if len(data) > pos + 9 else 0)
        elif data[pos] == 0x21:
            after = _extension_end(data, pos)
        else:
            after = pos + 1
        if after > len(data):
            if ended:
                raise DecodeError(f"GIF ends at byte {len(data)}, before its first image")
            if len(data) >= max(_MAX_HEADER, len(head)):
                raise GiveUp(f"GIF with no image in its first {len(data)} bytes")
            stop = max(after, len(data) + max(_PEEK, len(data) // 2))
            more = yield Span(len(data), stop)
            ended = len(data) + len(more) < stop
            data += more
            continue
        if screen is None:
            screen = struct.unpack_from("<HH", data, 6)
            coloured = _coloured(data[13:after])
        elif data[pos] == 0x2C:
            break
        elif data[pos] == 0x3B:
            raise DecodeError("GIF has no image")
        pos = after

    left, top, width, height, flags = struct.unpack_from("<HHHHB", data, pos + 1)
    if flags & 0x80:
        coloured = _coloured(data[pos + 10 : after - 1])
    width, height = max(screen[0], left + width), max(screen[1], top + height)
    if not width or not height:
        raise DecodeError(f"GIF is {width} x {height} pixels")
    return MediaInfo(
        media_type="image",
        mime_type="image/gif",
        format="GIF",
        width=width,
        height=height,
        mode="P" if coloured else "L",
    )


def _palette_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _coloured(palette: bytes) -> bool:
    return palette != _GREYS[: len(palette)]


def _extension_end(data: bytes, pos: int) -> int:
    """Where the extension at `pos` ends (section 15, sub-blocks); past the end of `data` if it is cut."""
    pos += 2
    while pos < len(data) and data[pos]:
        pos += 1 + data[pos]
    return pos + 1
