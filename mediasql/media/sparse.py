"""What was read of a file so far, and a file object over it that reads the rest when it is needed."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Callable

BLOCK = 64 * 1024
LARGEST = 1024 * 1024


class Segments:
    """Byte ranges of one file, merged where they touch."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._data: list[bytes] = []

    def add(self, start: int, data: bytes) -> None:
        """Keep `data`, which lies at `start`."""
        if not data:
            return
        at = bisect_right(self._starts, start) - 1
        if at >= 0 and self._starts[at] + len(self._data[at]) >= start:
            data = (
                self._data[at][: start - self._starts[at]]
                + data
                + self._data[at][start - self._starts[at] + len(data) :]
            )
            start = self._starts[at]
        else:
            at += 1
            self._starts.insert(at, start)
            self._data.insert(at, b"")
        end = start + len(data)
        upto = at + 1
        while upto < len(self._starts) and self._starts[upto] <= end:
            data += self._data[upto][end - self._starts[upto] :]
            end = start + len(data)
            upto += 1
        self._starts[at:upto] = [start]
        self._data[at:upto] = [data]

    def known_to(self, start: int) -> int:
        """The end of the segment that holds `start` or ends there; `start` itself when none does."""
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return start
        return max(start, self._starts[at] + len(self._data[at]))

    def get(self, start: int, stop: int) -> bytes:
        """The bytes from `start` on that are known without a gap, up to `stop`."""
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return b""
        offset = start - self._starts[at]
        return self._data[at][offset : offset + stop - start]


class SparseFile(io.RawIOBase):
    """A read-only file whose blocks are fetched when they are read; it never reads short before its end.

    fetch   (start, stop) -> bytes, fewer only at the end of the file
    size    of the file in bytes; None when nobody knows, and then the file is read to learn it
    known   what was fetched before; grows with each fetch

    Blocks are 64 KB and grow fourfold while they are read one after the other, to 1 MB: a header costs little, and a
    long read few requests.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int | None, known: Segments | None = None) -> None:
        self._fetch = fetch
        self._size = size
        self._known = known or Segments()
        self._at = 0
        self._block = BLOCK
        self._last_end = -1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: lambda: 0, io.SEEK_CUR: lambda: self._at, io.SEEK_END: self._end}[whence]()
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the file begins")
        self._at = base + offset
        return self._at

    def read(self, wanted: int | None = -1) -> bytes:
        stop = self._end() if wanted is None or wanted < 0 else self._at + wanted
        if self._size is not None:
            stop = min(stop, self._size)
        while (end := self._known.known_to(self._at)) < stop:
            if not self._load(end, stop):
                break
        data = self._known.get(self._at, max(stop, self._at))
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _load(self, start: int, stop: int) -> bool:
        """Fetch from `start` on, at least a block; False at the end of the file."""
        start -= start % BLOCK if self._known.known_to(start - start % BLOCK) == start - start % BLOCK else 0
        self._block = min(self._block * 4, LARGEST) if start == self._last_end else BLOCK
        end = max(stop, start + self._block)
        if self._size is not None:
            end = min(end, self._size)
        data = self._fetch(start, end)
        self._known.add(start, data)
        self._last_end = end
        if len(data) < end - start:
            self._size = start + len(data)
            return bool(data) and self._size > start
        return True

    def _end(self) -> int:
        at = self._known.known_to(0)
        while self._size is None:
            if not self._load(at, at + LARGEST):
                return self._size if self._size is not None else at
            at = self._known.known_to(at)
        return self._size
