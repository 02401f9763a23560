"""Futures that several wait for."""

from __future__ import annotations

import asyncio
from typing import TypeVar

T = TypeVar("T")


async def shared_result(future: asyncio.Future[T]) -> T:
    """Return the result of a future that is not the caller's alone: who gives up waiting does not cancel it.

    As `asyncio.shield`, which from Python 3.14 on reports a failure that comes when everybody has given up.
    """
    if not future.done():
        await asyncio.wait((future,))
    return future.result()
