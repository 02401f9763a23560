"""Matroska and WebM: the Info and Tracks elements, which mostly come first (RFC 8794 EBML, RFC 9559).

Numbers are FFmpeg's (libavformat/matroskadec.c). Frame rates are those of DefaultDuration, and without it
PyAV's business, as are codecs whose private data does not tell what a decoder would. Attached files and cover
art are not streams here; FFmpeg lists them as such.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import replace

from ..info import StreamInfo
from . import GiveUp, Span, Steps, header
from .ffmpeg import ratio, read, timed
from .flac import stream_info
from .mp4_audio import aac

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SEEK_HEAD, _INFO, _TRACKS = 0x114D9B74, 0x1549A966, 0x1654AE6B
_MOST_ELEMENTS = 1024
_MOST_TOP_ELEMENTS = 64
_MOST_BODY = 4 << 20
_UNKNOWN_SIZE = -1

_VIDEO = {
    b"V_MPEG4/ISO/AVC": "h264",
    b"V_MPEGH/ISO/HEVC": "hevc",
    b"V_VP8": "vp8",
    b"V_VP9": "vp9",
    b"V_AV1": "av1",
    b"V_MPEG4/ISO/ASP": "mpeg4",
    b"V_MPEG4/ISO/SP": "mpeg4",
    b"V_MPEG2": "mpeg2video",
    b"V_MJPEG": "mjpeg",
    b"V_FFV1": "ffv1",
    b"V_PRORES": "prores",
}
_AUDIO = {
    b"A_AAC": "aac",
    b"A_OPUS": "opus",
    b"A_VORBIS": "vorbis",
    b"A_FLAC": "flac",
    b"A_AC3": "ac3",
    b"A_MPEG/L3": "mp3",
    b"A_PCM/INT/LIT": "pcm_s{}le",
    b"A_PCM/INT/BIG": "pcm_s{}be",
    b"A_PCM/FLOAT/IEEE": "pcm_f{}le",
}
_SUBTITLE = {
    b"S_TEXT/UTF8": "subrip",
    b"S_TEXT/ASS": "ass",
    b"S_TEXT/SSA": "ass",
    b"S_ASS": "ass",
    b"S_SSA": "ass",
    b"S_TEXT/WEBVTT": "webvtt",
    b"D_WEBVTT/SUBTITLES": "webvtt",
    b"S_HDMV/PGS": "hdmv_pgs_subtitle",
    b"S_VOBSUB": "dvd_subtitle",
    b"S_DVBSUB": "dvb_subtitle",
}
_MOST_PRECISE = 30000  # of the numerator and denominator of a frame rate


def _element(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Identifier, start and size of content of the element at `at` (RFC 8794 4 to 6); None if cut short."""
    if at >= len(data) or not data[at]:
        return None
    width = 9 - data[at].bit_length()
    start = at + width
    if width > 4 or start >= len(data) or not data[start]:
        return None
    more = 9 - data[start].bit_length()
    if start + more > len(data):
        return None
    size = int.from_bytes(data[start : start + more], "big") & (1 << 7 * more) - 1
    return (
        int.from_bytes(data[at:start], "big"),
        start + more,
        _UNKNOWN_SIZE if size == (1 << 7 * more) - 1 else size,
    )


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements side by side in `data`, with their content."""
    at = 0
    for _ in range(_MOST_ELEMENTS):
        if at >= len(data):
            return
        found = _element(data, at)
        if found is None or not 0 <= found[2] <= len(data) - found[1]:
            raise GiveUp("a Matroska element that overruns its parent")
        kind, start, size = found
        at = start + size
        yield kind, data[start:at]
    raise GiveUp(f"more than {_MOST_ELEMENTS} elements side by side")


@header(matches=lambda head: head.startswith(b"\x1a\x45\xdf\xa3"))
def matroska(head: bytes, size: int | None, want_exif: bool) -> Steps:
    ebml = _element(head, 0)
    if ebml is None or not 0 < ebml[2] <= _MOST_BODY:
        raise GiveUp("a damaged EBML header")
    described = dict(_elements((yield from read(head, ebml[1], ebml[1] + ebml[2], "the EBML header"))))
    doc_type = described.get(0x4282, b"").rstrip(b"\0")
    if doc_type not in (b"matroska", b"webm"):
        raise GiveUp(f"EBML of type {doc_type!r}")
    info, tracks = yield from _find(head, ebml[1] + ebml[2], size)
    microseconds = _duration(info)
    streams: list[StreamInfo] = []
    for kind, body in _elements(tracks):
        if kind == 0xAE:
            stream = _stream(dict(_elements(body)), len(streams))
            if stream:
                streams.append(stream)
    mime_types = ("video/webm", "audio/webm") if doc_type == b"webm" else ("video/x-matroska", "audio/x-matroska")
    return timed("matroska,webm", mime_types, streams, microseconds=microseconds, size=size)


def _find(head: bytes, at: int, size: int | None) -> Generator[Span, bytes, tuple[bytes, bytes]]:
    """The content of Info and Tracks: on the way to the first cluster, or where SeekHead says they are."""
    found: dict[int, bytes] = {}
    places: dict[int, int] = {}
    segment = 0
    for _ in range(_MOST_TOP_ELEMENTS):
        if size is not None and at >= size:
            break
        # An identifier of 4 bytes at most and a size of 8.
        start = head[at : at + 12] if at + 12 <= len(head) else (yield Span(at, at + 12))
        element = _element(start, 0)
        if element is None:
            break
        kind, skip, length = element
        body = at + skip
        if kind == _SEGMENT and not segment:
            segment = at = body
            continue
        if not segment:
            raise GiveUp("EBML without a segment")
        if kind in (_INFO, _TRACKS, _SEEK_HEAD) and kind not in found:
            if not 0 <= length <= _MOST_BODY:
                raise GiveUp(f"a Matroska element of {length} bytes")
            if size is not None and body + length > size:
                raise GiveUp("Matroska that ends in its header")
            found[kind] = yield from read(head, body, body + length, "Matroska")
            if kind == _SEEK_HEAD:
                places = {name: segment + place for name, place in _seek(found[kind])} | places
        if _INFO in found and _TRACKS in found:
            return found[_INFO], found[_TRACKS]
        if kind == _CLUSTER or length == _UNKNOWN_SIZE:
            missing = next((name for name in (_INFO, _TRACKS) if name not in found and name in places), None)
            if missing is None:
                raise GiveUp("Matroska with its tracks behind the clusters")
            at = places.pop(missing)
        else:
            at = body + length
    # FFmpeg looks for the next element that it knows where one is damaged, so what is missing may yet be found.
    raise GiveUp("Matroska that ends before its Info and Tracks elements")


def _seek(body: bytes) -> Iterator[tuple[int, int]]:
    """Identifiers and places, from the start of the segment, of a SeekHead (RFC 9559 5.1.1)."""
    for kind, seek in _elements(body):
        if kind == 0x4DBB:
            parts = dict(_elements(seek))
            yield _unsigned(parts.get(0x53AB, b"")), _unsigned(parts.get(0x53AC, b""))


def _unsigned(body: bytes) -> int:
    return int.from_bytes(body[:8], "big")


def _real(body: bytes) -> float:
    if len(body) not in (4, 8):
        raise GiveUp("a number that is neither of 4 nor of 8 bytes")
    number = struct.unpack(">f" if len(body) == 4 else ">d", body)[0]
    if not 0 < number < 1e18:
        raise GiveUp(f"{number} for a duration or a rate")
    return float(number)


def _duration(info: bytes) -> int:
    parts = dict(_elements(info))
    if 0x4489 not in parts:
        raise GiveUp("Matroska without a duration")
    scale = _unsigned(parts[0x2AD7B1]) if 0x2AD7B1 in parts else 1_000_000
    return int(_real(parts[0x4489]) * scale * 1000 / 1_000_000)


def _stream(track: dict[int, bytes], index: int) -> StreamInfo | None:
    """The stream that FFmpeg makes of a TrackEntry (RFC 9559 5.1.4.1); None for kinds that it passes over."""
    kind, codec = _unsigned(track.get(0x83, b"")), track.get(0x86, b"").split(b"\0")[0]
    language = track.get(0x22B59C, b"eng").split(b"\0")[0].decode("ascii", "replace")
    common = StreamInfo(
        index=index,
        type="subtitle",
        codec=_SUBTITLE.get(codec),
        language=None if language == "und" else language,
        is_default=bool(_unsigned(track.get(0x88, b"\1"))),
    )
    if kind not in (1, 2, 17):
        return None
    # Encryption hides the stream, and compression may hide the codec's private data.
    if 0x6D80 in track:
        raise GiveUp("encoded Matroska tracks")
    if kind == 1:
        return _pictures(track, codec, common)
    if kind == 2:
        return _sound(track, codec, common)
    if common.codec is None:
        raise GiveUp(f"subtitles of {codec!r}")
    return common


def _pictures(track: dict[int, bytes], codec: bytes, common: StreamInfo) -> StreamInfo:
    video = dict(_elements(track.get(0xE0, b"")))
    width, height = _unsigned(video.get(0xB0, b"")), _unsigned(video.get(0xBA, b""))
    every = _unsigned(track.get(0x23E383, b""))
    if codec not in _VIDEO or not width or not height or not every:
        raise GiveUp(f"pictures of {codec!r}, {width} by {height}, every {every} ns")
    if 0x7670 in video:
        raise GiveUp("pictures with a projection, which may turn them")
    rate = ratio(1_000_000_000, every, _MOST_PRECISE)
    return replace(common, type="video", codec=_VIDEO[codec], width=width, height=height, frame_rate=rate)


def _sound(track: dict[int, bytes], codec: bytes, common: StreamInfo) -> StreamInfo:
    audio = dict(_elements(track.get(0xE1, b"")))
    private = track.get(0x63A2, b"")
    sample_rate = int(_real(audio.get(0x78B5) or audio.get(0xB5) or struct.pack(">d", 8000)))
    channels = _unsigned(audio.get(0x9F, b"\1"))
    name = _AUDIO.get(codec)
    if name is None:
        raise GiveUp(f"sound of {codec!r}")
    bit_rate = None
    if name == "aac":
        sample_rate, channels = aac(private)
    elif name == "opus":
        sample_rate, channels = 48000, private.ljust(10, b"\0")[9]
    elif name == "vorbis":
        # Two sizes in Xiph's lacing for the first two of three packets; the first is of 30 bytes (RFC 9559
        # 12).
        at = private.find(b"\x01vorbis", 0, 1024)
        channels, sample_rate = struct.unpack("<BI", private[at + 11 : at + 16].ljust(5, b"\0"))
    elif name == "flac":
        sample_rate, channels, _ = stream_info(private[8:42].ljust(34, b"\0"))
    elif name.startswith("pcm"):
        bits = _unsigned(audio.get(0x6264, b""))
        name = "pcm_u8" if bits == 8 and "{}le" in name else name.format(bits)
        if bits not in (8, 16, 24, 32, 64):
            raise GiveUp(f"PCM of {bits} bits")
        bit_rate = bits * sample_rate * channels
    if not sample_rate or not channels:
        raise GiveUp("sound without channels or a rate")
    return replace(common, type="audio", codec=name, bit_rate=bit_rate, sample_rate=sample_rate, channels=channels)
