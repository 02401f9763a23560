from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mediasql.media.exif import orientation, strip_prefix, write, xmp_orientation
from tests.media.headers.oracle import harm
from tests.media.headers.pictures import exif

# Pillow warns of damage, which is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore")

BLOCK = exif(6)[6:]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["H", "L", "h", "l"])
def test_orientation_of_any_integer_type(order: str, code: str) -> None:
    kind = {"H": 3, "L": 4, "h": 8, "l": 9}[code]
    block = write(order, {0x0112: (kind, struct.pack(order + code, 8))})
    assert orientation(block) == 8 == read(block)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_orientation_out_of_range_is_there_but_zero(value: int) -> None:
    assert orientation(write("<", {0x0112: (3, struct.pack("<H", value))})) == 0


def test_a_value_outside_the_block_ends_the_directory() -> None:
    # As in Pillow. The maker's name stands before the orientation.
    block = BLOCK.replace(b"\x00\x11\x00\x00\x00\x32", b"\x00\x11\x00\x00\xff\x32")
    assert block != BLOCK
    assert orientation(block) is None is read(block)


def test_the_start_of_a_block_is_enough() -> None:
    assert orientation(BLOCK[:60], total=len(BLOCK)) == 6


@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0", b"Exif\0\0Exif\0\0"])
def test_strips_prefixes(prefix: bytes) -> None:
    assert strip_prefix(prefix + BLOCK) == BLOCK


@pytest.mark.parametrize("block", [b"", b"Exif\0\0", b"garbage", b"II*"])
def test_garbage_is_no_block(block: bytes) -> None:
    assert strip_prefix(block) is None
    assert orientation(block) is None


def test_orientation_in_xmp() -> None:
    assert xmp_orientation(b'<rdf:Description tiff:Orientation="3"/>') == 3
    assert xmp_orientation(b"<tiff:Orientation>8</tiff:Orientation>") == 8
    assert xmp_orientation(b"<rdf:Description/>") is None


def test_writes_what_pillow_reads() -> None:
    block = write(">", {0x010F: (2, b"A maker\0"), 0x8769: {0x9003: (2, b"2024:01:02 03:04:05\0")}})
    told = Image.Exif()
    told.load(block)
    assert told[0x010F] == "A maker"
    assert told.get_ifd(0x8769) == {0x9003: "2024:01:02 03:04:05"}


@given(block=harm([BLOCK, write("<", {0x0112: (3, b"\3\0"), 0x0132: (2, b"2024\0")})]))
def test_agrees_with_pillow_on_damaged_blocks(block: bytes) -> None:
    found, known = orientation(block), read(block)
    assert found == known if isinstance(known, int) and 1 <= known <= 8 else not found


@given(st.binary(max_size=200))
def test_survives_anything(block: bytes) -> None:
    assert orientation(b"II*\0" + block) in (None, *range(9))


def read(block: bytes) -> object:
    told = Image.Exif()
    try:
        told.load(block)
        return told.get(0x0112)
    except (SyntaxError, struct.error, IndexError):  # no TIFF header
        return None
