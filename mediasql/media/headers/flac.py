"""FLAC: STREAMINFO, which comes first, tells all (RFC 9639 8.2)."""

from __future__ import annotations

from ..info import MediaInfo, StreamInfo
from . import GiveUp, Steps, header
from .ffmpeg import read, rescale, timed


@header(matches=lambda head: head.startswith(b"fLaC"))
def flac(head: bytes, size: int | None, want_exif: bool) -> Steps:
    return flac_info((yield from read(head, 0, 42, "FLAC")), size)


def flac_info(start: bytes, size: int | None) -> MediaInfo:
    """What the first 42 bytes tell. The number of samples is 0, unknown, if the encoder could not go back."""
    if start[4] & 127 or start[5:8] != b"\0\0\x22":
        raise GiveUp("FLAC that does not start with its STREAMINFO block")
    sample_rate, channels, samples = stream_info(start[8:42])
    if not sample_rate:
        raise GiveUp("FLAC with a sampling rate of 0")
    stream = StreamInfo(
        index=0,
        type="audio",
        codec="flac",
        duration=samples / sample_rate if samples else None,
        sample_rate=sample_rate,
        channels=channels,
        is_default=False,
    )
    microseconds = rescale(samples, 1_000_000, sample_rate) if samples else None
    return timed("flac", ("audio/flac", "audio/flac"), [stream], microseconds=microseconds, size=size)


def stream_info(block: bytes) -> tuple[int, int, int]:
    """Sampling rate, channels and number of samples from the 34 bytes of STREAMINFO."""
    packed = int.from_bytes(block[10:18], "big")
    return packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
