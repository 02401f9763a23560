from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.errors import DecodeError
from mediasql.media.headers import GiveUp, recognise
from mediasql.media.headers.bmp import bmp
from mediasql.media.probe import probe_bytes
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
from tests.media.headers.pictures import picture


def made(
    dib: int = 40,
    bits: int = 24,
    size: tuple[int, int] = (7, 5),
    compression: int = 0,
    colors: int = 0,
    rest: bytes = b"",
) -> bytes:
    """A header of `dib` bytes, followed by (or for large headers, filled with) `rest`."""
    if dib == 12:
        header = struct.pack("<IHHHH", dib, *size, 1, bits)
    else:
        header = struct.pack("<IiiHHIIIIII", dib, *size, 1, bits, compression, 0, 0, 0, colors, 0)
    data = header + rest.ljust(max(0, dib - len(header)), b"\0")
    return b"BM" + struct.pack("<IHHI", 14 + len(data), 0, 0, 14 + len(data)) + data + bytes(400)


def greys(count: int, step: int = 1, padding: int = 4) -> bytes:
    return b"".join((bytes((i * step,)) * 3).ljust(padding, b"\0") for i in range(count))


def masks(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


RGBA = masks(0xFF0000, 0xFF00, 0xFF, 0xFF000000)

MADE = made_cases(
    **{f"mode_{mode}": lambda mode=mode: picture("BMP", mode) for mode in ("1", "L", "P", "RGB", "RGBA")},
    top_down=lambda: made(size=(7, -5)),
    os2=lambda: made(dib=12),
    os2_greys=lambda: made(dib=12, bits=8, rest=greys(256, padding=3)),
    os2_version_2=lambda: made(dib=64, bits=4),
    four_greys=lambda: made(bits=4, colors=4, rest=greys(4)),
    black_and_white=lambda: made(bits=1, rest=greys(2, step=255)),
    white_and_black=lambda: made(bits=1, rest=greys(2, step=255)[::-1]),
    late_color=lambda: made(bits=8, rest=greys(255) + b"\1\2\3\0"),
    high_color=lambda: made(bits=16, compression=3, rest=masks(0xF800, 0x7E0, 0x1F)),
    true_color_40=lambda: made(bits=32, compression=3, rest=RGBA),
    alpha_56=lambda: made(dib=56, bits=32, compression=3, rest=RGBA),
    alpha_52=lambda: made(dib=52, bits=32, compression=3, rest=RGBA),
    alpha_124=lambda: made(dib=124, bits=32, compression=3, rest=RGBA),
    run_length=lambda: made(bits=8, compression=1, rest=b"\xff\0\0\0" * 256),
)


# A width of 4294967169 is meant as -127: nonsense, which Pillow takes for a bomb.
@pytest.mark.parametrize("load", MADE + corpus_cases("bmp", "badwidth.bmp"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    data = load()
    if pillow(data):
        agrees(bmp, data)
    else:
        assert isinstance(probe_bytes(data).error, DecodeError)


@given(
    dib=st.sampled_from([12, 40, 52, 56, 64, 108, 124]),
    bits=st.sampled_from([1, 4, 8, 16, 24, 32]),
    width=st.integers(1, 3000),
    height=st.integers(1, 3000),
    top_down=st.booleans(),
    padding=st.sampled_from([3, 4]),
    step=st.sampled_from([1, 255]),
)
def test_agrees_with_pillow_on_any_header(
    dib: int, bits: int, width: int, height: int, top_down: bool, padding: int, step: int
) -> None:
    if top_down and dib > 12:
        height = -height
    palette = greys(min(1 << bits, 256 if step == 1 else 2), step, padding)
    rest = palette if dib <= 40 else bytes(dib - 40) + palette
    agrees(bmp, made(dib, bits, (width, height), rest=rest))


def test_negative_width_is_refused() -> None:
    with pytest.raises(DecodeError, match=r"^BMP is 4294967289 x 5 pixels$"):
        drive(bmp, made(size=(-7, 5)))


@pytest.mark.parametrize(
    "data",
    [
        made(bits=2),
        made(compression=4, bits=0),
        made(bits=16, compression=3, rest=masks(0xF00, 0xF0, 0xF)),
        made(dib=56, bits=32, compression=3, rest=masks(1, 2, 3, 4)),
    ],
    ids=["two bits", "JPEG inside", "odd masks", "odd masks with alpha"],
)
def test_what_pillow_may_learn_is_left_to_it(data: bytes) -> None:
    assert pillow(data) is None
    with pytest.raises(GiveUp):
        drive(bmp, data)


def test_text_that_starts_with_bm_is_no_bitmap() -> None:
    assert recognise(b"BMW is a make of cars, and this is a text of more than 64 bytes about it.") is None


def test_asks_for_the_palette_only_while_it_is_grey() -> None:
    assert drive(bmp, made(bits=8, rest=b"\1\2\3\4" * 256), first=64).spans == []
    assert len(drive(bmp, made(bits=8, rest=greys(256)), first=64).spans) == 1


@given(data=harm([made(), made(bits=8, rest=greys(256)), made(56, 32, compression=3, rest=RGBA)]), **HARMFUL)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    if len(data) > 18 and data[14] in (12, 40, 52, 56, 64, 108, 124):
        survives(bmp, data, first, want_exif, size_known)
