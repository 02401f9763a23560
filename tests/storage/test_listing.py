"""Listings in ranges, against a store of keys that is only a sorted list."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.errors import TransientError
from mediasql.storage.providers.base import KeyRange, ObjectInfo
from mediasql.storage.providers.listing import MOST_PREFIXES, RANGES, SPLIT_AFTER, ListedPage, Split, listed

NOTHING = ObjectInfo()


class Store:
    """Keys as S3 lists them: behind `after`, a page at a time, cut at the delimiter."""

    def __init__(self, keys: list[str], size: int) -> None:
        self.keys = sorted(set(keys))
        self.size = size
        self.asked: list[tuple[KeyRange, str, str | None]] = []
        self.active = 0
        self.together: list[int] = []  # requests under way, whenever one begins

    async def get(self, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        self.asked.append((keys, delimiter, token))
        self.active += 1
        self.together.append(self.active)
        try:
            await asyncio.sleep(0.001)
        finally:
            self.active -= 1
        return self.page(keys, delimiter, token)

    def page(self, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        at = bisect_right(self.keys, token or keys.after)
        objects: list[tuple[str, ObjectInfo]] = []
        prefixes: list[str] = []
        last = ""
        for key in self.keys[at:]:
            if not key.startswith(keys.prefix) or (token is not None and prefixes and token.startswith(prefixes[-1])):
                continue
            end = key.find(delimiter, len(keys.prefix)) if delimiter else -1
            group = key[: end + 1] if end >= 0 else ""
            if group and (group in prefixes or (token or "").startswith(group)):
                last = key
                continue
            if len(objects) + len(prefixes) == self.size:
                return ListedPage(objects, last, last, prefixes)
            last = key
            if group:
                prefixes.append(group)
            else:
                objects.append((key, NOTHING))
        return ListedPage(objects, None, last, prefixes)

    def list(
        self, keys: KeyRange, *, recursive: bool = True, split: Split = Split.NAMES, most: int = 10**9
    ) -> list[str]:
        async def work() -> list[str]:
            found: list[str] = []
            async with aclosing(listed(self.get, keys, recursive=recursive, split=split)) as pages:
                async for page in pages:
                    found += [name for name, _ in page]
                    if len(found) >= most:
                        break
            assert len(asyncio.all_tasks()) == 1
            return found

        return asyncio.run(work())


class Unordered(Store):
    """Keys as Azure lists them: from the beginning, or from where a page ended; here in another order as well."""

    def __init__(self, keys: list[str], size: int) -> None:
        super().__init__(keys, size)
        self.order = sorted(self.keys, key=lambda key: hash(key[::-1]))

    def page(self, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        assert not keys.after
        found: dict[str, bool] = {}
        for key in self.order:
            if key.startswith(keys.prefix):
                end = key.find(delimiter, len(keys.prefix)) if delimiter else -1
                found[key if end < 0 else key[: end + 1]] = end >= 0
        at = int(token or 0)
        page = list(found.items())[at : at + self.size]
        following = str(at + self.size) if at + self.size < len(found) else None
        objects = [(key, NOTHING) for key, is_prefix in page if not is_prefix]
        return ListedPage(objects, following, "", [key for key, is_prefix in page if is_prefix])


names = st.lists(st.text("ab/é\U0001f600", max_size=6), max_size=60)


@given(names, st.integers(1, 5), st.text("ab/", max_size=3), st.text("ab/é", max_size=3), st.booleans(), st.data())
def test_every_key_of_the_range_once(
    keys: list[str], size: int, prefix: str, after: str, recursive: bool, data: st.DataObject
) -> None:
    until = data.draw(st.none() | st.text("ab/\U0001f600", max_size=4))
    store = Store(keys, size)
    expected = [
        key
        for key in store.keys
        if key.startswith(prefix)
        and key > after
        and (until is None or key <= until)
        and (recursive or "/" not in key[len(prefix) :])
    ]
    assert sorted(store.list(KeyRange(prefix, after, until), recursive=recursive)) == expected


def test_a_large_prefix_is_listed_in_ranges() -> None:
    store = Store([f"d{day:02}/o{number:03}" for day in range(40) for number in range(25)], 10)
    assert sorted(store.list(KeyRange())) == store.keys
    assert max(store.together) >= RANGES / 2


def test_what_is_left_of_a_long_range_is_cut_again() -> None:
    """As of a prefix with nearly everything, and of more sub-prefixes than a page has."""
    store = Store([f"all/of/it/{day:04}/{number}" for day in range(2000) for number in range(5)] + ["b/c"], 10)
    assert sorted(store.list(KeyRange())) == store.keys
    assert sum(store.together) / len(store.together) > 4
    assert len(store.asked) < 1.5 * len(store.keys) / 10


def test_a_small_prefix_costs_no_request_more() -> None:
    store = Store([f"{number}/o" for number in range(SPLIT_AFTER * 10)], 10)
    assert store.list(KeyRange()) == store.keys
    assert len(store.asked) == SPLIT_AFTER


def test_pages_follow_each_other_where_they_are_not_worth_it() -> None:
    store = Store([f"d{day:02}/o{number:03}" for day in range(40) for number in range(25)], 10)
    assert store.list(KeyRange(), split=Split.NOWHERE) == store.keys
    assert (max(store.together), len(store.asked)) == (1, 100)


@given(names, st.integers(1, 5), st.text("ab/", max_size=3))
def test_every_key_once_where_sub_prefixes_are_listed(keys: list[str], size: int, prefix: str) -> None:
    store = Unordered(keys, size)
    expected = [key for key in store.keys if key.startswith(prefix)]
    assert sorted(store.list(KeyRange(prefix), split=Split.PREFIXES)) == expected


@pytest.mark.parametrize("above", ["", "all/of/it/"])
def test_where_a_store_lists_from_the_beginning_only_sub_prefixes_are_parts(above: str) -> None:
    keys = [f"{above}d{day:02}/o{number:03}" for day in range(40) for number in range(25)]
    store = Unordered([*keys, *(f"{keys[0]}/deep/{way}/{number}" for way in range(9) for number in range(9))], 60)
    assert sorted(store.list(KeyRange(), split=Split.PREFIXES)) == store.keys
    assert max(store.together) >= RANGES / 2
    assert max(store.together) <= RANGES


def test_sub_prefixes_that_are_many_are_not_listed_one_by_one() -> None:
    store = Unordered([f"{number:05}/o" for number in range(2000)], MOST_PREFIXES)
    assert sorted(store.list(KeyRange(), split=Split.PREFIXES)) == store.keys
    assert len(store.asked) == -(-len(store.keys) // MOST_PREFIXES) + 1


def test_whoever_wants_no_more_leaves_no_request_behind() -> None:
    store = Store([f"d{day:02}/o{number:03}" for day in range(40) for number in range(25)], 10)
    assert len(store.list(KeyRange(), most=100)) >= 100
    assert store.active == 0


class Broken(Store):
    async def get(self, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        page = await super().get(keys, delimiter, token)
        return await self.broken(page, keys, delimiter, token)

    async def broken(self, page: ListedPage, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
        raise NotImplementedError


def test_one_range_that_fails_ends_the_listing() -> None:
    class Fails(Broken):
        async def broken(self, page: ListedPage, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
            if keys.after > "d1" and not delimiter:
                raise TransientError("503")
            return page

    store = Fails([f"d{day:02}/o{number:03}" for day in range(40) for number in range(25)], 10)
    with pytest.raises(TransientError, match="503"):
        store.list(KeyRange())
    assert store.active == 0


def test_a_store_that_ignores_where_to_begin() -> None:
    """Keys would come twice."""

    class Ignores(Broken):
        async def get(self, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
            return await Store.get(self, KeyRange(keys.prefix), delimiter, token)

    store = Ignores([f"d{day:02}/o{number:03}" for day in range(40) for number in range(25)], 10)
    with pytest.raises(TransientError, match="does not list from the name"):
        store.list(KeyRange())


def test_a_token_that_comes_again() -> None:
    class Again(Broken):
        async def broken(self, page: ListedPage, keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
            return ListedPage(page.objects, "the same", page.last)

    with pytest.raises(TransientError, match=r"does not end.*'the same'"):
        Again([f"{number:03}" for number in range(100)], 10).list(KeyRange())
