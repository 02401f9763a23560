"""MP3 against PyAV: tags of all kinds, constant and variable rates, and what only looks like MP3."""

from __future__ import annotations

import io
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mediasql.media.headers.mp3
from mediasql.media.headers import HEADERS, Span, recognise
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import (
    agrees,
    corpus_params,
    gives_up,
    made_params,
    pyav,
    survives,
)
from tests.media.make import audio

NAME = mediasql.media.headers.mp3.mp3.__name__
BARE = (("write_xing", "0"), ("id3v2_version", "0"))


def tag(size: int) -> bytes:
    return b"ID3\4\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)


def vbri() -> bytes:
    """Fraunhofer's tag in place of LAME's: it is where the side information of the first frame would be."""
    data = bytearray(audio(seconds=2, options=(("id3v2_version", "0"),)))
    frames = int.from_bytes(data[44:48], "big")
    data[36:100] = bytes(64)
    data[36:54] = b"VBRI\0\1\0\0\0\0" + len(data).to_bytes(4, "big") + frames.to_bytes(4, "big")
    return bytes(data)


MADE = made_params(
    constant=audio,
    variable=partial(audio, variable=True, title="A title", seconds=3),
    mono=partial(audio, sample_rate=22050, channels=1),
    telephone=partial(audio, sample_rate=8000, channels=1, seconds=3),
    slow=partial(audio, sample_rate=32000, bit_rate=320000),
    no_xing=partial(audio, options=(("write_xing", "0"),), seconds=5),
    bare=partial(audio, options=BARE, seconds=5),
    bare_mono=partial(audio, options=BARE, seconds=2, sample_rate=24000, channels=1),
    id3v1=partial(audio, options=(*BARE, ("write_id3v1", "1")), title="A title", seconds=3),
    two_tags=lambda: tag(100) + tag(3000) + audio(options=BARE, seconds=2),
    vbri=vbri,
    cut=lambda: audio(seconds=5)[:20000],
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".mp3")])
def test_files_agree_with_pyav(make):
    data = make()
    if pyav(data) is None:
        assert recognise(data[:64]) is None
    else:
        agrees(NAME, data)


def test_a_large_tag_is_jumped_over():
    data = tag(300_000) + audio(options=(("id3v2_version", "0"),))
    assert agrees(NAME, data).spans == [Span(300_010, 300_020), Span(300_010, 300_010 + 1445)]


def test_a_cover_is_not_a_stream():
    """FFmpeg lists cover art as a video stream; it is often larger than all that we read, so we do not."""
    cover = io.BytesIO()
    Image.new("RGB", (32, 24)).save(cover, "JPEG")
    info = agrees(NAME, audio(cover=cover.getvalue(), title="A title")).info
    assert (info.media_type, info.width, len(info.streams)) == ("audio", None, 1)


def test_a_variable_rate_that_no_tag_tells_is_left_to_pyav():
    """FFmpeg goes by the average of the frames that it happens to read."""
    assert "variable" in gives_up(NAME, audio(options=BARE, variable=True, seconds=5))


def test_files_joined_end_to_end_are_left_to_pyav():
    """The tag of the first tells of the first alone; FFmpeg then goes by the size of all."""
    assert "longer than" in gives_up(NAME, audio(options=(("id3v2_version", "0"),)) * 3)


def test_flac_behind_an_id3_tag_is_flac():
    data = tag(500) + audio("flac", codec="flac")
    info = drive(HEADERS[NAME].parse, data).info
    expected = pyav(data)
    assert expected is not None
    assert (info.format, info.duration, info.bit_rate) == ("flac", expected.duration, expected.bit_rate)


def test_other_sound_behind_an_id3_tag_is_left_to_pyav():
    assert "not MP3" in gives_up(NAME, tag(500) + audio("adts", codec="aac"))


def test_an_id3_tag_that_overruns_the_file_is_left_to_pyav():
    """FFmpeg looks for sound inside it."""
    assert "behind the end" in gives_up(NAME, tag(500)[:400])


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe0" + bytes(60),
        b"\xff\xfeh\0e\0l\0l\0o\0" + bytes(60),
        b"\xff\xfb\x90\x64" + bytes(2000),
        audio("adts", codec="aac"),
        audio("mp2", codec="mp2"),
        bytes(2000),
    ],
    ids=["jpeg", "utf-16", "one frame", "aac", "layer 2", "zeros"],
)
def test_what_is_not_mp3_is_not_taken_for_it(data):
    assert not HEADERS[NAME].matches(data)


SEEDS = [audio(seconds=0.1), audio(seconds=0.3, options=BARE), tag(40) + audio(seconds=0.2, options=BARE)]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"ID3" + data, first, want_exif, size_known)
    survives(NAME, b"\xff\xfb\x90\x64" + data, first, want_exif, size_known)
