"""Listing a store page by page; a large prefix in several ranges at a time.

Pages of one listing follow each other, since each names the next. But a store tells the sub-prefixes of a prefix, and
names between two of them can be listed without what comes before. So where the first page is not the last, the rest is
cut at sub-prefixes into ranges, which are listed at the same time, and what is left of a long one is cut again. Their
order is lost; SQL asks for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace

from ...errors import TransientError
from .base import KeyRange, ObjectInfo

RANGES = 16  # listed at a time
SPLIT_AFTER = 4  # pages; what is smaller is listed with no request more
FULL = 1000  # names in a page that is not cut short for a LIMIT
_LEVELS = 8  # of prefixes that hold all that is left
_AHEAD = 2 * RANGES  # pages that wait to be taken


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One page.

    objects   names, and what is told of them
    prefixes  where a delimiter was asked for: what names begin with up to it
    token     names the next page; None for the last
    last      the last name of the page, whatever it is
    """

    objects: list[tuple[str, ObjectInfo]]
    token: str | None
    last: str = ""
    prefixes: list[str] = field(default_factory=list)


# (keys, delimiter, token) -> page
GetPage = Callable[[KeyRange, str, str | None], Awaitable[ListedPage]]


async def listed(
    get: GetPage, keys: KeyRange, *, recursive: bool, parallel: bool
) -> AsyncIterator[list[tuple[str, ObjectInfo]]]:
    """The objects of a range, a page at a time.

    Not `recursive`: only those without a further '/' behind its prefix. `parallel` says that the store lists ranges, in
    order, and that pages are worth it. Raises TransientError for listings that do not end.
    """
    count = 0
    async with aclosing(_pages(get, keys, "" if recursive else "/")) as pages:
        async for page in pages:
            if page.objects:
                yield page.objects
            count += 1
            if count == SPLIT_AFTER and recursive and parallel and page.token is not None:
                cut = await _split(get, replace(keys, after=page.last), keys.prefix)
                if len(cut.parts) > 1:
                    break
        else:
            return
    async with aclosing(_together(get, cut)) as together:
        async for objects in together:
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


async def _together(get: GetPage, cut: _Cut) -> AsyncGenerator[list[tuple[str, ObjectInfo]]]:
    """The objects of all parts, as their pages come. What is long is cut again when others have ended."""
    queue: asyncio.Queue[list[tuple[str, ObjectInfo]] | BaseException | None] = asyncio.Queue(_AHEAD)
    turns = asyncio.Semaphore(RANGES)
    tasks: set[asyncio.Task[None]] = set()
    left = 0

    def begin(cut: _Cut) -> None:
        nonlocal left
        left += len(cut.parts)
        for part in cut.parts:
            unseen = cut.more and part is cut.parts[-1]
            tasks.add(asyncio.create_task(work(part, cut.level, 0 if unseen else 2 * SPLIT_AFTER)))

    async def work(keys: KeyRange, level: str, patience: int) -> None:
        try:
            async with turns:
                if patience or not await split(keys, level):
                    await pages(keys, level, patience or 1)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    async def split(keys: KeyRange, level: str) -> bool:
        if left >= RANGES:
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
                    await queue.put(page.objects)
                count += 1
                if count >= patience and page.token is not None:
                    if await split(replace(keys, after=page.last), level):
                        break
                    count, patience = 0, 2 * patience

    begin(cut)
    try:
        while left:
            found = await queue.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
