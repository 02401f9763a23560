"""Pillow as the oracle of the parsers for still images, and bytes that mean harm."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from PIL import Image

from mediasql.errors import DecodeError
from mediasql.media.headers import HEADERS, GiveUp, Parse
from mediasql.media.info import MediaInfo
from tests.corpus import CORPUS, corpus_files
from tests.media.headers.drive import drive

# What is at hand at first: a header cut in two, a small and the usual first chunk, and whole small files.
FIRSTS = (64, 512, 16384, 1 << 30)


@dataclass(frozen=True)
class Answer:
    format: str
    width: int
    height: int
    mode: str


def pillow(data: bytes) -> tuple[Answer, int | None] | None:
    """Pillow's answer and orientation; None when Pillow refuses the file."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # sizes are told of bombs, too; decoding is another matter
        try:
            with Image.open(io.BytesIO(data)) as image:
                answer = Answer(image.format or "", *image.size, image.mode)
                try:
                    value = image.getexif().get(0x0112)
                except Exception:  # broken pixels or EXIF, of which Pillow complains in many ways
                    value = None
        except (OSError, SyntaxError, ValueError):
            return None
    return answer, value if isinstance(value, int) and 1 <= value <= 8 else None


def answer(info: MediaInfo) -> Answer:
    assert info.width is not None
    assert info.height is not None
    assert info.mode is not None
    return Answer(info.format, info.width, info.height, info.mode)


def agrees(parse: Parse, data: bytes, *, firsts: tuple[int, ...] = FIRSTS, exif_given_up: bool = False) -> None:
    """Assert that `parse` tells what Pillow tells, whatever is at hand, whether or not the size is known."""
    expected = pillow(data)
    assert expected, "Pillow does not read this"
    for first in firsts:
        for size_known in (True, False):
            info = drive(parse, data, first=first, size_known=size_known).info
            assert answer(info) == expected[0]
            if info.exif_read or info.orientation is not None:
                assert info.orientation == expected[1]
            try:
                info = drive(parse, data, first=first, size_known=size_known, want_exif=True).info
            except GiveUp:
                assert exif_given_up or not size_known
                continue
            assert (answer(info), info.orientation, info.exif_read) == (*expected, True)
            assert info.exif is None or info.exif[:2] in (b"II", b"MM")


def corpus_cases(name: str, *but: str) -> list[object]:
    """Parameters: the files of the corpus that the parser `name` takes for its own, without those named."""
    cases: list[object] = []
    for path in corpus_files():
        with path.open("rb") as file:
            head = file.read(64)
        if CORPUS and path.name not in but and HEADERS[name].matches(head):
            cases.append(pytest.param(path.read_bytes, id=str(path.relative_to(CORPUS))))
    return cases


def made_cases(**made: Callable[[], bytes]) -> list[object]:
    return [pytest.param(make, id=name) for name, make in made.items()]


def survives(parse: Parse, data: bytes, first: int, want_exif: bool, size_known: bool) -> None:
    """Assert that `parse` ends, in one of the three ways, without asking for much."""
    try:
        driven = drive(parse, data, first=first, want_exif=want_exif, size_known=size_known)
    except (DecodeError, GiveUp):
        return
    assert driven.info.width
    assert driven.info.height


def harm(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Files made from `seeds`: bytes changed, cut, put in twice, and replaced by extreme numbers."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(1, 6))):
            # Headers are at the start; half of the damage should be there.
            at = draw(st.integers(0, min(len(data), 64)) | st.integers(0, len(data)))
            patch = draw(
                st.binary(min_size=1, max_size=8)
                | st.sampled_from([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f"])
            )
            how = draw(st.sampled_from(["replace", "insert", "cut", "end"]))
            if how == "replace":
                data[at : at + len(patch)] = patch
            elif how == "insert":
                data[at:at] = patch
            elif how == "cut":
                del data[at : at + len(patch)]
            else:
                del data[at:]
        return bytes(data)

    return build()


HARMFUL = {
    "first": st.sampled_from([64, 512, 16384]),
    "want_exif": st.booleans(),
    "size_known": st.booleans(),
}
