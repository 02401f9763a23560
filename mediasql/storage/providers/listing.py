"""Listing a store page by page; a large prefix in several parts at a time.

Pages of one listing follow each other, since each names the next. But a store tells the sub-prefixes of a prefix, and
names between two of them can be listed without what comes before. So where the first page is not the last, the rest is
cut at sub-prefixes into ranges, which are listed at the same time, and what is left of a long one is cut again. Their
order is lost; SQL asks for none. Where a store lists in no order, or only from the beginning, each sub-prefix is a
part, if they are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any

from ...errors import TransientError
from .base import KeyRange, ObjectInfo

RANGES = 16  # listed at a time
SPLIT_AFTER = 4  # pages; what is smaller is listed with no request more
FULL = 1000  # names in a page that is not cut short for a LIMIT
MOST_PREFIXES = 4 * RANGES  # that are listed one by one: each costs a request, even for a single name
_LEVELS = 8  # of prefixes that hold all that is left
_AHEAD = 2 * RANGES  # pages that wait to be taken


Objects = list[tuple[str, ObjectInfo]]


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One page.

    objects   names, and what is told of them
    prefixes  where a delimiter was asked for: what names begin with up to it
    token     names the next page; None for the last
    last      the last name of the page, whatever it is
    """

    objects: Objects
    token: str | None
    last: str = ""
    prefixes: list[str] = field(default_factory=list)


class Split(Enum):
    """What a long listing is cut at."""

    NOWHERE = auto()
    NAMES = auto()  # the store lists in order, from any name on
    PREFIXES = auto()


# (keys, delimiter, token) -> page
GetPage = Callable[[KeyRange, str, str | None], Awaitable[ListedPage]]


async def listed(get: GetPage, keys: KeyRange, *, recursive: bool, split: Split) -> AsyncGenerator[Objects]:
    """The objects of a range, a page at a time.

    Not `recursive`: only those without a further '/' behind its prefix. `split` says what the store can do, and whether
    pages are worth it. Raises TransientError for listings that do not end.
    """
    count = 0
    seen: set[str] = set()
    rest: AsyncGenerator[Objects] | None = None
    async with aclosing(_pages(get, keys, "" if recursive else "/")) as pages:
        async for page in pages:
            if page.objects:
                yield page.objects
            count += 1
            if count <= SPLIT_AFTER and split is Split.PREFIXES:
                seen.update(name for name, _ in page.objects)
            if count == SPLIT_AFTER and recursive and page.token is not None:
                if split is Split.NAMES:
                    cut = await _split(get, replace(keys, after=page.last), keys.prefix)
                    rest = _together(get, cut) if len(cut.parts) > 1 else None
                elif split is Split.PREFIXES:
                    level = await _level(get, keys)
                    rest = _by_prefixes(get, keys, level, seen) if level is not None else None
                if rest is not None:
                    break
    if rest is not None:
        async with aclosing(rest):
            async for objects in rest:
                yield objects


async def _pages(get: GetPage, keys: KeyRange, delimiter: str) -> AsyncGenerator[ListedPage]:
    """The pages of one range, one after the other; of the last, what is in the range."""
    until = keys.until
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = await get(keys, delimiter, token)
        token = page.token
        if until is not None and page.last > until:
            token = None
            objects = [(name, info) for name, info in page.objects if name <= until]
            page = replace(page, objects=objects, token=None)
        yield page
        if token is None:
            return
        if token in seen:
            raise TransientError(f"the listing does not end: the store named the page {token[:40]!r} a second time")
        seen.add(token)


@dataclass(frozen=True, slots=True)
class _Cut:
    """A range cut at sub-prefixes.

    parts  itself alone where it cannot be cut
    level  the prefix whose sub-prefixes they are
    more   whether the last part has sub-prefixes that were not looked at
    """

    parts: list[KeyRange]
    level: str
    more: bool = False


async def _split(get: GetPage, keys: KeyRange, level: str) -> _Cut:
    """Cut `keys` at sub-prefixes of `level`, or of one below it where all that is left is there.

    The sub-prefixes of one page are a small part where there are more: they stay together, to be cut again if they
    are large all the same.
    """
    until, prefix = keys.until, level if keys.after.startswith(level) else keys.prefix
    for _ in range(_LEVELS):
        page = await get(replace(keys, prefix=prefix), "/", None)
        if page.prefixes != sorted(page.prefixes):
            break
        cuts = [cut for cut in page.prefixes if cut > keys.after and (until is None or cut < until)]
        if cuts:
            more = page.token is not None and (until is None or page.last < until)
            step = -(-len(cuts) // (RANGES - 1))
            bounds = [keys.after, *(cuts[-1:] if more else cuts[::step])]
            ends: list[str | None] = [*bounds[1:], until]
            parts = [KeyRange(keys.prefix, after, end) for after, end in zip(bounds, ends, strict=True)]
            return _Cut(parts, prefix, more)
        if not page.prefixes:
            break
        prefix = page.prefixes[0]
    return _Cut([keys], keys.prefix)


async def _level(get: GetPage, keys: KeyRange) -> ListedPage | None:
    """The sub-prefixes of a prefix, or of the one below it that holds everything; None where they are too many."""
    prefix = keys.prefix
    for _ in range(_LEVELS):
        page = await get(replace(keys, prefix=prefix), "/", None)
        if page.token is not None or not 0 < len(page.prefixes) <= MOST_PREFIXES:
            return None
        if len(page.prefixes) > 1 or page.objects:
            return page
        prefix = page.prefixes[0]
    return None


class _Parts:
    """Parts that are listed at the same time, each by a task; `pages` has what they `put`, as it comes."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Objects | BaseException | None] = asyncio.Queue(_AHEAD)
        self._tasks: set[asyncio.Task[None]] = set()
        self.left = 0
        self.put = self._queue.put

    def begin(self, work: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self.left += 1
        self._tasks.add(asyncio.create_task(self._run(work, arguments)))

    async def _run(self, work: Callable[..., Awaitable[None]], arguments: tuple[Any, ...]) -> None:
        try:
            await work(*arguments)
        except Exception as error:
            await self._queue.put(error)
        else:
            await self._queue.put(None)

    async def pages(self) -> AsyncGenerator[Objects]:
        try:
            while self.left:
                found = await self._queue.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    self.left -= 1
                else:
                    yield found
        finally:
            for task in self._tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)


async def _by_prefixes(get: GetPage, keys: KeyRange, level: ListedPage, seen: set[str]) -> AsyncGenerator[Objects]:
    """The objects of a level and below it that are not among those seen, as their pages come."""
    turns = asyncio.Semaphore(RANGES)
    parts = _Parts()

    async def in_turn(keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        async with turns:
            return await get(keys, delimiter, token)

    async def work(keys: KeyRange) -> None:
        async with aclosing(listed(in_turn, keys, recursive=True, split=Split.PREFIXES)) as pages:
            async for objects in pages:
                await parts.put(objects)

    for prefix in level.prefixes:
        parts.begin(work, replace(keys, prefix=prefix))
    async with aclosing(parts.pages()) as pages:
        objects: Objects | None = level.objects
        while objects is not None:
            if new := [each for each in objects if each[0] not in seen]:
                yield new
            objects = await anext(pages, None)


async def _together(get: GetPage, cut: _Cut) -> AsyncGenerator[Objects]:
    """The objects of all parts, as their pages come. What is long is cut again when others have ended."""
    turns = asyncio.Semaphore(RANGES)
    parts = _Parts()

    def begin(cut: _Cut) -> None:
        for part in cut.parts:
            unseen = cut.more and part is cut.parts[-1]
            parts.begin(work, part, cut.level, 0 if unseen else 2 * SPLIT_AFTER)

    async def work(keys: KeyRange, level: str, patience: int) -> None:
        async with turns:
            if patience or not await split(keys, level):
                await pages(keys, level, patience or 1)

    async def split(keys: KeyRange, level: str) -> bool:
        if parts.left >= RANGES:
            return False
        cut = await _split(get, keys, level)
        if len(cut.parts) > 1:
            begin(cut)
        return len(cut.parts) > 1

    async def pages(keys: KeyRange, level: str, patience: int) -> None:
        count = 0
        async with aclosing(_pages(get, keys, "")) as found:
            async for page in found:
                if page.objects and page.objects[0][0] <= keys.after:
                    raise TransientError("the store does not list from the name that it was asked to begin behind")
                if page.objects:
                    await parts.put(page.objects)
                count += 1
                if count >= patience and page.token is not None:
                    if await split(replace(keys, after=page.last), level):
                        break
                    count, patience = 0, 2 * patience

    begin(cut)
    async with aclosing(parts.pages()) as together:
        async for objects in together:
            yield objects
