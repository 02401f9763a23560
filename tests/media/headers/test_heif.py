"""AVIF against Pillow, HEIC against numbers that pillow-heif told; where EXIF lies; hostile meta boxes."""

from __future__ import annotations

import io
import struct
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

import mediasql.media.headers.heif
from mediasql.media.headers import HEADERS, Span
from tests.corpus import corpus_files
from tests.media.headers.drive import drive
from tests.media.headers.oracle import HARMFUL, agrees, corpus_cases, harm, made_cases
from tests.media.headers.pyav import gives_up, survives

NAME = mediasql.media.headers.heif.heif.__name__
PARSE = HEADERS[NAME].parse
# Pillow's wheels have it; a Pillow without would not know AVIF at all.
AVIF = features.check("avif")
# Not AVIF, so Pillow alone does not read them.
HEIC = ("hopper.heif", "sewing-threads.heic")


def avif(mode: str = "RGB", *, size: tuple[int, int] = (40, 30), orientation: int = 0, make: str = "") -> bytes:
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    if make:
        exif[0x010F] = make
    file = io.BytesIO()
    Image.new(mode, size).save(file, "AVIF", exif=exif, speed=10)
    return file.getvalue()


MADE = made_cases(
    rgb=avif,
    rgba=partial(avif, "RGBA"),
    grey=partial(avif, "L"),
    grey_alpha=partial(avif, "LA"),
    large=partial(avif, size=(1000, 700)),
    exif_without_orientation=partial(avif, make="Camera"),
    exif_upright=partial(avif, orientation=1, make="Camera"),
    **{f"turned_{turn}": partial(avif, orientation=turn, make="Camera") for turn in range(2, 9)},
)


@pytest.mark.parametrize("make", [*MADE, *corpus_cases(NAME, *HEIC)] if AVIF else [])
def test_files_agree_with_pillow(make):
    agrees(PARSE, make())


def test_heic_files_agree_with_pillow_heif():
    """What pillow-heif 1.8 told of them: format, size, mode and orientation. The first is a grid of tiles."""
    told = {
        "sewing-threads.heic": ("image/heic", "HEIF", 4000, 3000, "RGB", 1, 842),
        "hopper.heif": ("image/heic", "HEIF", 128, 128, "RGB", None, 0),
    }
    for path in corpus_files(".heic", ".heif"):
        info = drive(PARSE, path.read_bytes(), want_exif=True).info
        answer = (info.mime_type, info.format, info.width, info.height, info.mode, info.orientation)
        assert (*answer, len(info.exif or b"")) == told[path.name]
        assert info.exif_read


def box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def heic(
    *,
    turn: int | None = None,
    mirror: int | None = None,
    exif: bytes = b"",
    in_meta: bool = False,
    behind: bool = False,
    brand: bytes = b"heic",
    primary: bytes = b"grid",
    pictures: bytes = bytes(100),
) -> bytes:
    """A HEIC of 3,000 by 2,000 from one tile of 512: its meta box before or `behind` the pictures."""
    full = bytes(4)

    def infe(item: int, kind: bytes) -> bytes:
        return box(b"infe", b"\2\0\0\0", struct.pack(">HH4sx", item, 0, kind))

    properties = [box(b"ispe", full, struct.pack(">II", 3000, 2000)), box(b"ispe", full, struct.pack(">II", 512, 512))]
    of_primary = [1]
    if turn is not None:
        properties.append(box(b"irot", bytes([turn])))
        of_primary.append(len(properties))
    if mirror is not None:
        properties.append(box(b"imir", bytes([mirror])))
        of_primary.append(len(properties))
    ftyp = box(b"ftyp", brand, bytes(4), b"mif1", b"heic")
    item = struct.pack(">I", 6) + b"Exif\0\0" + exif if exif else b""
    mdat = box(b"mdat", pictures, b"" if in_meta else item)

    def meta(start: int) -> bytes:
        place = struct.pack(">HHHHII", 3, 1 if in_meta else 0, 0, 1, start, len(item))
        return box(
            b"meta",
            full,
            box(b"hdlr", full, bytes(4), b"pict", bytes(13)),
            box(b"pitm", full, b"\0\1"),
            box(b"iinf", full, b"\0\3", infe(1, primary), infe(2, b"hvc1"), infe(3, b"Exif" if exif else b"free")),
            box(
                b"iref",
                full,
                box(b"dimg", struct.pack(">HHH", 1, 1, 2)),
                box(b"cdsc", struct.pack(">HHH", 3, 1, 1)),
            ),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", full, b"\0\0\0\2", struct.pack(">HB", 1, len(of_primary)), bytes(of_primary), b"\0\2\1\2"),
            ),
            box(b"iloc", b"\1\0\0\0\x44\0\0\1", place),
            box(b"idat", item if in_meta else b""),
        )

    before = len(ftyp) + (0 if behind else len(meta(0)))
    placed = meta(0 if in_meta else before + 8 + len(pictures))
    return ftyp + (mdat + placed if behind else placed + mdat)


EXIF = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"


def test_a_picture_of_tiles_is_as_large_as_all_of_them():
    info = drive(PARSE, heic()).info
    assert (info.width, info.height, info.mode, info.format) == (3000, 2000, "RGB", "HEIF")
    assert (info.orientation, info.exif, info.exif_read) == (None, None, True)


@pytest.mark.parametrize(
    ("turn", "mirror", "orientation"),
    [(0, None, None), (1, None, 8), (2, None, 3), (3, None, 6), (None, 0, 4), (None, 1, 2), (1, 0, 5), (1, 1, 7)],
)
def test_turns_and_mirrors_become_an_orientation(turn, mirror, orientation):
    info = drive(PARSE, heic(turn=turn, mirror=mirror)).info
    assert (info.width, info.height, info.orientation) == (3000, 2000, orientation)


def test_the_orientation_in_exif_does_not_count():
    """HEIF 6.5.10: only irot and imir do. Writers keep what the camera wrote, though they turned the picture."""
    assert drive(PARSE, heic(exif=EXIF)).info.orientation == 1
    assert drive(PARSE, heic(exif=EXIF, turn=1)).info.orientation == 8


@pytest.mark.parametrize("in_meta", [True, False])
def test_exif_that_is_met_on_the_way_is_kept(in_meta):
    driven = drive(PARSE, heic(exif=EXIF, in_meta=in_meta))
    assert (driven.info.exif, driven.info.exif_read, driven.spans) == (EXIF, True, [])


def test_exif_elsewhere_is_asked_for_only_when_wanted():
    data = heic(exif=EXIF, pictures=bytes(50_000))
    driven = drive(PARSE, data)
    assert (driven.info.exif, driven.info.exif_read, driven.spans) == (None, False, [])
    driven = drive(PARSE, data, want_exif=True)
    assert (driven.info.exif, driven.info.exif_read) == (EXIF, True)
    assert driven.spans == [Span(len(data) - 10 - len(EXIF), len(data))]


def test_a_meta_box_behind_the_pictures_takes_one_request():
    data = heic(behind=True, pictures=bytes(50_000))
    driven = drive(PARSE, data, first=1024)
    assert driven.info.width == 3000
    assert driven.spans == [Span(data.index(b"meta") - 4, len(data))]


@pytest.mark.parametrize(
    ("brand", "mime_type"), [(b"heic", "image/heic"), (b"heix", "image/heic"), (b"mif1", "image/heif")]
)
def test_mime_types(brand, mime_type):
    assert drive(PARSE, heic(brand=brand)).info.mime_type == mime_type


def test_sequences_and_derived_pictures_are_left_to_pillow():
    assert "sequence" in gives_up(NAME, heic(brand=b"msf1"))
    assert "iovl" in gives_up(NAME, heic(primary=b"iovl"))


def test_films_are_not_stills():
    assert not HEADERS[NAME].matches(b"\0\0\0\x18ftypisom\0\0\0\0isommp41".ljust(64, b"\0"))


SEEDS = [heic(turn=1, mirror=0, exif=EXIF), heic(behind=True, exif=EXIF, in_meta=True)]
if AVIF:
    SEEDS += [avif("RGBA", orientation=6, make="Camera")]


@given(data=harm(SEEDS), **HARMFUL)
def test_damaged_files_do_no_harm(data, first, want_exif, size_known):
    survives(NAME, data, first, want_exif, size_known)


@given(data=st.binary(max_size=600), **HARMFUL)
def test_noise_does_no_harm(data, first, want_exif, size_known):
    survives(NAME, b"\0\0\0\x10ftypavif\0\0\0\0" + box(b"meta", data), first, want_exif, size_known)
