"""Whose turn it is, of the fetching loop and a statement."""

from __future__ import annotations

import threading
import time

import pytest

from mediasql.storage import loop
from mediasql.storage.loop import Turn
from tests.clock import Clock
from tests.waiting import LONG


def waited(turn: Turn) -> float:
    """Seconds for which the loop gives way."""
    began = time.monotonic()
    turn.give_way()
    return time.monotonic() - began


def test_the_loop_waits_for_the_end_of_the_turn() -> None:
    turn = Turn()
    turn.take(600)
    threading.Timer(0.1, turn.end).start()
    assert 0.09 < waited(turn) < LONG
    assert waited(turn) < LONG


def test_who_does_not_come_back_holds_up_nothing(clock: Clock) -> None:
    turn = Turn()
    turn.take(0.1)
    assert 0.09 < waited(turn) < LONG
    turn.take(600)
    clock.move(600)
    assert waited(turn) < LONG


@pytest.mark.parametrize("taken", [False, True])
def test_nobody_waits_otherwise(taken: bool) -> None:
    turn = Turn()
    if taken:
        turn.take(600)
        turn.end()
    assert waited(turn) < LONG


def test_who_waits_for_the_loop_ends_its_turn() -> None:
    async def give_way() -> float:
        return waited(loop.turn)

    loop.turn.take(600)
    assert loop.run(give_way()) < LONG
