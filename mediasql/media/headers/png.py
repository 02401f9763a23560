"""PNG and APNG (W3C Portable Network Graphics, third edition)."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Generator, Iterator
from itertools import islice

from ...errors import DecodeError
from .. import exif as exif_block
from ..info import MediaInfo
from . import GiveUp, Span, Steps, header

# Bit depth and colour type (11.2.1, table 9) to Pillow's mode.
_MODES = {
    (1, 0): "1",
    (2, 0): "L",
    (4, 0): "L",
    (8, 0): "L",
    (16, 0): "I;16",
    (8, 2): "RGB",
    (16, 2): "RGB",
    (1, 3): "P",
    (2, 3): "P",
    (4, 3): "P",
    (8, 3): "P",
    (8, 4): "LA",
    (16, 4): "RGBA",
    (8, 6): "RGBA",
    (16, 6): "RGBA",
}
_NAME = re.compile(rb"[A-Za-z]{4}")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = b"Raw profile type exif"
_KEYWORDS = (_XMP + b"\0", _RAW_EXIF + b"\0", b"exif\0")

# Lengths are claims. Real metadata is far smaller, and Pillow refuses text that inflates to more than 1 MB.
_MAX_METADATA = 16 << 20
_MAX_TEXT = 1 << 20
_MAX_CHUNKS = 1000
_MAX_JUMPS = 64
# Enough for the head of a chunk, and the keyword of a text or the number of frames in acTL.
_PEEK = 8 + 22
# What is asked of the end of the file, besides the size of one IDAT chunk: at first, and at second.
_TAILS = (16384, 262144)
_MAX_TAIL = 1 << 20


@header(matches=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"))
def png(head: bytes, size: int | None, want_exif: bool) -> Steps:
    """Read IHDR, and what is at hand of the chunks before IDAT; metadata may also stand behind IDAT."""
    if len(head) < 33:
        head += yield Span(len(head), 33)
    if len(head) < 33:
        raise DecodeError(f"PNG ends at byte {len(head)}, inside its header IHDR")
    if head[8:16] != b"\0\0\0\rIHDR":
        raise GiveUp(f"PNG that starts with the chunk {head[12:16]!r}")
    width, height, depth, colour, _, filtering, _, crc = struct.unpack_from(">IIBBBBBI", head, 16)
    if zlib.crc32(head[12:29]) != crc:
        raise DecodeError("PNG header IHDR does not match its checksum")
    mode = _MODES.get((depth, colour))
    if mode is None or filtering:
        raise DecodeError(f"PNG of colour type {colour}, {depth} bits and filter method {filtering}")
    if not 0 < width < 1 << 31 or not 0 < height < 1 << 31:
        raise DecodeError(f"PNG is {width} x {height} pixels")

    metadata = _Metadata()
    frames, frame_first = 0, False
    exif_read = True
    window, base, pos, image_data = head, 0, 33, 0
    ended = size is not None and len(head) >= size
    peek = _PEEK if want_exif else 8
    for _ in range(_MAX_CHUNKS):
        at = pos - base
        if at + peek > len(window):
            if not ended and not want_exif:
                exif_read = False
                break
            if not ended:
                window, base, at = (yield Span(pos, pos + peek)), pos, 0
            if at + 8 > len(window):
                raise DecodeError(f"PNG ends before byte {pos + 8}, without image data")
        length, name = int.from_bytes(window[at : at + 4]), window[at + 4 : at + 8]
        if not _NAME.fullmatch(name):
            raise DecodeError(f"PNG has a broken chunk {name!r} at byte {pos}")
        if name in (b"IDAT", b"fdAT"):
            image_data = 12 + length
            break
        if name == b"IEND":
            break  # no image data, but Pillow opens it
        stop = pos + 12 + length
        if size is not None and stop > size:
            raise DecodeError(f"PNG ends inside the chunk {name.decode()} at byte {pos}")
        if name == b"acTL" and len(window) >= at + 12:
            # A second acTL makes the animation invalid, and the file a plain PNG.
            frames = 0 if frames else int.from_bytes(window[at + 8 : at + 12])
        elif name == b"fcTL":
            frame_first = True
        elif name == b"eXIf" or (name in _TEXTS and _may_tell(window, at + 8)):
            chunk = window[at : stop - base]
            missing = stop - base - len(window)
            if missing > 0 and want_exif:
                if length > _MAX_METADATA:
                    raise GiveUp(f"PNG with a chunk {name.decode()} of {length} bytes")
                chunk += yield Span(stop - missing, stop)
            elif missing > 0:
                exif_read = False
            metadata.add(chunk, name)
        pos = stop
    else:
        raise DecodeError(f"PNG has more than {_MAX_CHUNKS} chunks before its image data")

    if image_data and metadata.exif is None:
        if want_exif:
            for chunk in (yield from _chunks_behind(pos, image_data, size)):
                metadata.add(chunk, chunk[4:8])
        else:
            exif_read = exif_read and ended and base == 0
            if exif_read:
                for chunk in _chunks(head, pos + image_data):
                    metadata.add(chunk, chunk[4:8])
    exif_read = exif_read or metadata.exif is not None
    exif, orientation = metadata.read()
    if not exif_read:
        orientation = None  # eXIf behind the image data would overrule what tells it here
    animated = 0 < frames <= 0x80000000
    if animated and not frame_first:
        # The image data is a default image, which Pillow counts, unless fcTL comes before it.
        frames = frames + 1 if image_data else 0
    return MediaInfo(
        media_type="image",
        mime_type="image/apng" if animated else "image/png",
        format="PNG",
        width=width,
        height=height,
        orientation=orientation,
        mode=mode,
        frame_count=frames or None if animated else None,
        exif=exif,
        exif_read=exif_read,
    )


class _Metadata:
    """What tells EXIF or the orientation: eXIf (11.3.4.5), or the text chunks that older writers use."""

    def __init__(self) -> None:
        self.exif: bytes | None = None
        self.texts: dict[bytes, bytes] = {}

    def add(self, chunk: bytes, name: bytes) -> None:
        """Take note of a chunk, if it is of use: one that is cut or does not match its checksum is not."""
        if name != b"eXIf" and name not in _TEXTS:
            return
        data = chunk[8:-4]
        keyword, _, text = data.partition(b"\0")
        if name != b"eXIf" and not data.startswith(_KEYWORDS):
            return
        if len(chunk) != 12 + int.from_bytes(chunk[:4]) or zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]):
            return
        if name == b"eXIf":
            self.exif = data
            return
        if name == b"iTXt":
            compressed, _, rest = text[:1] == b"\1", text[1:2], text[2:]
            text = rest.split(b"\0", 2)[-1]
        else:
            compressed = name == b"zTXt"
            text = text[1:] if compressed else text
        if compressed:
            try:
                text = zlib.decompressobj().decompress(text, _MAX_TEXT)
            except zlib.error:
                return
        if keyword == b"exif":
            self.exif = text
        else:
            self.texts[keyword] = text

    def read(self) -> tuple[bytes | None, int | None]:
        """EXIF and the orientation."""
        block = self.exif
        if block is None and _RAW_EXIF in self.texts:
            # ImageMagick's: a line feed, the name, the length, then hexadecimal digits in lines.
            try:
                block = bytes.fromhex("".join(self.texts[_RAW_EXIF].decode("latin-1").split("\n")[3:]))
            except ValueError:
                block = None
        exif = exif_block.strip_prefix(block) if block else None
        orientation = exif_block.orientation(exif) if exif else None
        if orientation is None and _XMP in self.texts:
            orientation = exif_block.xmp_orientation(self.texts[_XMP])
        return exif, orientation if orientation and orientation <= 8 else None


def _may_tell(window: bytes, at: int) -> bool:
    """Whether the text at `at` is of use, as far as its keyword is at hand."""
    return window.startswith(_KEYWORDS, at) or at + 22 > len(window)


def _chunks(data: bytes, pos: int) -> Iterator[bytes]:
    """The chunks in `data` from `pos` on."""
    while pos + 12 <= len(data):
        stop = pos + 12 + int.from_bytes(data[pos : pos + 4])
        yield data[pos:stop]
        pos = stop


def _chunks_behind(pos: int, image_data: int, size: int | None) -> Generator[Span, bytes, list[bytes]]:
    """Chunks that may hold metadata behind the image data, whose first chunk at `pos` has `image_data` bytes.

    Encoders split image data into thousands of chunks or into none, so neither following them nor reading a
    fixed tail serves. A tail with room for one such chunk holds the start of the last, and the rest follows.
    """
    after = pos + image_data
    if size is not None and (image_data <= _MAX_TAIL or size - after <= _TAILS[0]):
        for tail in _TAILS:
            start = max(after, size - tail - image_data)
            data = yield Span(start, size) if start < size else Span(size, size + 1)
            if start == after:
                return list(islice(_chunks(data, 0), _MAX_CHUNKS))
            for match in islice(re.finditer(rb"IDAT|fdAT", data), 16):
                found = list(islice(_chunks(data, match.start() - 4), _MAX_CHUNKS)) if match.start() >= 4 else []
                if found and found[-1][4:] == b"IEND\xaeB`\x82":
                    return found
        raise GiveUp("PNG whose image data is in chunks of unforeseeable size")
    found = []
    for _ in range(_MAX_JUMPS):
        window = yield Span(after, after + _PEEK)
        length, name = int.from_bytes(window[:4]), window[4:8]
        if name == b"IEND" or not _NAME.fullmatch(name):
            return found
        if name == b"eXIf" or (name in _TEXTS and _may_tell(window, 8)):
            if length > _MAX_METADATA:
                raise GiveUp(f"PNG with a chunk {name.decode()} of {length} bytes")
            found.append((yield Span(after, after + 12 + length)))
        after += 12 + length
    raise GiveUp(f"PNG with image data in more than {_MAX_JUMPS} chunks")
