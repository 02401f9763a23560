"""Which objects go when there is no room: those used least recently, and never those that a scan will read next."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mediasql.storage.cache import blocks as module
from mediasql.storage.cache import room
from mediasql.storage.cache.catalogue import BLOCK
from tests.storage.objects import Cache, Objects, noise

ROOM = 50


@pytest.fixture
def objects() -> Objects:
    objects = Objects()
    for number in range(2 * ROOM):
        objects.put(str(number), noise(number, BLOCK))
    return objects


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[], Cache]]:
    made: list[Cache] = []

    def new() -> Cache:
        made.append(Cache(tmp_path, ROOM * BLOCK))
        return made[-1]

    yield new
    for cache in made:
        cache.close()


def scan(cache: Cache, objects: Objects, numbers: range, each: Callable[[], None] = lambda: None) -> int:
    """Read these objects in order; for how many the store was asked."""
    before = len(objects.asked)
    for number in numbers:
        assert cache.get(objects, str(number), 0, BLOCK) == objects.data[str(number)]
        each()
    cache.flush()
    return len(objects.asked) - before


@pytest.mark.parametrize("at_once", [True, False], ids=["written together", "written one by one"])
def test_a_scan_of_twice_the_room_finds_about_what_fits(
    at_once: bool, objects: Objects, make: Callable[[], Cache]
) -> None:
    cache = make()
    numbers = range(2 * ROOM)
    each = (lambda: None) if at_once else cache.flush
    assert scan(cache, objects, numbers, each) == 2 * ROOM
    for _ in range(4):
        assert scan(cache, objects, numbers, each) < 60
        assert cache.held_in_all() <= ROOM * BLOCK


def test_it_does_so_in_the_next_process(objects: Objects, make: Callable[[], Cache]) -> None:
    for turn in range(3):
        cache = make()
        asked = scan(cache, objects, range(2 * ROOM))
        assert asked < 60 if turn else asked == 2 * ROOM
        cache.close()


def test_what_is_read_twice_at_once_stays_long_enough(objects: Objects, make: Callable[[], Cache]) -> None:
    """As `SELECT width(u), content(u)` does: no scan may fetch an object twice because it is only passing."""
    cache = make()

    def again() -> None:
        name = objects.asked[-1][0]
        before = len(objects.asked)
        cache.get(objects, name, 0, BLOCK)
        assert len(objects.asked) == before

    for turn in range(3):
        asked = scan(cache, objects, range(2 * ROOM), lambda: (cache.flush(), again()))  # type: ignore[arg-type, func-returns-value]
        assert asked < 60 or not turn


def test_so_does_what_is_large_for_the_cache(objects: Objects, tmp_path: Path) -> None:
    cache = Cache(tmp_path, 4 * BLOCK)
    for _ in range(3):
        for number in range(8):
            before = len(objects.asked)
            for _ in range(3):
                cache.get(objects, str(number), 0, BLOCK)
                cache.flush()
            assert len(objects.asked) <= before + 1
    cache.close()


def test_who_turns_to_other_objects_gets_the_room_for_them(objects: Objects, make: Callable[[], Cache]) -> None:
    cache = make()
    first, second = range(40), range(50, 90)
    scan(cache, objects, first)
    assert scan(cache, objects, second) == 40  # never seen: they take the place of the first
    assert scan(cache, objects, second) == 0
    scan(cache, objects, first)
    scan(cache, objects, first)
    assert scan(cache, objects, first) == 0


def test_what_is_used_again_later_stays(
    objects: Objects, make: Callable[[], Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make()
    scan(cache, objects, range(2 * ROOM))
    cache.get(objects, "0", 0, BLOCK)
    cache.flush()
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + room.AT_ONCE + 1)
    cache.get(objects, "0", 0, BLOCK)
    scan(cache, objects, range(1, ROOM))
    assert "0" in cache.held()


def test_what_is_asked_for_as_a_file_is_fetched_once(objects: Objects, make: Callable[[], Cache]) -> None:
    cache = make()
    scan(cache, objects, range(2 * ROOM))
    before = len(objects.asked)
    for number in range(10):
        with cache.leased(objects, str(number)) as lease:
            assert lease.path.read_bytes() == objects.data[str(number)]
    assert len(objects.asked) == before + 10


def test_nothing_goes_before_it_is_known_what_fits(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path)
    scan(cache, objects, range(ROOM))
    cache.close()
    cleaned, clean = threading.Event(), module.Blocks.clean

    def cleaning(blocks: module.Blocks) -> int:
        removed = clean(blocks)
        cleaned.set()
        return removed

    monkeypatch.setattr(module.Blocks, "clean", cleaning)

    def capacity(held: int) -> int:
        # The look at what is held has started the thread that cleans, and evicts what is too much.
        assert cleaned.wait(60)
        return held + BLOCK

    found = module.blocks(tmp_path, capacity, print)
    assert found.capacity == (ROOM + 1) * BLOCK
    assert found.stats().held == ROOM * BLOCK
    assert module.blocks(tmp_path, lambda held: held // 2, print) is found
    found.keeper.call(lambda connection: None, None)
    assert found.stats().held == ROOM * BLOCK // 2
    found.close()
