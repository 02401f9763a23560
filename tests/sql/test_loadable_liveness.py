"""What a write does not need is not fetched in a host's SQLite either, whose bytecode is that of another version."""

from __future__ import annotations

import ctypes
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.sql import apsw_binding, routines_of_apsw
from mediasql.sql.c_api import functions_at
from mediasql.sql.loadable import binding
from tests.sql.test_liveness import NAMES, Database, compare, fill, value_of

STEPPING: dict[str, Any] = {
    "prepare_v2": (
        ctypes.c_int,
        (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p),
    ),
    "step": (ctypes.c_int, (ctypes.c_void_p,)),
    "finalize": (ctypes.c_int, (ctypes.c_void_p,)),
}

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


class NewestHostDatabase(Database):
    """And in the SQLite of APSW, into which the extension is loaded, as into any other host's."""

    def __init__(self, path: str) -> None:
        self.fetches = Counter()
        self.connection: Any = apsw.Connection(path)
        self.connection.enable_load_extension(True)
        self.connection.load_extension(mediasql.loadable_path())
        known = binding.connection_at(self.connection.sqlite3_pointer())
        assert known is not None
        for name in NAMES:
            apsw_binding.add_function(known[0], known[1], self._function(name))


def test_the_same_rows_as_when_everything_is_computed() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, 2**48))
    def the_same(seed: int) -> None:
        lazy, always = HostDatabase(always=False), HostDatabase(always=True)
        try:
            compare(lazy, always, seed, seen)
        finally:
            lazy.close()
            always.close()

    the_same()
    assert seen["fine"] > 2 * seen["error"], "most of the statements are valid"


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


def test_a_write_that_waits_for_a_lock_while_a_read_goes_on(tmp_path: Path) -> None:
    """A host may leave it as it is, and try it again later; nothing tells it from one that is being executed."""
    code = f"from tests.sql import test_loadable_liveness as t; t.read_while_a_write_waits({str(tmp_path / 'db')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout, done.stderr) == ("values are right, and none was computed for the write\n", "")


def read_while_a_write_waits(path: str) -> None:
    """Be that host, in a process of its own: only one SQLite library of a process may load the extension."""
    database, other = NewestHostDatabase(path), apsw.Connection(path)
    con = database.connection
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, url, v AS (f(url)))")
    con.execute("INSERT INTO t(url) VALUES ('a'), ('b'), ('c')")
    call = SimpleNamespace(**functions_at(routines_of_apsw.address(), STEPPING, ctypes.PYFUNCTYPE))
    write = ctypes.c_void_p()
    sql = b"INSERT INTO t(url) VALUES ('d')"
    assert call.prepare_v2(con.sqlite3_pointer(), sql, -1, ctypes.byref(write), None) == apsw.SQLITE_OK
    other.execute("BEGIN IMMEDIATE")
    assert call.step(write) == apsw.SQLITE_BUSY
    other.execute("ROLLBACK")
    con.execute("BEGIN IMMEDIATE")
    rows = con.execute("SELECT url, v FROM t ORDER BY k").fetchall()
    print("values are", "right," if rows == [(url, value_of("f", url)) for url in "abc"] else rows, end=" ")
    database.fetches.clear()
    assert call.step(write) == apsw.SQLITE_DONE
    call.finalize(write)
    con.execute("COMMIT")
    print("and none was computed for the write" if not database.fetches else database.fetches)
    other.close()
    database.close()


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
