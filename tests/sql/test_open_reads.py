"""Reads that are open while a write runs, waiting or going on inside of it: no NULL for a value that counts."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sql.test_liveness import Database, value_of
from tests.sql.test_loadable_liveness import HostDatabase

pytestmark = pytest.mark.usefixtures("loadable")

KINDS: dict[str, type[Database]] = {"apsw": Database, "sqlite3": HostDatabase}
SETUP = [
    "CREATE TABLE src(k INTEGER PRIMARY KEY, url, v AS (f(url)))",
    "CREATE TABLE t(k INTEGER PRIMARY KEY, url, note, v AS (f(url)), x AS (g(url)))",
    "CREATE VIEW seen AS SELECT k, url, CASE WHEN k > 3 THEN f(url) END AS late FROM src",
    "INSERT INTO src(url) VALUES ('a'), ('b'), ('c'), ('d'), ('e'), ('f')",
]


def make(kind: str, always: bool = False) -> Database:
    database = KINDS[kind](always)
    for sql in SETUP:
        assert database.run(sql) == []
    assert not database.fetches
    return database


def add_function(database: Database, name: str, count: int, function: Callable[..., Any]) -> None:
    con: Any = database.connection
    if isinstance(con, sqlite3.Connection):
        con.create_function(name, count, function)
    else:
        con.create_scalar_function(name, function, count)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    made = make(request.param)
    yield made
    made.close()


# --- what is known for certain ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["SELECT url FROM src", "SELECT url FROM src ORDER BY url", "SELECT url FROM seen"])
@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO t(url) VALUES (?)",
        "-- a comment\nINSERT INTO t(url) VALUES (?)",
        "INSERT INTO t(url, note) VALUES (?, mine())",
        "INSERT INTO indexed(url) VALUES (?)",
        "UPDATE t SET note = ? WHERE k = 1",
    ],
)
def test_a_write_in_a_loop_over_a_read_makes_no_request(database: Database, read: str, write: str) -> None:
    """Whatever functions, triggers and virtual tables the write runs besides."""
    con = database.connection
    add_function(database, "mine", 0, lambda: "mine")
    con.execute("CREATE VIRTUAL TABLE words USING fts5(url)")
    con.execute("CREATE TABLE indexed(url, v AS (f(url)))")
    con.execute("CREATE TRIGGER r AFTER INSERT ON indexed BEGIN INSERT INTO words VALUES (new.url); END")
    for (url,) in con.execute(read):
        con.execute(write, (url,))
    assert database.fetches == {}


def test_a_loop_over_a_read_that_calls_the_same_function(database: Database) -> None:
    """In a host that may leave a write waiting for a lock, it could be the read that calls."""
    for url, v in database.connection.execute("SELECT url, v FROM src"):
        assert v == value_of("f", url)
        database.connection.execute("INSERT INTO t(url) VALUES (?)", (url.upper(),))
    of_inserts = database.fetches["f"] - 6
    assert of_inserts == 0 if type(database) is Database else 0 < of_inserts <= 6
    assert "g" not in database.fetches


def test_a_loop_in_a_loop(database: Database) -> None:
    con = database.connection
    for (one,) in con.execute("SELECT url FROM src LIMIT ?", (2,)):
        for (two,) in con.execute("SELECT url FROM src WHERE k > ?", (4,)):
            con.execute("INSERT INTO t(url) VALUES (?)", (one + two,))
    assert database.fetches == {}
    assert database.run("SELECT count(*) FROM t") == [(4,)]


# --- reads that go on inside of a write ------------------------------------------------------------------------------


@pytest.mark.parametrize("read", ["SELECT url, v FROM src ORDER BY k", "SELECT url, f(url) FROM src WHERE k IS NOT 99"])
def test_a_read_that_goes_on_inside_of_a_write(database: Database, read: str) -> None:
    """By a method of another object, which is called `executemany` as well."""
    con = database.connection
    reading = con.execute(read)
    first = next(reading)
    other = sqlite3.connect(":memory:")
    other.execute("CREATE TABLE copy(url, v)")
    add_function(database, "export", 0, lambda: other.executemany("INSERT INTO copy VALUES (?, ?)", reading).rowcount)
    con.execute("INSERT INTO t(url, note) SELECT 'x', export()")
    found = [first, *other.execute("SELECT * FROM copy")]
    assert found == [(url, value_of("f", url)) for url in "abcdef"]
    other.close()


def test_a_read_whose_function_comes_late(database: Database) -> None:
    """Its first rows call nothing, so that it calls for the first time inside of the write."""
    con = database.connection
    reading = con.execute("SELECT late FROM seen")
    assert [next(reading) for _ in range(3)] == [(None,)] * 3
    add_function(database, "read_on", 0, lambda: next(reading)[0])
    con.execute("INSERT INTO t(url, note) VALUES ('x', read_on()), ('y', read_on())")
    expected = [(value_of("f", url),) for url in "de"]
    assert con.execute("SELECT note FROM t ORDER BY k").fetchall() == expected


def test_a_write_inside_of_a_read_inside_of_a_write(database: Database) -> None:
    con: Any = database.connection
    insert = "INSERT INTO t(url) VALUES (?)"
    add_function(database, "copy", 1, lambda url: len(con.execute(insert, (url,)).fetchall()))
    add_function(database, "export", 0, lambda: str(con.execute("SELECT copy(url), v FROM src").fetchall()))
    con.execute("INSERT INTO t(url, note) VALUES ('x', export())")
    expected = str([(0, value_of("f", url)) for url in "abcdef"])
    assert con.execute("SELECT note FROM t WHERE url = 'x'").fetchall() == [(expected,)]


# --- any order of all that -------------------------------------------------------------------------------------------

READS = [
    "SELECT url FROM src ORDER BY k",
    "SELECT url, v FROM src ORDER BY k",
    "SELECT late FROM seen ORDER BY k",
    "SELECT f(url), g(url) FROM t ORDER BY k",
    "SELECT url, copy(url), v FROM src ORDER BY k",
    "INSERT INTO t(url) SELECT url FROM src RETURNING url, v",
    "INSERT INTO t(url) VALUES ('r'), ('s') RETURNING k",
]
WRITES = [
    "INSERT INTO t(url) VALUES ('n')",
    "INSERT INTO t(url, note) VALUES ('n', read_on(0)), ('m', read_on(1))",
    "INSERT INTO t(url, note) SELECT url, v FROM src WHERE read_on(0) IS NOT 3",
    "INSERT INTO t(url, note) SELECT url, read_on(k % 2) FROM src",
    "UPDATE t SET note = v WHERE k % 2",
    "UPDATE t SET url = url || read_on(1)",
    "INSERT INTO t(url, note) SELECT copy(url), v FROM src",
    "DELETE FROM t WHERE k % 3 = 0",
]


class Script:
    """Statements of one connection in a random order, with two cursors that are read on anywhere."""

    def __init__(self, database: Database) -> None:
        self._con: Any = database.connection
        self._reading: list[Any] = [iter(()), iter(())]
        add_function(database, "read_on", 1, lambda at: str(self._guarded(lambda: next(self._reading[at], None))))
        add_function(database, "copy", 1, self._copy)

    def _copy(self, url: str) -> str:
        insert = "INSERT INTO t(url) VALUES (?)"
        return str(self._guarded(lambda: len(self._con.execute(insert, (f"{url}c",)).fetchall())))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (apsw.Error, sqlite3.Error, RuntimeError) as error:
            return type(error).__name__

    def do(self, what: str, at: int, sql: str) -> Any:
        if what == "open":
            self._reading[at] = iter(())  # the cursor that was there ends
            opened = self._guarded(lambda: self._con.execute(sql))
            self._reading[at] = iter(()) if isinstance(opened, str) else opened
            return type(opened).__name__
        if what == "next":
            return self._guarded(lambda: next(self._reading[at], None))
        return self._guarded(lambda: list(self._con.execute(sql)))


def test_the_same_as_when_everything_is_computed() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(KINDS)), st.integers(0, 2**48))
    def the_same(kind: str, seed: int) -> None:
        pick = random.Random(seed)
        script = []
        for _ in range(pick.randrange(4, 16)):
            what = pick.choice(["open", "next", "next", "write", "write"])
            script.append((what, pick.randrange(2), pick.choice(WRITES if what == "write" else READS)))
        lazy, always = make(kind), make(kind, always=True)
        try:
            one, other = Script(lazy), Script(always)
            for step in script:
                found, expected = one.do(*step), other.do(*step)
                assert found == expected, (seed, script, step)
                seen[f"{step[0]} {'raised' if isinstance(found, str) and found.endswith('Error') else 'fine'}"] += 1
            rows = "SELECT k, url, note, v, x FROM t ORDER BY k"
            assert lazy.run(rows) == always.run(rows), (seed, script)
        finally:
            lazy.close()
            always.close()

    the_same()
    assert seen["write fine"] > seen["write raised"]
    assert seen["next fine"] > seen["next raised"]
