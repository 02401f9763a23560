"""`interrupt()` and Ctrl-C in the middle of what waits for files: an error of SQLite, and KeyboardInterrupt."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.waiting import LONG, eventually, meanwhile

ROOT = Path(__file__).parents[2]
Connection = mediasql.MediaConnection


@pytest.fixture
def hanging(http_server: HttpServer) -> Iterator[HttpServer]:
    http_server.reset()
    yield http_server
    http_server.reset()


def urls(server: HttpServer) -> list[tuple[str]]:
    return [(f"{server.url}/hang/i{number}.jpg",) for number in range(3)]


STATEMENTS: dict[str, Callable[[Connection, HttpServer], object]] = {
    "select": lambda con, server: con.execute("SELECT width(u) FROM t").fetchall(),
    "aggregate": lambda con, server: con.execute("SELECT sum(width(u)) FROM t").get,
    "bytes": lambda con, server: con.execute("SELECT length(content(u)) FROM t").fetchall(),
    "picture": lambda con, server: con.execute("SELECT thumbnail(u, 8, 8) FROM t").fetchall(),
    "insert": lambda con, server: con.execute("INSERT INTO s(u) SELECT u FROM t"),
    "update": lambda con, server: con.execute("UPDATE t SET u = NULL WHERE width(u) = 1"),
    "index": lambda con, server: con.execute("CREATE INDEX i ON t(mine(u))"),
    "executemany": lambda con, server: con.executemany("INSERT INTO s(u) VALUES (?)", urls(server)),
    "executemany of an iterator": lambda con, server: con.executemany(
        "INSERT INTO s(u) VALUES (?)", iter(urls(server)), readahead_rows=10
    ),
    "listing": lambda con, server: con.execute("SELECT * FROM media(?)", (f"{server.url}/hang/list/",)).fetchall(),
    "table about a file": lambda con, server: con.execute("SELECT * FROM media_streams(?)", urls(server)[0]).fetchall(),
    "function of the application": lambda con, server: con.execute("SELECT mine(u) FROM t").fetchall(),
    "computed column": lambda con, server: con.add_computed_column("t", "w", "width(u)"),
    "iteration": lambda con, server: list(con.execute("SELECT u, width(u) FROM t")),
}


@pytest.mark.parametrize("readahead", ["on", "off"])
@pytest.mark.parametrize("name", STATEMENTS)
def test_interrupt_is_an_error_of_sqlite(hanging: HttpServer, name: str, readahead: str) -> None:
    con = mediasql.connect(timeout=600, readahead=readahead, cache_size=0)

    @con.media_function
    def mine(data: bytes) -> int:
        return len(data)

    con.execute("CREATE TABLE t(u); CREATE TABLE s(u, w AS (width(u)) STORED)")
    con.executemany("INSERT INTO t VALUES (?)", urls(hanging))
    tables = con.execute("SELECT sql FROM sqlite_schema").fetchall()

    def interrupt() -> None:
        eventually(hanging.requests)
        con.interrupt()

    with meanwhile(interrupt), pytest.raises(apsw.InterruptError, match=r"^interrupted$") as raised:
        STATEMENTS[name](con, hanging)
    error: Any = raised.value
    assert (error.result, error.extendedresult) == (apsw.SQLITE_INTERRUPT, apsw.SQLITE_INTERRUPT)
    assert con.execute("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM s), width(x'')").get == (3, 0, None)
    assert con.execute("SELECT sql FROM sqlite_schema").fetchall() == tables
    assert not con.in_transaction
    con.close()


def test_an_event_loop_survives(hanging: HttpServer) -> None:
    con = mediasql.connect(timeout=600)

    def interrupt() -> None:
        eventually(hanging.requests)
        con.interrupt()

    async def serve() -> str:
        loop = asyncio.get_running_loop()
        query = loop.run_in_executor(None, lambda: con.execute("SELECT width(?)", urls(hanging)[0]).get)
        await loop.run_in_executor(None, interrupt)
        try:
            await query
        except Exception as error:
            return type(error).__name__
        return "no error"

    assert asyncio.run(serve()) == "InterruptError"
    con.close()


def test_interrupt_in_the_sqlite3_module(loadable: str, hanging: HttpServer) -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(connection, timeout=600)
    handled: list[object] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: handled.append(number))
    try:
        for sql in ("SELECT width(?)", "SELECT * FROM media(? || '/')"):
            hanging.reset()

            def interrupt() -> None:
                eventually(hanging.requests)
                connection.interrupt()

            with meanwhile(interrupt), pytest.raises(sqlite3.OperationalError, match=r"^interrupted$") as raised:
                connection.execute(sql, urls(hanging)[0]).fetchall()
            assert raised.value.sqlite_errorname == "SQLITE_INTERRUPT"
            assert connection.execute("SELECT width(x'')").fetchall() == [(None,)]
    finally:
        signal.signal(signal.SIGINT, before)
        connection.close()
    assert handled == []


# ---- Ctrl-C ----

SCRIPT = """
import signal, sqlite3, sys, mediasql
kind, tracing, sql, url = sys.argv[1:]
if tracing == "traced":
    sys.settrace(lambda *event: None)
if kind == "apsw":
    connection, Error = mediasql.connect(timeout=600), Exception
else:
    connection, Error = sqlite3.connect(":memory:"), sqlite3.Error
    mediasql.load(connection, timeout=600)
handled = []
def handle(number, frame):
    handled.append(number)
    raise KeyboardInterrupt
signal.signal(signal.SIGINT, handle)
seen = []
try:
    try:
        connection.execute(sql, (url,)).fetchall()
    except Error as error:
        seen.append("an error")
        for _ in range(100):
            pass
        seen.append("handled")
    except KeyboardInterrupt:
        seen.append("Ctrl-C")
        for _ in range(100):
            hash("x")
except KeyboardInterrupt:
    seen.append("Ctrl-C while handling")
try:
    found = connection.execute("SELECT url_name('a/b'), width(x'')").fetchall()
    for _ in range(100):
        hash("x")
except KeyboardInterrupt:
    seen.append("Ctrl-C once more")
connection.close()
print(*seen, len(handled), found, sys.gettrace() is not None, sep=", ")
"""


def ctrl_c(hanging: HttpServer, *command: str, stdin: str | None = None) -> tuple[str, str, int]:
    """What a program prints and ends with that is interrupted as soon as it asks the server."""
    environment = {**os.environ, "PYTHONPATH": os.fspath(ROOT)}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        try:
            if stdin is not None:
                assert child.stdin is not None
                child.stdin.write(stdin)
                child.stdin.flush()
            eventually(lambda: hanging.requests() or child.poll() is not None)
            child.send_signal(signal.SIGINT)
            out, err = child.communicate(timeout=LONG)
        finally:
            child.kill()
    return out, err, child.returncode


SQL = [
    "SELECT width(?)",
    "SELECT name FROM media(? || '/')",
    "SELECT count(*) FROM json_each('[1]'), media_streams(?1)",
    "SELECT name FROM json_each('[1]'), media(? || '/') ORDER BY width(url)",
]


@pytest.mark.parametrize("sql", SQL)
@pytest.mark.parametrize("kind", ["apsw", "sqlite3"])
def test_ctrl_c_is_raised_once(loadable: str, hanging: HttpServer, kind: str, sql: str) -> None:
    out, err, code = ctrl_c(hanging, sys.executable, "-c", SCRIPT, kind, "-", sql, urls(hanging)[0][0])
    assert (out, err, code) == ("Ctrl-C, 1, [('b', None)], False\n", "", 0)


@pytest.mark.parametrize("kind", ["apsw", "sqlite3"])
def test_ctrl_c_under_a_debugger(loadable: str, hanging: HttpServer, kind: str) -> None:
    """It traces the thread itself; there, KeyboardInterrupt comes while the host's error is handled."""
    out, err, code = ctrl_c(hanging, sys.executable, "-c", SCRIPT, kind, "traced", SQL[0], urls(hanging)[0][0])
    seen = "Ctrl-C" if kind == "apsw" else "an error, Ctrl-C while handling"
    assert (out, err, code) == (f"{seen}, 1, [('b', None)], True\n", "", 0)


@pytest.mark.parametrize("kind", ["apsw", "sqlite3"])
def test_ctrl_c_ends_a_script(loadable: str, hanging: HttpServer, kind: str) -> None:
    connect = "connection = mediasql.connect(timeout=600)" if kind == "apsw" else "mediasql.load(connection)"
    code = f"import mediasql, sqlite3, sys\nconnection = sqlite3.connect(':memory:')\n{connect}\n"
    code += "print(connection.execute('SELECT width(?)', (sys.argv[1],)).fetchall())"
    out, err, status = ctrl_c(hanging, sys.executable, "-c", code, urls(hanging)[0][0])
    assert (out, status) == ("", -signal.SIGINT)
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith("\nKeyboardInterrupt\n")
    assert "another exception" not in err
    assert "OperationalError" not in err


@pytest.mark.parametrize("stdin", [False, True])
def test_ctrl_c_ends_a_script_of_the_shell(hanging: HttpServer, stdin: bool) -> None:
    sql = f"SELECT width('{urls(hanging)[0][0]}');\n"
    command = [sys.executable, "-m", "mediasql", ":memory:", *([] if stdin else [sql, "SELECT 5"])]
    found = ctrl_c(hanging, *command, stdin=f"{sql}SELECT 5;\n" if stdin else None)
    assert found == ("", "mediasql: interrupted\n", 128 + signal.SIGINT)


def test_ctrl_c_in_an_iterator_of_executemany(hanging: HttpServer) -> None:
    """It is raised at once, and not when its row would have come."""
    con = mediasql.connect(timeout=600)
    con.execute("CREATE TABLE s(u, w AS (width(u)) STORED)")
    given: list[int] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for number in range(10):
            given.append(number)
            if number == 3:
                signal.raise_signal(signal.SIGINT)
            yield (None,)

    with pytest.raises(KeyboardInterrupt):
        con.executemany("INSERT INTO s(u) VALUES (?)", rows(), readahead_rows=5)
    assert given == [0, 1, 2, 3]
    con.close()
