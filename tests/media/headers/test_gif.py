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
from mediasql.media.headers.gif import gif
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

GREYS = bytes(shade for shade in range(4) for _ in "RGB")
COLORS = bytes(range(12))


def made(
    screen: tuple[int, int] = (7, 5),
    box: tuple[int, int, int, int] = (0, 0, 7, 5),
    palette: bytes = b"",
    own_palette: bytes = b"",
    extensions: bytes = b"",
) -> bytes:
    data = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x81 if palette else 0, 0, 0) + palette + extensions
    data += b"," + struct.pack("<HHHHB", *box, 0x81 if own_palette else 0) + own_palette
    return data + b"\2\1\0\0;"


def extension(label: int, data: bytes) -> bytes:
    parts = [data[i : i + 255] for i in range(0, len(data), 255)]
    return bytes((0x21, label)) + b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def animation() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (7, 5), color) for color in ("red", "blue")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], comment=b"c" * 3000, loop=0)
    return out.getvalue()


MADE = made_cases(
    pillows=lambda: picture("GIF", "P"),
    animation=animation,
    no_palette=made,
    greys=lambda: made(palette=GREYS),
    colors=lambda: made(palette=COLORS),
    own_colors=lambda: made(palette=GREYS, own_palette=COLORS),
    own_greys=lambda: made(palette=COLORS, own_palette=GREYS),
    image_exceeds_screen=lambda: made(box=(3, 4, 20, 30)),
    no_screen=lambda: made(screen=(0, 0)),
    long_comment=lambda: made(extensions=extension(0xFE, b"c" * 100_000), palette=COLORS),
    stray_bytes=lambda: made(extensions=b"\0\0\0" + extension(0xF9, b"\4\0\0\1")),
)


@pytest.mark.parametrize("load", MADE + corpus_cases("gif"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    data = load()
    if pillow(data):
        agrees(gif, data)
    else:
        with pytest.raises(DecodeError):
            drive(gif, data)


@given(
    screen=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    box=st.tuples(*[st.integers(1, 9)] * 4),
    palette=st.sampled_from([b"", GREYS, COLORS]),
    own_palette=st.sampled_from([b"", GREYS, COLORS]),
    comments=st.lists(st.binary(min_size=1, max_size=9000), max_size=4),
)
def test_agrees_with_pillow_on_any_header(
    screen: tuple[int, int],
    box: tuple[int, int, int, int],
    palette: bytes,
    own_palette: bytes,
    comments: list[bytes],
) -> None:
    agrees(gif, made(screen, box, palette, own_palette, b"".join(extension(0xFE, text) for text in comments)))


@given(data=harm([animation(), picture("GIF", "P"), made(own_palette=COLORS)]), **HARMFUL)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    survives(gif, data, first, want_exif, size_known)


@pytest.mark.parametrize("bulk", [b"\x21\xfe" + b"\1x" * 2_000_000, extension(0xFE, b"") * 500_000, bytes(2_000_000)])
@pytest.mark.parametrize("first", [64, 1 << 14])
def test_endless_headers_are_given_up(bulk: bytes, first: int) -> None:
    with pytest.raises(GiveUp):
        drive(gif, made(extensions=bulk), first=first)


def test_empty_extension_ends_where_it_is_empty() -> None:
    # Pillow takes the next byte for another sub-block, here the comma of the image, and finds no image.
    data = made(extensions=extension(0xFF, b""))
    assert pillow(data) is None
    assert drive(gif, data).info.width == 7


def test_needs_no_more_than_the_first_chunk() -> None:
    assert drive(gif, animation() + bytes(100_000)).spans == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (made(palette=COLORS)[:20], "GIF ends at byte 20, before its first image"),
        (made()[:13] + b";", "GIF has no image"),
        (made(screen=(0, 5), box=(0, 0, 0, 5)), "GIF is 0 x 5 pixels"),
    ],
)
def test_names_what_is_broken(data: bytes, message: str) -> None:
    assert pillow(data) is None
    with pytest.raises(DecodeError) as failure:
        drive(gif, data)
    assert str(failure.value) == message
