"""Listing a store page by page; a large prefix in several ranges at a time.

Pages of one listing follow each other, since each names the next. But a store tells the sub-prefixes of a prefix, and
names between two of them can be listed without what comes before. So where the first page is not the last, the rest is
cut at sub-prefixes into ranges, which are listed at the same time. Their order is lost; SQL asks for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ...errors import TransientError
from .base import KeyRange, ObjectInfo

RANGES = 16  # listed at a time
SPLIT_AFTER = 4  # pages; what is smaller is listed with no request more
FULL = 1000  # names in a page that is not cut short for a LIMIT
_LEVELS = 8  # of prefixes that hold one prefix each
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
    pages = _pages(get, keys, "" if recursive else "/")
    count = 0
    async for page in pages:
        if page.objects:
            yield page.objects
        count += 1
        if count == SPLIT_AFTER and recursive and parallel and page.token is not None:
            ranges = await _split(get, replace(keys, after=page.last))
            if len(ranges) > 1:
                await pages.aclose()  # type: ignore[attr-defined]
                together = _together(get, ranges)
                try:
                    async for objects in together:
                        yield objects
                finally:
                    await together.aclose()  # type: ignore[attr-defined]
                return


async def _pages(get: GetPage, keys: KeyRange, delimiter: str) -> AsyncIterator[ListedPage]:
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


async def _split(get: GetPage, keys: KeyRange) -> list[KeyRange]:
    """`keys` cut at sub-prefixes; itself alone where there are none, or the store tells them in no order."""
    prefix = keys.prefix
    for _ in range(_LEVELS):
        page = await get(replace(keys, prefix=prefix), "/", None)
        cuts = [cut for cut in page.prefixes if cut > keys.after and (keys.until is None or cut < keys.until)]
        if len(page.prefixes) != 1 or page.objects or page.token is not None:
            break
        prefix = page.prefixes[0]
    if cuts != sorted(cuts) or not cuts:
        return [keys]
    step = -(-len(cuts) // (RANGES - 1))
    bounds = [keys.after, *cuts[::step]]
    ends: list[str | None] = [*bounds[1:], keys.until]
    return [KeyRange(keys.prefix, after, until) for after, until in zip(bounds, ends, strict=True)]


async def _together(get: GetPage, ranges: list[KeyRange]) -> AsyncIterator[list[tuple[str, ObjectInfo]]]:
    """The objects of several ranges, as their pages come."""
    queue: asyncio.Queue[list[tuple[str, ObjectInfo]] | BaseException | None] = asyncio.Queue(_AHEAD)

    async def work(keys: KeyRange) -> None:
        try:
            async for page in _pages(get, keys, ""):
                if page.objects and page.objects[0][0] <= keys.after:
                    raise TransientError("the store does not list from the name that it was asked to begin behind")
                if page.objects:
                    await queue.put(page.objects)
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(work(keys)) for keys in ranges]
    try:
        left = len(tasks)
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
