"""`interrupt()` in the middle of a fetch, in each plugin: an exception that `except Exception` catches, once."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pandas
import pytest
import sqlalchemy as sa
import sqlite_utils

import mediasql
from mediasql.plugins import dbapi
from mediasql.plugins.notebook.results import show
from tests.servers.http import HttpServer
from tests.waiting import eventually, meanwhile

WIDTH = "SELECT width('{url}')"
CALL = "SELECT width(?)"


@pytest.fixture
def url(http_server: HttpServer) -> Iterator[str]:
    http_server.reset()
    yield f"{http_server.url}/hang/i.jpg"
    http_server.reset()


@pytest.fixture
def when_asked(http_server: HttpServer) -> Callable[[Callable[[], object]], Callable[[], None]]:
    def wait_and(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            eventually(http_server.requests)
            work()

        return run

    return wait_and


@pytest.fixture
def engine() -> Iterator[sa.Engine]:
    made = sa.create_engine("mediasql://?timeout=600")
    yield made
    made.dispose()


@pytest.mark.parametrize("how", ["execute", "fetchall", "iteration", "executemany", "executescript"])
def test_dbapi(url: str, when_asked: Any, how: str) -> None:
    con = dbapi.connect(timeout=600)
    con.execute("CREATE TABLE t(u, w AS (width(u)) STORED)")
    con.execute("CREATE TABLE given AS SELECT ? AS u UNION ALL SELECT NULL", (url,))
    con.commit()
    calls: dict[str, Callable[[], object]] = {
        "execute": lambda: con.execute(CALL, (url,)),
        "fetchall": lambda: con.execute("SELECT width(u) FROM given ORDER BY u").fetchall(),
        "iteration": lambda: list(con.execute("SELECT width(u) FROM given ORDER BY u")),
        "executemany": lambda: con.executemany("INSERT INTO t VALUES (?)", [(url,), (None,)]),
        "executescript": lambda: con.executescript("INSERT INTO t SELECT u FROM given"),
    }
    with meanwhile(when_asked(con.interrupt)), pytest.raises(dbapi.OperationalError, match=r"^interrupted$") as raised:
        calls[how]()
    assert (raised.value.sqlite_errorcode, raised.value.sqlite_errorname) == (9, "SQLITE_INTERRUPT")
    con.rollback()
    assert con.execute("SELECT count(*) FROM t").fetchall() == [(0,)]
    con.close()


def test_ctrl_c_after_an_interrupt_is_still_ctrl_c(url: str, http_server: HttpServer, when_asked: Any) -> None:
    con = dbapi.connect(timeout=600)
    con.interrupt()  # while nothing runs
    stop = when_asked(lambda: os.kill(os.getpid(), signal.SIGINT))
    with meanwhile(stop), pytest.raises(KeyboardInterrupt):
        con.execute(CALL, (url,)).fetchall()
    con.close()


def test_sqlalchemy(engine: sa.Engine, url: str, when_asked: Any) -> None:
    with engine.connect() as connection:
        below: Any = connection.connection.dbapi_connection
        with meanwhile(when_asked(below.interrupt)), pytest.raises(sa.exc.OperationalError, match="interrupted"):
            connection.execute(sa.text(WIDTH.format(url=url))).all()
        connection.rollback()
        assert connection.execute(sa.text("SELECT width(x'')")).all() == [(None,)]


def test_pandas(engine: sa.Engine, url: str, when_asked: Any) -> None:
    with engine.connect() as connection:
        below: Any = connection.connection.dbapi_connection
        with meanwhile(when_asked(below.interrupt)), pytest.raises(pandas.errors.DatabaseError, match="interrupted"):
            pandas.read_sql_query(WIDTH.format(url=url), connection)


def test_sqlite_utils(url: str, when_asked: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "600")
    database = sqlite_utils.Database(tmp_path / "x.db")
    with (
        meanwhile(when_asked(database.conn.interrupt)),
        pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"),
    ):
        list(database.query(CALL, (url,)))


def test_a_notebook(url: str, when_asked: Any) -> None:
    con = mediasql.connect(timeout=600)
    with meanwhile(when_asked(con.interrupt)), pytest.raises(apsw.InterruptError):
        show(con, WIDTH.format(url=url))
    assert "five" in repr(show(con, "SELECT 5 AS five"))
    con.close()
