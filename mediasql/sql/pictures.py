"""Thumbnails made in the background: of a film no more is read than its first key frame takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from ..errors import DecodeError
from ..media.decoding import decoded
from ..media.kinds import KINDS
from ..media.sparse import Segments
from ..media.thumbnail import thumbnail
from ..storage.fetch import Changed, of_one_version
from ..storage.location import Location
from ..storage.providers.base import PART, ObjectInfo, changed
from ..storage.store import Store
from .workshop import Ticket

MOST = 128 * 1024 * 1024  # bytes read of one file; no real one needs it
_TIMED_HEAD = 64 * 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """Makes the thumbnail of a URL (str) or BLOB (bytes); see `media.thumbnail.thumbnail`."""

    value: str | bytes
    width: int
    height: int
    most_bytes: int | None = None
    together: int = 1
    gathered: None = None

    @property
    def given(self) -> int:
        return len(self.value) if isinstance(self.value, bytes) else 0

    @property
    def fetches(self) -> bool:
        return isinstance(self.value, str)

    async def run(self, ticket: Ticket) -> bytes:
        make = partial(thumbnail, width=self.width, height=self.height, most_bytes=self.most_bytes)
        if isinstance(self.value, bytes):
            return await ticket.in_thread(partial(make, self.value))
        return (await drawn(ticket.store, Location.parse(self.value), make, ticket)).picture


class Drawn(NamedTuple):
    """A picture, and what the store said of the object that it was made of."""

    picture: bytes
    info: ObjectInfo


async def drawn(store: Store, location: Location, make: Callable[[Any], bytes], ticket: Ticket | None = None) -> Drawn:
    """What `make`, in a thread, draws of the file it is given; `ticket` is told how much is held. Raises MediaError."""
    return await of_one_version(partial(_drawn, store, location, make, ticket))


async def _drawn(store: Store, location: Location, make: Callable[[Any], bytes], ticket: Ticket | None) -> Drawn:
    read = store.keeper(location, time.monotonic() + store.config.timeout)
    # Most images are needed as a whole, and mostly that is one request.
    timed = KINDS.get(location.extension) in ("video", "audio")
    first = await read(0, _TIMED_HEAD if timed else PART)
    if not first.data:
        raise DecodeError("the file is empty")
    count = len(first.data)
    if ticket is not None:
        ticket.learn(count)
    known = Segments()
    known.add(0, first.data)

    async def load(start: int, stop: int) -> bytes:
        nonlocal count
        count += stop - start
        if count > MOST:
            raise DecodeError(f"no picture is within the {MOST // 2**20} MB that were read")
        if ticket is not None:
            ticket.hold(count)
        chunk = await read(start, stop)
        if changed(first.info, chunk.info):
            raise Changed
        return chunk.data

    return Drawn(await decoded(load, first.info.size, known, make), first.info)
