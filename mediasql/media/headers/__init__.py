"""Header parsers without I/O, in the manner of h11: they yield the range they need and are sent its bytes.

A parser is a generator function `parse(head, size, want_exif)`:

- `head` holds the first bytes of the file (tens of KB; the whole file when it is smaller),
- `size` is the size of the file in bytes, None when the server does not tell,
- `want_exif` asks for EXIF and orientation even when they need another range. Without it the parser may leave
  them out and say so with `exif_read=False`; EXIF that is met on the way is always kept.

It yields `Span(start, stop)`, the least it needs next, and is sent exactly those bytes, fewer only where the
file ends. Who drives it keeps what was read, answers from that where it can, and may fetch more than was asked.
It returns a MediaInfo; raises DecodeError for a damaged file, or GiveUp for what Pillow or PyAV should read.

One module per family of formats: `@header(matches=…)` over the parser registers it. Where modules disagree on a
file, the first in alphabetical order of its `name` that matches wins, so signatures should not overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ..info import MediaInfo


class Span(NamedTuple):
    """Bytes `start` up to, but not including, `stop` of a file."""

    start: int
    stop: int


Steps: TypeAlias = Generator[Span, bytes, MediaInfo]
Parse: TypeAlias = Callable[[bytes, int | None, bool], Steps]


class GiveUp(Exception):
    """The file is of a kind that this parser leaves to Pillow or PyAV."""


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    matches: Callable[[bytes], bool]
    parse: Parse


HEADERS: dict[str, Header] = {}


def header(*, matches: Callable[[bytes], bool]) -> Callable[[Parse], Parse]:
    """Register a parser for files whose first bytes (64 at least, unless the file is shorter) `matches` accepts."""

    def register(parse: Parse) -> Parse:
        name = parse.__name__
        HEADERS[name] = Header(name, matches, parse)
        return parse

    return register


def recognise(head: bytes) -> Header | None:
    """The parser for a file that starts with `head`, None when no parser knows it."""
    for name in sorted(HEADERS):
        if HEADERS[name].matches(head):
            return HEADERS[name]
    return None
