"""How many requests a host gets at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import mediasql
from mediasql.storage.gate import FIRST, LEAST, Deadline, Gate
from tests.clock import Clock
from tests.storage.limited import LimitedServer


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


def test_it_opens_with_each_answer_and_halves_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    one = Gate(100)
    assert one.limit == FIRST
    for _ in range(200):
        one.answered()
    assert one.limit == 100
    one.refused()
    one.refused()
    assert one.limit == 50
    for _ in range(10):
        now += 1.0
        one.refused()
    assert one.limit == LEAST


def test_it_stays_within_what_was_configured() -> None:
    one = Gate(2)
    one.answered()
    one.refused()
    assert one.limit == 2


def test_a_pause_is_not_for_requests_that_it_would_outlast(clock: Clock) -> None:
    async def main() -> None:
        clock.stop()
        one, passed = Gate(2), []

        async def request(name: str, seconds: float) -> None:
            await one.enter(Deadline(seconds))
            passed.append(name)
            one.leave()

        one.refused(after=0.4)
        tasks = [asyncio.create_task(request(*each)) for each in (("patient", 30), ("pressed", 0.2), ("other", 30))]
        await tasks[1]
        assert passed == ["pressed"]  # the server wants more time than it has in all
        clock.move(0.5)
        await asyncio.gather(*tasks)
        assert passed == ["pressed", "patient", "other"]
        assert one.active == 0

    run(main())


def test_a_host_that_asks_for_a_pause_gets_as_many_as_it_accepted() -> None:
    async def main() -> None:
        one = Gate(100)
        for _ in range(FIRST):
            await one.enter()
        for _ in range(FIRST - 7):
            one.refused(after=0.2)
            one.leave()
        waiting = [asyncio.create_task(one.enter()) for _ in range(20)]
        for _ in range(7):
            one.answered()
            one.leave()
        await asyncio.sleep(0.3)
        assert (one.limit, one.active) == (7, 7)
        for _ in range(30):
            one.answered()
        assert one.limit == 7  # to ask for more may cost another pause
        for task in waiting:
            task.cancel()

    run(main())


def test_a_single_refusal_among_many_says_little_of_the_host() -> None:
    async def main() -> None:
        one = Gate(100)
        for _ in range(FIRST):
            await one.enter()
        one.refused(after=0.1)
        await asyncio.sleep(0.2)
        assert one.limit == FIRST - 1
        for _ in range(50):
            one.leave()
        one.refused(after=0.1)
        await asyncio.sleep(0.2)
        assert one.limit == FIRST - 1  # it was not more than the host bears

    run(main())


def test_waiting_is_not_the_time_of_an_object(clock: Clock) -> None:
    async def main() -> None:
        clock.stop()
        one, deadline = Gate(1), Deadline(0.3)
        await one.enter()
        waiting = asyncio.create_task(one.enter(deadline))
        for _ in range(5):
            await asyncio.sleep(0.1)
            clock.move(0.1)
            one.answered()  # the host is there
        one.leave()
        await waiting
        assert deadline.left > 0.1

    run(main())


def test_who_waits_at_a_host_that_answers_nothing_is_given_up() -> None:
    async def main() -> None:
        one, began = Gate(1), time.monotonic()
        await one.enter()
        with pytest.raises(TimeoutError):
            await one.enter(Deadline(0.3))
        assert time.monotonic() - began >= 0.3
        assert (one.active, one.open) == (1, False)

    run(main())


def test_what_hangs_does_not_hold_up_the_rest(clock: Clock) -> None:
    async def main() -> None:
        clock.stop()
        one = Gate(100)
        entering = [asyncio.create_task(one.enter(Deadline(0.8))) for _ in range(100)]
        for seconds, active in ((0, FIRST), (0.3, FIRST), (0.2, 100)):
            clock.move(seconds)
            await asyncio.sleep(0.3)  # it looks from time to time
            assert one.active == active
        await asyncio.gather(*entering)

    run(main())


def test_no_more_pass_than_the_limit_first_come_first_served() -> None:
    async def main() -> None:
        one, order, most = Gate(2), [], 0

        async def request(number: int) -> None:
            nonlocal most
            await one.enter()
            most = max(most, one.active)
            order.append(number)
            await asyncio.sleep(0.001)
            one.leave()

        await asyncio.gather(*map(request, range(20)))
        assert (order, most, one.active) == (list(range(20)), 2, 0)

    run(main())


def test_who_gives_up_waiting_takes_no_place() -> None:
    async def main() -> None:
        one = Gate(1)
        await one.enter()
        waiting, later = asyncio.create_task(one.enter()), asyncio.create_task(one.enter())
        await asyncio.sleep(0)
        waiting.cancel()
        one.leave()
        await later
        one.leave()
        admitted = asyncio.create_task(one.enter())
        await admitted
        cancelled = asyncio.create_task(one.enter())
        await asyncio.sleep(0)
        one.leave()  # admits it, and in the same turn it is cancelled
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert one.active == 0

    run(main())


def test_retry_after_closes_it_for_all() -> None:
    async def main() -> None:
        one = Gate(20)
        one.refused(after=0.2)
        started = time.monotonic()
        await asyncio.gather(*(one.enter() for _ in range(5)))
        assert time.monotonic() - started >= 0.19
        assert one.open

    run(main())


def refusals(places: int, files: int) -> int:
    """How often a server with so many places refused in a scan, at the end of which every file has its answer."""
    server = LimitedServer(places, 0.05)
    with mediasql.connect(cache_size=0) as connection:
        connection.execute("CREATE TABLE t(url TEXT)")
        connection.executemany("INSERT INTO t VALUES (?)", [(f"{server.url}/{n}.jpg",) for n in range(files)])
        assert connection.execute("SELECT count(width(url)) FROM t").fetchone() == (files,)
    server.stop()
    return server.refused


def test_a_server_that_refuses_is_asked_less(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adaptive = refusals(10, 90)
    monkeypatch.setattr(Gate, "refused", lambda self, after=None: None)
    assert adaptive < refusals(10, 90)
