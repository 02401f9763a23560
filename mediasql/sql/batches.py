"""Batches: calls of one function that are gathered, and made together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

from .workshop import Ticket

Call = tuple[Ticket, Any, "asyncio.Future[Any]"]


class Batches:
    """Gathers calls until `size` are there, and gives them to `run`, one batch at a time.

    Only calls with the same other arguments go together. A batch that is not full is run when the query waits for one
    of it and no more are on their way.
    """

    def __init__(self, size: int, run: Callable[[Hashable, list[Any]], Awaitable[list[Any]]]) -> None:
        self.coming = 0
        self._size = size
        self._run = run
        self._gathered: dict[Hashable, list[Call]] = {}
        self._task: asyncio.Task[None] | None = None

    async def result(self, ticket: Ticket, item: Any, others: Hashable) -> Any:
        """What the batch that `item` will be in gives for it."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        call = ticket, item, future
        self._gathered.setdefault(others, []).append(call)
        ticket.coming(False)
        ticket.changed()
        try:
            return await future
        finally:
            if call in (calls := self._gathered.get(others, [])):  # it was given up
                calls.remove(call)

    def settle(self) -> None:
        """Run the next batch, if there is one and none is running."""
        if self._task is not None:
            return
        for others, calls in self._gathered.items():
            awaited = not self.coming and any(ticket.urgent for ticket, *_ in calls)
            if len(calls) >= self._size or awaited:
                # The one that the query waits for is among the first.
                calls.sort(key=lambda call: not call[0].urgent)
                batch, self._gathered[others] = calls[: self._size], calls[self._size :]
                self._task = asyncio.get_running_loop().create_task(self._make(others, batch))
                return
        self._gathered = {others: calls for others, calls in self._gathered.items() if calls}

    async def _make(self, others: Hashable, batch: list[Call]) -> None:
        try:
            outcomes = await self._run(others, [item for _, item, _ in batch])
        except BaseException as error:
            outcomes = [error] * len(batch)
            if not isinstance(error, Exception):
                raise
        finally:
            self._task = None
            for (_, _, future), outcome in zip(batch, outcomes, strict=True):
                if future.done():
                    continue
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        self.settle()
