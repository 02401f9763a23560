"""Kept bytes where the disk does its worst: answers stay right, and one warning says why."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from mediasql.errors import TransientError
from mediasql.storage import loop
from mediasql.storage.cache import catalogue, pieces, removals, shelf
from mediasql.storage.cache.blocks import Blocks
from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.providers.base import PART, ObjectInfo
from tests.clock import Clock
from tests.media.headers.pictures import picture
from tests.storage.objects import CAPACITY, content, filled, identity, in_catalog, in_child


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on a disk of 3 MB; where none can be mounted, writing fails when that much was written."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True
    ).returncode
    if not mounted:
        room = [3 * 1024 * 1024]
        store = pieces.store

        def full(handle: int, entry: catalogue.Entry, chunk: Any) -> dict[int, int]:
            room[0] -= len(chunk.data)
            if room[0] < 0:
                os.close(handle)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return store(handle, entry, chunk)

        monkeypatch.setattr(pieces, "store", full)
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "FULL_PAUSE", 0.0)
    warnings: list[str] = []
    objects = filled(30, 5 * BLOCK + 7)
    blocks = Blocks(small_disk, CAPACITY, warnings.append)
    for _ in range(3):
        for name, data in objects.data.items():
            assert content(blocks, objects, name) == data
            blocks.flush()
    assert any("No space" in warning or "full" in warning for warning in warnings)
    # The disk is a cache of its size: what was used least recently makes room.
    assert blocks.stats().held > 1024 * 1024
    asked = len(objects.asked)
    kept = [key.rpartition("/")[2] for _, key, held, size, *_ in blocks.rows() if held == size]
    assert kept
    for name in kept:
        assert content(blocks, objects, name) == objects.data[name]
    assert len(objects.asked) == asked
    blocks.close()
    again = Blocks(small_disk, CAPACITY, warnings.append)
    for name, data in objects.data.items():
        assert content(again, objects, name) == data
    again.close()


def test_a_disk_without_room_for_the_catalogue(
    tmp_path: Path, no_pauses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "FULL_PAUSE", 0.0)
    tried: list[apsw.Connection] = []
    full = threading.Event()

    def fail(connection: apsw.Connection) -> bool:
        if full.is_set():
            tried.append(connection)
            raise apsw.FullError("database or disk is full")
        return False

    def watch(connection: apsw.Connection) -> None:
        connection.set_commit_hook(lambda: fail(connection))

    monkeypatch.setattr(apsw, "connection_hooks", [*apsw.connection_hooks, watch])
    objects = filled(20, 2 * BLOCK)
    blocks = Blocks(tmp_path, CAPACITY, lambda warning: None)
    for name in list(objects.data)[:10]:
        content(blocks, objects, name)
    blocks.flush()
    full.set()
    for name, data in objects.data.items():
        assert content(blocks, objects, name) == data
        blocks.flush()
    assert 20 <= len(tried) < 200
    assert not list(blocks.files.root.glob("*/*[0-9]"))  # it did what could be done
    full.clear()
    for _ in range(2):
        for name, data in objects.data.items():
            assert content(blocks, objects, name) == data
    blocks.flush()
    assert blocks.stats().held == 20 * 2 * BLOCK
    blocks.close()


def test_what_is_kept_is_read_while_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = filled(4, 2 * BLOCK)
    warnings: list[str] = []
    blocks = Blocks(tmp_path, CAPACITY, warnings.append)
    assert content(blocks, objects, "0") == objects.data["0"]

    def fail(handle: int, *rest: Any) -> None:
        os.close(handle)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(pieces, "store", fail)
    assert content(blocks, objects, "1") == objects.data["1"]
    assert warnings == ["Input/output error"]
    for _ in range(3):
        assert content(blocks, objects, "0") == objects.data["0"]
    assert [name for name, *_ in objects.asked] == ["0", "1"]
    blocks.close()


def test_a_quota_makes_room_as_a_full_disk_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "FULL_PAUSE", 0.0)
    objects = filled(12, 2 * BLOCK)
    warnings: list[str] = []
    blocks = Blocks(tmp_path, CAPACITY, warnings.append)
    store = pieces.store

    def limited(handle: int, *rest: Any) -> dict[int, int]:
        if sum(path.stat().st_size for path in blocks.files.root.glob("*/*")) >= 10 * BLOCK:
            os.close(handle)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return store(handle, *rest)

    monkeypatch.setattr(pieces, "store", limited)
    for name, data in objects.data.items():
        assert content(blocks, objects, name) == data
        blocks.flush()
    assert set(warnings) == {os.strerror(errno.EDQUOT)}
    assert 4 * BLOCK <= blocks.stats().held <= 10 * BLOCK
    blocks.close()


def test_a_file_of_an_object_that_has_no_room_in_the_cache(small_disk: Path, tmp_path: Path) -> None:
    objects = filled(2, PART // 2 + 7)  # 4 MB
    small = filled(1, BLOCK)
    blocks = Blocks(small_disk, CAPACITY, print)
    assert content(blocks, small, "0") == small.data["0"]
    with loop.run(blocks.lease(identity("1"), objects.reader("1"), "mp4")) as lease:
        assert lease.path.suffix == ".mp4"
        assert lease.path.read_bytes() == objects.data["1"]
        assert small_disk not in lease.path.parents
    assert not lease.path.exists()
    assert len(objects.asked) <= 3  # not once more for each attempt
    blocks.close()


def test_a_file_where_nothing_else_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = filled(1, 3 * BLOCK)
    blocks = Blocks(tmp_path, 2 * BLOCK, print)
    written = []
    write = os.write

    def full(handle: int, data: bytes) -> int:
        if len(data) < 3 * BLOCK:
            return write(handle, data)
        written.append(write(handle, data[:100]))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(TransientError, match=r"neither in the cache's folder nor in .*: No space left"):
        loop.run(blocks.lease(identity("0"), objects.reader("0"), "mp4"))
    assert len(written) == 2
    assert not blocks.loose
    blocks.close()


def test_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*names: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    objects = filled(1, 2 * BLOCK)
    blocks = Blocks(tmp_path, CAPACITY, print)
    with loop.run(blocks.lease(identity("0"), objects.reader("0"), "png")) as lease:
        assert lease.path.suffix == ".png"
        assert lease.path.read_bytes() == objects.data["0"]
        assert [row[9] for row in blocks.rows()] == [0]
    assert in_catalog(tmp_path, "SELECT count(*) FROM leases") == [(0,)]
    assert len(objects.asked) == 1
    blocks.close()


def test_a_folder_that_is_read_only() -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own cannot be looked into by others
    try:
        objects = filled(3, 2 * BLOCK)
        first = Blocks(folder, CAPACITY, print)
        assert content(first, objects, "0") == objects.data["0"]
        first.close()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

        def work() -> None:
            if os.geteuid() == 0:  # whom no mode keeps from anything
                os.setuid(65534)
            warnings: list[str] = []
            blocks = Blocks(folder, CAPACITY, warnings.append)
            for name, data in objects.data.items():
                assert content(blocks, objects, name) == data
            blocks.validate(identity("0"), ObjectInfo())
            assert blocks.stats().held == 0
            assert blocks.clear() == 0
            assert warnings
            with loop.run(blocks.lease(identity("1"), objects.reader("1"), "jpg")) as lease:
                assert lease.path.read_bytes() == objects.data["1"]
            assert not lease.path.exists()
            blocks.close()

        assert os.waitpid(in_child(work), 0)[1] == 0
    finally:
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
            path.chmod(0o755)
        shutil.rmtree(folder)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    warnings: list[str] = []
    objects = filled(2, BLOCK)
    blocks = Blocks(tmp_path / "file", CAPACITY, warnings.append)
    for name, data in objects.data.items():
        assert content(blocks, objects, name) == data
    assert any("Not a directory" in warning or "File exists" in warning for warning in warnings)
    blocks.close()


def test_a_folder_that_is_deleted_again_and_again(tmp_path: Path) -> None:
    objects = filled(40, 3 * BLOCK + 5)
    blocks = Blocks(tmp_path / "cache", CAPACITY, print)
    wrong: list[object] = []
    ended = threading.Event()

    def read() -> None:
        for turn in range(4):
            for name, data in objects.data.items():
                try:
                    if content(blocks, objects, name) != data:
                        wrong.append((turn, name))
                except Exception as error:
                    wrong.append(error)
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    while not ended.wait(0.02):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
    reader.join()
    assert not wrong
    blocks.close()


def test_a_user_without_a_home_has_no_cache() -> None:
    script = (
        "import pwd; pwd.getpwuid = lambda number: {}[number]\n"
        "import mediasql, warnings\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    for options in ({}, {'cache_dir': '~/x'}, {}):\n"
        "        con = mediasql.connect(**options)\n"
        "        print(con.execute('SELECT width(?), (SELECT count(*) FROM media_cache_stats)', (IMAGE,)).get)\n"
        "print([str(one.message)[:60] for one in told])\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder, "a.png")
        image.write_bytes(picture("PNG", size=(7, 5)))
        without = ("MEDIASQL_", "HOME", "XDG_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(without)}
        done = subprocess.run(
            [sys.executable, "-c", script.replace("IMAGE", repr(os.fspath(image)))],
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
        )
        assert os.listdir(folder) == ["a.png"]
    assert done.stdout.splitlines()[:3] == ["(7, 0)"] * 3, done.stderr
    warned = done.stdout.splitlines()[3]
    assert warned.count("cannot be used for now: this user has") == 2  # once for each folder
    assert "~/x" in warned


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk without locks, as some that are reached over a network are."""

    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)


def test_a_disk_without_locks(tmp_path: Path, no_locks: None, no_pauses: None) -> None:
    warnings: list[str] = []
    objects = filled(4, 2 * BLOCK)
    blocks = Blocks(tmp_path, CAPACITY, warnings.append)
    for name, data in objects.data.items():
        assert content(blocks, objects, name) == data
    with loop.run(blocks.lease(identity("1"), objects.reader("1"), "jpg")) as lease:
        assert lease.path.read_bytes() == objects.data["1"]
    assert warnings
    assert all(os.strerror(errno.ENOLCK) in warning for warning in warnings)
    assert len(objects.asked) == 6
    assert not list((tmp_path / "bytes-v1").glob("files/*"))
    blocks.close()


def test_locks_that_go_away(tmp_path: Path, no_pauses: None, monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    objects = filled(4, 2 * BLOCK)
    blocks = Blocks(tmp_path, CAPACITY, warnings.append)
    assert content(blocks, objects, "0") == objects.data["0"]
    blocks.files.abandon()

    def flock(handle: int, how: int) -> None:  # of folders, somebody else has every lock
        locks = (tmp_path / "bytes-v1" / "files").glob("*/lock")
        if any(os.path.samestat(os.fstat(handle), path.stat()) for path in locks):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert content(blocks, objects, "1") == objects.data["1"]
    assert any("dead process" in warning for warning in warnings)
    assert content(blocks, objects, "0") == objects.data["0"]
    assert len(objects.asked) == 2
    assert len(list((tmp_path / "bytes-v1").glob("files/*"))) < 20
    blocks.close()


def test_files_that_cannot_be_deleted(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "AT_ONCE", 5)
    objects = filled(30, 1000)
    blocks = Blocks(tmp_path, CAPACITY, print)
    for name in objects.data:
        content(blocks, objects, name)
    blocks.flush()
    held = [path for path in blocks.files.root.glob("*/*") if path.name != "lock"]
    tried = []
    unlink = os.unlink

    def busy(path: Any) -> None:
        tried.append(path)
        if Path(path) in held[:8]:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        unlink(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", busy)
        blocks.clear()
        blocks.flush()
        time.sleep(0.3)
        assert len(tried) <= 31  # each once; the last two may be the lock's
        assert sum(path.exists() for path in held) == 8
    clock.move(removals.PAUSE)
    for _ in range(4):
        blocks.keeper.call(lambda connection: None, None)
    assert not any(path.exists() for path in held)
    blocks.close()
