"""MP4 and MOV films and sounds: the moov box tells all, wherever it lies (ISO/IEC 14496-12 8).

Numbers are FFmpeg's (libavformat/mov.c): a film lasts as long as its tracks as edited, a frame rate is all
samples over the sum of their durations. Left to PyAV: fragmented and encrypted films, codecs whose sample
entry does not tell what a decoder would, and tracks without their tables. Cover art is not a stream here,
though FFmpeg lists it as one.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from ..info import MediaInfo, StreamInfo
from . import GiveUp, Steps, header
from .ffmpeg import ratio, rescale, timed
from .isobmff import Box, boxes, children, find
from .mp4_audio import object_type, sound
from .mp4_tables import data_size, edits, first_shown, time_to_sample

FORMAT = "mov,mp4,m4a,3gp,3g2,mj2"
# About ten hours of film and sound. The index of a longer one is not worth keeping in memory for its header.
_MOST_MOOV = 64 << 20
_MOST_TRACKS = 256
# Brands of stills and their sequences, and of a camera's raw files. The rest that starts with `ftyp` is a
# movie.
_STILLS = frozenset(
    bytes(brand, "ascii")
    for brand in (
        *(
            "avif",
            "avis",
            "heic",
            "heix",
            "heim",
            "heis",
            "hevc",
            "hevx",
            "hevm",
            "hevs",
            "mif1",
            "mif2",
            "msf1",
        ),
        *("avci", "avcs", "jpeg", "jpgs", "j2ki", "j2is", "miaf", "crx "),
    )
)
# What a QuickTime file of before `ftyp` may start with.
_FIRST = frozenset([b"moov", b"mdat", b"wide", b"free", b"skip"])

_VIDEO = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"dva1": "h264",
    b"dvav": "h264",
    b"hvc1": "hevc",
    b"hev1": "hevc",
    b"dvh1": "hevc",
    b"dvhe": "hevc",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"av01": "av1",
    b"jpeg": "mjpeg",
    b"apch": "prores",
    b"apcn": "prores",
    b"apcs": "prores",
    b"apco": "prores",
    b"ap4h": "prores",
    b"ap4x": "prores",
}
# MPEG-4 object types (ISO/IEC 14496-1 7.2.6.6) of pictures.
_MPEG4 = {0x20: "mpeg4", **dict.fromkeys(range(0x60, 0x66), "mpeg2video"), 0x6A: "mpeg1video", 0x6C: "mjpeg"}
_TEXT = {b"tx3g": "mov_text", b"text": "mov_text"}
# Handlers of tracks that are neither seen, heard nor read.
_DATA = frozenset([b"tmcd", b"meta", b"hint", b"odsm", b"sdsm", b"data", b"camm", b"mdta"])
# a, b, c, d of the matrix by sign -> EXIF orientation (tag 0x0112).
_ORIENTATION = {
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}
# Languages of the old Macintosh by number, as FFmpeg names the first of them.
_MAC_LANGUAGES = ("eng", "fra", "ger", "ita", "dut", "sve", "spa", "dan", "por", "nor", "heb", "jpn")

_Matrix: TypeAlias = tuple[int, int, int, int]
_IDENTITY: _Matrix = (1 << 16, 0, 0, 1 << 16)

_word = struct.Struct(">I").unpack_from
_size = struct.Struct(">HH").unpack_from
# By the version of their box, 0 or 1, of which the latter has times of 64 bits.
_mvhd = struct.Struct(">12xI20x5i").unpack_from, struct.Struct(">20xI24x5i").unpack_from  # time scale, matrix
_tkhd = struct.Struct(">12xI24x5i").unpack_from, struct.Struct(">20xI28x5i").unpack_from  # track, matrix
_mdhd = struct.Struct(">12xIIH").unpack_from, struct.Struct(">20xIQH").unpack_from  # time scale, duration, language


def _is_movie(head: bytes) -> bool:
    kind = head[4:8]
    return (kind == b"ftyp" and head[8:12] not in _STILLS) or (
        kind in _FIRST and (head[:4] in (b"\0\0\0\0", b"\0\0\0\1") or _word(head)[0] >= 8)
    )


@header(matches=_is_movie)
def mp4(head: bytes, size: int | None, want_exif: bool) -> Steps:
    moov, _ = yield from find(head, size, b"moov", _MOST_MOOV, "MP4")
    return _movie(moov, size, b"qt  " if head[4:8] != b"ftyp" else head[8:12])


@dataclass(slots=True)
class _Track:
    """What a trak box tells (8.3.1).

    In its own time: `start`, `duration` as played, `media_duration` by its header, `length` by its samples.
    """

    id: int
    enabled: bool
    matrix: _Matrix
    handler: bytes
    time_scale: int
    start: int
    duration: int
    media_duration: int
    length: int
    language: str | None
    samples: int
    data_size: int | None
    entry: Box
    chapters: list[int]


def _movie(moov: bytes, size: int | None, brand: bytes) -> MediaInfo:
    try:
        inside = list(boxes(moov, 0, len(moov)))
        parts = {box.kind: box for box in reversed(inside)}  # the first of each kind
        if b"mvex" in parts:
            raise GiveUp("a fragmented MP4")
        if b"cmov" in parts:
            raise GiveUp("a compressed movie header")
        time_scale, turn = _movie_header(moov, parts[b"mvhd"])
        traks = [box for box in inside if box.kind == b"trak"]
        if len(traks) > _MOST_TRACKS:
            raise GiveUp(f"a movie of {len(traks)} tracks")
        tracks = [_track(moov, box, time_scale, turn) for box in traks]
        chapters = {id for track in tracks for id in track.chapters}
        made = [_stream(moov, index, track, track.id in chapters) for index, track in enumerate(tracks)]
    except (KeyError, struct.error, IndexError) as error:
        # FFmpeg makes something of many a movie that lacks this or that; what, is its own affair.
        raise GiveUp(f"an unusual movie header: {error!r}") from None
    shown = [track.matrix for track, stream in zip(tracks, made, strict=True) if stream and stream.type == "video"]
    return timed(
        FORMAT,
        ("video/quicktime", "video/quicktime") if brand == b"qt  " else ("video/mp4", "audio/mp4"),
        [stream for stream in made if stream],
        microseconds=_duration(tracks, made),
        size=size,
        orientation=_orientation(shown[0]) if shown else None,
    )


def _duration(tracks: list[_Track], streams: list[StreamInfo | None]) -> int:
    """Microseconds from the start of the first stream to the end of the last.

    The movie header says so too, but FFmpeg goes by the tracks, which are what is played.
    """
    times = []
    for track, stream in zip(tracks, streams, strict=True):
        start = rescale(track.start, 1_000_000, track.time_scale)
        duration = rescale(track.duration, 1_000_000, track.time_scale)
        text = stream is not None and stream.type not in ("video", "audio")
        times.append((text, start, duration))
    heard = [(start, duration) for text, start, duration in times if not text]
    if not heard:
        raise GiveUp("a movie without pictures or sound")
    first = min(start for start, _ in heard)
    length = max(*(duration for _, duration in heard), max(start + duration for start, duration in heard) - first)
    # Text counts where it exceeds the rest by less than a second. What it starts at is not worth finding out.
    if any(text and (duration > length or start < first) for text, start, duration in times):
        raise GiveUp("text that is longer than the film")
    return length


def _movie_header(data: bytes, box: Box) -> tuple[int, _Matrix]:
    """Time scale and matrix of mvhd (8.2.2)."""
    time_scale, a, b, _, c, d = _mvhd[data[box.start] == 1](data, box.start)
    return time_scale or 1, (a, b, c, d)


def _track(data: bytes, box: Box, movie_scale: int, turn: _Matrix) -> _Track:
    _, start, stop = box
    parts = children(data, start, stop)
    _, start, stop = parts[b"mdia"]
    media = children(data, start, stop)
    _, start, stop = media[b"minf"]
    _, start, stop = children(data, start, stop)[b"stbl"]
    table = children(data, start, stop)

    _, tkhd, _ = parts[b"tkhd"]
    number, a, b, _, c, d = _tkhd[data[tkhd] == 1](data, tkhd)

    _, mdhd, _ = media[b"mdhd"]
    time_scale, duration, language = _mdhd[data[mdhd] == 1](data, mdhd)
    if not time_scale:
        raise GiveUp("a track without a time scale")

    described = table[b"stsd"]
    entry = next(boxes(data, described.start + 8, described.stop), None)
    if entry is None or _word(data, described.start + 4)[0] != 1:
        raise GiveUp("a track without, or with several, sample descriptions")

    samples, length, ticking = time_to_sample(data, table[b"stts"])
    # The media header may be inaccurate; FFmpeg believes the shorter of the two.
    duration = min(duration, length) if length else duration
    edit, references, offsets = parts.get(b"edts"), parts.get(b"tref"), table.get(b"ctts")
    played = edits(data, edit, time_scale, movie_scale) if edit else None
    if played is None:
        played = first_shown(data, offsets) if offsets else 0, duration
    return _Track(
        id=number,
        enabled=bool(data[tkhd + 3] & 1),
        matrix=_turned((a, b, c, d), turn),
        handler=data[media[b"hdlr"].start + 8 : media[b"hdlr"].start + 12],
        time_scale=time_scale,
        start=played[0],
        duration=min(duration, played[1]),
        media_duration=duration,
        length=length,
        language=_language(language),
        samples=samples,
        data_size=None if ticking else data_size(data, table, samples),
        entry=entry,
        chapters=_chapters(data, references) if references else [],
    )


def _chapters(data: bytes, tref: Box) -> list[int]:
    """The tracks with titles and pictures of this one's chapters (QuickTime File Format, Chapter Lists)."""
    box = children(data, tref.start, tref.stop).get(b"chap")
    return [id for (id,) in struct.iter_unpack(">I", data[box.start : box.stop & ~3])] if box else []


@lru_cache(256)
def _language(code: int) -> str | None:
    """ISO 639-2 from three letters of five bits (8.4.2.3), or from a number of the old Macintosh."""
    if code == 0x7FFF:
        return None
    if code >= 0x400:
        name = "".join(chr((code >> shift & 31) + 0x60) for shift in (10, 5, 0))
        return None if name == "und" else name
    return _MAC_LANGUAGES[code] if code < len(_MAC_LANGUAGES) else None


def _stream(data: bytes, index: int, track: _Track, chapters: bool) -> StreamInfo | None:
    """The stream that FFmpeg makes of a track; None for pictures of chapters, which are not of the film."""
    kind = track.entry.kind
    common: dict[str, Any] = {
        "index": index,
        "duration": track.duration / track.time_scale,
        "frame_count": track.samples or None,
        "language": track.language,
        "is_default": track.enabled,
    }
    if track.handler == b"vide":
        return None if chapters else _pictures(data, track, common)
    if track.handler == b"soun":
        heard = sound(data, track.entry, track.time_scale)
        # FFmpeg reckons it from the sizes of the samples, except of PCM; AC-3's frames tell their own.
        rate = heard.bit_rate or _bit_rate(track)
        return StreamInfo(
            **common,
            type="audio",
            codec=heard.codec,
            bit_rate=rate,
            sample_rate=heard.sample_rate,
            channels=heard.channels,
        )
    if kind in _TEXT and not chapters:
        return StreamInfo(**common, type="subtitle", codec=_TEXT[kind])
    if track.handler not in _DATA and not chapters:
        raise GiveUp(f"a track of {track.handler!r}, {kind!r}")
    return StreamInfo(**common, type="data")


def _pictures(data: bytes, track: _Track, common: dict[str, Any]) -> StreamInfo:
    kind, start, stop = track.entry
    codec = _VIDEO.get(kind)
    if kind == b"mp4v":
        esds = children(data, start + 78, stop)[b"esds"]
        codec = _MPEG4.get(object_type(data, esds)[0])
    if codec is None:
        raise GiveUp(f"pictures coded as {kind!r}")
    width, height = _size(data, start + 24)
    if not (width and height and track.samples and track.length):
        raise GiveUp("a track of pictures without their size or times")
    return StreamInfo(
        **common,
        type="video",
        codec=codec,
        bit_rate=_bit_rate(track),
        width=width,
        height=height,
        rotation=_clockwise(track.matrix),
        frame_rate=ratio(track.time_scale * track.samples, track.length),
    )


def _bit_rate(track: _Track) -> int | None:
    if not track.data_size or not track.media_duration:
        return None
    return track.data_size * 8 * track.time_scale // track.media_duration


@lru_cache(256)
def _clockwise(matrix: _Matrix) -> int:
    """The turn that shows a picture upright, 0 to 359 degrees."""
    a, b, _, _ = matrix
    return round(math.degrees(math.atan2(b, a))) % 360


def _turned(first: _Matrix, then: _Matrix) -> _Matrix:
    """The product of two matrices of 16.16 fixed point (8.3.2: the track's, then the movie's)."""
    if then == _IDENTITY:
        return first
    a, b, c, d = first
    e, f, g, h = then
    return (a * e + b * g) >> 16, (a * f + b * h) >> 16, (c * e + d * g) >> 16, (c * f + d * h) >> 16


@lru_cache(256)
def _orientation(matrix: _Matrix) -> int | None:
    a, b, c, d = ((number > 0) - (number < 0) for number in matrix)
    return _ORIENTATION.get((a, b, c, d))
