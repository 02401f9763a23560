"""MP4 and MOV against PyAV: made and real films, where their index lies, and what is left to PyAV."""

from __future__ import annotations

import io
import struct
from fractions import Fraction
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mediasql.media.headers.mp4
from mediasql.media.headers import HEADERS, GiveUp, Span, recognise
from mediasql.media.headers.mp4_audio import aac
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, harm
from tests.media.headers.pyav import (
    agrees,
    corpus_params,
    gives_up,
    made_params,
    pyav,
    refuses,
    survives,
)
from tests.media.make import audio, video

NAME = mediasql.media.headers.mp4.mp4.__name__
NTSC = Fraction(30000, 1001)

MADE = made_params(
    h264=video,
    faststart=partial(video, faststart=True, audio_codec="aac"),
    aac=partial(video, audio_codec="aac"),
    ac3=partial(video, audio_codec="ac3"),
    b_frames=partial(video, b_frames=True, rate=NTSC, frames=60, audio_codec="aac"),
    b_frames_unedited=partial(video, b_frames=True, frames=60, audio_codec="aac", options=(("use_editlist", "0"),)),
    one_frame=partial(video, frames=1),
    odd_size=partial(video, size=(70, 50)),
    mpeg4=partial(video, codec="mpeg4"),
    hevc=partial(video, codec="hevc"),
    av1_opus=partial(video, codec="av1", audio_codec="opus"),
    vp9_flac=partial(video, codec="vp9", audio_codec="flac"),
    mov_pcm=partial(video, "mov", audio_codec="pcm_s16le"),
    mov_pcm_big_endian=partial(video, "mov", audio_codec="pcm_s16be"),
    mov_pcm_24=partial(video, "mov", audio_codec="pcm_s24le"),
    mov_pcm_float=partial(video, "mov", audio_codec="pcm_f32le"),
    mov_alaw=partial(video, "mov", audio_codec="pcm_alaw"),
    mov_mjpeg_alac=partial(video, "mov", codec="mjpeg", audio_codec="alac"),
    three_gp=partial(video, "3gp"),
    m4a=partial(audio, "ipod", codec="aac"),
    m4a_mono=partial(audio, "ipod", codec="aac", sample_rate=22050, channels=1),
    m4a_surround=partial(audio, "ipod", codec="aac", sample_rate=48000, channels=6),
    m4a_alac=partial(audio, "ipod", codec="alac", title="Lossless"),
)


@pytest.mark.parametrize("make", [*MADE, *corpus_params(".mp4", ".m4a", ".mov")])
def test_files_agree_with_pyav(make):
    data = make()
    if pyav(data) is None:
        assert recognise(data[:64]) is None
    else:
        agrees(NAME, data)


@pytest.mark.parametrize("shift", [Fraction(0), Fraction(1, 2), Fraction(2)])
def test_edit_lists_that_delay_a_track_lengthen_the_film(shift):
    """An empty edit before the first: the film lasts from the first start to the last end."""
    data = bytearray(video(audio_codec="aac"))
    at = data.index(b"elst") + 4
    scale = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    length, since, rate = struct.unpack_from(">IiI", data, at + 8)
    if not shift:
        struct.pack_into(">IiI", data, at + 8, length // 2, since, rate)
        agrees(NAME, bytes(data))
        return
    # One entry more: the boxes around it grow by its 12 bytes. The moov box is the last, so the rest stays.
    entry = struct.pack(">IiI", int(shift * scale), -1, 0x10000)
    for name in (b"moov", b"trak", b"edts", b"elst"):
        place = data.index(name) - 4
        struct.pack_into(">I", data, place, struct.unpack_from(">I", data, place)[0] + 12)
    struct.pack_into(">I", data, at + 4, 2)
    data[at + 8 : at + 8] = entry
    assert agrees(NAME, bytes(data)).info.duration == pytest.approx(1 + shift)


@pytest.mark.parametrize(("degrees", "orientation"), [(0, None), (90, 6), (180, 3), (270, 8)])
def test_rotation_becomes_an_orientation(degrees, orientation):
    info = agrees(NAME, video(rotation=degrees)).info
    assert (info.orientation, info.streams[0].rotation) == (orientation, degrees)
    assert (info.width, info.height) == (64, 48)


def test_mime_types():
    assert drive(HEADERS[NAME].parse, video()).info.mime_type == "video/mp4"
    assert drive(HEADERS[NAME].parse, video("mov")).info.mime_type == "video/quicktime"
    assert drive(HEADERS[NAME].parse, audio("ipod", codec="aac")).info.mime_type == "audio/mp4"


def test_a_cover_makes_no_film_of_a_song_and_is_not_a_stream():
    """FFmpeg lists cover art as a video stream. To us it is not media of its own, so it is left out."""
    cover = io.BytesIO()
    Image.new("RGB", (32, 24)).save(cover, "JPEG")
    info = agrees(NAME, audio("mp4", codec="aac", cover=cover.getvalue())).info
    assert (info.media_type, info.width, info.video_codec, len(info.streams)) == ("audio", None, None, 1)


def test_an_index_in_the_first_chunk_takes_no_request():
    assert agrees(NAME, video(faststart=True)).spans == []


def test_an_index_that_the_first_chunk_cuts_is_asked_for_exactly():
    data = video(faststart=True, audio_codec="aac")
    start = data.index(b"moov") - 4
    (length,) = struct.unpack_from(">I", data, start)
    assert drive(HEADERS[NAME].parse, data, first=256).spans == [Span(start, start + length)]


def test_an_index_behind_the_media_data_takes_one_request():
    data = video(audio_codec="aac")
    assert drive(HEADERS[NAME].parse, data, first=1024).spans == [Span(data.index(b"moov") - 4, len(data))]


def test_an_index_behind_media_data_of_unknown_end_takes_two():
    data = video(audio_codec="aac")
    start = data.index(b"moov") - 4
    driven = drive(HEADERS[NAME].parse, data, first=1024, size_known=False)
    assert driven.spans == [Span(start, start + 16), Span(start, len(data))]
    assert driven.info.bit_rate is None


def far(data: bytes) -> tuple[int, dict[int, bytes]]:
    """`data` as if its mdat were 6 GB long: where the file ends, and its parts by where they start."""
    mdat, moov = data.index(b"mdat") - 4, data.index(b"moov") - 4
    length = 6 << 30
    start = data[:mdat] + struct.pack(">I4sQ", 1, b"mdat", length)
    return mdat + length + len(data) - moov, {0: start, mdat + length: data[moov:]}


def test_the_index_of_a_film_of_gigabytes_is_found_by_its_64_bit_size():
    size, parts = far(video(audio_codec="aac"))
    steps = HEADERS[NAME].parse(parts[0], size, False)
    span = next(steps)
    assert span == Span(max(parts), size)
    with pytest.raises(StopIteration) as stop:
        steps.send(parts[span.start])
    assert stop.value.value.frame_count == 25


def test_media_data_up_to_the_end_leave_no_index():
    data = bytearray(video())
    mdat = data.index(b"mdat") - 4
    data[mdat : mdat + 4] = bytes(4)
    assert "ends before its moov box" in refuses(NAME, bytes(data))


@pytest.mark.parametrize("keep", [40, 1000])
def test_a_file_without_its_index_is_damaged(keep):
    assert refuses(NAME, video()[:keep]) == "MP4 ends before its moov box"


def test_an_index_that_is_cut_is_left_to_pyav():
    """FFmpeg makes the best of what is left of it."""
    assert "ends inside" in gives_up(NAME, video()[:-100])


def test_a_fragmented_film_is_left_to_pyav():
    assert "fragmented" in gives_up(NAME, video(fragmented=True))


def test_mp3_in_mp4_is_left_to_pyav():
    """Its sample entry says two channels whatever the frames say."""
    assert "0x6b" in gives_up(NAME, video(audio_codec="mp3"))


def test_an_index_of_unreasonable_size_is_left_to_pyav():
    data = b"\0\0\0\x10ftypisom\0\0\0\0" + struct.pack(">I4sQ", 1, b"moov", 1 << 40)
    with pytest.raises(GiveUp):
        next(HEADERS[NAME].parse(data, 1 << 41, False))


def test_boxes_without_end_are_not_followed():
    assert "boxes before" in gives_up(NAME, b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * 10000)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("1210", (44100, 2)),  # LC, and too fast for FFmpeg to look for a replicated band
        ("1190", (48000, 2)),
        ("11b0", (48000, 6)),
        ("139056e500", (22050, 2)),  # LC that says there is no replicated band
        ("2b920800", (44100, 2)),  # HE-AAC: LC at 22050, replicated to 44100
    ],
)
def test_aac_configurations(config, expected):
    assert aac(bytes.fromhex(config)) == expected


@pytest.mark.parametrize(
    "config", ["1390", "1388", "eb8a0800", "2b8a0800", "1200", "0a10", "12", "", "ff" * 16, "1780"]
)
def test_aac_that_only_decoding_tells_is_left_to_pyav(config):
    with pytest.raises(GiveUp):
        aac(bytes.fromhex(config))


SEEDS = [video(), video(faststart=True, audio_codec="aac", frames=3), audio("ipod", codec="aac", seconds=0.1)]
# Movie headers alone, for the damage to hit them more often than the sound.
SEEDS += [b"\0\0\0\x10ftypisom\0\0\0\0" + data[data.index(b"moov") - 4 :] for data in SEEDS]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"\0\0\0\x10ftypisom\0\0\0\0" + data, first, want_exif, size_known)
    survives(NAME, struct.pack(">I4s", len(data) + 8, b"moov") + data, first, want_exif, size_known)
