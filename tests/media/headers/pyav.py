"""PyAV, that is FFmpeg, as the oracle of the parsers for containers."""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Callable
from typing import Any

import av
import pytest

from mediasql.errors import DecodeError
from mediasql.media.headers import HEADERS, GiveUp, recognise
from mediasql.media.info import MediaInfo, StreamInfo
from tests.corpus import corpus_files
from tests.media.headers.drive import Driven, drive

# FFmpeg's streams are told apart from cover art by this bit.
_COVER = av.stream.Disposition.attached_pic
_DEFAULT = av.stream.Disposition.default
# What is at hand at first: less than most headers, the usual first chunk, whole small files.
FIRSTS = (64, 512, 16384, 1 << 30)
# Not told by FFmpeg's own fields, or not read from headers: each has tests of its own.
_APART = ("mime_type", "orientation", "streams", "exif", "exif_read", "mode")
_STREAMS_APART = ("pixel_format", "rotation")
FFMPEG = av.library_versions["libavformat"][0] - 54  # its major version
_METADATA: Any = {"metadata_errors": "replace"} if hasattr(av.container.InputContainer, "metadata_errors") else {}


def pyav(data: bytes) -> MediaInfo | None:
    """What PyAV tells, without cover art; None when it refuses the file."""
    try:
        with av.open(io.BytesIO(data), **_METADATA) as container:
            streams = tuple(_stream(s) for s in container.streams if not s.disposition & _COVER)
            video = next((s for s in streams if s.type == "video"), StreamInfo(index=-1, type="none"))
            audio = next((s for s in streams if s.type == "audio"), StreamInfo(index=-1, type="none"))
            return MediaInfo(
                media_type="video" if video.index >= 0 else "audio",
                mime_type="",
                format=container.format.name,
                width=video.width,
                height=video.height,
                duration=container.duration / 1e6 if container.duration is not None else None,
                frame_rate=video.frame_rate,
                frame_count=video.frame_count,
                video_codec=video.codec,
                audio_codec=audio.codec,
                bit_rate=container.bit_rate or None,
                sample_rate=audio.sample_rate,
                channels=audio.channels,
                streams=streams,
            )
    except av.FFmpegError:
        return None


def _stream(stream: Any) -> StreamInfo:
    codec = stream.codec_context
    video, audio = stream.type == "video", stream.type == "audio"
    return StreamInfo(
        index=stream.index,
        type=stream.type,
        codec=stream.codec.canonical_name if codec else None,
        duration=float(stream.duration * stream.time_base) if stream.duration is not None else None,
        bit_rate=codec.bit_rate or None if codec and (video or audio) else None,
        width=codec.width if video else None,
        height=codec.height if video else None,
        frame_rate=float(stream.average_rate) if video and stream.average_rate else None,
        frame_count=stream.frames or None,
        sample_rate=codec.sample_rate if audio else None,
        channels=codec.channels if audio else None,
        language=None if stream.language == "und" else stream.language,
        is_default=bool(stream.disposition & _DEFAULT),
    )


def differences(got: Any, expected: Any, apart: tuple[str, ...]) -> dict[str, tuple[Any, Any]]:
    """The fields in which two answers differ."""
    different = {}
    for field in dataclasses.fields(expected):
        ours, theirs = getattr(got, field.name), getattr(expected, field.name)
        numbers = isinstance(ours, float) and isinstance(theirs, float)
        close = numbers and math.isclose(ours, theirs, rel_tol=1e-9)
        if field.name not in apart and ours != theirs and not close:
            different[field.name] = ours, theirs
    return different


def agrees(name: str, data: bytes, *, apart: tuple[str, ...] = (), firsts: tuple[int, ...] = FIRSTS) -> Driven:
    """Assert that the parser `name` tells what PyAV tells, whatever is at hand; its answer for the usual chunk."""
    known = recognise(data[:64])
    assert known, "no parser knows this"
    assert known.name == name
    expected = pyav(data)
    assert expected, "PyAV does not read this"
    for first in firsts:
        info = drive(known.parse, data, first=first).info
        assert differences(info, expected, (*_APART, *apart)) == {}
        assert [s.index for s in info.streams] == [s.index for s in expected.streams]
        for ours, theirs in zip(info.streams, expected.streams, strict=True):
            assert differences(ours, theirs, (*_STREAMS_APART, *apart)) == {}
    return drive(known.parse, data)


def refuses(name: str, data: bytes) -> str:
    """Assert that the parser `name` calls `data` damaged, and PyAV does too; what it says."""
    with pytest.raises(DecodeError) as error:
        drive(HEADERS[name].parse, data)
    assert pyav(data) is None
    return str(error.value)


def gives_up(name: str, data: bytes, **known: Any) -> str:
    """Assert that the parser `name` leaves `data` to PyAV; why."""
    with pytest.raises(GiveUp) as error:
        drive(HEADERS[name].parse, data, **known)
    return str(error.value)


def corpus_params(*suffixes: str) -> list[object]:
    """Parameters that read the files of the corpus; none where it is not there."""
    return [pytest.param(path.read_bytes, id=path.name) for path in corpus_files(*suffixes)]


def made_params(**made: Callable[[], bytes]) -> list[object]:
    return [pytest.param(make, id=name) for name, make in made.items()]


def survives(name: str, data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    """Assert that the parser `name` ends, in one of the three ways, without asking often."""
    try:
        driven = drive(HEADERS[name].parse, data, first=first, want_exif=want_exif, size_known=size_known)
    except (DecodeError, GiveUp):
        return
    assert len(driven.spans) <= 128
    assert driven.info.media_type in ("image", "video", "audio")
