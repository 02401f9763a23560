from __future__ import annotations

import io

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mediasql.media.sparse import BLOCK, LARGEST, Segments, SparseFile

CONTENT = bytes(range(256)) * (9 * BLOCK // 256) + b"the end"


class Source:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.fetches: list[tuple[int, int]] = []

    def __call__(self, start: int, stop: int) -> bytes:
        assert 0 <= start < stop
        self.fetches.append((start, stop))
        assert len(self.fetches) < 1000
        return self.data[start:stop]


def opened(data: bytes, knows_size: bool, known: list[tuple[int, int]]) -> tuple[SparseFile, Source]:
    segments = Segments()
    for start, stop in known:
        segments.add(start, data[start:stop])
    source = Source(data)
    return SparseFile(source, len(data) if knows_size else None, segments), source


sizes = st.sampled_from([0, 1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, len(CONTENT)])
numbers = st.integers(0, len(CONTENT) + 100)
spans = st.lists(st.tuples(numbers, numbers), max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-1, 3 * BLOCK))),
        st.tuples(st.just("readinto"), st.integers(0, 3 * BLOCK)),
        st.tuples(st.sampled_from(["seek0", "seek1", "seek2"]), st.integers(-2 * BLOCK, 10 * BLOCK)),
    ),
    max_size=12,
)


@given(sizes, st.booleans(), spans, steps)
@example(0, False, [], [("seek0", BLOCK), ("readinto", 1), ("seek2", -1)])
@example(100, False, [], [("seek0", 3 * BLOCK), ("read", 1), ("seek2", 0)])
@settings(max_examples=300)
def test_it_reads_as_a_file_in_memory_does(
    size: int, knows_size: bool, known: list[tuple[int, int]], steps: list[tuple[str, int]]
) -> None:
    data = CONTENT[:size]
    file, source = opened(data, knows_size, known)
    expected = io.BytesIO(data)
    for action, number in steps:
        if action == "read":
            assert file.read(number) == expected.read(number)
        elif action == "readinto":
            ours, theirs = bytearray(number), bytearray(number)
            assert file.readinto(ours) == expected.readinto(theirs)
            assert ours == theirs
        else:
            whence = int(action[-1])
            base = (0, expected.tell(), size)[whence]
            if base + number < 0:
                with pytest.raises(ValueError, match="before the file begins"):
                    file.seek(number, whence)
            else:
                assert file.seek(number, whence) == expected.seek(number, whence)
        assert file.tell() == expected.tell()
    # Nothing is fetched that was known, nor twice.
    fetched = [at for start, stop in source.fetches for at in range(start // 1024, min(stop, size) // 1024)]
    assert len(fetched) == len(set(fetched))
    assert len(source.fetches) <= size // BLOCK + len(known) + len(steps) + 2


def test_one_block_for_a_header_and_few_for_the_whole() -> None:
    data = bytes(20 * LARGEST)
    file, source = opened(data, True, [])
    file.read(100)
    file.read(100)
    assert source.fetches == [(0, BLOCK)]
    while file.read(8192):
        pass
    assert len(source.fetches) <= 24
    assert sum(stop - start for start, stop in source.fetches) == len(data)


def test_jumping_about_costs_a_block_each() -> None:
    file, source = opened(bytes(20 * LARGEST), True, [])
    for at in (10, 5 * LARGEST + 3, 9 * LARGEST):
        file.seek(at)
        file.read(10)
    assert [(stop - start) for start, stop in source.fetches] == [BLOCK] * 3


def test_what_is_asked_for_at_once_is_fetched_at_once() -> None:
    file, source = opened(bytes(20 * LARGEST), True, [])
    file.seek(1000)
    assert len(file.read(9 * LARGEST)) == 9 * LARGEST
    assert len(source.fetches) == 1


def test_a_size_that_nobody_tells_is_found_in_few_reads() -> None:
    file, source = opened(bytes(50 * LARGEST), False, [])
    assert file.seek(0, io.SEEK_END) == 50 * LARGEST
    assert len(source.fetches) <= 7


def test_a_file_that_is_shorter_than_was_said_ends_where_it_ends() -> None:
    source = Source(b"x" * 100)
    file = SparseFile(source, 1000)
    assert file.read() == b"x" * 100
    assert file.seek(0, io.SEEK_END) == 100
    assert len(source.fetches) == 1


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20), st.integers(0, 90), st.integers(0, 90))
def test_segments_keep_what_was_added(added: list[tuple[int, int]], start: int, stop: int) -> None:
    segments = Segments()
    known = set()
    for at, length in added:
        segments.add(at, CONTENT[at : at + length])
        known |= set(range(at, at + length))
    end = start
    while end in known:
        end += 1
    assert segments.known_to(start) == end
    assert segments.get(start, stop) == CONTENT[start : max(start, min(stop, end))]


def test_what_is_given_stays_the_giver_s() -> None:
    given, known = bytearray(b"abc"), Segments()
    known.add(0, given)
    known.add(3, b"def")
    given[0] = 0
    assert (known.get(0, 6), given) == (b"abcdef", b"\0bc")
