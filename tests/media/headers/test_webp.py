from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mediasql.errors import DecodeError
from mediasql.media.headers import GiveUp
from mediasql.media.headers.webp import webp
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, agrees, corpus_cases, harm, made_cases, survives
from tests.media.headers.pictures import exif, picture, xmp


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def extended(flags: int, *chunks: bytes) -> bytes:
    """A canvas of 7 x 5 pixels, without a picture that could be decoded."""
    body = b"WEBP" + chunk(b"VP8X", struct.pack("<IHBHB", flags, 6, 0, 4, 0)) + b"".join(chunks)
    return chunk(b"RIFF", body)


def animation(frames: int = 3, **options: object) -> bytes:
    out = io.BytesIO()
    images = [Image.effect_noise((64, 64), 90).convert("RGB") for _ in range(frames)]
    images[0].save(out, "WEBP", save_all=True, append_images=images[1:], **options)
    return out.getvalue()


MADE = made_cases(
    lossy=lambda: picture("WEBP"),
    lossless=lambda: picture("WEBP", lossless=True),
    lossless_alpha=lambda: picture("WEBP", "RGBA", lossless=True),
    alpha=lambda: picture("WEBP", "RGBA"),
    profile=lambda: picture("WEBP", icc_profile=b"p" * 100_000, exif=exif(6)),
    odd_exif=lambda: picture("WEBP", exif=exif(6) + b"x", xmp=xmp(3)),
    xmp_only=lambda: picture("WEBP", xmp=xmp(5)),
    animation=animation,
    long_animation=lambda: animation(40, exif=exif(6), xmp=xmp(3)),
    long_animation_without=lambda: animation(40),
    long_animation_xmp=lambda: animation(40, xmp=xmp(3)),
)


@pytest.mark.parametrize("load", MADE + corpus_cases("webp"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    agrees(webp, load())


@given(
    mode=st.sampled_from(["RGB", "RGBA"]),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    lossless=st.booleans(),
    orientation=st.none() | st.integers(0, 9),
    filler=st.integers(0, 60_000),
    packet=st.none() | st.integers(0, 9).map(xmp),
    profile=st.sampled_from([b"", b"p" * 501, b"p" * 20_000]),
)
def test_agrees_with_pillow_on_any_header(
    mode: str,
    size: tuple[int, int],
    lossless: bool,
    orientation: int | None,
    filler: int,
    packet: bytes | None,
    profile: bytes,
) -> None:
    options = {"exif": exif(orientation, filler)} if orientation is not None else {}
    options |= {"xmp": packet} if packet else {}
    agrees(webp, picture("WEBP", mode, size, lossless=lossless, icc_profile=profile, **options))


def test_says_without_reading_on_that_there_is_no_exif() -> None:
    driven = drive(webp, animation(20), first=64)
    assert (driven.spans, driven.info.exif_read) == ([], True)


def test_jumps_to_exif_behind_the_picture() -> None:
    data = extended(0x08, chunk(b"VP8 ", bytes(5_000_000)), chunk(b"EXIF", exif(6)))
    assert drive(webp, data).info.exif_read is False
    driven = drive(webp, data, want_exif=True)
    assert (driven.info.orientation, driven.info.exif) == (6, exif(6)[6:])
    assert sum(span.stop - span.start for span in driven.spans) < 1000


def test_finds_exif_behind_a_long_animation() -> None:
    frames = [chunk(b"ANMF", bytes(9000)) for _ in range(500)]
    data = extended(0x0A, *frames, chunk(b"EXIF", exif(6)))
    driven = drive(webp, data, want_exif=True)
    assert driven.info.orientation == 6
    assert len(driven.spans) < 20
    with pytest.raises(GiveUp):
        drive(webp, data, want_exif=True, size_known=False)


def test_hostile_tail_ends() -> None:
    data = extended(0x0A, *[chunk(b"ANMF", bytes(9000))] * 50, chunk(b"EXIF", b"") * 20_000 + b"x")
    assert drive(webp, data, want_exif=True).info.width == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (picture("WEBP")[:28], "WebP ends at byte 28, inside its first chunk"),
        (picture("WEBP").replace(b"\x9d\x01\x2a", b"???"), "WebP has no VP8 key frame"),
        (picture("WEBP", lossless=True)[:20] + b"?" + bytes(20), "WebP has no VP8L signature"),
    ],
)
def test_names_what_is_broken(data: bytes, message: str) -> None:
    with pytest.raises(DecodeError) as failure:
        drive(webp, data)
    assert str(failure.value) == message


@given(
    data=harm([picture("WEBP"), picture("WEBP", "RGBA", exif=exif(6)), animation(3, exif=exif(6), xmp=xmp(3))]),
    **HARMFUL,
)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    if data[12:16] in (b"VP8 ", b"VP8L", b"VP8X"):
        survives(webp, data, first, want_exif, size_known)
