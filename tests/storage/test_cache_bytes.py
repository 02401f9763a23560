"""Bytes kept on disk: read once, of one version, never wrong, never more than they may be."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediasql.config import Config
from mediasql.errors import NotFound, TransientError
from mediasql.storage import loop
from mediasql.storage.cache import blocks as module
from mediasql.storage.cache import place
from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.providers.base import PART
from tests.storage.objects import SCOPE, Cache, Objects, identity, noise


def test_what_was_read_is_not_asked_for_again(objects: Objects, make: Callable[..., Cache]) -> None:
    data = noise("a", 5 * BLOCK + 1234)
    objects.put("a.jpg", data)
    cache = make()
    assert cache.get(objects, "a.jpg", 10, 20) == data[10:20]
    assert cache.get(objects, "a.jpg", 100, BLOCK) == data[100:BLOCK]
    assert objects.asked == [("a.jpg", 0, BLOCK)]
    assert cache.get(objects, "a.jpg", BLOCK - 5, 2 * BLOCK + 5) == data[BLOCK - 5 : 2 * BLOCK + 5]
    assert objects.asked[1:] == [("a.jpg", BLOCK, 3 * BLOCK)]
    assert cache.get(objects, "a.jpg", 5 * BLOCK, 9 * BLOCK) == data[5 * BLOCK :]
    assert cache.get(objects, "a.jpg", 9 * BLOCK, 10 * BLOCK) == b""
    assert len(objects.asked) == 3
    assert cache.held() == {"a.jpg": 3 * BLOCK + 1234}
    assert cache.file("a.jpg").suffix == ".jpg"


def test_it_is_there_for_the_next_process(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 3 * PART // 2))
    first = make()
    assert first.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == 2
    first.close()
    second = make()
    assert second.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == 2
    assert second.stats().ever.fetched == len(objects.data["a"])
    assert second.stats().here.saved == len(objects.data["a"])


@settings(max_examples=40)
@given(
    st.integers(0, 6 * BLOCK),
    st.lists(st.tuples(st.integers(0, 7 * BLOCK), st.integers(0, 3 * BLOCK)), min_size=1, max_size=12),
    st.booleans(),
)
def test_any_ranges_are_those_of_the_object(
    tmp_path_factory: pytest.TempPathFactory, size: int, spans: list[tuple[int, int]], flush: bool
) -> None:
    objects = Objects()
    objects.put("a", noise("a", size))
    cache = Cache(tmp_path_factory.mktemp("cache"))
    try:
        for start, length in spans:
            assert cache.get(objects, "a", start, start + length) == objects.data["a"][start : start + length]
            if flush:
                cache.flush()
        held = cache.held()["a"]
        assert held <= size
        # No byte of it was asked for twice.
        assert objects.sent["a"] == held
    finally:
        cache.close()


def test_many_who_ask_at_once_share_one_request(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 3 * BLOCK))
    cache = make()

    async def together() -> list[Any]:
        return await asyncio.gather(
            *(cache.read(identity("a"), objects.reader("a"), at, at + 100) for at in range(0, 3000, 100)),
            *(cache.read(identity("gone"), objects.reader("gone"), 0, 10) for _ in range(10)),
            return_exceptions=True,
        )

    found = loop.run(together())
    assert [chunk.data for chunk in found[:30]] == [objects.data["a"][at : at + 100] for at in range(0, 3000, 100)]
    assert all(isinstance(error, NotFound) for error in found[30:])
    assert objects.asked == [("a", 0, BLOCK), ("gone", 0, BLOCK)]


def test_who_gives_up_leaves_the_others_to_it(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 3 * BLOCK))
    cache = make()

    async def work() -> bytes:
        begun = asyncio.Event()

        async def hang(name: str, start: int) -> None:
            begun.set()
            await asyncio.sleep(60)

        objects.before = hang
        first = asyncio.create_task(cache.read(identity("a"), objects.reader("a"), 0, 10))
        await begun.wait()
        second = asyncio.create_task(cache.read(identity("a"), objects.reader("a"), 0, 10))
        await asyncio.sleep(0)
        objects.before = None
        first.cancel()
        return (await second).data

    assert loop.run(work()) == objects.data["a"][:10]


# Versions and freshness


def test_another_version_takes_the_place_of_the_old(objects: Objects, make: Callable[..., Cache]) -> None:
    old, new = noise("old", 4 * BLOCK), noise("new", 4 * BLOCK)
    objects.put("a", old)
    cache = make()
    assert cache.get(objects, "a", 0, 10) == old[:10]
    before = cache.file("a")
    objects.put("a", new)
    # One block of the old is there: it must not be mixed with what is fetched now.
    assert cache.get(objects, "a", 10, 3 * BLOCK) == new[10 : 3 * BLOCK]
    assert cache.file("a") != before
    cache.flush()
    assert not before.exists()
    assert cache.on_disk() == {cache.file("a")}


def test_an_object_that_changes_while_all_of_it_is_read_is_read_again(
    objects: Objects, make: Callable[..., Cache]
) -> None:
    old, new = noise("old", 2 * PART + 5), noise("new", 2 * PART + 7)
    objects.put("a", old)
    cache = make()

    async def change(name: str, start: int) -> None:
        if start == PART:
            objects.put("a", new)

    objects.before = change
    assert cache.all(objects, "a") == new
    assert cache.get(objects, "a", 0, 2 * PART) == new[: 2 * PART]


def test_an_object_that_never_stays_the_same_is_an_error(objects: Objects, make: Callable[..., Cache]) -> None:
    count = iter(range(100))

    async def change(name: str, start: int) -> None:
        objects.put("a", noise(next(count), 2 * PART))

    objects.before = change
    with pytest.raises(TransientError, match="changed"):
        make().all(objects, "a")


def test_age(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", BLOCK))
    cache = make()
    cache.get(objects, "a", 0, 10)
    cache.get(objects, "a", 0, 10, max_age=3600)
    cache.get(objects, "a", 0, 10, max_age=None)
    assert len(objects.asked) == 1
    cache.get(objects, "a", 0, 10, max_age=0)
    assert (len(objects.asked), objects.unchanged) == (2, 1)
    # What the statement itself has learnt holds for all of it.
    cache.get(objects, "a", 0, 10, max_age=0, since=time.time() - 60)
    assert len(objects.asked) == 2
    objects.put("a", noise("b", BLOCK))
    assert cache.get(objects, "a", 0, 10) == noise("a", BLOCK)[:10]
    assert cache.get(objects, "a", 0, 10, max_age=0) == noise("b", BLOCK)[:10]
    assert (len(objects.asked), objects.unchanged) == (3, 1)  # the answer that it changed was the new bytes


def test_a_clock_that_was_set_back_does_not_make_bytes_young(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", BLOCK))
    cache = make()
    cache.get(objects, "a", 0, 10)
    cache.catalog("UPDATE objects SET checked = checked + 1e8")
    cache.get(objects, "a", 0, 10, max_age=3600)
    assert (len(objects.asked), objects.unchanged) == (2, 1)
    cache.flush()
    cache.get(objects, "a", 0, 10, max_age=3600)
    assert len(objects.asked) == 2
    ((checked,),) = cache.catalog("SELECT checked FROM objects")
    assert checked < time.time() + 10


def test_what_has_no_validator_is_fetched_again_when_it_is_old(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 2 * BLOCK), etag=None, last_modified=None)
    cache = make()
    assert cache.get(objects, "a", 0, 2 * BLOCK) == noise("a", 2 * BLOCK)
    objects.put("a", noise("b", 2 * BLOCK), etag=None, last_modified=None)
    assert cache.get(objects, "a", 0, 10, max_age=0) == noise("b", 2 * BLOCK)[:10]
    assert cache.get(objects, "a", 0, 2 * BLOCK) == noise("b", 2 * BLOCK)


def test_a_listing_says_what_is_fresh(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", BLOCK))
    cache = make()
    cache.get(objects, "a", 0, 10)
    cache.validate(identity("a"), objects.infos["a"])
    since = time.time() - 0.0001
    cache.validate(identity("a"), objects.infos["a"])
    cache.get(objects, "a", 0, 10, max_age=0, since=since)
    assert len(objects.asked) == 1
    objects.put("a", noise("b", BLOCK))
    cache.validate(identity("a"), objects.infos["a"])
    assert cache.get(objects, "a", 0, 10) == noise("b", BLOCK)[:10]
    cache.validate(identity("a"), objects.infos["a"])
    cache.validate(identity("never seen"), objects.infos["a"])
    cache.flush()
    assert cache.get(objects, "a", 0, 10) == noise("b", BLOCK)[:10]
    assert len(objects.asked) == 2


def test_what_is_gone_is_forgotten(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", BLOCK))
    cache = make()
    cache.get(objects, "a", 0, 10)
    del objects.data["a"]
    with pytest.raises(NotFound):
        cache.get(objects, "a", 0, 10, max_age=0)
    assert cache.held() == {}
    cache.flush()
    assert cache.on_disk() == set()


# Capacity


def test_the_least_recently_used_go(objects: Objects, make: Callable[..., Cache]) -> None:
    cache = make(capacity=10 * BLOCK)
    for number in range(10):
        objects.put(str(number), noise(number, BLOCK))
        cache.get(objects, str(number), 0, BLOCK)
    assert len(cache.held()) == 10
    cache.get(objects, "0", 0, 1)
    objects.put("new", noise("new", 3 * BLOCK))
    cache.get(objects, "new", 0, 3 * BLOCK)
    assert set(cache.held()) == {"0", "new", *"456789"}
    assert len(cache.on_disk()) == 8


def test_what_is_larger_than_the_cache_streams_through(objects: Objects, make: Callable[..., Cache]) -> None:
    cache = make(capacity=4 * BLOCK)
    objects.put("small", noise("small", BLOCK))
    objects.put("large", noise("large", PART + 3 * BLOCK))
    cache.get(objects, "small", 0, 10)
    assert cache.all(objects, "large") == objects.data["large"]
    assert cache.held() == {"small": BLOCK}
    assert [name for name, *_ in objects.asked].count("large") == 2
    # Two seconds of a long video are worth keeping.
    cache.get(objects, "large", 10, 20)
    assert cache.held() == {"small": BLOCK, "large": BLOCK}


def test_eviction_and_clearing_by_hand(objects: Objects, make: Callable[..., Cache]) -> None:
    cache = make()
    for name in "abc":
        objects.put(name, noise(name, BLOCK + 1))
        cache.all(objects, name)
    assert cache.evict("another", identity("a").key) == 0
    assert cache.evict(SCOPE, identity("a").key) == BLOCK + 1
    assert cache.evict(None, identity("b").key) == BLOCK + 1
    assert set(cache.held()) == {"c"}
    assert cache.clear() == BLOCK + 1
    assert cache.on_disk() == set()
    assert cache.stats().held == 0


# Leases


def test_a_lease_is_a_whole_private_file(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a.jpg", noise("a", PART + 12345))
    cache = make(capacity=2 * PART)
    cache.get(objects, "a.jpg", 3 * BLOCK, 4 * BLOCK)
    with cache.leased(objects, "a.jpg") as lease:
        assert lease.path.read_bytes() == objects.data["a.jpg"]
        assert lease.path.suffix == ".jpg"
        assert stat.S_IMODE(lease.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(lease.path.parent.stat().st_mode) == 0o700
        objects.put("b", noise("b", 2 * PART))
        cache.all(objects, "b")
        cache.flush()
        assert lease.path.read_bytes() == objects.data["a.jpg"]
        assert [row[9] for row in cache.rows() if row[1].endswith("a.jpg")] == [1]
    cache.all(objects, "b")
    cache.flush()
    assert not lease.path.exists()


def test_a_leased_file_outlives_its_version(objects: Objects, make: Callable[..., Cache]) -> None:
    old, new = noise("old", 2 * BLOCK), noise("new", 2 * BLOCK)
    objects.put("a.jpg", old)
    cache = make()
    lease = cache.leased(objects, "a.jpg")
    objects.put("a.jpg", new)
    assert cache.get(objects, "a.jpg", 0, 10, max_age=0) == new[:10]
    cache.clear()
    assert lease.path.read_bytes() == old
    lease.release()
    cache.flush()
    cache.flush()
    assert not lease.path.exists()


def test_a_lease_with_another_extension(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a?format=png", noise("a", 2 * BLOCK))
    cache = make()
    with cache.leased(objects, "a?format=png", "png") as lease:
        assert lease.path.suffix == ".png"
        assert lease.path.read_bytes() == objects.data["a?format=png"]
    assert not lease.path.exists()


def test_a_lease_of_what_is_larger_than_the_cache(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 9 * BLOCK))
    cache = make(capacity=2 * BLOCK)
    with cache.leased(objects, "a", "mp4") as lease:
        assert lease.path.suffix == ".mp4"
        assert lease.path.read_bytes() == objects.data["a"]
        assert cache.clear() <= 2 * BLOCK
        assert lease.path.exists()
    assert not lease.path.exists()


def test_the_leases_of_a_dead_process_are_void(objects: Objects, make: Callable[..., Cache], tmp_path: Path) -> None:
    objects.put("a.jpg", noise("a", 2 * BLOCK))
    child = os.fork()
    if not child:
        lease = Cache(tmp_path / "cache").leased(objects, "a.jpg")
        os._exit(0 if lease.path.exists() else 1)
    assert os.waitpid(child, 0)[1] == 0
    cache = make()
    assert [row[9] for row in cache.rows()] == [1]
    cache.clean()
    assert [row[9] for row in cache.rows()] == [0]


# What happens to the disk


def spoil_block(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(BLOCK + 17)
        file.write(b"spoilt")


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_block,
        lambda path: os.truncate(path, BLOCK + 9),
        lambda path: os.truncate(path, 0),
        lambda path: path.unlink(),
    ],
    ids=["other bytes", "truncated", "empty", "deleted"],
)
def test_a_damaged_file_is_mended(spoil: Callable[[Path], None], objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 4 * BLOCK))
    cache = make()
    cache.all(objects, "a")
    spoil(cache.file("a"))
    assert cache.all(objects, "a") == objects.data["a"]
    asked = len(objects.asked)
    cache.flush()
    assert asked > 1
    assert cache.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == asked
    assert cache.held() == {"a": 4 * BLOCK}
    assert cache.stats().held == 4 * BLOCK


def test_a_corrupted_catalogue_is_made_anew(objects: Objects, make: Callable[..., Cache]) -> None:
    objects.put("a", noise("a", 4 * BLOCK))
    first = make()
    first.all(objects, "a")
    old = first.file("a")
    first.close()
    (first.folder / "catalog.db").write_bytes(b"no database at all" * 1000)
    second = make()
    assert second.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == 2
    second.clean()
    assert not old.exists()
    assert second.on_disk() == {second.file("a")}


def test_the_folder_may_be_deleted_at_any_time(objects: Objects, make: Callable[..., Cache]) -> None:
    import shutil

    objects.put("a", noise("a", 2 * BLOCK))
    cache = make()
    for _ in range(3):
        assert cache.all(objects, "a") == objects.data["a"]
        cache.flush()
        shutil.rmtree(cache.folder)
        assert cache.all(objects, "a") == objects.data["a"]
        cache.flush()


@pytest.mark.parametrize("version", [3, 99])
def test_a_catalogue_of_a_newer_version_is_left_alone(
    version: int, objects: Objects, make: Callable[..., Cache]
) -> None:
    objects.put("a", noise("a", 2 * BLOCK))
    first = make()
    first.all(objects, "a")
    file = first.file("a")
    first.close()
    connection = apsw.Connection(os.fspath(first.folder / "catalog.db"))
    connection.pragma("user_version", version)
    connection.close()
    second = make()
    assert second.all(objects, "a") == objects.data["a"]
    assert second.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == 3
    assert file.exists()
    assert any("newer" in warning for warning in second.warnings)
    with second.leased(objects, "a") as lease:
        assert lease.path.read_bytes() == objects.data["a"]


def test_a_catalogue_of_an_older_version_is_made_anew(
    objects: Objects, make: Callable[..., Cache], monkeypatch: pytest.MonkeyPatch
) -> None:
    objects.put("a", noise("a", 2 * BLOCK))
    first = make()
    first.all(objects, "a")
    first.close()
    monkeypatch.setattr(module.catalogue, "VERSION", module.catalogue.VERSION + 1)
    second = make()
    assert second.all(objects, "a") == objects.data["a"]
    assert len(objects.asked) == 2
    second.clean()
    assert second.on_disk() == {second.file("a")}


def test_the_default_room_does_not_shrink_as_it_fills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = shutil.disk_usage(tmp_path)
    free = 1_000_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda path: disk._replace(free=free))
    config = Config.load()
    empty = place.capacity(config, tmp_path / "none" / "yet")
    assert empty == 200_000_000
    free -= 150_000_000  # which the cache took
    assert place.capacity(config, tmp_path, 150_000_000) == empty
    assert place.capacity(Config.load(cache_size="2GB"), tmp_path) == 2_000_000_000
    free = 10**15
    assert place.capacity(config, tmp_path) == place.MOST
