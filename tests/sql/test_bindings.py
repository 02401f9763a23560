"""Read-ahead in the bindings of executemany: the same as without it, at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from tests.clock import Clock
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture

FILES = 60


@pytest.fixture(scope="module")
def _row(http_server: HttpServer) -> HttpServer:
    for number in range(FILES):
        http_server.put("row", f"r{number:02}.jpg", picture(100 + number, 50))
    return http_server


@pytest.fixture
def row(_row: HttpServer) -> HttpServer:
    _row.reset()
    return _row


@pytest.fixture
def t(con: mediasql.MediaConnection) -> mediasql.MediaConnection:
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, image, w, s AS (width(image)) STORED, v AS (height(image)))")
    con.execute("CREATE TABLE plain(k INTEGER PRIMARY KEY, image, w, v AS (width(image)))")
    con.execute("WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 60) INSERT INTO plain(k) SELECT i FROM n")
    return con


def urls(server: HttpServer, count: int = FILES, behaviour: str = "") -> list[str]:
    return [f"{server.url}/{behaviour}row/r{number:02}.jpg" for number in range(count)]


def together(server: HttpServer) -> list[str]:
    """The first, for which the statement waits alone, and others of which none is answered before 16 are asked for."""
    return [*urls(server, 1), *urls(server, behaviour="together/4/")[1:]]


def asked(server: HttpServer) -> Counter[str]:
    found = Counter(request.path for request in server.requests())
    server.reset()
    return found


WIDTHS = [(100 + number,) for number in range(FILES)]
STORED = "INSERT INTO t(image) VALUES (?)"
KINDS: list[tuple[str, Callable[[int, str], Any], str]] = [
    (STORED, lambda k, url: (url,), "SELECT s FROM t ORDER BY k"),
    ("INSERT INTO t(image) VALUES (:url);", lambda k, url: {"url": url, "k": k}, "SELECT s FROM t ORDER BY k"),
    ("INSERT INTO plain(k, w) VALUES (?1 + 100, width(?2))", lambda k, url: [k, url], "SELECT w FROM plain WHERE w"),
    ("UPDATE plain SET w = width(?) WHERE k = ? + 1", lambda k, url: (url, k), "SELECT w FROM plain ORDER BY k"),
    (
        "INSERT INTO plain(k, w) VALUES (? + 1, width(?)) ON CONFLICT DO UPDATE SET w = excluded.w",
        lambda k, url: (k, url),
        "SELECT w FROM plain ORDER BY k",
    ),
    (
        "WITH c(x) AS (SELECT width($url)) INSERT INTO plain(w) SELECT x FROM c",
        lambda k, url: {"url": url},
        "SELECT w FROM plain WHERE w",
    ),
]


@pytest.mark.parametrize("how", ["list", "generator", "cursor"])
@pytest.mark.parametrize(("sql", "binding", "result"), KINDS)
def test_files_are_opened_at_once(
    row: HttpServer,
    t: mediasql.MediaConnection,
    clock: Clock,
    sql: str,
    binding: Callable[[int, str], Any],
    result: str,
    how: str,
) -> None:
    clock.stop()  # bindings are taken early for some milliseconds only
    given = [binding(k, url) for k, url in enumerate(together(row))]
    if how == "cursor":
        t.cursor_factory = mediasql.MediaCursor
        t.cursor().executemany(sql, given)
    else:
        t.executemany(sql, given) if how == "list" else t.executemany(sql, iter(given), readahead_rows=64)
    assert set(asked(row).values()) == {1}
    assert t.execute(result).fetchall() == WIDTHS


def test_reading(row: HttpServer, con: mediasql.MediaConnection, clock: Clock) -> None:
    clock.stop()
    found = con.executemany("SELECT width(?)", ((url,) for url in together(row)), readahead_rows=64).fetchall()
    assert found == WIDTHS
    assert set(asked(row).values()) == {1}


def test_connections_that_are_registered(row: HttpServer, clock: Clock) -> None:
    clock.stop()
    con = apsw.Connection("")
    mediasql.register(con)
    con.cursor_factory = mediasql.MediaCursor
    assert con.executemany("SELECT width(?)", [(url,) for url in together(row)]).fetchall() == WIDTHS


def test_what_is_not_used_is_not_fetched(row: HttpServer, t: mediasql.MediaConnection) -> None:
    t.executemany("INSERT INTO plain(image) VALUES (?)", ((url,) for url in urls(row)), readahead_rows=64)
    assert not asked(row)
    t.executemany("INSERT INTO plain(image, w) VALUES (?, height(?))", [(url, urls(row)[0]) for url in urls(row)])
    assert set(asked(row)) == {"/row/r00.jpg"}


def test_no_more_is_read_than_a_window(row: HttpServer, t: mediasql.MediaConnection) -> None:
    read, executed = [], []
    t.create_scalar_function("done", lambda k: executed.append((k, len(read))), 1, deterministic=True)

    def bindings() -> Iterator[tuple[str, int]]:
        for k in range(2000):
            read.append(k)
            yield f"{urls(row)[k % FILES]}?{k if k < 90 else 0}", k

    t.executemany("INSERT INTO t(image, w) VALUES (?, done(?))", bindings(), readahead_rows=2000)
    assert all(length - k <= max(64, 8 * k) + 1 for k, length in executed)


# --- the same as without ---------------------------------------------------------------------------------------------


def test_an_error_comes_in_its_turn(row: HttpServer, t: mediasql.MediaConnection) -> None:
    def failing() -> Iterator[tuple[str]]:
        for url in urls(row, 20):
            yield (url,)
        raise ZeroDivisionError("the 21st")

    with pytest.raises(ZeroDivisionError, match="the 21st"):
        t.executemany(STORED, failing(), readahead_rows=64)
    assert t.execute("SELECT s FROM t ORDER BY k").fetchall() == WIDTHS[:20]
    wrong = iter([*((url + "?",) for url in urls(row, 5)), (1, 2), (urls(row)[0],)])
    with pytest.raises(apsw.BindingsError):
        t.executemany(STORED, wrong, readahead_rows=64)
    assert t.execute("SELECT count(*) FROM t").get == 25


def test_a_failure_ends_it(row: HttpServer, environment: object) -> None:
    con = mediasql.connect(timeout=20)
    con.execute("CREATE TABLE t(image, s AS (width(image)) STORED)")
    places = urls(row, 30)
    places[10] = f"{row.url}/s/500/row/r10.jpg"
    places[5] = f"{row.url}/none.jpg"
    with pytest.raises(mediasql.TransientError, match="500"):
        con.executemany(STORED, ((url,) for url in places), readahead_rows=64)
    widths = [None if number == 5 else 100 + number for number in range(10)]
    assert [value for (value,) in con.execute("SELECT s FROM t")] == widths
    con.executemany(STORED, ((url,) for url in urls(row)), readahead_rows=64)
    con.close()


def test_iterators_that_use_the_connection(row: HttpServer, t: mediasql.MediaConnection) -> None:
    def counting() -> Iterator[tuple[str, int]]:
        for url in urls(row, 20):
            yield url, t.execute("SELECT count(*) FROM t").get

    t.executemany("INSERT INTO t(image, w) VALUES (?, ?)", counting(), readahead_rows=64)
    assert t.execute("SELECT w, s FROM t ORDER BY k").fetchall() == [(k, 100 + k) for k in range(20)]
    numbered = zip(urls(row), range(FILES), strict=True)
    t.executemany("UPDATE plain SET image = ?, w = NULL WHERE k = ? + 1", numbered, readahead_rows=64)
    cursor = t.execute("SELECT image || '?', image FROM plain")
    t.executemany("INSERT INTO t(image, w) VALUES (?, width(?))", cursor, readahead_rows=64)
    assert t.execute("SELECT s FROM t WHERE k > 20 ORDER BY k").fetchall() == WIDTHS


def test_bindings_that_are_used_again(row: HttpServer, t: mediasql.MediaConnection) -> None:
    def same_list() -> Iterator[list[Any]]:
        each: list[Any] = [None]
        for each[0] in urls(row):
            yield each

    def same_value() -> Iterator[tuple[bytearray]]:
        data = bytearray()
        for number in range(3):
            data[:] = picture(100 + number, 50)
            yield (data,)

    t.executemany(STORED, same_list(), readahead_rows=64)
    assert t.execute("SELECT s FROM t ORDER BY k").fetchall() == WIDTHS
    t.executemany(STORED, same_value(), readahead_rows=64)
    assert t.execute("SELECT s FROM t WHERE k > 60 ORDER BY k").fetchall() == WIDTHS[:3]


def test_several_statements_and_none(row: HttpServer, t: mediasql.MediaConnection) -> None:
    t.executemany("INSERT INTO t(image) VALUES (?1); DELETE FROM plain WHERE k = 1", [(url,) for url in urls(row, 5)])
    assert t.execute("SELECT s FROM t ORDER BY k").fetchall() == WIDTHS[:5]
    assert t.executemany(STORED, []).fetchall() == []
    with pytest.raises(TypeError):
        t.executemany(STORED, 5)  # type: ignore[arg-type]


def outcome(readahead: str, sql: str, given: list[Any], break_at: int, rows: int | None) -> Any:
    con = mediasql.connect(readahead=readahead, timeout=20)
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, image, w, s AS (width(image)) STORED, v AS (height(image)))")
    con.execute("CREATE TRIGGER i AFTER INSERT ON t BEGIN UPDATE t SET w = height(new.image) WHERE k = new.k; END")
    found: list[Any] = []

    def bindings() -> Iterator[Any]:
        for number, each in enumerate(given):
            if number == break_at:
                raise LookupError(number)
            yield each

    try:
        places = given if rows is None else bindings()
        found.append(con.executemany(sql, places, readahead_rows=rows).fetchall())
    except (apsw.Error, mediasql.MediaError, LookupError) as error:
        found.append((type(error).__name__, str(error)))
    found.append(con.execute("SELECT * FROM t ORDER BY k").fetchall())
    found.append(sorted(con.execute("SELECT url, function, kind FROM media_errors").fetchall()))
    found.append((con.total_changes(), con.last_insert_rowid()))
    con.close()
    return found


PLACES = ["p0.jpg", "p1.jpg", "p2.jpg", "p3.jpg", "p4.jpg", "none.jpg", "text.jpg", None, 5]


@given(
    st.sampled_from(
        [
            "INSERT INTO t(image) VALUES (?)",
            "INSERT INTO t(image, w) VALUES (?1, width(?1)) RETURNING k, s, height(image)",
            "INSERT INTO t(k, image) VALUES (width(?1), ?1)",
            "UPDATE t SET image = ?1, w = width(image) WHERE k IN (1, 2)",
            "SELECT width(?1), (SELECT count(*) FROM t)",
            "DELETE FROM t WHERE s = width(?)",
            "INSERT INTO t(image) SELECT image || '?' FROM t WHERE s = width(?)",
        ]
    ),
    st.lists(st.sampled_from(PLACES), max_size=12),
    st.integers(0, 14),
    st.sampled_from([None, 0, 1, 3, 64]),
)
@settings(max_examples=50, derandomize=True)
def test_the_same_with_and_without(web: Web, sql: str, places: list[Any], break_at: int, rows: int | None) -> None:
    given = [(f"{web.server.url}/{place}" if isinstance(place, str) else place,) for place in places]
    on, off = (outcome(readahead, sql, given, break_at, rows) for readahead in ("on", "off"))
    assert on == off
