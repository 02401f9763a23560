"""The DB-API module: as `sqlite3`, but with PEP 249 where that is not, and with the errors of mediasql."""

from __future__ import annotations

import datetime
import gc
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mediasql
from mediasql.plugins import dbapi
from tests.sql.conftest import Web


@pytest.fixture
def con() -> Iterator[dbapi.Connection]:
    connection = dbapi.connect(timeout=20)
    yield connection
    connection.close()


# --- the standard library as an oracle -------------------------------------------------------------------------------

SETUP = """
CREATE TABLE t(k INTEGER PRIMARY KEY, name TEXT UNIQUE, size INT CHECK (size >= 0), double AS (size * 2));
CREATE TABLE log(what);
CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.name), (new.size); END;
INSERT INTO t(name, size) VALUES ('a', 1), ('b', 2), ('c', 3);
"""
STATEMENTS: list[tuple[str, Any]] = [
    ("SELECT * FROM t", ()),
    ('SELECT k, name AS "a name", size + 1, count(*) OVER () FROM t WHERE size > ?', (1,)),
    ("SELECT * FROM t WHERE size > 99", ()),
    ("SELECT name FROM t WHERE k = :k OR name = :name", {"k": 1, "name": "c", "unused": 5}),
    ("  -- a comment\n /* and another */ SELECT 1 -- and one more", ()),
    ("SELECT 1;", ()),
    ("SELECT NULL, 1.5, x'00ff', 'ü'", ()),
    ("VALUES (1, 2), (3, 4)", ()),
    ("WITH x(n) AS (VALUES (1), (2)) SELECT n FROM x", ()),
    ("EXPLAIN QUERY PLAN SELECT 1", ()),
    ("PRAGMA user_version", ()),
    ("PRAGMA user_version = 5", ()),
    ("PRAGMA table_info(nothing)", ()),
    ("INSERT INTO t(name, size) VALUES (?, ?)", ("d", 4)),
    ("/* note */ insert into t(name, size) values ('d', 4), ('e', 5)", ()),
    ("INSERT INTO t(name, size) SELECT name || '2', size FROM t", ()),
    ("INSERT OR IGNORE INTO t(name) VALUES ('a')", ()),
    ("REPLACE INTO t(name) VALUES ('a')", ()),
    ("INSERT INTO t(name, size) VALUES ('d', 4), ('e', 5) RETURNING k, upper(name) AS loud", ()),
    ("UPDATE t SET size = size + 1 WHERE size > 1", ()),
    ("UPDATE t SET size = 0 WHERE 0", ()),
    ("UPDATE t SET size = 7 RETURNING name", ()),
    ("UPDATE t SET size = 7 WHERE 0 RETURNING name", ()),
    ("DELETE FROM t", ()),
    ("DELETE FROM t WHERE k = ? RETURNING *", (2,)),
    ("", ()),
    ("-- nothing", ()),
    ("BEGIN IMMEDIATE", ()),
    ("SELECT 1; SELECT 2", ()),
    ("SELECT * FROM nothing", ()),
    ("SELECT nothing FROM t", ()),
    ("SELEC", ()),
    ("SELECT ?", ()),
    ("SELECT ?", (1, 2)),
    ("SELECT :a", {"b": 1}),
    ("SELECT ?", (object(),)),
    ("SELECT ?", (2**70,)),
    ("INSERT INTO t(name) VALUES ('a')", ()),
    ("INSERT INTO t(size) VALUES (-1)", ()),
    ("INSERT INTO t(k) VALUES ('one')", ()),
    ("SELECT abs(-9223372036854775808)", ()),
    ("ROLLBACK", ()),
    ("ATTACH '/no/such/folder/x.db' AS other", ()),
]


def behaviour(connection: Any, module: Any, sql: str, parameters: Any) -> dict[str, Any]:
    """All that can be seen of a statement."""
    seen: dict[str, Any] = {}
    cursor = connection.cursor()
    try:
        assert cursor.execute(sql, parameters) is cursor
        seen["columns"] = cursor.description and [column[0] for column in cursor.description]
        seen["rows"] = list(cursor) if cursor.description else []
        seen["rowcount"] = cursor.rowcount
        seen["lastrowid"] = cursor.lastrowid
    except (module.Error, OverflowError) as error:
        # An integer that is too big is an OverflowError there.
        kind = "ProgrammingError" if isinstance(error, OverflowError) else type(error).__name__
        seen["error"] = kind, getattr(error, "sqlite_errorname", None)
        if isinstance(error, module.IntegrityError):
            seen["message"] = str(error)
    seen["in_transaction"] = connection.in_transaction
    connection.rollback()
    seen["after"] = connection.execute("SELECT k, name, size FROM t ORDER BY k").fetchall()
    return seen


@pytest.mark.parametrize(("sql", "parameters"), STATEMENTS)
def test_a_statement_does_what_it_does_in_sqlite3(con: dbapi.Connection, sql: str, parameters: Any) -> None:
    oracle = sqlite3.connect(":memory:")
    for connection in (con, oracle):
        connection.executescript(SETUP)
    expected = behaviour(oracle, sqlite3, sql, parameters)
    oracle.close()
    assert behaviour(con, dbapi, sql, parameters) == expected


MANY: list[tuple[str, list[Any]]] = [
    ("INSERT INTO t(name, size) VALUES (?, ?)", [("d", 4), ("e", 5), ("f", 6)]),
    ("INSERT INTO t(name, size) VALUES (:name, 1) -- each", [{"name": "d"}, {"name": "e"}]),
    ("INSERT OR IGNORE INTO t(name) VALUES (?)", [("a",), ("d",), ("a",)]),
    ("UPDATE t SET size = size + ?", [(1,), (2,)]),
    ("DELETE FROM t WHERE k = ?", [(1,), (1,), (2,)]),
    ("DELETE FROM t WHERE k = ?", []),
    ("INSERT INTO t(name) VALUES (?)", [("d",), ("a",), ("e",)]),
    ("SELECT ?", [(1,)]),
]


@pytest.mark.parametrize(("sql", "parameters"), MANY)
def test_executemany_does_what_it_does_in_sqlite3(con: dbapi.Connection, sql: str, parameters: list[Any]) -> None:
    seen: list[Any] = []
    oracle = sqlite3.connect(":memory:")
    connection: Any
    for connection in (con, oracle):
        connection.executescript(SETUP)
        cursor = connection.cursor()
        error = None
        try:
            cursor.executemany(sql, iter(parameters))
        except (dbapi.Error, sqlite3.Error) as raised:
            error = type(raised).__name__, str(raised)
        rows = connection.execute("SELECT * FROM t ORDER BY k").fetchall()
        changed = None if error else max(cursor.rowcount, 0)
        begun = connection.in_transaction or not parameters  # sqlite3 begins a transaction even for nothing
        seen.append((error, changed, cursor.lastrowid, cursor.description, begun, rows))
    oracle.close()
    assert seen[0] == seen[1]


@given(rows=st.lists(st.tuples(st.none() | st.text(), st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary())))
def test_values_come_back_as_from_sqlite3(rows: list[tuple[Any, Any]]) -> None:
    ours, oracle = dbapi.connect(), sqlite3.connect(":memory:")
    for connection in (ours, oracle):
        connection.execute("CREATE TABLE t(a, b)")
    try:
        oracle.executemany("INSERT INTO t VALUES (?, ?)", rows)
    except UnicodeEncodeError:  # lone surrogates
        with pytest.raises(dbapi.ProgrammingError):
            ours.executemany("INSERT INTO t VALUES (?, ?)", rows)
    else:
        ours.executemany("INSERT INTO t VALUES (?, ?)", rows)
        query = "SELECT a, b, typeof(a), typeof(b) FROM t ORDER BY rowid"
        assert ours.execute(query).fetchall() == oracle.execute(query).fetchall()
    ours.close()
    oracle.close()


# --- where it does better --------------------------------------------------------------------------------------------


def test_a_rollback_undoes_what_changed_the_schema_too(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a)")
    assert con.in_transaction
    con.rollback()
    assert con.execute("SELECT count(*) FROM sqlite_schema").fetchone() == (0,)
    con.execute("CREATE TABLE t(a)")
    con.commit()
    con.execute("ALTER TABLE t ADD COLUMN b")
    con.execute("WITH x AS (SELECT 1) INSERT INTO t SELECT 1, 2 FROM x")
    con.rollback()
    assert [c[0] for c in con.execute("SELECT * FROM t").description or ()] == ["a"]


def test_a_released_savepoint_is_not_a_commit(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a)")
    con.commit()
    con.execute("SAVEPOINT s")
    con.execute("INSERT INTO t VALUES (1)")
    con.execute("RELEASE s")
    con.rollback()
    assert con.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_what_cannot_be_in_a_transaction_is_in_none(con: dbapi.Connection, tmp_path: Path) -> None:
    for sql in ("VACUUM", "PRAGMA foreign_keys = ON", f"ATTACH '{tmp_path / 'b.db'}' AS b", "SELECT 1", "DETACH b"):
        con.execute(sql).close()
        assert not con.in_transaction
    assert con.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_isolation_levels(tmp_path: Path) -> None:
    con = dbapi.connect(tmp_path / "a.db", isolation_level=None)
    con.execute("CREATE TABLE t(a)")
    assert not con.in_transaction
    other = dbapi.connect(tmp_path / "a.db", busy_timeout=0)
    con.isolation_level = "IMMEDIATE"
    con.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(dbapi.OperationalError, match="locked") as caught:
        other.execute("INSERT INTO t VALUES (2)")
    assert caught.value.sqlite_errorname == "SQLITE_BUSY"
    con.isolation_level = None
    assert not con.in_transaction
    other.rollback()
    assert other.execute("SELECT a FROM t").fetchall() == [(1,)]
    with pytest.raises(dbapi.ProgrammingError, match="'never'"):
        con.isolation_level = "never"
    con.close()
    other.close()


def test_columns_that_the_schema_has_meanwhile(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a)")
    query = "SELECT * FROM t WHERE a = ?"
    assert [column[0] for column in con.execute(query, (1,)).description or ()] == ["a"]
    con.execute("ALTER TABLE t ADD COLUMN b INT")
    assert [column[:2] for column in con.execute(query, (1,)).description or ()] == [("a", None), ("b", "INT")]


def test_type_objects_are_equal_to_declared_types(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b VARCHAR(20), c BLOB, d TIMESTAMP, e REAL, f IMAGE)")
    types = [column[1] for column in con.execute("SELECT * FROM t").description or ()]
    kinds = [dbapi.NUMBER, dbapi.STRING, dbapi.BINARY, dbapi.DATETIME, dbapi.NUMBER, dbapi.STRING]
    assert types == kinds
    assert types[0] == dbapi.ROWID
    assert dbapi.STRING != dbapi.NUMBER
    assert types[1] != dbapi.NUMBER


def test_parameters_that_are_not_of_sqlite(con: dbapi.Connection) -> None:
    values = (
        dbapi.Date(2024, 5, 6),
        dbapi.Time(7, 8, 9),
        dbapi.Timestamp(2024, 5, 6, 7, 8, 9, 10),
        dbapi.Binary(b"\0a"),
        numpy.int64(5),
        numpy.float32(0.5),
        datetime.datetime(2024, 5, 6, tzinfo=datetime.UTC),
    )
    marks = ", ".join("?" * len(values))
    assert con.execute(f"SELECT {marks}", values).fetchone() == (
        "2024-05-06",
        "07:08:09",
        "2024-05-06 07:08:09.000010",
        b"\0a",
        5,
        0.5,
        "2024-05-06 00:00:00+00:00",
    )
    for wrong in ("text", 5, None, {1, 2}):
        with pytest.raises(dbapi.ProgrammingError, match="parameters are"):
            con.execute("SELECT ?", wrong)  # type: ignore[arg-type]


def test_to_fetch_where_nothing_was_selected(con: dbapi.Connection) -> None:
    cursor = con.cursor()
    for _ in range(2):
        for fetch in (cursor.fetchone, cursor.fetchall, cursor.fetchmany):
            with pytest.raises(dbapi.ProgrammingError, match="no rows to fetch"):
                fetch()
        cursor.execute("CREATE TABLE IF NOT EXISTS t(a)")


def test_what_is_closed_says_so(con: dbapi.Connection) -> None:
    cursor = con.execute("SELECT 1 UNION SELECT 2")
    closed = con.execute("SELECT 1 UNION SELECT 2")
    closed.close()
    for use in (closed.fetchall, closed.fetchone, lambda: list(closed), lambda: closed.execute("SELECT 1")):
        with pytest.raises(dbapi.ProgrammingError, match="closed cursor"):
            use()
    con.close()
    calls = (con.commit, con.rollback, con.cursor, con.interrupt, lambda: con.execute("SELECT 1"), lambda: con.apsw)
    for use in (*calls, cursor.fetchone, cursor.fetchall, lambda: next(cursor), lambda: cursor.execute("SELECT 1")):
        with pytest.raises(dbapi.ProgrammingError, match="closed database"):
            use()  # type: ignore[operator]


def test_a_with_block_commits_or_rolls_back(con: dbapi.Connection) -> None:
    with con:
        con.execute("CREATE TABLE t(a UNIQUE)")
    con.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(ZeroDivisionError), con:
        raise ZeroDivisionError
    assert not con.in_transaction
    assert con.execute("SELECT * FROM t").fetchall() == []


def test_an_unfinished_query_keeps_nothing_from_ending(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a)")
    con.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(5)])
    cursor = con.execute("SELECT a FROM t ORDER BY a")
    assert (cursor.fetchone(), cursor.fetchmany(2)) == ((0,), [(1,), (2,)])
    con.commit()
    assert cursor.fetchall() == [(3,), (4,)]
    assert (cursor.fetchone(), cursor.fetchmany(2), cursor.fetchall()) == (None, [], [])
    con.execute("SELECT a FROM t")
    con.close()


def test_a_forgotten_query_ends_at_once(con: dbapi.Connection) -> None:
    con.execute("CREATE TABLE t(a)")
    con.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(5)])
    gc.disable()
    try:
        assert con.execute("SELECT a FROM t").fetchone() == (0,)
        con.execute("DROP TABLE t")  # which nobody may read meanwhile
    finally:
        gc.enable()


def test_an_interrupted_statement(con: dbapi.Connection) -> None:
    began = threading.Event()
    con.create_function("began", 0, began.set)
    interrupter = threading.Thread(target=lambda: began.wait(60) and con.interrupt())
    interrupter.start()
    with pytest.raises(dbapi.OperationalError, match="interrupt"):
        con.execute(
            "WITH RECURSIVE n(x) AS (SELECT began() UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
        ).fetchall()
    interrupter.join()
    assert con.execute("SELECT 1").fetchone() == (1,)


def test_what_a_function_raises(con: dbapi.Connection) -> None:
    con.create_function("half", 1, lambda x: 1 / x, deterministic=True)
    assert con.execute("SELECT half(2)").fetchone() == (0.5,)
    with pytest.raises(dbapi.OperationalError, match="ZeroDivisionError: division by zero"):
        con.execute("SELECT half(0)")


# --- media -----------------------------------------------------------------------------------------------------------


def test_errors_of_mediasql_are_both(web: Web) -> None:
    with pytest.raises(mediasql.ConfigError, match="colour") as caught:
        dbapi.connect(colour="red")
    assert isinstance(caught.value, dbapi.ProgrammingError)
    con = dbapi.connect(on_error="raise", timeout=20)
    cases = [
        ("nothing://x", mediasql.UnknownScheme, dbapi.ProgrammingError, None),
        (web.url(0, "s/404/"), mediasql.NotFound, dbapi.DataError, 404),
        (f"{web.server.url}/text.jpg", mediasql.DecodeError, dbapi.DataError, None),
    ]
    for url, ours, theirs, status in cases:
        with pytest.raises(ours, match=r"^width\('") as raised:
            con.execute("SELECT width(?)", (url,))
        assert isinstance(raised.value, theirs)
        assert raised.value.status == status
        with pytest.raises(theirs):
            list(con.execute("SELECT width(column1) FROM (VALUES (NULL), (?))", (url,)))
    con.close()


def test_a_query_reads_ahead(con: dbapi.Connection, web: Web) -> None:
    con.execute("CREATE TABLE t(image IMAGE, width INT AS (width(image)))")
    cursor = con.executemany("INSERT INTO t VALUES (?)", [(web.url(n, "together/4/"),) for n in range(10)])
    con.commit()
    assert cursor.rowcount == 10
    assert not web.asked()
    assert con.execute("SELECT width FROM t ORDER BY image").fetchall() == [(100 + n,) for n in range(10)]
    con.execute("SELECT add_computed_column('t', 'height', 'height(image)')").fetchall()
    assert con.execute("SELECT DISTINCT height FROM t").fetchall() == [(50,)]


@pytest.mark.parametrize(("kind", "rows"), [(list, None), (iter, 64)])
def test_many_executions_read_ahead(con: dbapi.Connection, web: Web, kind: Any, rows: int | None) -> None:
    con.execute("CREATE TABLE t(image IMAGE, width INT AS (width(image)) STORED)")
    parameters = kind([(web.url(n, "together/4/" if n else ""),) for n in range(10)])
    cursor = con.executemany("INSERT INTO t VALUES (?)", parameters, readahead_rows=rows)
    assert cursor.rowcount == 10
    assert max(web.asked().values()) == 1
    assert con.execute("SELECT sum(width) FROM t").fetchone() == (1045,)
