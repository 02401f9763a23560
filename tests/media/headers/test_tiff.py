from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import OPEN_INFO

from mediasql.errors import DecodeError
from mediasql.media.headers import GiveUp
from mediasql.media.headers.tiff import tiff
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
from tests.media.headers.pictures import picture, xmp

# Tags that are not told as EXIF: where pixels and their colors are, and formats inside this one.
LEFT_OUT = {
    *(273, 279, 288, 289, 324, 325, 347),  # offsets and sizes of strips, of free space and of tiles, JPEGTables
    *(301, 320),  # TransferFunction, ColorMap
    *(700, 33723, 34377, 34675, 37724),  # XMP, IPTC, Photoshop, ICC, ImageSourceData
}
MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I", "I;16", "I;16B", "F"]
TYPES = {"H": 3, "L": 4, "Q": 16}


def made(tags: dict[int, tuple[str, tuple[int, ...]]], order: str = "<", big: bool = False, at: int = 1000) -> bytes:
    """A file with one directory at byte `at`, values that do not fit there behind it, and no pixels."""
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    start += struct.pack(order + "HHQ", 8, 0, at) if big else struct.pack(order + "L", at)
    count, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHL", "L")
    room = 8 if big else 4
    values_at = at + struct.calcsize("=" + count) + len(tags) * (20 if big else 12) + room
    directory, values = struct.pack(order + count, len(tags)), b""
    for tag, (code, numbers) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        directory += struct.pack(order + entry, tag, TYPES[code], len(numbers))
        if len(value) > room:
            directory += struct.pack(order + offset, values_at + len(values))
            values += value
        else:
            directory += value.ljust(room, b"\0")
    return start.ljust(at, b"\0") + directory + bytes(room) + values + bytes(100)


def rgb(**more: int) -> dict[int, tuple[str, tuple[int, ...]]]:
    tags = {256: ("H", (7,)), 257: ("L", (5,)), 258: ("H", (8, 8, 8)), 262: ("H", (2,)), 273: ("L", (8,))}
    tags[277] = ("H", (3,))
    return tags | {int(tag[1:]): ("H", (value,)) for tag, value in more.items()}


MADE = made_cases(
    **{f"mode_{mode}": lambda mode=mode: picture("TIFF", mode) for mode in MODES},
    **{
        compression: lambda compression=compression: picture("TIFF", compression=compression)
        for compression in ("tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate", "zstd")
    },
    group4=lambda: picture("TIFF", "1", compression="group4"),
    yellow_blue_red=lambda: picture("TIFF", "YCbCr", compression="jpeg"),
    big=lambda: picture("TIFF", big_tiff=True),
    orientation=lambda: picture("TIFF", tiffinfo={274: 3}),
    turned=lambda: picture("TIFF", tiffinfo={274: 6}),
    xmp_only=lambda: picture("TIFF", tiffinfo={700: xmp(6)}),
    many_frames=lambda: frames(),
    far=lambda: made(rgb(), at=5_000_000),
    motorola=lambda: made(rgb(), ">"),
    far_and_big=lambda: made(rgb(), big=True, at=5_000_000),
)


def frames() -> bytes:
    out = io.BytesIO()
    Image.new("L", (7, 5)).save(out, "TIFF", save_all=True, append_images=[Image.new("RGB", (3, 3))] * 3)
    return out.getvalue()


@pytest.mark.parametrize("load", MADE + corpus_cases("tiff", "tiff_overflow_rows_per_strip.tif"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    data = load()
    if pillow(data):
        agrees(tiff, data)
    else:
        assert isinstance(probe_bytes(data).error, DecodeError)


@given(
    key=st.sampled_from(sorted(OPEN_INFO)),
    size=st.tuples(st.integers(1, 70_000), st.integers(1, 70_000)),
    big=st.booleans(),
    at=st.integers(16, 20_000),
    compression=st.sampled_from([1, 5, 6, 7, 32773]),
    planar=st.sampled_from([1, 2]),
    orientation=st.none() | st.integers(0, 9),
    one_bits=st.booleans(),
)
def test_agrees_with_pillow_on_any_pixels(
    key: tuple[Any, ...],
    size: tuple[int, int],
    big: bool,
    at: int,
    compression: int,
    planar: int,
    orientation: int | None,
    one_bits: bool,
) -> None:
    order, photometric, formats, fill, bits, extra = key
    tags = {256: ("L", size[:1]), 257: ("L", size[1:]), 258: ("H", bits[:1] if one_bits else bits)}
    tags |= {259: ("H", (compression,)), 262: ("H", (photometric,)), 266: ("H", (fill,))}
    tags |= {273: ("L", (8,)), 277: ("H", (len(bits),)), 284: ("H", (planar,)), 339: ("H", formats)}
    tags |= {338: ("H", extra)} if extra else {}
    tags |= {320: ("H", tuple(range(768)))} if photometric == 3 else {}
    tags |= {274: ("H", (orientation,))} if orientation is not None else {}
    # Pillow does not find the directory of a big-endian BigTIFF.
    data = made(tags, ">" if order == b"MM" else "<", big and order == b"II", at)
    if pillow(data):
        agrees(tiff, data)
    else:
        with pytest.raises(GiveUp):
            drive(tiff, data)


def test_reads_big_endian_bigtiff_though_pillow_does_not() -> None:
    data = made(rgb(), ">", big=True)
    assert pillow(data) is None
    assert drive(tiff, data).info.mode == "RGB"


def test_size_is_that_of_the_turned_picture_as_in_pillow() -> None:
    # Pillow turns TIFFs while it decodes them, so crop() and thumbnail() see them turned.
    info = drive(tiff, made(rgb(t274=6))).info
    assert (info.width, info.height, info.orientation) == (5, 7, 6)


def test_reads_a_directory_at_the_end_in_one_request() -> None:
    data = made(rgb(), at=5_000_000)
    driven = drive(tiff, data, first=64)
    assert [span.start for span in driven.spans] == [5_000_000]
    assert driven.spans[0].stop - driven.spans[0].start <= 512


def camera() -> bytes:
    """A file with all directories that EXIF has."""
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x0132] = "Maker of cameras", 6, "2024:01:02 03:04:05"
    inner = tags.get_ifd(0x8769)
    inner[0x829A], inner[0x927C], inner[0xA005] = 0.01, b"note" * 20, {1: "R98"}
    tags.get_ifd(0x8825)[0x001D] = "2024:01:02"
    return picture("TIFF", exif=tags)


@pytest.mark.parametrize(
    "load", made_cases(camera=camera, big=lambda: picture("TIFF", big_tiff=True)) + corpus_cases("tiff")
)
def test_exif_is_that_of_pillow(load: Callable[[], bytes]) -> None:
    data = load()
    if not pillow(data):
        return
    block = drive(tiff, data, want_exif=True).info.exif
    assert block
    told = Image.Exif()
    told.load(block)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(io.BytesIO(data)) as image:
            known = image.getexif()
            pointers = {0x8769, 0x8825}
            assert set(told) - pointers == {
                tag for tag, value in known.items() if tag not in LEFT_OUT | pointers and not _large(value)
            }
            assert {tag: repr(told[tag]) for tag in set(told) - pointers} == {
                tag: repr(known[tag]) for tag in set(told) - pointers
            }
            for pointer in pointers & set(told):
                assert repr(told.get_ifd(pointer)) == repr(known.get_ifd(pointer))


def _large(value: object) -> bool:
    return isinstance(value, (bytes, str, tuple)) and len(value) > 65536


def test_directories_that_point_to_one_another_end() -> None:
    tags = rgb() | {34665: ("L", (1000,)), 40965: ("L", (1000,)), 34853: ("L", (1000,))}
    driven = drive(tiff, made(tags), want_exif=True)
    assert len(driven.info.exif or b"") < 2000


def test_strips_are_not_checked() -> None:
    # Pillow refuses an overflowing RowsPerStrip, of which size and mode do not depend.
    assert drive(tiff, made(rgb() | {278: ("Q", (1 << 60,))})).info.width == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made(rgb())[:500], "TIFF has its directory at byte 1000, outside the file"),
        (made({256: ("H", (7,))}), "TIFF has no dimensions in its first directory"),
        (made(rgb(t256=0)), "TIFF is 0 x 5 pixels"),
        (b"II*\0\x08\0\0\0", "TIFF ends at byte 8, inside its header"),
    ],
)
@pytest.mark.parametrize("size_known", [True, False])
def test_names_what_is_broken(data: bytes, message: str, size_known: bool) -> None:
    assert pillow(data) is None
    with pytest.raises(DecodeError) as failure:
        drive(tiff, data, size_known=size_known)
    assert str(failure.value) == message


@pytest.mark.parametrize(
    "tags", [rgb(t258=7), rgb(t277=60000), rgb(t259=999), rgb() | {258: ("H", (8,) * 60_000)}, rgb(t262=3)]
)
def test_unknown_pixels_are_left_to_pillow(tags: dict[int, Any]) -> None:
    with pytest.raises(GiveUp):
        drive(tiff, made(tags))


@given(
    data=harm([picture("TIFF"), picture("TIFF", "P", compression="tiff_lzw"), made(rgb(), big=True, at=70)]),
    **HARMFUL,
)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        survives(tiff, data, first, want_exif, size_known)
