from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mediasql.errors import DecodeError
from mediasql.media.headers import GiveUp
from mediasql.media.headers.jpeg import jpeg
from tests.media.headers.drive import drive
from tests.media.headers.oracle import (
    HARMFUL,
    agrees,
    corpus_cases,
    harm,
    made_cases,
    pillow,
    survives,
)
from tests.media.headers.pictures import exif, picture, segment, xmp

PLAIN = picture("JPEG")


def with_segments(data: bytes, *segments: bytes) -> bytes:
    return data[:2] + b"".join(segments) + data[2:]


def pictures(mode: str = "RGB") -> bytes:
    """A multi-picture file."""
    out = io.BytesIO()
    one = Image.new(mode, (7, 5))
    one.save(out, "MPO", save_all=True, append_images=[one, one], exif=exif(8))
    return out.getvalue()


def gain_map() -> bytes:
    """A multi-picture file that is an Ultra HDR photograph."""
    return with_segments(pictures(), segment(0xE1, b'http://ns.adobe.com/xap/1.0/\0<x hdrgm:Version="1.0"/>'))


MADE = made_cases(
    grey=lambda: picture("JPEG", "L"),
    cmyk=lambda: picture("JPEG", "CMYK"),
    progressive=lambda: picture("JPEG", progressive=True),
    profile=lambda: picture("JPEG", icc_profile=b"p" * 200_000, exif=exif(3)),
    pictures=pictures,
    gain_map=gain_map,
    fill_bytes=lambda: with_segments(PLAIN, b"\xff" * 50, segment(0xFE, b"comment"), b"\xff\xff"),
    stray_bytes=lambda: with_segments(PLAIN, segment(0xFE, b"comment"), b"stray\xff\0bytes" * 900),
    exif_twice=lambda: with_segments(PLAIN, segment(0xE1, b"Exif\0\0" + exif(6))),
    exif_in_two=lambda: with_segments(PLAIN, segment(0xE1, exif(6)[:40]), segment(0xE1, b"Exif\0\0" + exif(6)[40:])),
    xmp_only=lambda: picture("JPEG", xmp=xmp(6, 30_000)),
    xmp_and_exif=lambda: picture("JPEG", xmp=xmp(6), exif=exif(3)),
    orientation_nonsense=lambda: picture("JPEG", xmp=xmp(6), exif=exif(0)),
    exif_behind_frame=lambda: PLAIN.replace(b"\xff\xda", segment(0xE1, exif(5)) + b"\xff\xda", 1),
    short_length=lambda: with_segments(PLAIN, b"\xff\xfe\0\0"),
)


@pytest.mark.parametrize("load", MADE + corpus_cases("jpeg"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    agrees(jpeg, load())


@given(
    mode=st.sampled_from(["L", "RGB", "CMYK"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    progressive=st.booleans(),
    orientation=st.none() | st.integers(0, 9),
    filler=st.integers(0, 60_000),
    profile=st.sampled_from([None, 500, 3_000, 150_000]),
    packet=st.none() | st.integers(0, 9).map(lambda orientation: xmp(orientation, orientation * 5000)),
    others=st.lists(st.tuples(st.integers(0xE0, 0xEF), st.binary(max_size=3000)), max_size=5),
)
def test_agrees_with_pillow_on_any_header(
    mode: str,
    size: tuple[int, int],
    progressive: bool,
    orientation: int | None,
    filler: int,
    profile: int | None,
    packet: bytes | None,
    others: list[tuple[int, bytes]],
) -> None:
    options = {"exif": exif(orientation, filler)} if orientation is not None else {}
    options |= {"icc_profile": b"p" * profile} if profile else {}
    options |= {"xmp": packet} if packet else {}
    data = picture("JPEG", mode, size, progressive=progressive, **options)
    agrees(jpeg, with_segments(data, *(segment(marker, body) for marker, body in others)))


@given(data=harm([PLAIN, picture("JPEG", exif=exif(6), xmp=xmp(6)), pictures(), gain_map()]), **HARMFUL)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    survives(jpeg, data, first, want_exif, size_known)


@pytest.mark.parametrize(
    "bulk",
    [segment(0xE1, b"") * 100_000, b"\xff\xd0" * 500_000, b"\xff" * 1_000_000, b"x" * 1_000_000],
    ids=["empty segments", "restart markers", "fill bytes", "stray bytes"],
)
@pytest.mark.parametrize("first", [64, 16384, 1 << 30])
def test_endless_headers_end(bulk: bytes, first: int) -> None:
    with pytest.raises(DecodeError):
        drive(jpeg, with_segments(PLAIN, bulk), first=first)


def test_jumps_over_what_it_does_not_need() -> None:
    data = picture("JPEG", icc_profile=b"p" * 150_000, exif=exif(6, 60_000))
    driven = drive(jpeg, data, first=16384)
    # The thumbnail and maker's note are not read, but the orientation stands before them.
    assert (driven.info.width, driven.info.orientation, driven.info.exif_read) == (7, 6, False)
    assert sum(span.stop - span.start for span in driven.spans) < 300
    driven = drive(jpeg, data, first=16384, want_exif=True)
    assert driven.info.exif == exif(6, 60_000)[6:]
    assert driven.spans[0].start == 16384


def test_counts_pictures() -> None:
    info = drive(jpeg, pictures()).info
    assert (info.format, info.mime_type, info.frame_count) == ("MPO", "image/jpeg", 3)


def test_gain_map_is_no_picture() -> None:
    info = drive(jpeg, gain_map()).info
    assert (info.format, info.mime_type, info.frame_count) == ("JPEG", "image/jpeg", None)


def test_names_the_segment_in_which_a_file_ends() -> None:
    data = picture("JPEG", exif=exif(6, 1000))
    with pytest.raises(DecodeError, match=r"^JPEG ends inside segment APP1 at byte 20, which goes on to byte 1\d+$"):
        drive(jpeg, data[:500])


def test_xmp_counts_where_exif_is_garbage() -> None:
    # Pillow's getexif() raises on the first call, and tells nothing on the second.
    data = with_segments(picture("JPEG", xmp=xmp(6)), segment(0xE1, b"Exif\0\0garbage"))
    info = drive(jpeg, data, want_exif=True).info
    assert (info.orientation, info.exif, info.exif_read) == (6, None, True)


def test_scan_lost_behind_stray_bytes_is_not_sought() -> None:
    # Pillow would go on to the end of the file.
    data = PLAIN.replace(b"\xff\xda", b"x" * 100_000 + b"\xff\xda")
    assert drive(jpeg, data).info.width == 7


def test_twelve_bits_are_left_to_pillow() -> None:
    at = PLAIN.index(b"\xff\xc0") + 4
    with pytest.raises(GiveUp):
        drive(jpeg, PLAIN[:at] + b"\x0c" + PLAIN[at + 1 :])


def test_height_zero_is_refused_as_pillow_does() -> None:
    at = PLAIN.index(b"\xff\xc0") + 5
    data = PLAIN[:at] + b"\0\0" + PLAIN[at + 2 :]
    assert pillow(data) is None
    with pytest.raises(DecodeError):
        drive(jpeg, data)
