"""WAVE against PyAV: formats, chunks in any order, and lengths that recorders left wrong."""

from __future__ import annotations

import struct
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mediasql.media.headers.wave
from mediasql.media.headers import HEADERS, Span, recognise
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import (
    FFMPEG,
    agrees,
    corpus_params,
    gives_up,
    made_params,
    pyav,
    refuses,
    survives,
)
from tests.media.make import audio

NAME = mediasql.media.headers.wave.wave.__name__
CODECS = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_alaw")
ADPCM = ("adpcm_ms", "adpcm_ima_wav")


def pcm(
    seconds: float = 0.5,
    *,
    before: bytes = b"",
    after: bytes = b"",
    length: int | None = None,
    bits: int = 16,
    mark: bytes = b"RIFF",
) -> bytes:
    """PCM of 8,000 Hz in stereo, with chunks `before` the data and a data chunk that claims `length`."""
    align = 2 * bits // 8
    samples = bytes(round(8000 * seconds) * align)
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 2, 8000, 8000 * align, align, bits)
    data = struct.pack("<4sI", b"data", len(samples) if length is None else length) + samples + after
    return mark + struct.pack("<I", 4 + len(before) + len(fmt) + len(data)) + b"WAVE" + before + fmt + data


def chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) & 1)


MADE = made_params(
    **{codec: partial(audio, "wav", codec=codec, seconds=1.234) for codec in CODECS},
    mono=partial(audio, "wav", codec="pcm_s16le", sample_rate=8000, channels=1, seconds=3),
    surround=partial(audio, "wav", codec="pcm_s16le", channels=6),
    tagged=partial(audio, "wav", codec="pcm_s16le", title="A title"),
    rf64=partial(audio, "wav", codec="pcm_s16le", options=(("rf64", "always"),)),
    plain=pcm,
    plain_24=partial(pcm, bits=24),
    plain_32=partial(pcm, bits=32),
    chunks_before=partial(pcm, before=chunk(b"LIST", b"INFOINAM\4\0\0\0abc\0") + chunk(b"junk", b"odd")),
    chunks_after=partial(pcm, after=chunk(b"LIST", b"INFOINAM\4\0\0\0abc\0")),
    streamed=partial(pcm, length=0xFFFFFFFF),
    not_finished=partial(pcm, length=0),
    cut=partial(pcm, length=1 << 20),
    no_sound=partial(pcm, seconds=0.0001),
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".wav")])
def test_files_agree_with_pyav(make):
    agrees(NAME, make())


def adpcm(codec: str, byte_rate: int | None = None) -> bytes:
    """ADPCM of 44,100 Hz in stereo and blocks of 1,024 bytes; its header claims `byte_rate` bytes per second."""
    data = audio("wav", codec=codec, seconds=1.234)
    at = data.index(b"fmt ") + 16
    return data if byte_rate is None else data[:at] + struct.pack("<I", byte_rate) + data[at + 4 :]


# A claim is believed where it is what the blocks make, cut to whole bytes.
@pytest.mark.parametrize(
    ("codec", "byte_rate", "bit_rate"),
    [
        ("adpcm_ms", 0, 356983),
        ("adpcm_ms", 12345, 356983),
        ("adpcm_ms", 44622, 356976),
        ("adpcm_ima_wav", 0, 355228),
        ("adpcm_ima_wav", 44100, 355228),
        ("adpcm_ima_wav", 44403, 355224),
    ],
)
def test_the_bit_rate_of_adpcm_counts_the_headers_of_its_blocks(codec, byte_rate, bit_rate):
    data = adpcm(codec, byte_rate)
    # FFmpeg 8 believes any claim.
    driven = agrees(NAME, data, apart=() if FFMPEG >= 9 else ("bit_rate",))
    assert driven.info.streams[0].bit_rate == bit_rate
    expected = pyav(data)
    assert expected is not None
    assert driven.info.bit_rate == expected.bit_rate


@pytest.mark.parametrize("codec", ADPCM)
def test_adpcm_in_blocks_that_no_encoder_makes_is_left_to_pyav(codec):
    data = adpcm(codec)
    at = data.index(b"fmt ") + 20
    for size in (0, 3, 1021):
        assert f"{size} bytes" in gives_up(NAME, data[:at] + struct.pack("<H", size) + data[at + 2 :])


def test_the_header_takes_no_request():
    assert drive(HEADERS[NAME].parse, pcm(), first=64).spans == []


def test_large_chunks_before_the_sound_are_jumped_over():
    data = pcm(before=chunk(b"bext", bytes(100_000)))
    driven = agrees(NAME, data)
    assert sum(span.stop - span.start for span in driven.spans) < 64
    assert len(driven.spans) == 3
    assert all(isinstance(span, Span) for span in driven.spans)


def test_the_sound_may_come_before_its_format():
    data = pcm()
    fmt, sound = data[12:36], data[36:]
    agrees(NAME, data[:12] + sound + fmt)


def test_a_length_that_only_the_file_size_tells_needs_the_size():
    assert "length" in gives_up(NAME, pcm(length=0xFFFFFFFF), size_known=False)


@pytest.mark.parametrize("codec", ["mp3", "ac3"])
def test_codecs_with_frames_are_left_to_pyav(codec):
    assert "format" in gives_up(NAME, audio("wav", codec=codec))


def test_dts_that_poses_as_pcm_is_left_to_pyav():
    data = pcm()
    assert "DTS" in gives_up(NAME, data[:44] + b"\xff\x1f\x00\xe8" + data[48:])


def test_files_without_format_or_sound_are_damaged():
    assert refuses(NAME, pcm()[:36]) == "WAVE ends before its data chunk"
    assert "no fmt" in refuses(NAME, pcm()[:12] + pcm()[36:])


def test_other_riff_files_are_not_waves():
    assert not HEADERS[NAME].matches(b"RIFF\0\0\0\0WEBPVP8 ".ljust(64, b"\0"))
    assert recognise(b"RIFF\0\0\0\0AVI LIST".ljust(64, b"\0")) is None
    assert pyav(b"RIFF") is None


SEEDS = [
    pcm(0.01),
    audio("wav", codec="pcm_f32le", seconds=0.01),
    audio("wav", codec="adpcm_ms", seconds=0.05),
]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"RIFF\0\0\0\0WAVE" + data, first, want_exif, size_known)
    survives(NAME, b"RF64\0\0\0\0WAVEds64" + data, first, want_exif, size_known)
