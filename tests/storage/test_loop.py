"""Whose turn it is, of the fetching loop and a statement."""

from __future__ import annotations

import threading
import time

import pytest

from mediasql.storage import loop
from mediasql.storage.loop import Turn


def waited(turn: Turn) -> float:
    """Seconds for which the loop gives way."""
    began = time.monotonic()
    turn.give_way()
    return time.monotonic() - began


def test_the_loop_waits_for_the_end_of_the_turn() -> None:
    turn = Turn()
    turn.take(10)
    threading.Timer(0.1, turn.end).start()
    assert 0.09 < waited(turn) < 5
    assert waited(turn) < 0.05


def test_who_does_not_come_back_holds_up_nothing() -> None:
    turn = Turn()
    turn.take(0.1)
    assert 0.09 < waited(turn) < 5
    assert waited(turn) < 0.05


@pytest.mark.parametrize("taken", [False, True])
def test_nobody_waits_otherwise(taken: bool) -> None:
    turn = Turn()
    if taken:
        turn.take(10)
        turn.end()
    assert waited(turn) < 0.05


def test_who_waits_for_the_loop_ends_its_turn() -> None:
    async def give_way() -> float:
        return waited(loop.turn)

    loop.turn.take(10)
    assert loop.run(give_way()) < 0.05
