"""Kept bytes in large numbers: what is done with one object costs the same among a thousand and a hundred thousand."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mediasql.storage import loop
from mediasql.storage.cache import catalogue, room
from mediasql.storage.cache.catalogue import BLOCK, Entry
from mediasql.storage.cache.database import Database
from mediasql.storage.cache.identity import Identity
from mediasql.storage.providers.base import ObjectInfo
from tests.storage.objects import SCOPE, Cache, Objects, identity, noise

COUNTS = (1_000, 10_000, 100_000)


def crowd(folder: Path, count: int) -> Path:
    """A catalogue of `count` objects of one block, without their files."""
    cache = Cache(folder)
    cache.stats()
    cache.close()
    connection = apsw.Connection(os.fspath(folder / "bytes-v1" / "catalog.db"))
    connection.set_busy_timeout(10_000)
    entries = (
        Entry(identity(f"old/{number}.jpg"), f"dead/{number}", ObjectInfo(BLOCK), 0.0) for number in range(count)
    )
    with connection:
        connection.executemany(
            "INSERT INTO objects (scope, key, size, file, seal, checked, held, first_use, last_use) "
            "VALUES (?1, ?2, 65536, ?3, ?4, 0, 65536, 0, ?5)",
            ((*entry.identity, entry.file, entry.seal, number) for number, entry in enumerate(entries)),
        )
        connection.execute("INSERT INTO parts SELECT id, 0, x'01020304' FROM objects")
        room.count_anew(connection)
    connection.close()
    return folder


@pytest.fixture(scope="module")
def crowds(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return {count: crowd(tmp_path_factory.mktemp(f"crowd{count}"), count) for count in COUNTS}


@pytest.fixture
def copied(crowds: dict[int, Path], tmp_path: Path) -> Callable[[int], Path]:
    return lambda count: Path(shutil.copytree(crowds[count], tmp_path / str(count)))


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, in all threads: others may be busy on this machine as well."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def constant(measured: dict[int, float]) -> bool:
    """Whether what was measured grows by no more than a deeper tree and colder pages explain."""
    print(measured)
    return measured[100_000] < 5 * measured[1_000] + 50e-6


def test_coming_and_going(copied: Callable[[int], Path]) -> None:
    each = {}
    for count in COUNTS:
        cache = Cache(copied(count), count * BLOCK)
        cache.stats()
        cache.clean()

        def change(connection: apsw.Connection, capacity: int = count * BLOCK) -> None:
            for number in range(500):
                entry = Entry(identity(f"new/{number}"), f"none/{number}", ObjectInfo(BLOCK), 1e9)
                catalogue.add(connection, entry, {0: 1}, 1e9, False)
                room.evict(connection, capacity)

        each[count] = seconds(lambda cache=cache, change=change: cache.keeper.call(change, None)) / 500  # type: ignore[misc]
        assert cache.held_in_all() == count * BLOCK
        cache.close()
    assert constant(each)


def test_looking_up(copied: Callable[[int], Path]) -> None:
    each, together, by_hand = {}, {}, {}
    for count in COUNTS:
        folder = copied(count)
        cache = Cache(folder, count * BLOCK)
        database = Database(folder / "bytes-v1" / "catalog.db", catalogue.SCHEMA, catalogue.VERSION, print)
        names = [identity(f"old/{number * 7919 % count}.jpg") for number in range(1000)]
        assert all(catalogue.find(database, name, 0, 1) for name in names)
        each[count] = (
            seconds(lambda database=database, names=names: [catalogue.find(database, name, 0, 1) for name in names])  # type: ignore[misc]
            / 1000
        )
        keys = [name.key for name in names[:200]]
        assert [row[1] for row in cache.rows(keys)] == keys
        together[count] = seconds(lambda cache=cache, names=names: cache.rows([name.key for name in names])) / 1000  # type: ignore[misc]
        by_hand[count] = seconds(lambda cache=cache, keys=keys: [list(cache.rows([key])) for key in keys]) / 200  # type: ignore[misc]
        cache.close()
        database.close()
    for measured in (each, together, by_hand):
        assert constant(measured)


def test_evicting_by_hand(copied: Callable[[int], Path]) -> None:
    each = {}
    for count in COUNTS:
        cache = Cache(copied(count), count * BLOCK)
        cache.stats()
        cache.clean()

        def work(connection: apsw.Connection) -> int:
            return sum(room.forget(connection, f"s3://bucket/old/{number}.jpg", None)[0] for number in range(500))

        each[count] = seconds(lambda cache=cache, work=work: cache.keeper.call(work, 0)) / 500  # type: ignore[misc]
        assert cache.held_in_all() == (count - 500) * BLOCK
        assert cache.evict("another", identity("old/500.jpg").key) == 0
        assert cache.evict(SCOPE, identity("old/500.jpg").key) == BLOCK
        plan = cache.catalog(f"EXPLAIN QUERY PLAN SELECT held FROM objects WHERE {room.OF_KEY}", ("a", None))
        assert "SEARCH objects" in plan[0][3]
        cache.close()
    assert constant(each)


def opening_after_a_kill(folder: Path, count: int) -> float:
    here, there = os.pipe()
    child = os.fork()
    if not child:
        cache = Cache(folder, count * BLOCK)
        objects = Objects()
        for number in range(1000):
            objects.put(str(number), noise(number, 10))
            cache.get(objects, str(number), 0, 10)
            if number == 300:
                os.write(there, b".")
        os._exit(1)
    assert os.read(here, 1) == b"."
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    objects = Objects()
    objects.put("0", noise(0, 10))
    cache = Cache(folder, count * BLOCK)
    loop.get()
    taken = seconds(lambda: cache.get(objects, "0", 0, 10))
    assert Identity(SCOPE, f"s3://bucket/old/{count - 1}.jpg") in {row[:2] for row in cache.rows()}
    cache.close()
    return taken


def test_opening_after_a_kill(copied: Callable[[int], Path]) -> None:
    assert constant({count: opening_after_a_kill(copied(count), count) for count in COUNTS})
