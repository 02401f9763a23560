"""WebP: lossy (RFC 6386), lossless and extended files (RFC 9649, the WebP container)."""

from __future__ import annotations

import re
import struct
from itertools import islice

from ...errors import DecodeError
from .. import exif as exif_block
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

_ANIMATION, _XMP, _EXIF, _ALPHA = 0x02, 0x04, 0x08, 0x10
# A still has six chunks at most; what an animation may have of them, the tail is quicker to tell.
_MAX_JUMPS = 16
_TAIL = 65536
# A chunk size is only a claim.
_MAX_METADATA = 16 << 20
_METADATA = re.compile(rb"EXIF|XMP ")


@header(
    matches=lambda head: (
        head.startswith(b"RIFF") and head[8:12] == b"WEBP" and head[12:16] in (b"VP8 ", b"VP8L", b"VP8X")
    )
)
def webp(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read the first chunk; of an extended file, the metadata after the image data when it is asked for."""
    if len(head) < 30:
        head += yield Span(len(head), 30)
    kind = head[12:16]
    orientation: int | None = None
    exif: bytes | None = None
    exif_read = True
    if len(head) < (25 if kind == b"VP8L" else 30):
        raise DecodeError(f"WebP ends at byte {len(head)}, inside its first chunk")
    if kind == b"VP8 ":
        # RFC 6386 section 9.1: bit 0 of the frame tag is clear in key frames; a start code follows.
        if head[20] & 1 or head[23:26] != b"\x9d\x01\x2a":
            raise DecodeError("WebP has no VP8 key frame")
        width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", head, 26))
        alpha = False
    elif kind == b"VP8L":
        width, height, alpha = _lossless(head, 20)
    else:
        flags = head[20]
        width = int.from_bytes(head[24:27], "little") + 1
        height = int.from_bytes(head[27:30], "little") + 1
        alpha = bool(flags & _ALPHA)
        metadata: dict[bytes, bytes] = {}
        end = 8 + int.from_bytes(head[4:8], "little")
        if size is not None:
            end = min(end, size)
        pos, window, base, jumps = 20 + _padded(head[16:20]), head, 0, 0
        while pos + 8 <= end and not (b"EXIF" in metadata and (b"XMP " in metadata or not flags & _XMP)):
            at = pos - base
            if at + 8 > len(window):
                if not want_exif or not flags & (_EXIF | _XMP):
                    exif_read = not flags & (_EXIF | _XMP)
                    break
                jumps += 1
                if jumps > _MAX_JUMPS:
                    if size is None:
                        raise GiveUp("animated WebP of unknown size with metadata")
                    start = max(pos, end - _TAIL)
                    tail = yield Span(start, end)
                    metadata |= _find_metadata(tail)
                    break
                window, base, at = (yield Span(pos, pos + 8)), pos, 0
                if len(window) < 8:
                    break
            name, length = window[at : at + 4], window[at + 4 : at + 8]
            stop = pos + 8 + int.from_bytes(length, "little")
            if name == b"VP8L" and not flags & _ANIMATION and at + 13 <= len(window):
                alpha = _lossless(window, at + 8)[2]  # the flags are a hint, as libwebp takes them
            elif ((name == b"EXIF" and flags & _EXIF) or (name == b"XMP " and flags & _XMP)) and name not in metadata:
                payload = window[at + 8 : stop - base]
                missing = stop - base - max(len(window), at + 8)
                if missing > 0 and not want_exif:
                    exif_read = False
                elif stop - pos > _MAX_METADATA:
                    raise GiveUp(f"WebP with a chunk {name!r} of {stop - pos - 8} bytes")
                elif missing > 0:
                    payload += yield Span(stop - missing, stop)
                    metadata[name] = payload
                else:
                    metadata[name] = payload
            pos += 8 + _padded(length)
        if b"EXIF" in metadata:
            exif = exif_block.strip_prefix(metadata[b"EXIF"])
        orientation = exif_block.orientation(exif) if exif else None
        if orientation is None and exif_read and b"XMP " in metadata:
            orientation = exif_block.xmp_orientation(metadata[b"XMP "])
    if not width or not height:
        raise DecodeError(f"WebP is {width} x {height} pixels")
    return MediaInfo(
        media_type="image",
        mime_type="image/webp",
        format="WEBP",
        width=width,
        height=height,
        orientation=orientation if orientation and orientation <= 8 else None,
        mode="RGBA" if alpha else "RGB",
        exif=exif,
        exif_read=exif_read,
    )


def _lossless(data: bytes, start: int) -> tuple[int, int, bool]:
    """Width, height and alpha of a VP8L bitstream (RFC 9649 section 3.4)."""
    signature, bits = struct.unpack_from("<BI", data, start)
    if signature != 0x2F:
        raise DecodeError("WebP has no VP8L signature")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)


def _padded(length: bytes) -> int:
    """A chunk's size with the byte that pads it to an even one (RFC 9649 section 2.3)."""
    size = int.from_bytes(length, "little")
    return size + (size & 1)


def _find_metadata(tail: bytes) -> dict[bytes, bytes]:
    """The metadata chunks that the file ends with: the first from which chunks lead exactly to the end."""
    for match in islice(_METADATA.finditer(tail), _MAX_JUMPS):
        found: dict[bytes, bytes] = {}
        pos = match.start()
        while pos + 8 <= len(tail):
            name, length = tail[pos : pos + 4], tail[pos + 4 : pos + 8]
            found.setdefault(name, tail[pos + 8 : pos + 8 + int.from_bytes(length, "little")])
            pos += 8 + _padded(length)
        if pos == len(tail):
            return found
    return {}
