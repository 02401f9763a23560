"""Runs a sans-IO header parser over bytes in memory, as the fetcher would, and counts what it asks for."""

from __future__ import annotations

from dataclasses import dataclass

from mediasql.media.headers import Parse, Span
from mediasql.media.info import MediaInfo

# No honest header needs more: a parser that asks this often walks what an attacker can make endless.
MAX_SPANS = 4096


@dataclass(frozen=True, slots=True)
class Driven:
    """What a parser answered, and the spans it asked for, in order."""

    info: MediaInfo
    spans: list[Span]


def drive(parse: Parse, data: bytes, *, first: int = 16384, want_exif: bool = False, size_known: bool = True) -> Driven:
    """Drive `parse` over `data`, of which `first` bytes are at hand when it starts.

    Each span is answered with exactly its bytes, fewer only where `data` ends. DecodeError and GiveUp pass.
    """
    spans: list[Span] = []
    steps = parse(data[:first], len(data) if size_known else None, want_exif)
    try:
        span = next(steps)
        while True:
            assert isinstance(span, Span), f"yielded {span!r}, not a Span"
            assert 0 <= span.start < span.stop, f"asked for the empty or negative {span}"
            spans.append(span)
            assert len(spans) <= MAX_SPANS, f"asked {len(spans)} times"
            span = steps.send(data[span.start : span.stop])
    except StopIteration as stop:
        info = stop.value
    assert isinstance(info, MediaInfo), f"returned {info!r}, not a MediaInfo"
    return Driven(info, spans)
