"""What failed for the moment: one warning for each SELECT in which values did, at the line that ran it."""

from __future__ import annotations

import gc
import os
import re
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import apsw
import pandas
import pytest
import sqlalchemy

import mediasql
from mediasql import MediaWarning
from mediasql.plugins import dbapi
from tests.servers import http
from tests.sql.conftest import Connect, Web, picture

FAILING = "s/500/"
Options = dict[str, Any]
OPTIONS: Options = {"timeout": 60}  # seconds
SEE = "SELECT * FROM media_errors"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time passes between attempts."""
    monkeypatch.setattr("mediasql.storage.fetch.FIRST_DELAY", 0.0)


@pytest.fixture
def con(connect: Connect, web: Web) -> mediasql.MediaConnection:
    """A table with three pictures that cannot be had for the moment, and one that can."""
    connection = connect(**OPTIONS)
    fill(connection, web)
    return connection


def fill(connection: Any, web: Web) -> None:
    connection.execute("CREATE TABLE t(u, w AS (width(u)))")
    for url in [*(web.url(number, FAILING) for number in range(3)), web.url(5)]:
        connection.execute("INSERT INTO t VALUES (?)", (url,))


class Heard(list[Any]):
    """The warnings of ours that were given in a `with` block."""

    def __enter__(self) -> Heard:
        self._catch = warnings.catch_warnings(record=True)
        self._all = self._catch.__enter__()
        warnings.simplefilter("always")
        return self

    def __exit__(self, *error: Any) -> None:
        self._catch.__exit__(*error)

    @property
    def texts(self) -> list[str]:
        return [str(each.message) for each in self._all or [] if issubclass(each.category, MediaWarning)]

    @property
    def lines(self) -> list[tuple[str, int]]:
        return [(each.filename, each.lineno) for each in self._all or [] if issubclass(each.category, MediaWarning)]


def here() -> tuple[str, int]:
    """File and line of the caller."""
    frame = sys._getframe(1)
    return frame.f_code.co_filename, frame.f_lineno


def test_it_tells_how_many_the_first_reason_and_where_to_look(con: mediasql.MediaConnection, web: Web) -> None:
    with Heard() as heard:
        rows, line = con.execute("SELECT u FROM t WHERE w > 5").fetchall(), here()
    assert rows == [(web.url(5),)]
    assert heard.lines == [line]
    (text,) = heard.texts
    first = re.escape(f"width('{web.url(0, FAILING)}'): ")
    assert re.match(
        f"3 values could not be read for the moment .* rows may be missing; the first is {first}.*500", text
    )
    assert SEE in text
    assert con.execute("SELECT count(*) FROM media_errors WHERE kind = 'transient'").get == 3


def test_one_value(con: mediasql.MediaConnection) -> None:
    with Heard() as heard:
        assert con.execute("SELECT w FROM t LIMIT 1").get is None
    (text,) = heard.texts
    assert text.startswith("1 value could not be read for the moment and is NULL")


def fetchall(con: Any, sql: str) -> Any:
    return con.execute(sql).fetchall()


def loop(con: Any, sql: str) -> Any:
    for _ in con.execute(sql):
        pass


def listed(con: Any, sql: str) -> Any:
    return list(con.execute(sql))


def own_cursor(con: Any, sql: str) -> Any:
    cursor = con.cursor()
    cursor.execute(sql)
    return cursor.fetchall()


def frame_of_pandas(con: Any, sql: str) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="pandas only supports SQLAlchemy")
        return pandas.read_sql_query(sql, con)


IDIOMS = [fetchall, loop, listed, own_cursor, frame_of_pandas]


@pytest.mark.parametrize("read", IDIOMS)
def test_it_comes_where_the_statement_ends(con: mediasql.MediaConnection, read: Callable[..., Any]) -> None:
    with Heard() as heard:
        read(con, "SELECT u FROM t WHERE w > 5")
        assert [text[:8] for text in heard.texts] == ["3 values"]
        read(con, "SELECT u FROM t WHERE w > 5")
        assert [text[:8] for text in heard.texts] == ["3 values"] * 2
    assert {name for name, _ in heard.lines} == {__file__}


@pytest.mark.parametrize("read", IDIOMS)
def test_it_comes_to_a_connection_of_sqlite3_too(loadable: str, web: Web, read: Callable[..., Any]) -> None:
    con = sqlite3.connect(":memory:")
    mediasql.load(con, **OPTIONS)
    fill(con, web)
    with Heard() as heard:
        read(con, "SELECT u FROM t WHERE w > 5")
        (text,) = heard.texts
    assert text.startswith("3 values")
    assert {name for name, _ in heard.lines} == {__file__}
    con.close()


def test_it_comes_to_a_connection_that_was_registered(web: Web) -> None:
    con = apsw.Connection(":memory:")
    mediasql.register(con, **OPTIONS)
    fill(con, web)
    with Heard() as heard:
        assert con.execute("SELECT sum(w) FROM t").get == 105
        assert len(heard.texts) == 1
    con.close()


def test_it_comes_to_the_db_api_and_to_sqlalchemy(web: Web) -> None:
    con = dbapi.connect(**OPTIONS)
    fill(con, web)
    with Heard() as heard:
        cursor = con.execute("SELECT w FROM t")
        assert [row for row in cursor if row[0]] == [(105,)]
        assert len(heard.texts) == 1, "while the cursor is still there"
        assert cursor.execute("SELECT w FROM t").fetchall()[-1] == (105,)
        assert len(heard.texts) == 2
    con.close()
    engine = sqlalchemy.create_engine("mediasql://?timeout=60")
    with Heard() as heard, engine.connect() as session:
        fill(session.connection.driver_connection, web)
        result, line = session.execute(sqlalchemy.text("SELECT w FROM t")), here()
        assert result.scalars().all()[-1] == 105
        assert heard.lines == [line]


def test_it_comes_before_the_next_statement_where_a_cursor_lives_on(con: mediasql.MediaConnection) -> None:
    with Heard() as heard:
        cursor, line = con.execute("SELECT w FROM t"), here()
        cursor.fetchall()
        con.execute("CREATE TABLE other(x)")
        assert heard.lines == [line]
        con.execute("DROP TABLE other")
    assert len(heard.texts) == 1


def test_it_comes_to_sqlite3_when_a_later_statement_asks_a_store(loadable: str, web: Web) -> None:
    con = sqlite3.connect(":memory:")
    mediasql.load(con, **OPTIONS)
    fill(con, web)
    with Heard() as heard:
        cursor, line = con.execute("SELECT w FROM t"), here()
        cursor.fetchall()
        assert con.execute("SELECT width(?)", (web.url(6),)).fetchall() == [(106,)]
        assert heard.lines == [line]
    con.close()


def test_it_comes_when_the_connection_closes(con: mediasql.MediaConnection) -> None:
    with Heard() as heard:
        cursor = con.execute("SELECT w FROM t")
        next(cursor)
        assert heard.texts == []
        con.close(True)
        assert len(heard.texts) == 1
        del cursor
    assert len(heard.texts) == 1


def test_it_comes_when_a_statement_is_given_up(con: mediasql.MediaConnection) -> None:
    with Heard() as heard:
        for _ in con.execute("SELECT w FROM t"):
            break
        con.execute("SELECT 1")
        assert [text[:7] for text in heard.texts] == ["1 value"]


@pytest.mark.parametrize("fork", ["", "import os; _ = os.fork() and os.wait()"])
def test_it_comes_once_when_python_ends(web: Web, fork: str) -> None:
    script = f"""
import mediasql
con = mediasql.connect(timeout=0.2)
cursor = con.execute("SELECT width('{web.url(1, FAILING)}')")
print(cursor.fetchall(), flush=True)
{fork}
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "[(None,)]\n"
    assert ran.stderr.count("MediaWarning: 1 value could not be read for the moment") == 1
    assert "<string>:4: MediaWarning: " in ran.stderr


def test_statements_inside_of_each_other_have_their_own(con: mediasql.MediaConnection, web: Web) -> None:
    with Heard() as heard:
        found, outer = [], here()[1] + 1
        for (url,) in con.execute("SELECT u FROM t WHERE w IS NULL"):
            found.append(con.execute("SELECT height(?1), image_format(?1)", (url,)).get)
            inner = here()[1] - 1
    assert found == [(None, None)] * 3
    assert heard.lines == [(__file__, inner)] * 3 + [(__file__, outer)]
    assert [text[:8] for text in heard.texts] == ["2 values"] * 3 + ["3 values"]


def test_a_warning_that_is_an_error_ends_the_statement(con: mediasql.MediaConnection) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", MediaWarning)
        for _ in range(2):
            with pytest.raises(MediaWarning, match=f"^1 value .*{re.escape(SEE)}"):
                con.execute("SELECT u FROM t WHERE w > 5").fetchall()
        assert con.execute("SELECT w FROM t WHERE rowid = 4").get == 105
    with Heard() as heard:
        con.execute("INSERT INTO t VALUES (NULL)")
        assert con.execute("SELECT count(*) FROM t").get == 5
    assert heard.texts == []


def test_a_warning_that_is_an_error_ends_a_statement_of_sqlite3(loadable: str, web: Web) -> None:
    con = sqlite3.connect(":memory:")
    mediasql.load(con, **OPTIONS)
    fill(con, web)
    with warnings.catch_warnings():
        warnings.simplefilter("error", MediaWarning)
        with pytest.raises(sqlite3.OperationalError, match="MediaWarning: 1 value could not be read"):
            con.execute("SELECT u FROM t WHERE w > 5").fetchall()
    assert con.execute("SELECT w FROM t WHERE rowid = 4").fetchall() == [(105,)]
    con.close()


def test_a_filter_that_became_an_error_meanwhile_loses_nothing(con: mediasql.MediaConnection) -> None:
    with Heard() as heard:
        cursor = con.execute("SELECT w FROM t")
        cursor.fetchall()
        warnings.simplefilter("error")
        assert con.execute("SELECT 5").get == 5
    assert [text[:8] for text in heard.texts] == ["3 values"]


@pytest.mark.parametrize(
    "how", [{"action": "ignore", "category": UserWarning}, {"action": "ignore", "module": __name__}]
)
def test_filters_of_python_hold(con: mediasql.MediaConnection, how: Any) -> None:
    with Heard() as heard:
        warnings.filterwarnings(**how)
        con.execute("SELECT w FROM t").fetchall()
        con.execute("SELECT 1")
    assert heard.texts == []


def test_only_what_failed_for_the_moment_in_a_read_is_warned_of(connect: Connect, web: Web) -> None:
    con = connect(**OPTIONS)
    failing, missing, damaged = web.url(1, FAILING), web.url(1, "s/404/"), f"{web.server.url}/text.jpg"
    with Heard() as heard:
        assert con.execute("SELECT width(?), width(?)", (missing, damaged)).get == (None, None)
        with pytest.raises(mediasql.TransientError):
            con.execute("CREATE TABLE made AS SELECT width(?) AS w", (failing,))
        raising = connect(**OPTIONS, on_error="raise")
        with pytest.raises(mediasql.TransientError):
            raising.execute("SELECT width(?)", (failing,)).fetchall()
        assert "500" in con.execute("SELECT media_error(?)", (failing,)).get
        con.execute("SELECT 1")
        gc.collect()
    assert heard.texts == []


def test_a_refresh_tells_of_it_in_its_own_way(connect: Connect) -> None:
    con = connect(**OPTIONS)
    con.execute("CREATE TABLE t(u, w AS (width(u)) STORED)")
    with http.start() as server:
        server.put("", "a.jpg", picture(7, 5))
        con.execute("INSERT INTO t VALUES (?)", (server.at("a.jpg"),))
    with Heard() as heard:
        assert con.refresh_computed_columns("t").errors == 1
        con.execute("SELECT 1")
    assert heard.texts == []
    assert con.execute("SELECT w FROM t").get == 7


def test_rows_of_a_table_about_one_file(con: mediasql.MediaConnection, web: Web) -> None:
    with Heard() as heard:
        assert con.execute("SELECT count(*) FROM media_exif(?)", (web.url(1, FAILING),)).get == 0
    (text,) = heard.texts
    assert f"media_exif('{web.url(1, FAILING)}')" in text


def test_it_comes_where_statements_cannot_be_seen(monkeypatch: pytest.MonkeyPatch, connect: Connect, web: Web) -> None:
    # As in builds of APSW without its extensions.
    monkeypatch.setattr("mediasql.sql.statements.c_api", lambda: None)
    con = connect(**OPTIONS)
    failing = [web.url(number, FAILING) for number in range(3)]
    sql = "SELECT width(column1) FROM (VALUES (?), (?), (?))"
    with Heard() as heard:
        con.execute(sql, failing).fetchall()
        assert [text[:8] for text in heard.texts] == ["3 values"]
        cursor = con.execute(sql, failing)
        cursor.fetchall()
        con.execute("SELECT 1")
        assert [text[:8] for text in heard.texts] == ["3 values"] * 2


def test_hosts_without_python_code_get_none(loadable: str, web: Web) -> None:
    ran = subprocess.run(
        ["sqlite3", ":memory:", f".load {loadable}", f"SELECT width('{web.url(1, FAILING)}') IS NULL"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MEDIASQL_TIMEOUT": "0.2"},
    )
    assert (ran.stdout, ran.stderr) == ("1\n", "")
