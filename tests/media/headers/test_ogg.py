"""Ogg against PyAV: Vorbis, Opus and FLAC; where the length comes from, and what is left to PyAV."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mediasql.media.headers.ogg
from mediasql.media.headers import HEADERS
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import agrees, corpus_params, gives_up, made_params, refuses, survives
from tests.media.make import audio

NAME = mediasql.media.headers.ogg.ogg.__name__

MADE = made_params(
    **{
        f"{codec}_{seconds}": partial(audio, "ogg", codec=codec, seconds=seconds)
        for codec in ("vorbis", "opus", "flac")
        for seconds in (0.02, 0.5, 7.77, 20)
    },
    vorbis_slow=partial(audio, "ogg", codec="vorbis", sample_rate=22050, seconds=3),
    opus_mono=partial(audio, "ogg", codec="opus", channels=1, seconds=3),
    opus_pages=partial(audio, "ogg", codec="opus", seconds=3, options=(("page_duration", "200000"),)),
    vorbis_pages=partial(audio, "ogg", codec="vorbis", seconds=3, options=(("page_duration", "200000"),)),
    flac_mono=partial(audio, "ogg", codec="flac", channels=1, seconds=3, title="A title"),
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".ogg", ".oga", ".opus")])
def test_files_agree_with_pyav(make):
    agrees(NAME, make())


def test_the_length_takes_one_request_for_the_end():
    data = audio("ogg", codec="opus", seconds=20)
    (span,) = drive(HEADERS[NAME].parse, data, first=32768).spans
    assert span == (len(data) - 65307, len(data))


def test_without_a_size_there_is_no_end_to_ask_for():
    assert "size" in gives_up(NAME, audio("ogg", codec="opus"), size_known=False)


def test_a_stream_that_was_cut_at_the_start_is_left_to_pyav():
    data = bytearray(audio("ogg", codec="vorbis", seconds=3, options=(("page_duration", "200000"),)))
    pages = [at for at in range(len(data)) if data[at : at + 4] == b"OggS"]
    assert len(pages) > 4
    del data[pages[2] : pages[3]]  # the first page of sound
    assert "starts at" in gives_up(NAME, bytes(data))


def test_several_streams_are_left_to_pyav():
    one, other = audio("ogg", codec="opus"), audio("ogg", codec="vorbis")
    assert "several" in gives_up(NAME, one + other)


def test_a_file_that_ends_in_its_first_page_is_damaged():
    assert "first page" in refuses(NAME, audio("ogg", codec="opus")[:30])


SEEDS = [audio("ogg", codec=codec, seconds=0.1) for codec in ("vorbis", "opus", "flac")]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"OggS\0\2" + data, first, want_exif, size_known)
    survives(NAME, SEEDS[1][:47] + data, first, want_exif, size_known)
