"""Which rows executemany takes before their turn: of what stands still; of iterators none, unless it is asked to."""

from __future__ import annotations

import collections
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest

import mediasql
from mediasql.plugins import dbapi
from tests.sql.conftest import Web

INSERT = "INSERT INTO t(k, image) VALUES (?, ?)"
ROWS = 9


class Written:
    """A database file that some host writes to, and a connection of our own that says which rows are there."""

    def __init__(self, host: str, path: str) -> None:
        """Make the file with the table t, whose column s waits for the image of each row."""
        self._open = getattr(self, f"_open_{host}")
        # What a row that is refused raises there, and a file that cannot be had for the moment.
        self.refused: type[Exception] = {"sqlite3": sqlite3.IntegrityError, "dbapi": dbapi.IntegrityError}.get(
            host, apsw.ConstraintError
        )
        self.failed: type[Exception] = sqlite3.OperationalError if host == "sqlite3" else mediasql.TransientError
        self._reader = apsw.Connection(path) if host != "sqlite3" else sqlite3.connect(path)  # of the same library
        self._reader.execute("PRAGMA journal_mode = wal")
        self.executemany: Callable[..., Any] = self._open(path)

    def _open_connection(self, path: str) -> Any:
        return self._made(mediasql.connect(path, timeout=20)).executemany

    def _open_cursor(self, path: str) -> Any:
        con = self._made(mediasql.connect(path, timeout=20))
        con.cursor_factory = mediasql.MediaCursor
        return con.cursor().executemany

    def _open_registered(self, path: str) -> Any:
        con = apsw.Connection(path)
        mediasql.register(con, timeout=20)
        return self._made(con).executemany

    def _open_dbapi(self, path: str) -> Any:
        return self._made(dbapi.connect(path, isolation_level=None, timeout=20)).executemany

    def _open_sqlite3(self, path: str) -> Any:
        con = sqlite3.connect(path, isolation_level=None)
        mediasql.load(con, timeout=20)
        return self._made(con).executemany

    def _made(self, con: Any) -> Any:
        self._connection = con
        con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, image, s AS (width(image)) STORED)")
        return con

    def rows(self) -> list[int]:
        """What anybody else reads at this moment."""
        return [row[0] for row in self._reader.execute("SELECT k FROM t ORDER BY k").fetchall()]

    def close(self) -> None:
        self._connection.close()
        self._reader.close()


@pytest.fixture(params=["connection", "cursor", "registered", "dbapi", "sqlite3"])
def written(request: pytest.FixtureRequest, tmp_path: Path, environment: object, loadable: str) -> Iterator[Written]:
    database = Written(request.param, str(tmp_path / "written.db"))
    yield database
    database.close()


@pytest.fixture(params=["connection", "cursor", "dbapi"])
def ours(request: pytest.FixtureRequest, tmp_path: Path, environment: object) -> Iterator[Written]:
    """A host whose `executemany` takes `readahead_rows`."""
    database = Written(request.param, str(tmp_path / "written.db"))
    yield database
    database.close()


class Messages:
    """A generator of rows that acknowledges what it yielded once it is asked for more."""

    def __init__(self, database: Written, rows: Iterable[Any]) -> None:
        self._database = database
        self._rows = rows
        self.yielded: list[int] = []
        self.lost: list[int] = []  # acknowledged, and written by nobody
        self.ahead: list[int] = []  # at each request for a row, how many of those yielded before are not written

    def __iter__(self) -> Iterator[Any]:
        for row in self._rows:
            self._look()
            self.yielded.append(row[0])
            yield row
        self._look()

    def _look(self) -> None:
        there = set(self._database.rows())
        self.lost = [k for k in self.yielded if k not in there]
        self.ahead.append(len(self.lost))


def rows(web: Web) -> list[tuple[int, str]]:
    return [(k, web.url(k)) for k in range(ROWS)]


def test_a_generator_is_asked_when_the_row_before_is_written(written: Written, web: Web) -> None:
    messages = Messages(written, rows(web))
    written.executemany(INSERT, iter(messages))
    assert messages.ahead == [0] * (ROWS + 1)
    assert written.rows() == messages.yielded == list(range(ROWS))


@pytest.mark.parametrize("kind", [map, zip, filter])
def test_other_iterators(written: Written, web: Web, kind: Any) -> None:
    """That are made of a generator, in C."""
    messages = Messages(written, rows(web))
    made: Any = {map: lambda: map(tuple, messages), filter: lambda: filter(None, messages)}
    made[zip] = lambda: zip(range(ROWS), (url for _, url in messages), strict=False)
    written.executemany(INSERT, made[kind]())
    assert set(messages.ahead) == {0}
    assert written.rows() == list(range(ROWS))


class Counted:
    """As tqdm(generator, total=9): it has a length and is a container, and to iterate it advances a generator."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return ROWS

    def __contains__(self, row: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(self._messages)


def test_a_length_does_not_make_it_stand_still(written: Written, web: Web) -> None:
    messages = Messages(written, rows(web))
    written.executemany(INSERT, Counted(messages))
    assert set(messages.ahead) == {0}


def test_a_statement_that_fails_in_the_middle(written: Written, web: Web) -> None:
    """No row is taken that nobody wrote but the one that failed."""
    given = rows(web)
    given[5] = (3, web.url(5))
    messages = Messages(written, given)
    with pytest.raises(written.refused):
        written.executemany(INSERT, iter(messages))
    assert written.rows() == [0, 1, 2, 3, 4]
    assert messages.yielded == [0, 1, 2, 3, 4, 3]
    assert messages.lost == []


def test_a_file_that_cannot_be_had_for_the_moment(written: Written, web: Web) -> None:
    given = rows(web)
    given[5] = (5, web.url(5, "s/500/"))
    messages = Messages(written, given)
    with pytest.raises(written.failed, match="500"):
        written.executemany(INSERT, iter(messages))
    assert written.rows() == [0, 1, 2, 3, 4]
    assert messages.yielded == [0, 1, 2, 3, 4, 5]
    assert messages.lost == []
    assert [path for path in web.asked() if "p6" in path] == []


def test_a_generator_that_raises(written: Written, web: Web) -> None:
    def failing() -> Iterator[Any]:
        yield from rows(web)[:4]
        seen.append(written.rows())
        raise LookupError("no more messages")

    seen: list[list[int]] = []
    with pytest.raises(LookupError, match="no more messages"):
        written.executemany(INSERT, failing())
    assert seen == [[0, 1, 2, 3]]
    assert written.rows() == [0, 1, 2, 3]


# --- when it is asked to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 2, 4, 64])
def test_an_iterator_is_read_ahead_as_far_as_is_said(ours: Written, web: Web, most: int) -> None:
    messages = Messages(ours, rows(web))
    ours.executemany(INSERT, iter(messages), readahead_rows=most)
    assert max(messages.ahead) <= most
    if most > 1:
        assert max(messages.ahead) > 0, "nothing was read ahead"
    assert ours.rows() == messages.yielded == list(range(ROWS))


def test_what_was_taken_early_is_written_before_the_iterators_error_is_raised(ours: Written, web: Web) -> None:
    def failing() -> Iterator[Any]:
        yield from rows(web)[:6]
        raise LookupError("no more messages")

    with pytest.raises(LookupError, match="no more messages"):
        ours.executemany(INSERT, failing(), readahead_rows=64)
    assert ours.rows() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("wrong", [-1, 1.5, "all"])
def test_what_is_no_number_of_rows(ours: Written, wrong: Any) -> None:
    with pytest.raises(mediasql.UsageError, match=rf"readahead_rows is {wrong!r}; a whole number"):
        ours.executemany(INSERT, [], readahead_rows=wrong)


def test_none_of_a_list(ours: Written, web: Web) -> None:
    given = [(min(k, 3), url) for k, url in rows(web)]
    with pytest.raises(ours.refused):
        ours.executemany(INSERT, given, readahead_rows=0)
    assert [path for path in web.asked() if "p5" in path] == []


# --- what stands still -----------------------------------------------------------------------------------------------


class Rows(Sequence[Any]):
    """A sequence of the application's own."""

    def __init__(self, given: list[Any]) -> None:
        self._given = given

    def __len__(self) -> int:
        return len(self._given)

    def __getitem__(self, at: Any) -> Any:
        return self._given[at]


class Array:
    """As numpy.ndarray: it can be made an array of, and is none of Python's abstract collections."""

    def __init__(self, given: list[Any]) -> None:
        self._given = given

    def __array__(self) -> Any:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return iter(self._given)


STANDING_STILL: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": collections.deque,
    "keys": lambda given: dict.fromkeys(given).keys(),
    "values": lambda given: dict(enumerate(given)).values(),
    "dict": dict.fromkeys,
    "sequence": Rows,
    "array": Array,
}


@pytest.mark.parametrize("kind", STANDING_STILL)
def test_what_stands_still_is_read_ahead(ours: Written, web: Web, kind: str) -> None:
    """But for the first file, none is answered before all the others are asked for."""
    given = [(0, web.url(0)), *((k, web.url(k, "together/4/")) for k in range(1, ROWS))]
    ours.executemany(INSERT, STANDING_STILL[kind](given))
    assert set(web.asked().values()) == {1}
    assert ours.rows() == list(range(ROWS))
