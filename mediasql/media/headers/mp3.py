"""MP3: ID3v2 tags are jumped over, then the first frame tells (ISO/IEC 11172-3 2.4, ISO/IEC 13818-3 2.4).

Numbers are FFmpeg's (libavformat/mp3dec.c): the length is that of the Xing, Info or VBRI tag, without the
padding that LAME notes there; a file without such a tag is as long as its size says at the rate of its first
frames.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import NamedTuple

from ..info import StreamInfo
from . import GiveUp, Span, Steps, header
from .ffmpeg import rescale, timed
from .flac import flac_info

# FFmpeg's time base for MP3: the least common multiple of all its sampling rates.
_TICKS = 14112000
_MOST_TAGS = 8
# Frames whose bit rate must be the same for a file without a tag to count as of constant rate.
_PROBED = 16
# The longest frame, with the Xing, LAME and VBRI tags in it, and the header of the next.
_TAG_ROOM = 1441 + 4
_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = (44100, 48000, 32000)
_ENCODERS = (b"LAME", b"Lavf", b"Lavc")


class _Frame(NamedTuple):
    sample_rate: int
    channels: int
    bit_rate: int
    length: int  # bytes
    samples: int


def _frame(word: bytes) -> _Frame | None:
    """The header of a frame of layer III with a bit rate of its own, None for anything else."""
    if len(word) < 4 or word[0] != 0xFF or word[1] & 0xE6 != 0xE2 or word[1] & 0x18 == 0x08:
        return None
    rate, speed = word[2] >> 4, word[2] >> 2 & 3
    if rate in (0, 15) or speed == 3:
        return None
    version = word[1] >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    bit_rate = (_V1 if version == 3 else _V2)[rate] * 1000
    sample_rate = _RATES[speed] >> (0 if version == 3 else 1 if version == 2 else 2)
    samples = 1152 if version == 3 else 576
    length = samples // 8 * bit_rate // sample_rate + (word[2] >> 1 & 1)
    return _Frame(sample_rate, 1 if word[3] >> 6 == 3 else 2, bit_rate, length, samples)


def _is_mp3(head: bytes) -> bool:
    if head.startswith(b"ID3") and len(head) >= 10:
        return max(head[3:5]) < 0xFF and max(head[6:10]) < 0x80
    # Eleven bits are little to go by: where the next frame is at hand it must be one, of the same kind.
    first = _frame(head[:4])
    if first is None or len(head) < first.length + 4:
        return first is not None
    return _alike(_frame(head[first.length : first.length + 4]), first)


def _alike(frame: _Frame | None, first: _Frame) -> bool:
    return frame is not None and frame.sample_rate == first.sample_rate and frame.samples == first.samples


@header(matches=_is_mp3)
def mp3(head: bytes, size: int | None, want_exif: bool) -> Steps:
    at = yield from _after_tags(head)
    if size is not None and at >= size:
        # FFmpeg looks for sound inside a tag that overruns the file.
        raise GiveUp(f"an ID3 tag that reaches to byte {at}, behind the end")
    stop = at + _TAG_ROOM if size is None else min(at + _TAG_ROOM, size)
    start = head[at:stop] if stop <= len(head) else (yield Span(at, stop))
    if start.startswith(b"fLaC"):
        return flac_info(start[:42].ljust(42, b"\0"), size)
    first = _frame(start[:4])
    if first is None:
        raise GiveUp("an ID3 tag before something that is not MP3")

    bit_rate = first.bit_rate
    frames, length, tagged = _tag(start, first, size - at if size else None)
    if tagged:
        ticks = rescale(frames[0] * first.samples - frames[1], _TICKS, first.sample_rate)
        # The frame that holds the tag may be of another rate than those that hold the sound.
        second = _frame(start[first.length : first.length + 4])
        if second is None or not _alike(second, first):
            raise GiveUp("MP3 whose tag is not followed by sound")
        bit_rate = second.bit_rate
        if length:
            bit_rate = rescale(length, 8 * first.sample_rate, frames[0] * first.samples)
    else:
        if size is None:
            raise GiveUp("an MP3 of unknown size without a Xing tag")
        yield from _constant(head, at, size, first)
        ticks = rescale(size - at, 8 * _TICKS, first.bit_rate)
    stream = StreamInfo(
        index=0,
        type="audio",
        codec="mp3",
        duration=ticks / _TICKS,
        bit_rate=bit_rate,
        sample_rate=first.sample_rate,
        channels=first.channels,
        is_default=False,
    )
    microseconds = rescale(ticks, 1_000_000, _TICKS)
    return timed("mp3", ("audio/mpeg", "audio/mpeg"), [stream], microseconds=microseconds, size=size)


def _after_tags(head: bytes) -> Generator[Span, bytes, int]:
    """Where the sound starts, behind any ID3v2 tags (ID3v2.4.0 3.1: a size of four times seven bits)."""
    at = 0
    for _ in range(_MOST_TAGS):
        tag = head[at : at + 10] if at + 10 <= len(head) else (yield Span(at, at + 10))
        if len(tag) < 10 or not tag.startswith(b"ID3") or max(tag[3:5]) == 0xFF or max(tag[6:10]) > 0x7F:
            return at
        at += 10 + (tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]) + (10 if tag[5] & 0x10 else 0)
    raise GiveUp("one ID3 tag after another")


def _tag(start: bytes, first: _Frame, size: int | None) -> tuple[tuple[int, int], int, bool]:
    """Frames and samples of padding, bytes where they tell the rate, and whether there is a tag at all.

    `size` is that of the sound. Files of constant rate have an Info tag, whose bytes do not tell the rate.
    """
    at = 4 + ((32, 17) if first.samples == 1152 else (17, 9))[first.channels == 1]
    name = start[at : at + 4]
    if name in (b"Xing", b"Info"):
        (flags,) = struct.unpack_from(">I", start.ljust(_TAG_ROOM, b"\0"), at + 4)
        at += 8
        numbers = []
        for flag, width in ((1, 4), (2, 4), (4, 100), (8, 4)):
            here = flags & flag
            numbers.append(int.from_bytes(start[at : at + 4], "big") if here else 0)
            at += width if here else 0
        frames, length = numbers[:2]
        if not frames:
            raise GiveUp("a Xing tag without the number of frames")
        if length and size is not None:
            # FFmpeg disbelieves a tag that tells of much less than there is: files joined end to end.
            less = min(size, length)
            if abs(size - length) > (less >> 4) - 256 and size > length:
                raise GiveUp("an MP3 longer than its Xing tag says")
        padding = 0
        if start[at : at + 4] in _ENCODERS:
            delays = int.from_bytes(start[at + 21 : at + 24], "big")
            padding = (delays >> 12) + (delays & 0xFFF)
        return (frames, padding), length if name == b"Xing" else 0, True
    if start[36:40] == b"VBRI" and start[40:42] == b"\0\1":
        length, frames = struct.unpack_from(">II", start.ljust(_TAG_ROOM, b"\0"), 46)
        if not frames:
            raise GiveUp("a VBRI tag without the number of frames")
        return (frames, 0), length, True
    return (0, 0), 0, False


def _constant(head: bytes, at: int, size: int, first: _Frame) -> Generator[Span, bytes, None]:
    """Make sure that the first frames are of one bit rate: FFmpeg goes by their average."""
    room = min(_PROBED * (first.length + 1) + 4, size - at)
    data = head[at : at + room] if at + room <= len(head) else (yield Span(at, at + room))
    place = 0
    for number in range(_PROBED):
        frame = _frame(data[place : place + 4])
        if frame is None or not _alike(frame, first):
            if number >= 2 and place + 4 > len(data):
                return
            raise GiveUp("MP3 whose frames do not follow each other")
        if frame.bit_rate != first.bit_rate:
            raise GiveUp("MP3 of variable bit rate without a Xing tag")
        place += frame.length
