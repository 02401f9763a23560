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
        self._data: list[bytes | bytearray] = []  # as it came, until more is read just behind it

    def add(self, start: int, data: bytes) -> None:
        """Keep `data`, which lies at `start`."""
        if not data:
            return
        at = bisect_right(self._starts, start) - 1
        if at >= 0 and self._starts[at] + len(self._data[at]) >= start:
            segment, offset = self._growing(at), start - self._starts[at]
            segment[offset : offset + len(data)] = data  # appends in place when a file is read on and on
        else:
            at += 1
            self._starts.insert(at, start)
            self._data.insert(at, bytes(data))  # a copy where it is another's bytearray
        end = self._starts[at] + len(self._data[at])
        upto = at + 1
        while upto < len(self._starts) and self._starts[upto] <= end:
            segment = self._growing(at)
            segment += self._data[upto][end - self._starts[upto] :]
            end = self._starts[at] + len(segment)
            upto += 1
        del self._starts[at + 1 : upto], self._data[at + 1 : upto]

    def _growing(self, at: int) -> bytearray:
        segment = self._data[at]
        if not isinstance(segment, bytearray):
            segment = self._data[at] = bytearray(segment)
        return segment

    def known_to(self, start: int) -> int:
        """The end of the segment that holds `start` or ends there; `start` itself when none does."""
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return start
        return max(start, self._starts[at] + len(self._data[at]))

    def next_known(self, start: int) -> int | None:
        """Where the first segment behind `start` begins."""
        at = bisect_right(self._starts, start)
        return self._starts[at] if at < len(self._starts) else None

    def get(self, start: int, stop: int) -> bytes:
        """The bytes from `start` on that are known without a gap, up to `stop`."""
        at = bisect_right(self._starts, start) - 1
        if at < 0:
            return b""
        offset = start - self._starts[at]
        return bytes(memoryview(self._data[at])[offset : offset + max(0, stop - start)])


class SparseFile(io.RawIOBase):
    """A read-only file whose blocks are fetched when they are read; it never reads short before its end.

    fetch   (start, stop) -> bytes, fewer only at the end of the file
    size    of the file in bytes; None when nobody knows, and then the file is read to learn it
    known   what was fetched before; grows with each fetch

    Blocks are 64 KB and grow fourfold while they are read one after the other, to 1 MB: a header costs little, and a
    long read few requests. What is known is not fetched again.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int | None, known: Segments | None = None) -> None:
        self._fetch = fetch
        self._limit = size  # no byte lies there or behind; None: as far as is known, all may
        self._limit_is_size = size is not None
        self._known = known if known is not None else Segments()
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
        while (end := self._known.known_to(self._at)) < self._within(stop):
            self._load(end, stop)
        data = self._known.get(self._at, stop)
        self._at += len(data)
        return data

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _within(self, stop: int) -> int:
        return stop if self._limit is None else min(stop, self._limit)

    def _load(self, start: int, stop: int) -> None:
        """Fetch from `start`, where nothing is known, to `stop`, and at least a block. Learns where the file ends."""
        self._block = min(self._block * 4, LARGEST) if start == self._last_end else BLOCK
        aligned = start - start % BLOCK
        if self._known.known_to(aligned) == aligned:
            start = aligned
        end = max(stop, start + self._block)
        if (known := self._known.next_known(start)) is not None:
            end = min(end, known)
        end = self._within(end)
        data = self._fetch(start, end)
        self._known.add(start, data)
        self._last_end = end
        if len(data) < end - start:
            self._limit = start + len(data)
            # Nothing at all may also be far behind the end.
            self._limit_is_size = self._limit == 0 or self._known.known_to(self._limit - 1) == self._limit

    def _end(self) -> int:
        """The size of the file. Twice as much is read each time, since a server that does not tell the size may not
        know ranges either, and send all that comes before."""
        while not self._limit_is_size:
            at = self._known.known_to(0)
            if self._limit is not None and at >= self._limit:
                break
            self._load(at, at + max(LARGEST, at))
        assert self._limit is not None
        self._limit_is_size = True
        return self._limit
