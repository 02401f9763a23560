"""Kept bytes among threads and processes that share them, and of which some are stopped or killed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mediasql.config import Config
from mediasql.storage import loop
from mediasql.storage.cache import blocks as module
from mediasql.storage.cache import database, leases
from mediasql.storage.cache.blocks import Blocks
from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.location import Location
from mediasql.storage.store import Store
from tests.storage import cache_load
from tests.storage.objects import CAPACITY, content, filled, identity, in_child
from tests.waiting import soon

LONG = bool(os.environ.get("MEDIASQL_TEST_LONG"))  # the load as it was asked for: minutes


def test_a_forked_child_has_a_cache_of_its_own(tmp_path: Path) -> None:
    objects = filled(4, 2 * BLOCK)
    blocks = module.blocks(tmp_path, lambda held: CAPACITY, print)
    assert content(blocks, objects, "0") == objects.data["0"]

    def work() -> None:
        for name, data in objects.data.items():
            assert content(blocks, objects, name) == data
        blocks.close()

    assert os.waitpid(in_child(work), 0)[1] == 0
    for name, data in objects.data.items():
        assert content(blocks, objects, name) == data
    assert len(objects.asked) == 1  # the child has read the rest
    blocks.close()


def test_a_temporary_file_of_a_process_that_was_killed_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path))
    objects = filled(1, 3 * BLOCK)

    def copied() -> leases.Lease:
        blocks = Blocks(tmp_path / "cache", 2 * BLOCK, print)
        monkeypatch.setattr(blocks.files, "create", lambda suffix: os.open(tmp_path / "none" / "there", os.O_RDWR))
        return loop.run(blocks.lease(identity("0"), objects.reader("0"), "MP4"))

    here, there = os.pipe()

    def hold() -> None:
        lease = copied()
        os.write(there, os.fsencode(lease.path))
        time.sleep(60)
        lease.release()

    child = in_child(hold)
    left = Path(os.fsdecode(os.read(here, 1000)))
    assert left.suffix == ".MP4"
    assert left.stat().st_size == 3 * BLOCK
    with copied() as mine:
        assert left.exists()  # its process lives
        mine.release()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with copied() as mine:
        assert mine.path.read_bytes() == objects.data["0"]
        assert not left.exists()


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_that_another_library_has_open(
    journal: str, tmp_path: Path, no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    objects = filled(1, 2 * BLOCK)
    path = tmp_path / "bytes-v1" / "catalog.db"
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute(f"PRAGMA journal_mode = {journal}")
    other.execute("CREATE TABLE theirs(x)")
    blocks = Blocks(tmp_path, CAPACITY, warnings.append)
    for _ in range(2):
        assert content(blocks, objects, "0") == objects.data["0"]
        blocks.flush()
    assert len(objects.asked) == 2
    assert other.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (1,)
    assert all("another library than APSW" in warning for warning in warnings)
    assert warnings
    other.close()
    path.unlink()
    for _ in range(2):
        assert content(blocks, objects, "0") == objects.data["0"]
        blocks.flush()
    assert len(objects.asked) == 3
    # Connections of APSW know of each other.
    mine = apsw.Connection(os.fspath(path))
    assert mine.execute("SELECT count(*) FROM objects").get == 1
    blocks.close()
    assert content(blocks, objects, "0") == objects.data["0"]
    assert len(objects.asked) == 3
    mine.close()
    blocks.close()


def test_who_is_stopped_while_he_opens_the_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "LOCK_WAIT", 0.1)
    monkeypatch.setattr(database, "READ_WAIT", 100)
    warnings: list[str] = []
    objects = filled(1, 2 * BLOCK)
    (tmp_path / "bytes-v1").mkdir()
    with database.locked(tmp_path / "bytes-v1" / "catalog.lock"):
        blocks = Blocks(tmp_path, CAPACITY, warnings.append)
        with soon():
            assert loop.run(blocks.read(identity("0"), objects.reader("0"), 0, BLOCK)).data == objects.data["0"][:BLOCK]
        assert any("which may be stopped" in warning for warning in warnings)
    blocks.close()


def test_evicting_by_hand_waits_for_no_others(tmp_path: Path) -> None:
    count = 2000
    objects = filled(count, 100)
    blocks = Blocks(tmp_path, 1000, print)
    stop = threading.Event()

    def load(seed: int) -> None:
        number = seed
        while not stop.is_set():
            number = (number + 17) % count
            loop.run(blocks.read(identity(str(number)), objects.reader(str(number)), 0, 100))

    threads = [threading.Thread(target=load, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    try:
        with soon():
            for number in range(3):
                blocks.evict(None, identity(str(number)).key)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    blocks.close()


def slowly(
    folder: Path, number: int, begun: Callable[[], object] = lambda: None, seconds: float = 0.3
) -> Callable[[], None]:
    """Read an object in a child, and note each time that it is asked for."""

    def work() -> None:
        objects = filled(1, 4 * BLOCK)

        async def before(name: str, start: int) -> None:
            with (folder / "asked").open("a") as file:
                file.write(f"{number}\n")
            begun()
            await asyncio.sleep(seconds)

        objects.before = before
        blocks = Blocks(folder, CAPACITY, print)
        assert content(blocks, objects, "0") == objects.data["0"]
        blocks.close()

    return work


def test_processes_that_want_the_same_fetch_it_once(tmp_path: Path) -> None:
    children = [in_child(slowly(tmp_path, number)) for number in range(3)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert len((tmp_path / "asked").read_text().split()) == 1


def test_who_dies_while_he_fetches_is_not_waited_for(tmp_path: Path) -> None:
    here, there = os.pipe()
    first = in_child(slowly(tmp_path, 1, lambda: os.write(there, b"."), 600))
    assert os.read(here, 1) == b"."
    second = in_child(slowly(tmp_path, 2, seconds=0))
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    with soon():
        assert os.waitpid(second, 0)[1] == 0
    assert (tmp_path / "asked").read_text().split() == ["1", "2"]


def test_who_is_stopped_while_he_fetches_is_not_waited_for_long(tmp_path: Path) -> None:
    here, there = os.pipe()
    first = in_child(slowly(tmp_path, 1, lambda: os.write(there, b"."), 600))
    assert os.read(here, 1) == b"."
    os.kill(first, signal.SIGSTOP)
    objects = filled(1, 4 * BLOCK)
    blocks = Blocks(tmp_path, CAPACITY, print)
    begun = time.monotonic()
    assert (
        loop.run(blocks.read(identity("0"), objects.reader("0"), 0, BLOCK, within=2.0)).data
        == objects.data["0"][:BLOCK]
    )
    assert time.monotonic() - begun > 0.4
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    blocks.close()


def test_the_time_of_a_read_bounds_the_wait_for_others() -> None:
    store = Store(Config.load(timeout=8))
    location = Location.parse("s3://bucket/a.jpg")
    assert store.keeper(location).keywords["within"] == 8  # type: ignore[attr-defined]
    assert store.keeper(location, time.monotonic() + 3).keywords["within"] <= 3  # type: ignore[attr-defined]
    store.close()


@pytest.mark.parametrize("share", [0.25, 2.0], ids=["a quarter of it fits", "all of it fits"])
def test_load(share: float, tmp_path: Path) -> None:
    size = (4, 64, 2000, 60.0) if LONG else (3, 16, 200, 1.5)
    found = cache_load.load(tmp_path, *size, share=share)
    print(json.dumps(found))
    assert (found["wrong"], found["errors"]) == (0, [])
    assert found["held"] <= found["capacity"]
    assert found["excess"] <= 0
    stayed = found["held"] + found["evicted"]
    if share > 1:
        assert found["fetched"] == stayed
    else:  # but for what is fetched for an object that is evicted meanwhile
        assert stayed <= found["fetched"] <= stayed * 1.25


def test_kill(tmp_path: Path) -> None:
    found = cache_load.kill(tmp_path, 200) if LONG else cache_load.kill(tmp_path, 6, 3, 16, 100)
    print(json.dumps(found))
    assert found["said"] == []
    assert found["leaked"] == []
    assert found["lost"] == []
    assert found["held"] == found["counted"] <= found["capacity"]
