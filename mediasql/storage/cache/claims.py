"""Who fetches what: claims that processes see of each other, so that one fetches and the others wait for it.

A claim is a lock on one byte of a file, at a place that the name of what is claimed says; the system takes it back from
a process that dies. It saves requests, and nothing depends on it: where there are no such locks everyone fetches.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from hashlib import blake2b
from pathlib import Path

from .file_lock import try_lock_byte, unlock_byte

WAIT = 10.0  # seconds after which what another process claims is fetched here too
SHARE = 4  # the part of its time that a read waits: who claims may be stopped, or on a slow network
_LONGEST_PAUSE = 0.05


class Claims:
    """The claims of this process, in the file at `path`. To be used on one thread.

    The locks are POSIX's, which belong to the process: no other object may open that file in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._held: Counter[int] = Counter()

    async def take(self, places: list[int], *claims: tuple[object, ...], within: float = SHARE * WAIT) -> None:
        """Claim what has these names, one after the other; `places` is for `give`.

        After a part of the time that there is, it goes on without those that others hold.
        """
        until = time.monotonic() + min(WAIT, within / SHARE)
        for names in claims:
            text = "\0".join(map(str, names)).encode(errors="replace")
            place = int.from_bytes(blake2b(text, digest_size=8).digest()) >> 2
            pause = 0.001
            while not self._held[place] and not self._try(place) and time.monotonic() < until:
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_PAUSE)
            self._held[place] += 1
            places.append(place)

    def _try(self, place: int) -> bool:
        if self._handle is None:
            try:
                self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            except OSError:
                return True
        return try_lock_byte(self._handle, place)

    def give(self, places: list[int]) -> None:
        """Give up claims that `take` gave."""
        for place in places:
            self._held[place] -= 1
            if self._held[place] <= 0:
                del self._held[place]
                self._unlock(place)

    def _unlock(self, place: int) -> None:
        if self._handle is not None:
            try:
                unlock_byte(self._handle, place)
            except OSError:
                self.close()

    def close(self) -> None:
        """Give up all claims."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
