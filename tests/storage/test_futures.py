"""Futures that several wait for, some of whom give up."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from mediasql.storage.futures import shared_result


def test_whoever_gives_up_does_not_cancel_it() -> None:
    async def main() -> list[object]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        waiting = [asyncio.create_task(shared_result(future)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        future.set_result("there")
        return [*await asyncio.gather(*waiting, return_exceptions=True), await shared_result(future)]

    given_up, *others = asyncio.run(main())
    assert isinstance(given_up, asyncio.CancelledError)
    assert others == ["there"] * 3


@pytest.mark.parametrize("given_up", [True, False])
def test_a_failure_is_raised_for_whoever_waits_and_reported_for_nobody(given_up: bool) -> None:
    reported: list[Any] = []

    async def main() -> object:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: reported.append(context))
        future: asyncio.Future[str] = loop.create_future()
        future.add_done_callback(lambda done: done.exception())
        task = asyncio.create_task(shared_result(future))
        await asyncio.sleep(0)
        if given_up:
            task.cancel()
            await asyncio.wait((task,))
        future.set_exception(ValueError("late"))
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        del future
        gc.collect()
        await asyncio.sleep(0)
        return outcome

    assert isinstance(asyncio.run(main()), asyncio.CancelledError if given_up else ValueError)
    assert reported == []


def test_what_was_cancelled_itself() -> None:
    async def main() -> None:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            await shared_result(future)

    asyncio.run(main())
