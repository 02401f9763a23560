"""Decoders at work on files that are not here: they read, and what they read is fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import IO, TypeVar, cast

from ..errors import TransientError
from ..storage import loop
from .sparse import Segments, SparseFile

T = TypeVar("T")


async def decoded(
    load: Callable[[int, int], Awaitable[bytes]], size: int | None, known: Segments, work: Callable[[IO[bytes]], T]
) -> T:
    """What `work`, in a thread, makes of a file of which it reads what it wants.

    A read that fails looks to decoders like the end of the file, and raises when they are done: they would swallow
    the exception, or keep it for the next file that they open.
    """
    here = asyncio.get_running_loop()
    reads: list[Future[bytes]] = []
    failures: list[BaseException] = []

    async def loaded(start: int, stop: int) -> bytes:
        return await load(start, stop)

    def fetch(start: int, stop: int) -> bytes:
        if failures:
            return b""
        reads.append(asyncio.run_coroutine_threadsafe(loaded(start, stop), here))
        try:
            return reads[-1].result()
        except BaseException as error:
            failures.append(error)
            return b""

    def run() -> T:
        try:
            return work(cast(IO[bytes], SparseFile(fetch, size, known)))
        finally:
            if failures:
                raise failures[0]

    try:
        return await loop.in_decoder(run)
    except asyncio.CancelledError:
        failures.append(TransientError("given up"))  # so that the thread, too, comes to its end
        for read in reads[-1:]:
            read.cancel()
        raise
