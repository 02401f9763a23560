"""Kept answers in large numbers: what is done with one costs the same among a thousand and a hundred thousand."""

from __future__ import annotations

from pathlib import Path

from mediasql.media.answers import Answers
from mediasql.media.info import MediaInfo
from mediasql.media.probe import Answer
from mediasql.storage.cache.identity import Identity
from mediasql.storage.providers.base import ObjectInfo
from tests.storage.test_cache_large import COUNTS, constant, seconds

SOME = 200
RUN = 200  # that are looked up together, as those of a statement are


def name(number: int, word: str = "old") -> Identity:
    return Identity("http", f"http://host/{word}/{number:06}.jpg")


def answer(number: int) -> Answer:
    info = MediaInfo(media_type="image", mime_type="image/jpeg", format="jpeg", width=number % 5000 + 1, height=7)
    return Answer(ObjectInfo(1000 + number, "2026-11-24T10:00:00Z", f"{number:x}", "image/jpeg"), info)


def test_coming_looking_up_and_going(tmp_path: Path) -> None:
    coming, together, one, by_hand = {}, {}, {}, {}
    for count in COUNTS:
        answers = Answers(tmp_path / str(count), count, print)

        def put(word: str, numbers: range, answers: Answers = answers) -> None:
            for number in numbers:
                answers.put(name(number, word), answer(number))
            answers.flush()

        put("old", range(count))
        assert answers.count() == count
        # A tenth goes when there are too many, and so a tenth comes, by which it is shared.
        new = max(SOME, count // 10)
        coming[count] = seconds(lambda put=put, new=new: put("new", range(new))) / new  # type: ignore[misc]
        assert answers.count() <= count  # others went
        first = [count // 2 + at for at in range(0, 400, RUN)]

        def look(answers: Answers = answers, first: list[int] = first) -> None:
            for number in first:
                found = answers.values(name(number), "width", 0.0, RUN)
                assert list(found.items()) == [(name(number + at).key, (number + at) % 5000 + 1) for at in range(RUN)]

        look()
        together[count] = seconds(look) / len(first) / RUN

        def look_up(answers: Answers = answers, count: int = count) -> None:
            for at in range(SOME):
                assert answers.find(name(count - 1 - at * 7 % (count // 2))) is not None

        one[count] = seconds(look_up) / SOME

        def forget(answers: Answers = answers, count: int = count) -> None:
            for at in range(100):
                answers.forget_all(name(count - 1 - at).key)

        known = answers.count()
        by_hand[count] = seconds(forget) / 100
        assert answers.count() == known - 100
        answers.close()
    for measured in (coming, together, one, by_hand):
        assert constant(measured)
    assert together[100_000] < 50e-6  # it is 3 to 9 us on machines without other work
