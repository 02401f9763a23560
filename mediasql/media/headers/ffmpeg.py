"""FFmpeg's arithmetic, so that a header parser and PyAV give the same numbers, and the asking for a range.

FFmpeg keeps the duration of a file in whole microseconds and reckons its bit rate from them and the file's
size; frame rates are fractions cut to a largest numerator. All is integer arithmetic with its own rounding.
"""

from __future__ import annotations

from collections.abc import Generator

from ...errors import DecodeError
from ..info import MediaInfo, StreamInfo
from . import GiveUp, Span


def rescale(value: int, times: int, over: int) -> int:
    """`value * times / over` rounded to the nearest, halves away from zero (av_rescale)."""
    product = 2 * value * times + over
    return product // (2 * over) if value >= 0 else -((2 * -value * times + over) // (2 * over))


def ratio(num: int, den: int, most: int = 2**31 - 1) -> float:
    """`num / den` as the fraction with no part above `most` that av_reduce finds."""
    a0n, a0d, a1n, a1d = 0, 1, 1, 0
    while den:
        x, rest = divmod(num, den)
        a2n, a2d = x * a1n + a0n, x * a1d + a0d
        if a2n > most or a2d > most:
            if a1n:
                x = (most - a0n) // a1n
            if a1d:
                x = min(x, (most - a0d) // a1d)
            if den * (2 * x * a1d + a0d) > num * a1d:
                a1n, a1d = x * a1n + a0n, x * a1d + a0d
            break
        a0n, a0d, a1n, a1d = a1n, a1d, a2n, a2d
        num, den = den, rest
    return a1n / a1d


def timed(
    format: str,
    mime_types: tuple[str, str],
    streams: list[StreamInfo],
    *,
    microseconds: int | None,
    size: int | None,
    orientation: int | None = None,
) -> MediaInfo:
    """What a container tells: of its first video and first audio stream, and of the file as a whole.

    `mime_types` are those of a file with pictures and of one with sound alone.
    """
    video = next((stream for stream in streams if stream.type == "video"), None)
    audio = next((stream for stream in streams if stream.type == "audio"), None)
    if video is None and audio is None:
        raise GiveUp(f"{format} without pictures or sound")
    if microseconds is not None and microseconds < 0:
        raise GiveUp(f"{format} that ends before it begins")
    return MediaInfo(
        media_type="video" if video else "audio",
        mime_type=mime_types[0 if video else 1],
        format=format,
        width=video.width if video else None,
        height=video.height if video else None,
        orientation=orientation,
        duration=microseconds / 1e6 if microseconds is not None else None,
        frame_rate=video.frame_rate if video else None,
        frame_count=video.frame_count if video else None,
        video_codec=video.codec if video else None,
        audio_codec=audio.codec if audio else None,
        bit_rate=int(size * 8.0 * 1e6 / microseconds) or None if microseconds and size else None,
        sample_rate=audio.sample_rate if audio else None,
        channels=audio.channels if audio else None,
        streams=tuple(streams),
    )


def read(head: bytes, start: int, stop: int, what: str) -> Generator[Span, bytes, bytes]:
    """Bytes `start` to `stop`, all of them: from `head` if they are in it, else asked for."""
    data = head[start:stop] if stop <= len(head) or start == stop else (yield Span(start, stop))
    if len(data) < stop - start:
        raise DecodeError(f"{what} is cut short: the file ends at byte {start + len(data)}, not {stop}")
    return data
