"""FLAC against PyAV."""

from __future__ import annotations

import io
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mediasql.media.headers.flac
from mediasql.media.headers import HEADERS
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import agrees, corpus_params, gives_up, made_params, refuses, survives
from tests.media.make import audio

NAME = mediasql.media.headers.flac.flac.__name__


def unfinished() -> bytes:
    """As an encoder leaves it that cannot go back: the number of samples is 0."""
    data = bytearray(audio("flac", codec="flac"))
    data[8 + 13] &= 0xF0
    data[8 + 14 : 8 + 18] = bytes(4)
    return bytes(data)


MADE = made_params(
    stereo=partial(audio, "flac", codec="flac"),
    mono=partial(audio, "flac", codec="flac", sample_rate=96000, channels=1, seconds=2.5),
    surround=partial(audio, "flac", codec="flac", channels=6, title="A title"),
    unfinished=unfinished,
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".flac")])
def test_files_agree_with_pyav(make):
    agrees(NAME, make())


def test_a_cover_is_not_a_stream():
    """FFmpeg lists cover art as a video stream; it may lie anywhere in a large header, so we do not."""
    cover = io.BytesIO()
    Image.new("RGB", (32, 24)).save(cover, "PNG")
    info = agrees(NAME, audio("flac", codec="flac", cover=cover.getvalue())).info
    assert (info.media_type, info.width, len(info.streams)) == ("audio", None, 1)


def test_42_bytes_are_enough():
    assert drive(HEADERS[NAME].parse, audio("flac", codec="flac"), first=42).spans == []


def test_a_file_that_ends_in_its_header_is_damaged():
    assert "cut short" in refuses(NAME, audio("flac", codec="flac")[:30])


def test_another_block_first_is_left_to_pyav():
    data = bytearray(audio("flac", codec="flac"))
    data[4] = 4
    assert "STREAMINFO" in gives_up(NAME, bytes(data))


@given(data=harm([audio("flac", codec="flac", seconds=0.05)]), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=60), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"fLaC" + data, first, want_exif, size_known)
