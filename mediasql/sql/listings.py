"""Listings that a scan and the scout ahead of it share, so that no page is asked for twice."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from ..storage.providers.base import Entry, KeyRange

if TYPE_CHECKING:
    from .session import Session

Page = tuple[str, list[Entry]]
MOST_PAGES = 50  # kept of one listing, for the scout begins at the first; of 1,000 entries, some 25 MB
_MOST_AHEAD = 8  # listings that the scout began and no scan has come to


class _Listing:
    """One listing on its way, and the pages of it that came."""

    def __init__(self, pages: Iterator[Page], made_for: Hashable) -> None:
        self.made_for = made_for  # the execution that the scout ran when it began this; None where a scan did
        self._source = pages
        self._kept: deque[Page] = deque()
        self._dropped = 0
        self._ending: BaseException | None = None

    def page(self, number: int) -> tuple[int, Page]:
        """A page and its number: the first that is still kept, where that one is not. Raises what ended the listing."""
        number = max(number, self._dropped)
        while number - self._dropped >= len(self._kept):
            if self._ending is not None:
                raise self._ending
            try:
                self._kept.append(next(self._source))
            except BaseException as error:
                self._ending = error.with_traceback(None)
                raise
            if len(self._kept) > MOST_PAGES:
                self._kept.popleft()
                self._dropped += 1
        return number, self._kept[number - self._dropped]

    def has(self, number: int) -> bool:
        """Whether a scan may come to this page."""
        return number >= self._dropped

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class Listings:
    """The listings of one session that are under way."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._all: dict[tuple[str, KeyRange, int], _Listing] = {}

    def pages(self, pattern: str, *, narrowed: KeyRange, page_size: int) -> Iterator[Page]:
        """See `Store.entries`."""
        key = pattern, narrowed, page_size
        if self._session.scout.active:
            return self._ahead(key)
        return self._scan(key)

    def _begin(self, key: tuple[str, KeyRange, int], made_for: Hashable) -> _Listing:
        pattern, narrowed, page_size = key
        pages = self._session.store.entries(pattern, narrowed=narrowed, page_size=page_size)
        listing = self._all[key] = _Listing(self._told(pages), made_for)
        return listing

    def _told(self, pages: Iterator[Page]) -> Iterator[Page]:
        with closing(pages):  # type: ignore[type-var]
            for root, entries in pages:
                self._session.listed(entries)
                yield root, entries

    def _scan(self, key: tuple[str, KeyRange, int]) -> Iterator[Page]:
        found = self._all.get(key)
        # What another scan began may be older than the statement that asks now.
        if found is None or found.made_for is None or found.made_for not in self._session.scout.alive():
            found = self._begin(key, None)
        found.made_for = None
        number = 0
        try:
            while found.has(number):
                try:
                    number, page = found.page(number)
                except StopIteration:
                    return
                yield page
                number += 1
            yield from self._again(key, number)
        finally:
            if self._all.get(key) is found:
                del self._all[key]
            found.close()

    def _again(self, key: tuple[str, KeyRange, int], number: int) -> Iterator[Page]:
        """From page `number` on, for a scan that the scout left so far behind that its pages are kept no more."""
        pattern, narrowed, page_size = key
        for at, page in enumerate(self._session.store.entries(pattern, narrowed=narrowed, page_size=page_size)):
            if at >= number:
                yield page

    def _ahead(self, key: tuple[str, KeyRange, int]) -> Iterator[Page]:
        found = self._all.get(key)
        if found is None:
            self._forget_old()
            found = self._begin(key, self._session.scout.identity)
        number = 0
        while True:
            try:
                number, page = found.page(number)
            except StopIteration:
                return
            yield page
            number += 1

    def _forget_old(self) -> None:
        alive = self._session.scout.alive()
        begun = [key for key, listing in self._all.items() if listing.made_for is not None]
        for at, key in enumerate(begun):
            if self._all[key].made_for not in alive or at < len(begun) - _MOST_AHEAD:
                self._all.pop(key).close()
