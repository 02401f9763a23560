"""Listing a store page by page; a large prefix in several spans at a time.

Pages of one listing follow each other, since each names the next. But a store tells the sub-prefixes of a prefix, and
names between two of them can be listed without what comes before. So where the first page is not the last, the rest is
cut at sub-prefixes into spans, which are listed at the same time. Their order is lost; SQL asks for none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from ...errors import TransientError
from .base import ObjectInfo

SPANS = 16  # listed at a time
SPLIT_AFTER = 4  # pages; what is smaller is listed with no request more
FULL = 1000  # names in a page that is not cut short for a LIMIT
_LEVELS = 8  # of prefixes that hold one prefix each
_AHEAD = 2 * SPANS  # pages that wait to be taken


@dataclass(frozen=True, slots=True)
class Span:
    """Names that begin with `prefix`, behind `after`, up to `until` and with it, in the order of their UTF-8 bytes."""

    prefix: str
    after: str = ""
    until: str | None = None


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


# (span, delimiter, token) -> page
GetPage = Callable[[Span, str, str | None], Awaitable[ListedPage]]


async def listed(
    get: GetPage, prefix: str, *, recursive: bool, parallel: bool
) -> AsyncIterator[list[tuple[str, ObjectInfo]]]:
    """The objects below a prefix, a page at a time.

    Not `recursive`: only those without a further '/'. `parallel` says that the store lists spans, in order, and that
    pages are worth it. Raises TransientError for listings that do not end.
    """
    whole = Span(prefix)
    pages = _pages(get, whole, "" if recursive else "/")
    count = 0
    async for page in pages:
        if page.objects:
            yield page.objects
        count += 1
        if count == SPLIT_AFTER and recursive and parallel and page.token is not None:
            spans = await _split(get, Span(prefix, page.last))
            if len(spans) > 1:
                await pages.aclose()  # type: ignore[attr-defined]
                together = _together(get, spans)
                try:
                    async for objects in together:
                        yield objects
                finally:
                    await together.aclose()  # type: ignore[attr-defined]
                return


async def _pages(get: GetPage, span: Span, delimiter: str) -> AsyncIterator[ListedPage]:
    """The pages of one span, one after the other."""
    token: str | None = None
    seen: set[str] = set()
    while True:
        page = await get(span, delimiter, token)
        yield page
        token = page.token
        if token is None:
            return
        if token in seen:
            raise TransientError(f"the listing does not end: the store named the page {token[:40]!r} a second time")
        seen.add(token)


async def _split(get: GetPage, span: Span) -> list[Span]:
    """`span` cut at sub-prefixes; itself alone where there are none, or the store tells them in no order."""
    prefix = span.prefix
    for _ in range(_LEVELS):
        page = await get(Span(prefix, span.after), "/", None)
        cuts = [cut for cut in page.prefixes if cut > span.after]
        if len(page.prefixes) != 1 or page.objects or page.token is not None:
            break
        prefix = page.prefixes[0]
    if cuts != sorted(cuts) or not cuts:
        return [span]
    step = -(-len(cuts) // (SPANS - 1))
    bounds = [span.after, *cuts[::step]]
    ends: list[str | None] = [*bounds[1:], None]
    return [Span(span.prefix, after, until) for after, until in zip(bounds, ends, strict=True)]


async def _together(get: GetPage, spans: list[Span]) -> AsyncIterator[list[tuple[str, ObjectInfo]]]:
    """The objects of several spans, as their pages come."""
    queue: asyncio.Queue[list[tuple[str, ObjectInfo]] | BaseException | None] = asyncio.Queue(_AHEAD)

    async def work(span: Span) -> None:
        try:
            async for page in _pages(get, span, ""):
                if page.objects and page.objects[0][0] <= span.after:
                    raise TransientError("the store does not list from the name that it was asked to begin behind")
                until = span.until
                inside = [pair for pair in page.objects if until is None or pair[0] <= until]
                if inside:
                    await queue.put(inside)
                if until is not None and page.last > until:
                    break
        except Exception as error:
            await queue.put(error)
        else:
            await queue.put(None)

    tasks = [asyncio.create_task(work(span)) for span in spans]
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
