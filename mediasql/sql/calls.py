"""Calls that take whole files: made in the background, ahead of the rows that need them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import MediaError, Unsupported
from ..media.probe import Want
from ..storage.fetch import of_one_version
from ..storage.location import Location
from .ahead import Wanted
from .leases import Leases
from .scout import Noted
from .workshop import Result, Ticket

if TYPE_CHECKING:
    from .media import Media
    from .session import Session

MOST_RECENT = 32 * 1024 * 1024  # bytes of results kept for the next call of the same statement


class Recent:
    """Results that the statement under way has seen, for where SQLite makes the same call again in the same row."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Result | MediaError] = OrderedDict()
        self._size = 0
        self._moment: frozenset[Hashable] = frozenset()

    def get(self, key: Hashable) -> Result | MediaError | None:
        return self._known.get(key)

    def begin(self, moment: frozenset[Hashable]) -> bool:
        """Forget everything when another statement is under way. Whether those before are all over."""
        if moment == self._moment:
            return False
        over = not moment & self._moment
        self._moment = moment
        self._known.clear()
        self._size = 0
        return over

    def keep(self, key: Hashable, outcome: Result | MediaError) -> None:
        """Keep one more, and forget the oldest beyond MOST_RECENT."""
        self._known[key] = outcome
        self._size += _size(outcome)
        while self._size > MOST_RECENT:
            self._size -= _size(self._known.popitem(last=False)[1])


def _size(outcome: Result | MediaError) -> int:
    return outcome.size if isinstance(outcome, Result) else 100


def call(session: Session, wanted: Wanted) -> Any:
    """The value of a call, made now or ahead. Raises MediaError when it failed; while scouting Noted."""
    recent, scout = session.recent, session.scout
    if not scout.active and recent.begin(session.statement.moment):
        session.leases.end()
    outcome: Any = recent.get(wanted.key)
    if scout.active:
        outcome = outcome or session.ahead.peek(wanted.key)
        if outcome is None:
            scout.note(wanted)
            raise Noted
        scout.meets(wanted.key)
    elif outcome is None:
        outcome = scout.answer(wanted)
        recent.keep(wanted.key, outcome)
    if isinstance(outcome, MediaError):
        raise outcome.again()
    assert isinstance(outcome, Result)
    return outcome.value


def wanted(session: Session, kind: Hashable, value: str | bytes, arguments: tuple[Any, ...], work: Any) -> Wanted:
    """The call of `kind`, such as a function, on one media; arguments that SQL tells apart make other calls."""
    if isinstance(value, bytes):
        about: Hashable = hashlib.blake2b(value, digest_size=20).digest()
    else:
        if session.revalidation is not None:
            session.revalidation.confirm(value)
        about = session.version(value)
    # 1, 1.0 and True are equal in Python.
    key = (kind, about, tuple((type(argument), argument) for argument in arguments))
    return Wanted(key, "", Want.OBJECT, work)


@dataclass(frozen=True, slots=True)
class _Whole:
    """Reads a whole object."""

    location: Location
    given: int = 0
    fetches: bool = True
    together: int = 1
    gathered: None = None

    async def run(self, ticket: Ticket) -> Any:
        return await ticket.fetch(self.location)

    async def chunks(self, ticket: Ticket) -> AsyncIterator[bytes]:
        """The object part by part, of which one is held at a time."""
        async for chunk in ticket.store.parts(self.location):
            ticket.hold(len(chunk.data))
            yield chunk.data


@dataclass(frozen=True, slots=True)
class _Digest(_Whole):
    """Hashes a whole object, part by part."""

    async def run(self, ticket: Ticket) -> Any:
        return await of_one_version(lambda: self._digest(ticket))

    async def _digest(self, ticket: Ticket) -> str:
        running = hashlib.sha256()
        async for data in self.chunks(ticket):
            running.update(data)
        return running.hexdigest()


@dataclass(frozen=True, slots=True)
class _Prefetch(_Whole):
    """Brings a whole object into the cache, and tells its size."""

    async def run(self, ticket: Ticket) -> Any:
        with ticket.store.prefetching(self.location):
            return await of_one_version(lambda: self._read(ticket))

    async def _read(self, ticket: Ticket) -> int:
        size = 0
        async for chunk in ticket.store.parts(self.location):
            if chunk.info.no_store:
                raise Unsupported("it cannot be fetched ahead: its server forbids to keep it (Cache-Control: no-store)")
            ticket.hold(len(chunk.data))
            size += len(chunk.data)
        return size


@dataclass(frozen=True, slots=True)
class _File(_Whole):
    """Has a whole object in a file, which stays until its lease ends."""

    leases: Leases = field(kw_only=True)

    async def run(self, ticket: Ticket) -> Any:
        lease = await ticket.store.lease(self.location)
        if lease is None:
            raise Unsupported(
                "no file can be made of it: nothing is kept on disk here (cache_size is 0, or the cache has no folder)"
            )
        self.leases.add(lease)
        return str(lease.path)


def content(session: Session, media: Media) -> bytes:
    """All bytes of the object."""
    value: bytes = call(session, wanted(session, "content", media.value, (), _Whole(media.location)))
    return value


def prefetch(session: Session, media: Media) -> int:
    """Have all bytes of the object on disk. Returns how many those are."""
    return int(call(session, wanted(session, "prefetch", media.value, (), _Prefetch(media.location))))


def file(session: Session, media: Media) -> str:
    """The path of a file with all bytes of the object, which stays as long as the statement runs."""
    work = _File(media.location, leases=session.leases)
    return str(call(session, wanted(session, "file", media.value, (), work)))


def digest(session: Session, media: Media) -> str:
    """Its SHA-256 in hexadecimal."""
    return str(call(session, wanted(session, "content_hash", media.value, (), _Digest(media.location))))
