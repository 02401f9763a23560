"""Matroska and WebM against PyAV: codecs, where the tracks lie, and what is left to PyAV."""

from __future__ import annotations

from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mediasql.media.headers.matroska
from mediasql.media.headers import HEADERS
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import agrees, corpus_params, gives_up, made_params, survives
from tests.media.make import audio, video

NAME = mediasql.media.headers.matroska.matroska.__name__

MADE = made_params(
    h264=partial(video, "matroska"),
    h264_aac=partial(video, "matroska", audio_codec="aac"),
    ntsc=partial(video, "matroska", rate=Fraction(30000, 1001)),
    film=partial(video, "matroska", rate=Fraction(24000, 1001)),
    hevc_flac=partial(video, "matroska", codec="hevc", audio_codec="flac"),
    mpeg4_vorbis=partial(video, "matroska", codec="mpeg4", audio_codec="vorbis"),
    pcm=partial(video, "matroska", audio_codec="pcm_s16le"),
    pcm_float=partial(video, "matroska", audio_codec="pcm_f32le"),
    pcm_u8=partial(video, "matroska", audio_codec="pcm_u8"),
    webm_vp9_opus=partial(video, "webm", codec="vp9", audio_codec="opus"),
    webm_vp8_vorbis=partial(video, "webm", codec="vp8", audio_codec="vorbis"),
    webm_av1=partial(video, "webm", codec="av1"),
    sound_only=partial(audio, "matroska", codec="opus", sample_rate=48000),
    aac_mono=partial(audio, "matroska", codec="aac", sample_rate=22050, channels=1),
    surround=partial(audio, "matroska", codec="aac", channels=6),
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".mkv", ".webm", ".mka")])
def test_files_agree_with_pyav(make):
    agrees(NAME, make())


@pytest.mark.parametrize("codec", ["mp3", "ac3"])
def test_the_bit_rate_that_frames_tell_is_unknown(codec):
    """FFmpeg decodes the first frame of these, which tells a rate; the header does not."""
    info = agrees(NAME, video("matroska", audio_codec=codec), apart=("bit_rate",)).info
    assert info.streams[1].bit_rate is None
    assert info.bit_rate


@pytest.mark.parametrize(
    ("make", "mime_type"),
    [
        (partial(video, "matroska"), "video/x-matroska"),
        (partial(video, "webm", codec="vp9"), "video/webm"),
        (partial(audio, "webm", codec="opus"), "audio/webm"),
    ],
)
def test_mime_types(make, mime_type):
    assert drive(HEADERS[NAME].parse, make()).info.mime_type == mime_type


def test_the_header_takes_no_request():
    assert drive(HEADERS[NAME].parse, video("matroska", audio_codec="aac"), first=4096).spans == []


def sized(length: int) -> bytes:
    return (length | 1 << 56).to_bytes(8, "big")


def moved() -> bytes:
    """A file whose tracks lie behind its media data, where only its SeekHead leads."""
    data = video("webm", codec="vp9")
    start = data.index(b"\x18\x53\x80\x67") + 12
    # SeekHead names the first two, so they are found again behind it.
    info, tracks, cluster = map(data.rindex, (b"\x15\x49\xa9\x66", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"))
    kept, track, rest = data[info:tracks], data[tracks:], data[cluster:]
    width = 9 - track[4].bit_length()
    length = int.from_bytes(track[4 : 4 + width], "big") & (1 << 7 * width) - 1
    track = track[: 4 + width + length]

    def seek(place: int) -> bytes:
        body = b"\x53\xab\x84\x16\x54\xae\x6b\x53\xac\x88" + place.to_bytes(8, "big")
        entry = b"\x4d\xbb" + sized(len(body)) + body
        return b"\x11\x4d\x9b\x74" + sized(len(entry)) + entry

    place = len(seek(0)) + len(kept) + len(rest)
    body = seek(place) + kept + rest + track
    return data[: start - 8] + sized(len(body)) + body


def test_tracks_behind_the_media_data_are_found():
    data = moved()
    driven = drive(HEADERS[NAME].parse, data, first=512)
    assert (driven.info.width, driven.info.video_codec) == (64, "vp9")
    assert len(driven.spans) <= 3


def test_pictures_without_a_frame_rate_are_left_to_pyav():
    """FFmpeg finds it by reading frames."""
    data = video("matroska").replace(b"\x23\xe3\x83", b"\x23\xe3\x84")
    assert "every 0 ns" in gives_up(NAME, data)


def test_a_live_stream_is_left_to_pyav():
    assert "duration" in gives_up(NAME, video("webm", codec="vp9", options=(("live", "1"),)))


def test_a_file_without_tracks_is_left_to_pyav():
    """FFmpeg looks behind damage for what it knows."""
    data = video("matroska")
    assert "ends before its Info" in gives_up(NAME, data[: data.rindex(b"\x16\x54\xae\x6b")])


def test_other_ebml_is_left_to_pyav():
    assert "nonsense" in gives_up(NAME, video("matroska").replace(b"matroska", b"nonsense", 1))


def test_the_durations_of_streams_are_unknown():
    """FFmpeg says the whole file's of streams of which it met no packet while probing, and none of the others."""
    info = agrees(NAME, video("matroska", audio_codec="aac", frames=5), apart=("duration",)).info
    assert [stream.duration for stream in info.streams] == [None, None]


SEEDS = [video("matroska", audio_codec="aac", frames=2), video("webm", codec="vp9", frames=2), moved()]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"\x1a\x45\xdf\xa3" + data, first, want_exif, size_known)
    survives(NAME, SEEDS[0][:64] + data, first, want_exif, size_known)
