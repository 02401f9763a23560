"""Windows and OS/2 bitmaps, with headers of any version that Pillow reads (MS-WMF 2.2.2.9, 2.2.2.3 to 5)."""

from __future__ import annotations

import struct

from ...errors import DecodeError
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_RGB, _RLE8, _RLE4, _BITFIELDS = range(4)
_MODES = {1: "P", 4: "P", 8: "P", 16: "RGB", 24: "RGB", 32: "RGB"}
# Red, green, blue and alpha masks that Pillow knows, by bits per pixel.
_MASKS = {
    (16, 0xF800, 0x7E0, 0x1F): "RGB",
    (16, 0x7C00, 0x3E0, 0x1F): "RGB",
    (24, 0xFF0000, 0xFF00, 0xFF): "RGB",
    (32, 0xFF0000, 0xFF00, 0xFF, 0): "RGB",
    (32, 0xFF000000, 0xFF0000, 0xFF00, 0): "RGB",
    (32, 0xFF000000, 0xFF00, 0xFF, 0): "RGB",
    (32, 0xFF000000, 0xFF0000, 0xFF00, 0xFF): "RGBA",
    (32, 0xFF, 0xFF00, 0xFF0000, 0xFF000000): "RGBA",
    (32, 0xFF0000, 0xFF00, 0xFF, 0xFF000000): "RGBA",
    (32, 0xFF000000, 0xFF00, 0xFF, 0xFF0000): "RGBA",
    (32, 0, 0, 0, 0): "RGBA",
}


def _matches(head: bytes) -> bool:
    # 'BM' alone also starts ordinary text.
    return head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _HEADER_SIZES


@header(matches=_matches)
def bmp(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read the header, and the palette, since Pillow calls an image with a grey palette '1' or 'L'."""
    dib = head[14]
    # Behind a 40-byte header with BITFIELDS stand three masks.
    needed = 14 + dib + (12 if dib == 40 and head[30:31] == b"\3" else 0)
    if len(head) < needed and (size is None or len(head) < size):
        head += yield Span(len(head), needed)
    if len(head) < 14 + dib:
        raise DecodeError(f"BMP ends at byte {len(head)}, inside its header of {dib} bytes")
    compression, colors, padding = _RGB, 0, 3
    if dib == 12:
        width, height, _, bits = struct.unpack_from("<4H", head, 18)
    else:
        width, height, _, bits, compression, _, _, _, colors = struct.unpack_from("<IIHH5I", head, 18)
        padding = 4
        if height >> 24 == 0xFF:  # negative: the rows go from the top down
            height = (1 << 32) - height
    if not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise DecodeError(f"BMP is {width} x {height} pixels")
    if bits not in _MODES or compression > _BITFIELDS:
        raise GiveUp(f"BMP of {bits} bits per pixel with compression {compression}")
    mode = _MODES[bits]
    if compression == _BITFIELDS:
        masks = head[54 : 54 + (16 if bits == 32 and dib >= 56 else 12)].ljust(12, b"\0")
        if bits == 32:
            masks = masks.ljust(16, b"\0")
        layout = (bits, *struct.unpack(f"<{len(masks) // 4}I", masks))
        if layout not in _MASKS:
            raise GiveUp(f"BMP with the bit masks {layout[1:]}")
        mode = _MASKS[layout]
    if mode == "P":
        colors = colors or 1 << bits
        if colors > 65536:
            raise DecodeError(f"BMP has a palette of {colors} colors")
        start, stop = 14 + dib, 14 + dib + padding * colors
        palette = head[start:stop]
        # Most palettes are coloured, and the first entries tell.
        if _grey(palette, colors, padding):
            if len(head) < stop and (size is None or len(head) < size):
                palette += yield Span(len(head), stop)
            if len(palette) >= padding * (colors - 1) + 3 and _grey(palette, colors, padding):
                mode = "1" if colors <= 2 else "L"
    return MediaInfo(media_type="image", mime_type="image/bmp", format="BMP", width=width, height=height, mode=mode)


def _grey(palette: bytes, colors: int, padding: int) -> bool:
    """Whether `palette` is black and white, or goes 0, 1, 2, …, as far as it is at hand."""
    shades = (0, 255) if colors == 2 else range(colors)
    starts = range(0, len(palette) - 2, padding)
    return colors <= 256 and all(
        palette[i : i + 3] == bytes((shade, shade, shade)) for i, shade in zip(starts, shades, strict=False)
    )
