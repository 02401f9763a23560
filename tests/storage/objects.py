"""Objects in memory for tests of the cache: what it asks for is counted, and each may change or fail."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

from mediasql.errors import NotFound
from mediasql.storage.cache.blocks import Blocks
from mediasql.storage.cache.identity import Identity
from mediasql.storage.fetch import NotModified, of_one_version
from mediasql.storage.providers.base import Chunk, ObjectInfo, changed

SCOPE = "test"


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
