from __future__ import annotations

import io
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mediasql.errors import DecodeError
from mediasql.media.headers import GiveUp
from mediasql.media.headers.png import png
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
from tests.media.headers.pictures import chunk, exif, picture, xmp

PLAIN = picture("PNG")
BLOCK = exif(6)[6:]
XMP = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(8))


def before(data: bytes, *chunks: bytes) -> bytes:
    at = data.index(b"IDAT") - 4
    return data[:at] + b"".join(chunks) + data[at:]


def behind(data: bytes, *chunks: bytes) -> bytes:
    return data[:-12] + b"".join(chunks) + data[-12:]


def image_data(parts: list[int], *tail: bytes) -> bytes:
    """A picture whose image data comes in chunks of these sizes."""
    at, end = PLAIN.index(b"IDAT") - 4, len(PLAIN) - 12
    return PLAIN[:at] + b"".join(chunk(b"IDAT", bytes(part)) for part in parts) + b"".join(tail) + PLAIN[end:]


def raw_profile() -> bytes:
    text = b"\nexif\n%8d\n" % len(exif(5)) + exif(5).hex().encode() + b"\n"
    return chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text))


def animation(default_image: bool = False) -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (7, 5), color) for color in ("red", "blue", "green")]
    frames[0].save(out, "PNG", save_all=True, append_images=frames[1:], default_image=default_image)
    return out.getvalue()


MADE = made_cases(
    **{f"mode_{mode}": lambda mode=mode: picture("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")},
    exif_before=lambda: before(PLAIN, chunk(b"eXIf", BLOCK)),
    exif_behind=lambda: behind(PLAIN, chunk(b"eXIf", BLOCK)),
    exif_far_behind=lambda: before(behind(PLAIN, chunk(b"eXIf", BLOCK)), chunk(b"zzZz", bytes(30_000))),
    xmp_before=lambda: before(PLAIN, XMP),
    xmp_behind=lambda: behind(PLAIN, chunk(b"tEXt", b"Comment\0" + bytes(40_000)), XMP),
    xmp_and_exif=lambda: before(PLAIN, XMP, chunk(b"eXIf", BLOCK)),
    raw_profile=lambda: before(PLAIN, raw_profile()),
    profile=lambda: picture("PNG", icc_profile=bytes(range(256)) * 400, exif=exif(6)),
    animation=animation,
    default_image=lambda: animation(default_image=True),
    no_image_data=lambda: PLAIN[:33] + PLAIN[-12:],
)


@pytest.mark.parametrize("load", MADE + corpus_cases("png"))
def test_agrees_with_pillow(load: Callable[[], bytes]) -> None:
    data = load()
    if pillow(data):
        agrees(png, data)
    else:
        survives(png, data, 16384, want_exif=True, size_known=True)


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    chunks=st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([chunk(b"eXIf", BLOCK), XMP, raw_profile(), chunk(b"tEXt", b"Comment\0" + b"c" * 20_000)]),
        ),
        max_size=4,
        unique=True,
    ),
)
def test_agrees_with_pillow_wherever_metadata_is(
    mode: str, size: tuple[int, int], chunks: list[tuple[bool, bytes]]
) -> None:
    data = before(picture("PNG", mode, size), *(body for first, body in chunks if first))
    agrees(png, behind(data, *(body for first, body in chunks if not first)))


@pytest.mark.parametrize(
    ("parts", "spans"),
    [([8192] * 500 + [77], 1), ([65536] * 40 + [77], 1), ([5_000_000], 1), ([2_000_000] * 5, 6), ([8192], 1)],
    ids=["libpng", "Pillow", "one chunk", "large chunks", "small"],
)
@pytest.mark.parametrize("tail", [b"", chunk(b"eXIf", BLOCK)], ids=["without", "exif"])
def test_reaches_exif_behind_any_image_data(parts: list[int], spans: int, tail: bytes) -> None:
    driven = drive(png, image_data(parts, tail), first=4096, want_exif=True)
    assert driven.info.exif == (BLOCK if tail else None)
    assert driven.info.exif_read
    assert len(driven.spans) <= spans + 1
    assert sum(span.stop - span.start for span in driven.spans) < 100_000


def test_does_not_look_behind_image_data_unasked() -> None:
    driven = drive(png, image_data([8192] * 50, chunk(b"eXIf", BLOCK)), first=4096)
    assert (driven.spans, driven.info.exif_read, driven.info.orientation) == ([], False, None)


def test_exif_with_a_wrong_checksum_is_not_used() -> None:
    broken = chunk(b"eXIf", BLOCK)[:-1] + b"?"
    assert drive(png, image_data([8192] * 5, broken), want_exif=True).info.exif is None


def test_image_data_in_chunks_of_any_size_is_left_to_pillow() -> None:
    with pytest.raises(GiveUp):
        drive(png, image_data([10, 900_000, 900_000]), first=64, want_exif=True)


@pytest.mark.parametrize("default_image", [False, True])
def test_counts_frames_as_pillow(default_image: bool) -> None:
    data = animation(default_image)
    info = drive(png, data).info
    with Image.open(io.BytesIO(data)) as image:
        assert (info.frame_count, info.mime_type) == (image.n_frames, "image/apng")


def test_foreign_first_chunk_is_left_to_pillow() -> None:
    with pytest.raises(GiveUp):
        drive(png, PLAIN[:8] + chunk(b"CgBI", b"\x50\0\x20\2") + PLAIN[8:])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (PLAIN[:20], "PNG ends at byte 20, inside its header IHDR"),
        (PLAIN[:17] + b"?" + PLAIN[18:], "PNG header IHDR does not match its checksum"),
        (before(PLAIN, chunk(b"tEXt", bytes(100)))[:60], "PNG ends inside the chunk tEXt at byte 33"),
        (PLAIN[:33], "PNG ends before byte 41, without image data"),
    ],
)
def test_names_what_is_broken(data: bytes, message: str) -> None:
    assert pillow(data) is None
    with pytest.raises(DecodeError) as failure:
        drive(png, data)
    assert str(failure.value) == message


@pytest.mark.parametrize("bulk", [chunk(b"tEXt", b"") * 50_000, chunk(b"acTL", bytes(8)) * 50_000])
def test_endless_headers_end(bulk: bytes) -> None:
    with pytest.raises(DecodeError):
        drive(png, before(PLAIN, bulk), first=1 << 30)
    with pytest.raises(DecodeError):
        drive(png, before(PLAIN, bulk), first=64, want_exif=True)


def test_tells_the_size_of_bombs() -> None:
    # Pillow refuses them unless told otherwise; to know the size is the way to leave them alone.
    huge = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", b"\0\1\0\0\0\1\0\0\x08\2\0\0\0") + PLAIN[33:]
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(huge))
    assert drive(png, huge).info.width == 65536


def test_does_not_inflate_bombs() -> None:
    bomb = chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(bytes(100 << 20)))
    assert drive(png, before(PLAIN, bomb), first=1 << 30).info.width == 7


@given(data=harm([PLAIN, animation(), behind(PLAIN, chunk(b"eXIf", BLOCK)), before(PLAIN, XMP)]), **HARMFUL)
def test_survives_harm(data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    survives(png, data, first, want_exif, size_known)
