"""JPEG: JFIF, EXIF and multi-picture (MPO) files. ITU-T T.81 Annex B, CIPA DC-007, XMP part 3."""

from __future__ import annotations

import re
import struct

from ...errors import DecodeError
from .. import exif as exif_block
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

# Enough of a segment to tell what it is: marker, length, and the longest identifier that we look for, XMP's.
_PEEK = 36
# Between SOF and SOS stand only small tables, some 430 bytes of them in most files.
_PEEK_AFTER_FRAME = 1024
# Bytes that belong to no segment are passed over, as every decoder does, but not for ever.
_PEEK_JUNK = 4096
_MAX_JUNK = 65536
# An ICC profile has at most 255 segments; depth maps in extended XMP take a hundred or so.
_MAX_SEGMENTS = 1000

_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xff]")
# B.1.1.3 table B.1. DHP (0xDE) has the layout of a frame header.
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE})
_WITHOUT_LENGTH = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_SOS, _APP1, _APP2 = 0xDA, 0xE1, 0xE2
_NAMES = {0xC4: "DHT", 0xCC: "DAC", 0xD8: "SOI", 0xDB: "DQT", 0xDD: "DRI", 0xFE: "COM"} | {
    frame: f"SOF{frame & 15}" for frame in _FRAMES
}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


@header(matches=lambda head: head.startswith(b"\xff\xd8\xff"))
def jpeg(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Jump from segment to segment up to the first scan, or the frame header if the rest is not at hand."""
    window, base = head, 0
    ended = size is not None and len(head) >= size
    pos, junk, segments = 2, 0, 0
    frame: tuple[int, int, int, int] | None = None
    block, block_read = b"", True
    rotated: int | None = None
    xmps: list[tuple[int, int]] = []
    packets: list[bytes | None] = []
    pictures = b""
    complete = False
    segment, start = 0xD8, 0

    while True:
        at = pos - base
        if at + _PEEK > len(window) and not ended:
            if frame and (block or not want_exif):
                if at + 4 > len(window):
                    break
            else:
                peek = _PEEK_JUNK if junk else _PEEK_AFTER_FRAME if frame else _PEEK
                window = yield Span(pos, pos + peek)
                base, at, ended = pos, 0, len(window) < peek
        if at + 4 > len(window):
            if at > len(window) or not frame:
                raise DecodeError(f"JPEG ends inside or after {_at(segment, start)}, without a frame header")
            complete = True
            break
        marker = window[at + 1]
        if window[at] != 0xFF or marker in (0x00, 0xFF):
            # Fill bytes may precede any marker (B.1.1.2); stray bytes may not, but they do.
            found = _NEXT_MARKER.search(window, at)
            skipped = (found.start() if found else max(len(window) - 1, at + 1)) - at
            junk += skipped
            pos += skipped
            if junk > _MAX_JUNK:
                if frame:
                    break
                raise DecodeError(f"JPEG has no marker in the {_MAX_JUNK} bytes before byte {pos}")
            if not found and ended:
                pos = base + len(window)
            continue
        segments += 1
        if segments > _MAX_SEGMENTS:
            raise DecodeError(f"JPEG has more than {_MAX_SEGMENTS} segments before its first scan")
        if marker < 0xC0:
            raise DecodeError(f"JPEG has the reserved marker 0xFF{marker:02X} at byte {pos}")
        if marker == _SOS:
            complete = True
            break
        if marker in _WITHOUT_LENGTH:
            pos += 2
            continue
        end = pos + 4 + max(0, (window[at + 2] << 8 | window[at + 3]) - 2)
        segment, start = marker, pos
        if size is not None and end > size:
            raise DecodeError(f"JPEG ends inside {_at(marker, pos)}, which goes on to byte {end}")

        if marker in _FRAMES:
            if end < pos + 10 or at + 10 > len(window):
                raise DecodeError(f"JPEG has a frame header of {end - pos - 2} bytes at byte {pos}")
            frame = struct.unpack_from(">BHHB", window, at + 4)
        elif marker == _APP1 and window.startswith(b"Exif\0\0", at + 4):
            piece = window[at + 10 : end - base]
            missing = end - base - len(window)
            if missing > 0 and want_exif:
                rest = yield Span(end - missing, end)
                if len(rest) < missing:
                    raise DecodeError(f"JPEG ends inside {_at(marker, pos)}, which goes on to byte {end}")
                piece += rest
            elif missing > 0:
                block_read = False
                if not block:
                    # The first directory comes first: it is mostly at hand though the thumbnail is not.
                    rotated = exif_block.orientation(piece, total=end - pos - 10)
            block += piece
        elif marker == _APP1 and window.startswith(_XMP, at + 4):
            xmps.append((pos + 4 + len(_XMP), end))
            packets.append(window[at + 4 + len(_XMP) : end - base] if end - base <= len(window) else None)
        elif marker == _APP2 and window.startswith(b"MPF\0", at + 4):
            pictures = window[at + 8 : end - base]
            missing = end - base - len(window)
            if missing > 0:
                pictures += yield Span(end - missing, end)
        pos = end

    if frame is None:
        raise DecodeError("JPEG has no frame header before its first scan")
    bits, height, width, components = frame
    if not width or not height:
        raise DecodeError(f"JPEG is {width} x {height} pixels")
    if bits != 8 or components not in _MODES:
        raise GiveUp(f"JPEG with {components} components of {bits} bits")

    exif = exif_block.strip_prefix(block) if block and block_read else None
    if exif:
        rotated = exif_block.orientation(exif)
    frame_count = _pictures(pictures) if pictures else 1
    exif_read = block_read and (complete or bool(block))
    for i, packet in enumerate(packets):
        if packet is None:
            # Worth a request for the orientation, or to tell a multi-picture file from Ultra HDR.
            if frame_count > 1 or (want_exif and rotated is None):
                packets[i] = yield Span(*xmps[i])
            elif rotated is None:
                exif_read = False
    if rotated is None and block_read and packets and packets[-1] is not None:
        rotated = exif_block.xmp_orientation(packets[-1])
    if any(packet and b' hdrgm:Version="' in packet for packet in packets):
        frame_count = 1  # its second picture is a gain map, which Pillow does not take for a frame
    return MediaInfo(
        media_type="image",
        mime_type="image/jpeg",  # of multi-picture files too: browsers show those, but not an "image/mpo"
        format="MPO" if frame_count > 1 else "JPEG",
        width=width,
        height=height,
        orientation=rotated if rotated and rotated <= 8 else None,
        mode=_MODES[components],
        frame_count=frame_count if frame_count > 1 else None,
        exif=exif,
        exif_read=exif_read,
    )


def _pictures(index: bytes) -> int:
    """How many pictures an MP index (CIPA DC-007 5.2.3) lists; 1 if it is damaged or not all are JPEGs."""
    order = exif_block.byte_order(index)
    found = exif_block.find(index, 0xB001, 0xB002)
    if order is None or len(found) < 2:
        return 1
    count = exif_block.integers(found[0xB001], order)
    table = found[0xB002]
    if len(count) != 1 or table.offset is None or table.size < 16 * count[0]:
        return 1
    attributes = [index[table.offset + i * 16 : table.offset + i * 16 + 4] for i in range(count[0])]
    if any(struct.unpack(order + "L", attribute)[0] >> 24 & 7 for attribute in attributes):
        return 1
    return count[0]


def _at(marker: int, pos: int) -> str:
    name = _NAMES.get(marker) or (f"APP{marker & 15}" if marker & 0xF0 == 0xE0 else f"0xFF{marker:02X}")
    return f"segment {name} at byte {pos}"
