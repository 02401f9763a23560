"""Kept bytes and a catalogue in which anything may be wrong: what is read is right, and nothing raises."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.providers.base import ObjectInfo
from tests.storage.objects import Cache, Objects, identity, noise

LONG = bool(os.environ.get("MEDIASQL_TEST_LONG"))
TRIALS = 400 if LONG else 10
COUNT = 40


@pytest.fixture(scope="module")
def objects() -> Objects:
    objects = Objects()
    for number in range(COUNT):
        # In pairs of the same bytes, so that those of one may pass for those of another; and some of them empty.
        objects.put(str(number), noise(number // 2, (number % 4) * BLOCK + 5 * (number % 3)))
    return objects


@pytest.fixture(scope="module")
def sound(objects: Objects, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    cache = Cache(folder)
    for name in objects.data:
        cache.all(objects, name)
    cache.close()
    return folder


def spoil(path: Path, chosen: random.Random, changes: int, start: int = 0) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(changes):
        data[chosen.randrange(start, len(data))] = chosen.randrange(256)
    path.write_bytes(data)


def check(cache: Cache, objects: Objects) -> None:
    """All that can be asked of a cache, and none of it raises."""
    for name, data in objects.data.items():
        assert cache.all(objects, name) == data
        cache.validate(identity(name), objects.infos[name])
    cache.evict(None, identity("1").key)
    with cache.leased(objects, "3") as lease:
        assert lease.path.read_bytes() == objects.data["3"]
    cache.clean()
    assert cache.stats().held >= 0
    assert len(cache.rows()) < 2 * COUNT  # with a damaged index, some are there twice
    for name, data in objects.data.items():
        assert cache.get(objects, name, 7, BLOCK + 9) == data[7 : BLOCK + 9]
    cache.close()


@pytest.mark.parametrize(
    ("changes", "start"), [(30, 4096), (3, 0), (1, 4096), (200, 4096)], ids=["30 bytes", "with the schema", "1", "200"]
)
def test_any_bytes_of_the_catalogue(
    changes: int, start: int, objects: Objects, sound: Path, tmp_path: Path, no_pauses: None
) -> None:
    for trial in range(TRIALS):
        folder = Path(shutil.copytree(sound, tmp_path / str(trial)))
        spoil(folder / "bytes-v1" / "catalog.db", random.Random(trial), changes, start)
        check(Cache(folder), objects)
        shutil.rmtree(folder)


def test_any_bytes_of_the_log(objects: Objects, tmp_path: Path, no_pauses: None) -> None:
    made = tmp_path / "made"
    cache = Cache(made)
    for name in objects.data:
        cache.all(objects, name)
    cache.flush()
    for trial in range(TRIALS):
        folder = Path(shutil.copytree(made, tmp_path / str(trial)))  # as a kill leaves it
        spoil(folder / "bytes-v1" / "catalog.db-wal", random.Random(trial), 5)
        check(Cache(folder), objects)
        shutil.rmtree(folder)
    cache.close()


def test_any_bytes_of_the_files(objects: Objects, sound: Path, tmp_path: Path) -> None:
    for trial in range(TRIALS // 2):
        chosen = random.Random(trial)
        folder = Path(shutil.copytree(sound, tmp_path / str(trial)))
        for path in (folder / "bytes-v1" / "files").glob("*/*"):
            match chosen.randrange(4):
                case 0 if path.stat().st_size:
                    spoil(path, chosen, 3)
                case 1:
                    os.truncate(path, chosen.randrange(5 * BLOCK))
                case 2:
                    path.unlink()
        check(Cache(folder), objects)
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE objects SET etag = CAST(x'ff41' AS TEXT)",
        "UPDATE objects SET size = 0",
        "UPDATE objects SET size = 'many'",
        "UPDATE objects SET size = size + 65536",
        "UPDATE objects SET checked = 'yesterday'",
        "UPDATE objects SET held = x'00'",
        "UPDATE objects SET last_use = 'never', hits = 'some'",
        "UPDATE objects SET file = '../../../etc/passwd' || id",
        "UPDATE objects SET file = (SELECT file FROM objects other WHERE other.id = objects.id % 40 + 1) || random()",
        "UPDATE objects SET id = -id",
        "UPDATE parts SET checks = 'text'",
        "UPDATE parts SET checks = x'010203'",
        "UPDATE parts SET checks = zeroblob(100000)",
        "DELETE FROM totals",
        "UPDATE totals SET held = 'much'",
        "UPDATE totals SET held = -1000000000, generation = NULL",
        "UPDATE totals SET held = -1",
        "DROP TABLE parts",
        "DROP TABLE leases",
        "ALTER TABLE objects DROP COLUMN hits",
        "CREATE TRIGGER spoilt BEFORE INSERT ON objects BEGIN SELECT raise(FAIL, 'no'); END; DROP TRIGGER dropped",
        "INSERT INTO removed VALUES ('/tmp/mediasql-not-ours'), ('../../outside'), (CAST(x'ff' AS TEXT))",
        "INSERT INTO removed VALUES (x'ff'), ('a/1.' || char(0)), ('../outside')",
    ],
)
def test_any_values(sql: str, objects: Objects, sound: Path, tmp_path: Path, no_pauses: None) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "cache"))
    outside = tmp_path / "cache" / "outside"
    outside.write_text("not ours to delete")
    connection = apsw.Connection(os.fspath(folder / "bytes-v1" / "catalog.db"))
    connection.execute(sql)
    connection.close()
    check(Cache(folder), objects)
    assert outside.exists()


def test_the_bytes_of_one_object_never_pass_for_those_of_another(objects: Objects, sound: Path, tmp_path: Path) -> None:
    """Two rows whose files were swapped, with their checks: all is there, and nothing is right."""
    folder = Path(shutil.copytree(sound, tmp_path / "cache"))
    connection = apsw.Connection(os.fspath(folder / "bytes-v1" / "catalog.db"))
    keys = identity("3").key, identity("7").key
    connection.execute("UPDATE objects SET key = 'none' WHERE key = ?", keys[:1])
    connection.execute("UPDATE objects SET key = ? WHERE key = ?", keys)
    connection.execute("UPDATE objects SET key = ? WHERE key = 'none'", keys[1:])
    connection.close()
    cache = Cache(folder)
    assert cache.all(objects, "3") == objects.data["3"]
    assert cache.all(objects, "7") == objects.data["7"]
    cache.close()


def test_a_file_format_that_sqlite_does_not_know(
    objects: Objects, sound: Path, tmp_path: Path, no_pauses: None
) -> None:
    folder = Path(shutil.copytree(sound, tmp_path / "cache"))
    with (folder / "bytes-v1" / "catalog.db").open("r+b") as file:
        file.seek(44)  # the schema's format
        file.write(b"\0\0\0\x63")
    check(Cache(folder), objects)


@pytest.mark.parametrize("said", [{"etag": "\udcff"}, {"size": 1 << 70}], ids=["no text", "no number"])
def test_what_no_database_can_hold_is_not_kept(said: dict[str, str | int], make: Callable[..., Cache]) -> None:
    objects = Objects()
    objects.put("odd", noise("odd", BLOCK), **said)
    objects.put("plain", noise("plain", BLOCK))
    cache = make()
    for _ in range(2):
        assert cache.get(objects, "odd", 0, BLOCK) == objects.data["odd"]
        cache.validate(identity("\udcff"), ObjectInfo(1))
        assert cache.get(objects, "plain", 0, BLOCK) == objects.data["plain"]
    assert cache.held() == {"plain": BLOCK}
    assert cache.warnings == []
