"""Chunks and blocks: what of the one is in the other, and how they get to a file and from it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..providers.base import Chunk, ObjectInfo
from .catalogue import BLOCK, Entry


def together(mine: Entry | None, stored: Entry | None) -> Entry | None:
    """What this process knows of an object and what the catalogue says, in one."""
    if mine is None:
        return stored
    if stored is None or stored.file != mine.file:  # evicted, or another version
        mine.dead = True
        return stored
    if mine.dead:  # and will be dropped there, too
        return None
    mine.checks.update(stored.checks)
    mine.checked = max(mine.checked, stored.checked)
    return mine


def missing(entry: Entry | None, first: int, end: int) -> range | None:
    """The first run of blocks that are not there; None where all are."""
    if entry is None:
        return range(first, max(end, first + 1))
    end = min(end, -(-entry.size // BLOCK))
    start = next((at for at in range(first, end) if not entry.check(at)), None)
    if start is None:
        return None
    return range(start, next((at for at in range(start + 1, end) if entry.check(at)), end))


def cut(chunk: Chunk, start: int, stop: int) -> Chunk | None:
    """Bytes `start` to `stop` of a chunk; None where it does not have them all."""
    end = chunk.start + len(chunk.data)
    if chunk.info.size is not None:
        stop = min(stop, chunk.info.size)
    if start < chunk.start or end < stop:
        return None
    if (chunk.start, end) == (start, stop):
        return chunk
    return replace(chunk, data=chunk.data[start - chunk.start : max(stop, start) - chunk.start], start=start)


def measured(chunk: Chunk, stop: int) -> ObjectInfo:
    """What the answer to a read up to `stop` says of the object; its end tells the size, if nothing else does."""
    end = chunk.start + len(chunk.data)
    if chunk.info.size is None and end < stop and (chunk.data or not chunk.start):
        return replace(chunk.info, size=end)
    return chunk.info


def whole_blocks(chunk: Chunk) -> bool:
    """Whether a chunk is made of blocks, the last of the object among them or not."""
    size = chunk.info.size
    end = chunk.start + len(chunk.data)
    if size is None or chunk.start % BLOCK:
        return False
    return not chunk.data or end == size or (end < size and end % BLOCK == 0)


def store(handle: int, entry: Entry, chunk: Chunk) -> dict[int, int]:
    """Write a chunk to the entry's file, which is closed; the CRC of each block."""
    try:
        view = memoryview(chunk.data)
        os.lseek(handle, chunk.start, os.SEEK_SET)
        while view:
            view = view[os.write(handle, view) :]
    finally:
        os.close(handle)
    view = memoryview(chunk.data)
    first = chunk.start // BLOCK
    return {
        first + number: entry.sum(first + number, view[number * BLOCK : (number + 1) * BLOCK])
        for number in range(-(-len(view) // BLOCK))
    }


def load(
    path: Path, entry: Entry, checks: list[int], first: int, start: int, stop: int
) -> tuple[bytes, dict[int, int]]:
    """Bytes of the entry's file, and the blocks from `first` on that are not what `checks` says. Raises OSError."""
    begin, end = first * BLOCK, min((first + len(checks)) * BLOCK, entry.size)
    with open(path, "rb", buffering=0) as file:
        file.seek(begin)
        data = file.read(end - begin)
        while len(data) < end - begin and (more := file.read(end - begin - len(data))):
            data += more
    view = memoryview(data)
    bad = {}
    for number, check in enumerate(checks):
        at = number * BLOCK
        block = view[at : at + BLOCK]
        if len(block) < min(BLOCK, end - begin - at) or entry.sum(first + number, block) != check:
            bad[first + number] = check
    return (data if (start, stop) == (begin, end) else data[start - begin : stop - begin]), bad
