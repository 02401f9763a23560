"""What a write does not need is not fetched in a host's SQLite either, whose bytecode is that of another version."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.sql import apsw_binding
from mediasql.sql.loadable import binding
from tests.sql.test_liveness import NAMES, Database, compare, fill

pytestmark = pytest.mark.usefixtures("loadable")


class HostDatabase(Database):
    """The same test functions in the SQLite of the standard library."""

    def __init__(self, always: bool) -> None:
        self.fetches = Counter()
        self.always = always
        self.connection: Any = sqlite3.connect(":memory:", isolation_level=None)
        if always:
            for name in NAMES:
                self.connection.create_function(name, 1, self._plain(name), deterministic=True)
        else:
            mediasql.load(self.connection)
            host = binding.connections()[-1]
            known = binding.connection_at(host.sqlite3_pointer())
            assert known is not None
            for name in NAMES:
                apsw_binding.add_function(known[0], known[1], self._function(name))
        self.connection.execute("ATTACH ':memory:' AS aux")

    def run(self, sql: str, bindings: Any = None) -> Any:
        try:
            if isinstance(bindings, list):
                return list(self.connection.executemany(sql, bindings))
            return list(self.connection.execute(sql, bindings or ()))
        except sqlite3.Error as error:
            return type(error).__name__


seen: Counter[str] = Counter()


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**48))
def test_the_same_rows_as_when_everything_is_computed(seed: int) -> None:
    lazy, always = HostDatabase(always=False), HostDatabase(always=True)
    try:
        compare(lazy, always, seed, seen)
    finally:
        lazy.close()
        always.close()


def test_most_of_the_random_statements_were_valid() -> None:
    assert seen["fine"] > 2 * seen["error"]


@pytest.fixture
def lazy() -> Iterator[HostDatabase]:
    database = HostDatabase(always=False)
    fill(database)
    yield database
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t(url) VALUES ('a'), ('b'), ('c')",
        "INSERT INTO t(k, url) VALUES (1, 'a') ON CONFLICT(k) DO UPDATE SET note = excluded.url",
        "INSERT INTO t(url) SELECT a.url FROM s a JOIN s b ON a.k = b.k + 1",
        "INSERT INTO t(url) SELECT url FROM s WHERE url LIKE 'a%' ORDER BY url DESC LIMIT 2 OFFSET 1",
        "INSERT INTO t(url) VALUES ('a') RETURNING k, url",
        "UPDATE t SET note = printf('%s!', s.url) FROM s WHERE s.k = t.k",
        "DELETE FROM t WHERE note = 'n' RETURNING url",
        "CREATE INDEX i ON t(note)",
        "VACUUM",
    ],
)
def test_what_nothing_needs_is_not_fetched(lazy: HostDatabase, statement: str) -> None:
    assert not isinstance(lazy.run(statement), str)
    assert lazy.fetches == {}


def test_many_at_once(lazy: HostDatabase) -> None:
    lazy.run("INSERT INTO t(url, note) VALUES (?, ?)", [(f"u{n}", "x") for n in range(50)])
    assert lazy.fetches == {}
    for _ in lazy.connection.execute("SELECT url FROM s"):  # a read that is open around the write
        lazy.connection.execute("INSERT INTO t(url) VALUES ('a')")
    assert lazy.fetches == {}
    assert lazy.run("INSERT INTO t(url) VALUES ('a') RETURNING v") == lazy.run(
        "SELECT v FROM t WHERE url = 'a' LIMIT 1"
    )
    assert set(lazy.fetches) == {"f"}
