"""Films and sounds that no header parser reads, against PyAV itself; and that both ways tell the same."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import pytest

from mediasql import discovery
from mediasql.media.headers import GiveUp, recognise
from mediasql.media.info import MediaInfo
from mediasql.media.probe import probe_bytes
from mediasql.media.video import read_container
from tests.media import make
from tests.media.headers.drive import drive
from tests.media.headers.pictures import picture
from tests.media.headers.pyav import differences, pyav

discovery.load_all()

FALLBACKS: dict[str, tuple[bytes, str]] = {
    "avi": (make.video("avi", codec="mpeg4", audio_codec="mp3"), "video/x-msvideo"),
    "mpegts": (make.video("mpegts", audio_codec="aac"), "video/mp2t"),
    "flv": (make.video("flv", audio_codec="aac"), "video/x-flv"),
    "fragmented": (make.video("mp4", fragmented=True, audio_codec="aac"), "video/mp4"),
    "fragmented mov": (make.video("mov", fragmented=True), "video/quicktime"),
    "aiff": (make.audio("aiff", codec="pcm_s16be"), "audio/aiff"),
    "adts": (make.audio("adts", codec="aac"), "audio/aac"),
    "au": (make.audio("au", codec="pcm_s16be"), "audio/basic"),
    "caf": (make.audio("caf", codec="pcm_s16be"), "audio/x-caf"),
    "asf": (make.audio("asf", codec="mp3"), "audio/x-ms-asf"),
    "w64": (make.audio("w64", codec="pcm_s16le"), "audio/x-w64"),
}
PARSED: dict[str, bytes] = {
    "mp4": make.video("mp4", audio_codec="aac"),
    "mov": make.video("mov"),
    "m4a": make.audio("ipod", codec="aac"),
    "mkv": make.video("matroska", audio_codec="aac"),
    "webm": make.video("webm", codec="vp9", audio_codec="opus"),
    "av1": make.video("mp4", codec="av1"),
    "webm sound": make.audio("webm", codec="opus"),
    "mp3": make.audio("mp3", codec="mp3"),
    "flac": make.audio("flac", codec="flac"),
    "ogg": make.audio("ogg", codec="vorbis"),
    "wav": make.audio("wav", codec="pcm_s16le"),
}


def read(data: bytes) -> MediaInfo:
    info = read_container(io.BytesIO(data))
    assert info is not None
    return info


@pytest.mark.parametrize("name", FALLBACKS)
def test_containers_without_a_parser_are_as_pyav_says(name: str) -> None:
    data, mime_type = FALLBACKS[name]
    info = probe_bytes(data).info
    assert info is not None
    assert info.mime_type == mime_type
    expected = pyav(data)
    assert expected is not None
    assert differences(info, expected, ("mime_type", "streams", "bit_rate")) == {}
    for ours, theirs in zip(info.streams, expected.streams, strict=True):
        assert differences(ours, theirs, ("pixel_format", "rotation")) == {}
        assert ours.pixel_format == ("yuv420p" if ours.type == "video" else None)


@pytest.mark.parametrize("name", PARSED)
def test_both_ways_tell_the_same(name: str) -> None:
    data = PARSED[name]
    header = recognise(data[:64])
    assert header is not None
    try:
        parsed = drive(header.parse, data).info
    except GiveUp:
        parsed = probe_bytes(data).info  # type: ignore[assignment]
    theirs = read(data)
    for field in ("media_type", "mime_type", "format", "width", "height", "orientation", "video_codec", "audio_codec"):
        assert getattr(theirs, field) == getattr(parsed, field), field
    assert theirs.duration == pytest.approx(parsed.duration, abs=1e-6)
    assert [(s.index, s.type, s.codec, s.language, s.rotation) for s in theirs.streams] == [
        (s.index, s.type, s.codec, s.language, s.rotation) for s in parsed.streams
    ]


def test_codecs_have_their_own_names_and_not_those_of_decoders() -> None:
    assert read(PARSED["mp3"]).audio_codec == "mp3"
    assert read(PARSED["av1"]).video_codec == "av1"
    assert read(PARSED["webm"]).audio_codec == "opus"
    assert read(FALLBACKS["avi"][0]).audio_codec == "mp3"


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize(("degrees", "orientation"), [(0, None), (90, 6), (180, 3), (270, 8)])
def test_a_film_is_turned_as_its_parser_says(container: str, degrees: int, orientation: int | None) -> None:
    data = make.video(container, rotation=degrees)
    info = read(data)
    assert (info.orientation, info.streams[0].rotation) == (orientation, degrees)
    assert (info.width, info.height) == (64, 48)
    parsed = probe_bytes(data).info
    assert parsed is not None
    assert (parsed.orientation, parsed.streams[0].rotation) == (orientation, degrees)
    fragmented = probe_bytes(make.video(container, rotation=degrees, fragmented=True)).info
    assert fragmented is not None
    assert (fragmented.orientation, fragmented.streams[0].rotation) == (orientation, degrees)


def test_a_language_is_told_where_there_is_one() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as output:
        streams: list[Any] = [output.add_stream("pcm_s16le", 8000, layout="mono") for _ in range(2)]
        streams[0].metadata["language"] = "deu"
        for stream in streams:
            frame = av.AudioFrame("s16", "mono", 800)
            frame.sample_rate, frame.pts, frame.time_base = 8000, 0, Fraction(1, 8000)
            frame.planes[0].update(bytes(frame.planes[0].buffer_size))
            output.mux(stream.encode(frame))
    info = read(out.getvalue())
    assert [stream.language for stream in info.streams] == ["deu", None]
    assert {stream.language for stream in read(PARSED["mp4"]).streams} == {None}


def test_cover_art_is_no_film() -> None:
    data = make.audio("mp3", codec="mp3", cover=picture("PNG", size=(40, 40)))
    info = read(data)
    assert (info.media_type, info.width, info.video_codec) == ("audio", None, None)
    assert [stream.type for stream in info.streams] == ["audio"]


@pytest.mark.parametrize("data", [b"", b"text " * 100, b"<svg/>", picture("PNG")[:40]])
def test_what_is_no_container_is_none(data: bytes) -> None:
    assert read_container(io.BytesIO(data)) is None
