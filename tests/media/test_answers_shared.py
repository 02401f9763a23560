"""Answers of a store that nobody has seen before: no look-up for each, and none missed that others keep meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mediasql.media import records, scopes
from mediasql.media.answers import Answers
from mediasql.storage.cache.identity import Identity
from tests.media.test_answers_in_large import answer, name

Pair = tuple[Answers, Answers]


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    """Two that keep the same, as two processes do."""
    monkeypatch.setattr(scopes, "LOOK", 0.0)
    both = Answers(tmp_path, 10_000, print), Answers(tmp_path, 10_000, print)
    yield both
    for each in both:
        each.close()


def put(answers: Answers, *names: Identity) -> None:
    for number, identity in enumerate(names):
        answers.put(identity, answer(number))
    answers.flush()


def looks(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The keys that are looked up from now on."""
    seen: list[Any] = []
    read = answers.database.read

    def watched(sql: str, bindings: Any = ()) -> list[Any]:
        if sql == records.ANSWER:
            seen.append(bindings[0])
        return read(sql, bindings)

    monkeypatch.setattr(answers.database, "read", watched)
    return seen


def test_a_store_that_this_process_began_is_not_looked_at_for_each(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair
    assert ours.find(name(0)) is None
    put(ours, *map(name, range(100)))
    seen = looks(ours, monkeypatch)
    assert all(ours.find(name(number)) is not None for number in range(100))
    assert not any(ours.find(name(number)) for number in range(100, 200))
    assert seen == [name(number).key for number in range(100)]


@pytest.mark.parametrize("writing", [False, True])
def test_what_another_process_keeps_there_is_found(pair: Pair, writing: bool) -> None:
    ours, theirs = pair
    assert ours.find(name(0)) is None
    put(ours, name(0))
    put(theirs, name(1))
    if writing:  # with a look at what the other wrote
        put(ours, name(2))
    assert ours.find(name(1)) is not None


def test_what_is_kept_of_another_store_makes_no_difference(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pair
    put(ours, name(0))
    put(theirs, Identity("s3", "s3://bucket/a.jpg"))
    seen = looks(ours, monkeypatch)
    assert ours.find(name(1)) is None
    assert seen == []


def test_a_cache_that_another_process_emptied(pair: Pair) -> None:
    ours, theirs = pair
    put(ours, *map(name, range(10)))
    theirs.clear()
    put(theirs, name(20))
    put(ours, name(30))
    assert ours.find(name(20)) is not None
    assert ours.find(name(3)) is None


def test_more_keys_than_are_held_in_memory(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, _ = pair
    monkeypatch.setattr(scopes, "MOST", 20)
    for part in range(5):
        put(ours, *(name(number) for number in range(10 * part, 10 * part + 10)))
    assert all(ours.find(name(number)) is not None for number in range(50))


def test_a_number_is_not_given_again(pair: Pair) -> None:
    ours, theirs = pair
    other = Identity("s3", "s3://bucket/a.jpg")
    assert ours.find(name(0)) is None
    put(ours, *map(name, range(3)))
    theirs.forget(name(2))  # the last record
    put(theirs, other)
    put(ours, name(3))
    assert ours.find(other) is not None


def test_who_forks_need_not_wait_for_a_look(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    # A fork takes the locks of both connections in any order, so that a write must not read through the other one.
    ours, _ = pair

    def read(sql: str, bindings: Any = ()) -> list[Any]:
        raise AssertionError(sql)

    monkeypatch.setattr(ours.database, "read", read)
    put(ours, name(0))
    monkeypatch.undo()
    assert ours.find(name(0)) is not None
