"""Queries while something happens to the cache in the middle of them: they go on, and what they say is right."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mediasql
from mediasql.storage.cache import database, shelf
from tests.servers.http import HttpServer
from tests.sql.conftest import Connect, picture
from tests.storage.objects import in_child

COUNT = 12
SQL = "SELECT number, length(content(u)), substr(content(u), 200000, 3), width(p) FROM t ORDER BY number"


@pytest.fixture
def urls(http_server: HttpServer) -> list[tuple[str, str]]:
    """Objects that are kept as bytes, and pictures of which answers are."""
    made = []
    for number in range(COUNT):
        http_server.put("trouble", f"{number}.bin", bytes([number + 1]) * (300_000 + number))
        http_server.put("trouble", f"{number}.jpg", picture(100 + number, 10))
        made.append((http_server.at(f"trouble/{number}.bin"), http_server.at(f"trouble/{number}.jpg")))
    http_server.reset()
    return made


RIGHT = [(number, 300_000 + number, bytes([number + 1]) * 3, 100 + number) for number in range(COUNT)]


def fill(con: mediasql.MediaConnection, urls: list[tuple[str, str]]) -> None:
    con.execute("CREATE TEMP TABLE t(number INTEGER, u, p)")
    con.executemany("INSERT INTO t VALUES (?, ?, ?)", [(number, *pair) for number, pair in enumerate(urls)])


def scan(con: mediasql.MediaConnection, happens: Callable[[], object] = lambda: None) -> list[Any]:
    """All rows, the fourth of which is read when something has happened."""
    cursor = con.execute(SQL)
    rows = [next(cursor) for _ in range(3)]
    happens()
    return rows + list(cursor)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[warnings.WarningMessage]]:
    """Warnings; what failed is tried again at once."""
    for module in (shelf, database):
        monkeypatch.setattr(module, "PAUSE", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def cached(told: list[warnings.WarningMessage]) -> int:
    return sum(issubclass(one.category, mediasql.CacheWarning) for one in told)


def test_the_folder_is_deleted_in_the_middle(
    connect: Connect, urls: list[tuple[str, str]], tmp_path: Path, told: list[warnings.WarningMessage]
) -> None:
    con = connect(cache_dir=tmp_path / "cache")
    fill(con, urls)
    assert scan(con, lambda: shutil.rmtree(tmp_path / "cache")) == RIGHT
    assert scan(con, lambda: shutil.rmtree(tmp_path / "cache", ignore_errors=True)) == RIGHT
    assert scan(con) == RIGHT
    assert con.execute("SELECT bytes > 0 FROM media_cache_stats").get == 1
    assert cached(told) <= 1


def test_the_folder_becomes_read_only_in_the_middle(urls: list[tuple[str, str]]) -> None:
    above = Path(tempfile.mkdtemp())  # pytest's own cannot be looked into by others
    above.chmod(0o777)
    folder = above / "cache"
    with mediasql.connect(cache_size=0) as first:  # whose imports the child, which is nobody, could not read
        fill(first, urls)
        assert scan(first) == RIGHT

    def lock() -> None:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)

    def work() -> None:
        if os.geteuid() == 0:  # whom no mode keeps from anything
            os.setuid(65534)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for turn in range(2):
                con = mediasql.connect(cache_dir=folder, timeout=20)
                fill(con, urls)
                assert scan(con, lock) == RIGHT, turn
                assert con.execute("SELECT count(*) FROM media_errors").get == 0
                con.close()
        assert cached(caught) == 1, [str(one.message) for one in caught]

    try:
        assert os.waitpid(in_child(work), 0)[1] == 0
    finally:
        for path in above.rglob("*"):
            path.chmod(0o777)
        shutil.rmtree(above)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB, which is full but for some KB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED: a full disk needs `mount`, which only root may use: {done.stderr.strip()}")
    (folder / "others").write_bytes(bytes(1024 * 1024 - 40 * 1024))
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_answers_and_bytes_on_a_full_disk(
    connect: Connect, urls: list[tuple[str, str]], tiny_disk: Path, told: list[warnings.WarningMessage]
) -> None:
    for _ in range(2):
        con = connect(cache_dir=tiny_disk / "cache", cache_size="1GB")
        fill(con, urls)
        assert scan(con) == RIGHT
        assert scan(con) == RIGHT
        path = con.execute("SELECT local_path(?)", (urls[3][0],))
        for (name,) in path:
            assert Path(name).read_bytes() == b"\4" * 300_003
        assert con.execute("SELECT media_prefetch(?)", (urls[4][0],)).get is None
        con.close()
    assert cached(told) == 1


def test_a_disk_that_fills_up_in_the_middle(
    connect: Connect, urls: list[tuple[str, str]], tiny_disk: Path, told: list[warnings.WarningMessage]
) -> None:
    (tiny_disk / "others").unlink()
    con = connect(cache_dir=tiny_disk / "cache", cache_size="1GB")
    fill(con, urls)

    def happens() -> None:
        room = shutil.disk_usage(tiny_disk).free
        (tiny_disk / "others").write_bytes(bytes(max(0, room - 8192)))

    assert scan(con, happens) == RIGHT
    (tiny_disk / "others").unlink()
    assert scan(con) == RIGHT


@pytest.mark.parametrize("change", ["truncated", "emptied", "deleted", "other bytes"])
def test_files_of_blocks_that_are_damaged(
    change: str, connect: Connect, urls: list[tuple[str, str]], tmp_path: Path, http_server: HttpServer
) -> None:
    def happens() -> None:
        for path in (tmp_path / "cache" / "bytes-v1" / "files").glob("*/*.bin"):
            match change:
                case "truncated":
                    os.truncate(path, 100_000)
                case "emptied":
                    os.truncate(path, 0)
                case "deleted":
                    path.unlink()
                case _:
                    with path.open("r+b") as file:
                        file.seek(200_000)
                        file.write(b"not what was written")

    con = connect(cache_dir=tmp_path / "cache")
    fill(con, urls)
    assert scan(con) == RIGHT
    assert scan(con, happens) == RIGHT
    http_server.reset()
    happens()
    again = connect(cache_dir=tmp_path / "cache")
    fill(again, urls)
    assert scan(again) == RIGHT
    assert len(http_server.requests()) >= COUNT
    http_server.reset()
    assert scan(again) == RIGHT
    assert http_server.requests() == []  # and it is mended


def test_databases_that_are_damaged_in_the_middle(
    connect: Connect, urls: list[tuple[str, str]], tmp_path: Path, told: list[warnings.WarningMessage]
) -> None:
    folder = tmp_path / "cache"

    def happens() -> None:
        for path in (folder / "answers.db", folder / "bytes-v1" / "catalog.db"):
            with path.open("r+b") as file:
                file.seek(0)
                file.write(os.urandom(20_000))

    con = connect(cache_dir=folder)
    fill(con, urls)
    assert scan(con) == RIGHT
    assert scan(con, happens) == RIGHT
    con.close()
    for _ in range(2):
        again = connect(cache_dir=folder)
        fill(again, urls)
        assert scan(again, happens) == RIGHT
        again.close()
