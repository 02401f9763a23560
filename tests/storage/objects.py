"""Objects in memory for tests of the cache: what it asks for is counted, and each may change or fail."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import apsw

from mediasql.errors import NotFound
from mediasql.storage import loop
from mediasql.storage.cache.blocks import Blocks
from mediasql.storage.cache.identity import Identity
from mediasql.storage.cache.leases import Lease
from mediasql.storage.fetch import NotModified, of_one_version
from mediasql.storage.providers.base import Chunk, ObjectInfo, changed

SCOPE = "test"
CAPACITY = 64 * 1024 * 1024


async def whole(blocks: Blocks, identity: Identity, read: Any, **options: Any) -> bytes:
    """All bytes of an object through the cache, as Store.content reads them."""

    async def attempt() -> bytes:
        return b"".join([chunk.data async for chunk in blocks.parts(identity, read, **options)])

    return await of_one_version(attempt)


@lru_cache(maxsize=64)
def noise(seed: object, size: int) -> bytes:
    """Bytes that no other seed has."""
    return random.Random(str(seed)).randbytes(size)


class Objects:
    """`objects[name] = data`, and `objects.reader(name)` is what the cache reads it with."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}
        self.infos: dict[str, ObjectInfo] = {}
        self.asked: list[tuple[str, int, int]] = []  # name, start, stop
        self.unchanged = 0  # answers of 304
        self.sent: Counter[str] = Counter()
        self.before: Callable[[str, int], Awaitable[None]] | None = None
        self.ranged = True

    def put(self, name: str, data: bytes, **info: str | int | None) -> None:
        self.data[name] = data
        self.infos[name] = replace(
            ObjectInfo(len(data), "2026-11-24T10:00:00Z", f"{hash(data):x}", "image/jpeg"), **info
        )

    def reader(self, name: str) -> Callable[..., Awaitable[Chunk]]:
        return partial(self.read, name)

    async def read(self, name: str, start: int, stop: int, unless: ObjectInfo | None = None) -> Chunk:
        self.asked.append((name, start, stop))
        if self.before is not None:
            await self.before(name, start)
        else:
            await asyncio.sleep(0)
        if name not in self.data:
            raise NotFound("404 Not Found", status=404)
        info = self.infos[name]
        if unless is not None and (unless.etag or unless.last_modified) and not changed(unless, info):
            self.unchanged += 1
            raise NotModified
        data = self.data[name][start:stop]
        self.sent[name] += len(data)
        return Chunk(data, start, info, self.ranged)


def identity(name: str) -> Identity:
    return Identity(SCOPE, f"s3://bucket/{name}")


def in_catalog(folder: Path, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
    """Return the rows of a statement in the catalogue of the cache in `folder`."""
    connection = apsw.Connection(os.fspath(folder / "bytes-v1" / "catalog.db"), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(10_000)
        return connection.execute(sql, bindings).fetchall()
    finally:
        connection.close()


class Cache(Blocks):
    """With what tests ask again and again, on the loop that it belongs to."""

    def __init__(self, folder: Path, capacity: int = CAPACITY) -> None:
        self.warnings: list[str] = []
        self.root = folder
        super().__init__(folder, capacity, self.warnings.append)

    def get(self, objects: Objects, name: str, start: int, stop: int, **options: Any) -> bytes:
        chunk = loop.run(self.read(identity(name), objects.reader(name), start, stop, **options))
        assert chunk.start == start
        return chunk.data

    def all(self, objects: Objects, name: str, **options: Any) -> bytes:
        return loop.run(whole(self, identity(name), objects.reader(name), **options))

    def file(self, name: str) -> Path:
        ((file,),) = self.catalog("SELECT file FROM objects WHERE key = ?", (identity(name).key,))
        return self.files.root / str(file)

    def held(self) -> dict[str, int]:
        return {row[1].rpartition("/")[2]: row[2] for row in self.rows()}

    def on_disk(self) -> set[Path]:
        return {path for path in self.files.root.rglob("*") if path.is_file() and path.name != "lock"}

    def held_in_all(self) -> int:
        ((held, of_objects),) = self.catalog("SELECT held, (SELECT total(held) FROM objects) FROM totals")
        assert held == of_objects
        return int(held)

    def catalog(self, sql: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
        """Return the rows of a statement in the catalogue, when all that was read before is written there."""
        self.flush()
        return in_catalog(self.root, sql, bindings)

    def leased(self, objects: Objects, name: str, extension: str = "jpg", **options: Any) -> Lease:
        return loop.run(self.lease(identity(name), objects.reader(name), extension, **options))


def content(blocks: Blocks, objects: Objects, name: str) -> bytes:
    return loop.run(whole(blocks, identity(name), objects.reader(name)))


def filled(count: int, size: int) -> Objects:
    objects = Objects()
    for number in range(count):
        objects.put(str(number), noise(number, size))
    return objects


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a child of this process; the process id."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return child
