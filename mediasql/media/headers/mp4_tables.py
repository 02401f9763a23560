"""The tables of a track in MP4 and MOV (ISO/IEC 14496-12 8.6 and 8.7), as sums and not sample by sample.

A film of hours has millions of samples, so what is told of each is added up by C code over the bytes.
"""

from __future__ import annotations

import struct
import sys
from array import array

from . import GiveUp
from .ffmpeg import rescale
from .isobmff import Box, children

_MOST_EDITS = 1024

_pair = struct.Struct(">II").unpack_from
_word = struct.Struct(">I").unpack_from
# By the version of elst, 0 or 1: what reads an entry, and the size of one.
_EDIT = (struct.Struct(">Ii").unpack_from, 12), (struct.Struct(">Qq").unpack_from, 20)


def time_to_sample(data: bytes, box: Box) -> tuple[int, int, bool]:
    """Number of samples, the sum of their durations, and whether each lasts one tick, from stts (8.6.1.2)."""
    (entries,) = _word(data, box.start + 4)
    if 8 + 8 * entries > box.stop - box.start:
        raise GiveUp("a table of times that overruns its box")
    if entries == 1:
        count, delta = _pair(data, box.start + 8)
        samples, length, most = count, count * delta, delta
    else:
        counts, deltas = _words(data, box.start + 8, 2 * entries)
        samples, length, most = sum(counts), sum(map(int.__mul__, counts, deltas)), max(deltas, default=0)
    # FFmpeg mends negative durations while it reads; they are not worth mending twice.
    if most > 0x7FFFFFFF:
        raise GiveUp("negative sample durations")
    return samples, length, entries == 1 and most == 1


def _numbers(data: bytes, start: int, count: int) -> array[int]:
    """`count` numbers of 32 bits, which take four bytes each in memory too."""
    numbers = array("I", data[start : start + 4 * count])
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


def _words(data: bytes, start: int, count: int) -> tuple[array[int], array[int]]:
    """The even and the odd ones of `count` numbers."""
    numbers = _numbers(data, start, count)
    return numbers[::2], numbers[1::2]


def data_size(data: bytes, table: dict[bytes, Box], samples: int) -> int | None:
    """Bytes of all samples of a track, from stsz (8.7.3.2). It must be of as many `samples` as stts."""
    box = table.get(b"stsz")
    if box is None:
        return None
    each, count = _pair(data, box.start + 4)
    if count != samples:
        raise GiveUp("tables of different numbers of samples")
    if each:
        return int(each * count)
    if 12 + 4 * count > box.stop - box.start:
        raise GiveUp("a table of sizes that overruns its box")
    return sum(_numbers(data, box.start + 12, count))


def edits(data: bytes, edts: Box, time_scale: int, movie_scale: int) -> tuple[int, int] | None:
    """When an edit list starts a track, and how much of it it plays, in the track's time (8.6.6)."""
    elst = children(data, edts.start, edts.stop).get(b"elst")
    if elst is None:
        return None
    (entries,) = _word(data, elst.start + 4)
    fields, step = _EDIT[data[elst.start] == 1]
    if not 0 < entries <= _MOST_EDITS or 8 + step * entries > elst.stop - elst.start:
        raise GiveUp(f"an edit list of {entries} entries")
    start = played = 0
    for at in range(elst.start + 8, elst.start + 8 + step * entries, step):
        length, since = fields(data, at)
        length = rescale(length, time_scale, movie_scale)
        if since == -1 and not played:
            start += length
        elif since < 0 or not length:
            raise GiveUp("an unusual edit list")
        else:
            played += length
    return start, played


def first_shown(data: bytes, ctts: Box) -> int:
    """When the first sample is shown if it is decoded at 0: its composition offset (8.6.1.3)."""
    (entries,) = _word(data, ctts.start + 4)
    if not 0 < entries <= (ctts.stop - ctts.start - 8) // 8:
        raise GiveUp("a table of offsets that overruns its box")
    _, offsets = _words(data, ctts.start + 8, 2 * entries)
    if max(offsets) > 0x7FFFFFFF:
        raise GiveUp("negative composition offsets without an edit list")
    return offsets[0]
