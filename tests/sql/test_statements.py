"""Which statement runs when a function is called: cursors that take turns, nested and internal statements, tracers."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import apsw
import pytest

import mediasql
from tests.sql.test_liveness import Database, value_of


@pytest.fixture
def database() -> Iterator[Database]:
    """Images 'a', 'b', 'c' with the virtual column v = f(url)."""
    made = Database(always=False)
    made.run("CREATE TABLE t(k INTEGER PRIMARY KEY, url, note, v AS (f(url)), x AS (g(url)))")
    made.run("INSERT INTO t(url) VALUES ('a'), ('b'), ('c')")
    assert made.fetches == {}
    yield made
    made.close()


V = {url: value_of("f", url) for url in "abcdefgh"}


def test_a_read_between_writes(database: Database) -> None:
    """A SELECT that is read on while INSERTs run, one of them half-read itself."""
    con = database.connection
    rows = con.execute("SELECT url, v FROM t ORDER BY k")
    assert next(rows) == ("a", V["a"])
    con.execute("INSERT INTO t(url) VALUES ('d')")
    assert next(rows) == ("b", V["b"])
    returning = con.execute("INSERT INTO t(url) VALUES ('e'), ('f') RETURNING url")
    assert next(returning) == ("e",)
    assert database.fetches == {"f": 2}
    assert next(rows) == ("c", V["c"])
    assert next(returning) == ("f",)
    assert list(rows) == [("d", V["d"]), ("e", V["e"]), ("f", V["f"])]
    assert database.fetches == {"f": 6}


def test_one_cursor_for_everything(database: Database) -> None:
    cursor = database.connection.cursor()
    cursor.execute("INSERT INTO t(url) VALUES ('d'); SELECT v FROM t WHERE url = 'd'; INSERT INTO t(url) VALUES ('e')")
    assert list(cursor) == [(V["d"],)]
    cursor.execute("INSERT INTO t(url) VALUES ('f') RETURNING v")
    assert list(cursor.execute("SELECT v FROM t WHERE url = 'f'")) == [(V["f"],)]
    assert database.fetches == {"f": 3}


def test_many_with_a_generator_that_reads(database: Database) -> None:
    con = database.connection

    def urls() -> Iterator[tuple[str, int]]:
        for url in "def":
            yield url, con.execute("SELECT v FROM t WHERE k = 1").get

    with con:
        con.executemany("INSERT INTO t(url, note) VALUES (?, ?)", urls())
    assert con.execute("SELECT note FROM t WHERE k > 3").fetchall() == [(V["a"],)] * 3
    assert database.fetches == {"f": 3}


def test_statements_inside_of_a_write(database: Database) -> None:
    """A function that queries, one that reads on in a cursor that was open, and bare methods without a Python frame."""
    con = database.connection
    reading = con.execute("SELECT v FROM t ORDER BY k")
    con.create_scalar_function("query", lambda url: con.execute("SELECT v FROM t WHERE url = ?", (url,)).get, 1)
    con.create_scalar_function("read_on", lambda: next(reading)[0], 0)
    con.execute("INSERT INTO t(url, note) SELECT 'copy', query(url) FROM t WHERE url IN ('a', 'b')")
    con.execute("INSERT INTO t(url, note) VALUES ('copy', read_on()), ('copy', read_on())")
    expected = [(V["a"],), (V["b"],), (V["a"],), (V["b"],)]
    assert con.execute("SELECT note FROM t WHERE url = 'copy' ORDER BY k").fetchall() == expected
    assert database.fetches == {"f": 4}


def test_what_a_virtual_table_asks(database: Database) -> None:
    """FTS5 reads the table that it indexes with statements of its own, in the middle of ours."""
    con = database.connection
    con.execute("CREATE VIRTUAL TABLE words USING fts5(v, content = t, content_rowid = k)")
    con.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO words(words) VALUES ('rebuild'); END")
    con.execute("INSERT INTO t(url) VALUES ('d')")
    rows = con.execute("SELECT rowid FROM words(?)", (str(V["d"]),)).fetchall()
    assert (4,) in rows
    con.execute("INSERT INTO t(url) SELECT url FROM t WHERE k = 1")
    assert "g" not in database.fetches


def test_schemas_that_change(database: Database, tmp_path: Any) -> None:
    """A plan is forgotten when a trigger comes, here or from another connection, or is switched on."""
    con = database.connection
    insert = "INSERT INTO t(url) VALUES ('d')"
    con.execute("CREATE TABLE log(v)")
    con.execute(insert)
    con.execute("CREATE TEMP TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.v); END")
    con.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    con.execute("DROP TRIGGER r")
    con.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.v); END")
    con.execute(insert)
    assert database.fetches == {}
    con.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
    con.execute(insert)
    assert con.execute("SELECT * FROM log").fetchall() == [(V["d"],)]
    assert database.fetches == {"f": 1}
    con.execute("SAVEPOINT s; DROP TRIGGER r")
    con.execute(insert)
    con.execute("ROLLBACK TO s; RELEASE s")
    con.execute(insert)
    assert con.execute("SELECT count(*), min(v) FROM log").fetchall() == [(2, V["d"])]


def test_an_authorizer_that_comes_and_goes(database: Database) -> None:
    """It may make NULL of what a statement reads, and then nobody uses the value."""
    con = database.connection
    con.execute("CREATE TABLE log(v)")
    con.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.v); END")

    def hides(operation: int, table: str | None, column: str | None, schema: str | None, trigger: str | None) -> int:
        return apsw.SQLITE_IGNORE if operation == apsw.SQLITE_READ and column == "v" else apsw.SQLITE_OK

    for authorizer in (hides, None, hides, None):
        con.authorizer = authorizer
        con.execute("INSERT INTO t(url) VALUES ('d')")
    con.authorizer = None
    assert con.execute("SELECT v FROM log").fetchall() == [(None,), (V["d"],), (None,), (V["d"],)]
    assert database.fetches == {"f": 2}


def test_another_schema_is_attached(database: Database) -> None:
    """A table of the same name is found in another schema then, with other columns that nobody uses."""
    con = database.connection
    insert = "INSERT INTO s(url) VALUES ('a')"
    con.execute("ATTACH ':memory:' AS one")
    con.execute("CREATE TABLE one.s(url, v AS (f(url)), x AS (g(url)) STORED)")
    con.execute(insert)
    con.execute("DETACH one; ATTACH ':memory:' AS two")
    con.execute("CREATE TABLE two.s(url, v AS (f(url)) STORED, x AS (g(url)))")
    con.execute(insert)
    assert database.fetches == {"f": 1, "g": 1}
    assert con.execute("SELECT v FROM s").fetchall() == [(V["a"],)]


def test_a_plan_is_looked_for_once_in_an_execution(database: Database) -> None:
    """That is when the version of the schema is looked at."""
    looks: list[str] = []

    def trace(event: dict[str, Any]) -> None:
        if event["sql"] == "PRAGMA 'main'.schema_version":
            looks.append(event["sql"])

    con = database.connection
    con.trace_v2(apsw.SQLITE_TRACE_STMT, trace, id=looks)
    with con:
        con.execute("INSERT INTO t(url) VALUES ('d'), ('e'), ('f')")
        assert len(looks) == 1
        con.executemany("INSERT INTO t(url) VALUES (?)", [("g",), ("h",)])
        assert len(looks) == 3
    con.trace_v2(0, None, id=looks)
    assert database.fetches == {}


def test_another_connection_changes_the_schema(tmp_path: Any) -> None:
    first = Database(always=False)
    path = str(tmp_path / "shared.db")
    first.run(f"ATTACH '{path}' AS shared")
    first.run("CREATE TABLE shared.t(url, v AS (f(url)), l); CREATE TABLE shared.log(v)")
    insert = "INSERT INTO shared.t(url) VALUES ('a')"
    first.run(insert)
    other = apsw.Connection(path)
    other.create_scalar_function("f", lambda value: 0, 1, deterministic=True)
    other.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.v); END")
    first.run(insert)
    assert first.run("SELECT * FROM shared.log") == [(V["a"],)]
    other.close()
    first.close()


def test_a_statement_that_was_compiled_for_an_older_schema(database: Database) -> None:
    """SQLite starts it, compiles it anew and starts it again; the second start is no event."""
    con = database.connection
    insert = "INSERT INTO t(url, note) VALUES ('d', 'n')"
    con.execute(insert)
    con.execute("ALTER TABLE t ADD COLUMN more AS (g(note))")
    con.execute(insert)
    assert database.fetches == {}
    con.execute("CREATE TABLE log(v)")
    con.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.v); END")
    con.execute(insert)
    assert con.execute("SELECT v FROM log").fetchall() == [(V["d"],)]
    with con:
        con.execute("CREATE TRIGGER q AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.more); END")
        con.execute(insert)
    assert con.execute("SELECT v FROM log").fetchall()[1:] == [(value_of("g", "n"),), (V["d"],)]


def test_a_database_that_is_replaced(database: Database) -> None:
    con = database.connection
    insert = "INSERT INTO t(url) VALUES ('d')"
    con.execute(insert)
    for how in ("backup", "deserialize"):
        source = apsw.Connection(":memory:")
        source.create_scalar_function("f", lambda value: 0, 1, deterministic=True)
        kind = "STORED" if how == "backup" else "STORED NOT NULL"
        source.execute(f"CREATE TABLE t(k INTEGER PRIMARY KEY, url, v AS (f(url)) {kind})")
        if how == "backup":
            with con.backup("main", source, "main") as copying:
                copying.step(-1)
        else:
            con.deserialize("main", source.serialize("main"))
        con.execute(insert)
        assert con.execute("SELECT v FROM t").fetchall() == [(V["d"],)]
        source.close()


def test_tracers_of_others() -> None:
    """The one that is there is called; one set later, and one of a cursor, change nothing but the knowledge of
    bindings, which matters for LIKE only: then all is computed."""
    con = mediasql.connect()
    seen: list[str] = []

    def tracer(cursor: Any, sql: str, bindings: Any) -> bool:
        seen.append(sql)
        return "forbidden" not in sql

    con.close()
    plain = apsw.Connection(":memory:")
    plain.exec_trace = tracer
    mediasql.register(plain)
    plain.execute("CREATE TABLE t(url, w AS (width(url)))")
    plain.execute("INSERT INTO t(url) VALUES ('http://127.0.0.1:1/x')")
    assert len(seen) == 2
    with pytest.raises(apsw.ExecTraceAbort):
        plain.execute("SELECT 'forbidden'")
    plain.exec_trace = tracer
    plain.execute("INSERT INTO t(url) VALUES ('http://127.0.0.1:1/y')")
    cursor = plain.cursor()
    cursor.exec_trace = tracer
    cursor.execute("INSERT INTO t(url) VALUES ('http://127.0.0.1:1/z')")
    assert plain.execute("SELECT count(*) FROM t").get == 3
    cursor.execute("CREATE TRIGGER r AFTER INSERT ON t WHEN new.w IS NULL BEGIN DELETE FROM t; END")
    with pytest.raises(mediasql.TransientError):
        cursor.execute("INSERT INTO t(url) VALUES ('http://127.0.0.1:1/z')")
    plain.close()


def test_statements_that_fail(database: Database) -> None:
    con = database.connection
    con.create_scalar_function("fail", lambda: 1 / 0, 0)
    with pytest.raises(ZeroDivisionError):
        con.execute("INSERT INTO t(url, note) VALUES ('d', 1), ('e', fail())")
    with pytest.raises(apsw.ConstraintError):
        con.execute("INSERT INTO t(k, url) VALUES (1, 'd')")
    with pytest.raises(apsw.SQLError):
        con.execute("INSERT INTO nowhere VALUES (1)")
    con.create_scalar_function("stop", con.interrupt, 0)
    with pytest.raises(apsw.InterruptError):
        con.execute("INSERT INTO t(url, note) SELECT url, stop() FROM t")
    assert con.execute("SELECT v FROM t").fetchall() == [(V["a"],), (V["b"],), (V["c"],)]


def test_a_dropped_connection_is_freed() -> None:
    con = mediasql.connect()
    con.execute("CREATE TABLE t(url, w AS (width(url))); INSERT INTO t(url) VALUES ('x')")
    reference = weakref.ref(con)
    del con
    gc.collect()
    assert reference() is None


def test_a_closed_connection() -> None:
    con = mediasql.connect()
    con.close()
    with pytest.raises(apsw.ConnectionClosedError):
        con.execute("SELECT 1")
    con.close()


def test_threads_with_a_connection_each() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            database = Database(always=False)
            database.run("CREATE TABLE t(url, v AS (f(url)))")
            for number in range(200):
                database.run("INSERT INTO t(url) VALUES (?)", (str(number),))
            assert database.fetches == {}
            assert len(database.run("SELECT v FROM t WHERE v IS NOT NULL")) == 200
            database.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
