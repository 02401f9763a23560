"""Creating an index that goes stale when an object changes gives one warning; nothing else does."""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest

import mediasql
from tests.sql.conftest import Web, picture


def apsw_connection(path: str) -> Any:
    connection = apsw.Connection(path)
    mediasql.register(connection)
    return connection


def sqlite3_connection(path: str) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    mediasql.load(connection)
    return connection


HOSTS: dict[str, Callable[[str], Any]] = {
    "connect": mediasql.connect,
    "register": apsw_connection,
    "load": sqlite3_connection,
}


@pytest.fixture(params=HOSTS)
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Any]]:
    """Opens the same database again and again, in one of the ways there are."""
    connections = []

    def open_it() -> Any:
        connections.append(HOSTS[request.param](str(tmp_path / "images.db")))
        return connections[-1]

    yield open_it
    for connection in connections:
        connection.close()


@contextmanager
def warnings_given() -> Iterator[list[str]]:
    """Collect the texts of all warnings, which point to a line of the test."""
    messages: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield messages
    for warning in caught:
        assert warning.category is mediasql.MediaWarning
        assert warning.filename == __file__
        messages.append(str(warning.message))


def image(folder: Path, name: str = "a") -> str:
    path = folder / f"{name}.jpg"
    path.write_bytes(picture(10, 20))
    return str(path)


TABLE = """
    CREATE TABLE images(id INTEGER PRIMARY KEY, image, note,
        width INT AS (width(image)), "its height" AS (height(image)), kept AS (width(image)) STORED,
        area AS (width * "its height"), ext AS (url_ext(image)))
"""

STALE = {
    "CREATE INDEX i ON images(width)": "width, through width()",
    'CREATE UNIQUE INDEX "my index" ON images(note, "its height" DESC)': "its height, through height()",
    "CREATE INDEX IF NOT EXISTS main.i ON images(id, area)": "area, through height(), width()",
    "CREATE INDEX i ON images(width(image) * 2)": "width(image) * 2, through width()",
    "CREATE INDEX i ON images(lower(mime_type(image)) COLLATE NOCASE)": "lower(mime_type(image)) COLLATE NOCASE",
    "create index i on images('width')": "width, through width()",
    "CREATE INDEX i ON images(note) WHERE width > 5": "WHERE width > 5, through width()",
    "CREATE INDEX i ON images(width) WHERE etag(image) <> ''": "width, WHERE etag(image) <> '', through etag(),",
    "/* of (width) */ CREATE -- INDEX\n INDEX i ON images(content_hash(image))": "content_hash(image), through",
}

SAFE = [
    "CREATE INDEX i ON images(kept)",
    "CREATE INDEX i ON images(kept * 2, note) WHERE kept > 3",
    "CREATE INDEX i ON images(ext, url_name(image), fileurl(image))",
    "CREATE INDEX width ON images(note, 'image')",
    "CREATE TABLE copy AS SELECT width FROM images",
]


def statements_as(opened: Callable[[], Any], folder: Path, *, rows: bool) -> Any:
    connection = opened()
    connection.execute(TABLE)
    if rows:
        connection.execute("INSERT INTO images(image, note) VALUES (?, 'x')", (image(folder),))
    return connection


@pytest.mark.parametrize("statement", STALE)
def test_when_an_index_is_made(opened: Callable[[], Any], tmp_path: Path, statement: str) -> None:
    connection = statements_as(opened, tmp_path, rows=True)
    with warnings_given() as messages:
        connection.execute(statement)
    (message,) = messages
    name = "my index" if "my index" in statement else "i"
    assert message.startswith(f"index {name} on images has entries that come from media: {STALE[statement]}")
    assert "add_computed_column('images', …, stored=True)" in message
    assert "refresh_computed_columns('images')" in message
    with warnings_given() as messages:
        connection.execute("INSERT INTO images(image) VALUES (?)", (image(tmp_path, "b"),))
        connection.execute("UPDATE images SET note = 'z' WHERE id = 2")
        connection.execute("CREATE TABLE another(x)")
        connection.execute("DELETE FROM images WHERE id = 1")
    assert messages == []


@pytest.mark.parametrize("statement", STALE)
def test_where_nothing_is_computed_yet(opened: Callable[[], Any], tmp_path: Path, statement: str) -> None:
    """Of a table without rows SQLite computes nothing; the next write of a row tells."""
    connection = statements_as(opened, tmp_path, rows=False)
    with warnings_given() as messages:
        connection.execute(statement)
    assert messages == []
    with warnings_given() as messages:
        connection.execute("INSERT INTO images(image) VALUES (?)", (image(tmp_path),))
    (message,) = messages
    assert STALE[statement] in message


@pytest.mark.parametrize("statement", SAFE)
def test_indexes_that_do_not_go_stale(opened: Callable[[], Any], tmp_path: Path, statement: str) -> None:
    connection = statements_as(opened, tmp_path, rows=True)
    with warnings_given() as messages:
        connection.execute(statement)
        connection.execute("INSERT INTO images(image) VALUES (?)", (image(tmp_path, "b"),))
        connection.execute("DELETE FROM images")
    assert messages == []


def test_indexes_that_are_there_already(opened: Callable[[], Any], tmp_path: Path) -> None:
    """Who only reads is not told; who writes is, of each index, with what else it does."""
    connection = opened()
    connection.execute("CREATE TABLE t(image, w AS (width(image)) UNIQUE, h AS (height(image)))")
    connection.execute("CREATE INDEX by_h ON t(h)")
    connection.execute("CREATE TABLE log(x)")
    connection.close()
    connection = opened()
    with warnings_given() as messages:
        connection.execute("SELECT count(w), sum(h) FROM t").fetchall()
        connection.execute("INSERT INTO log VALUES (1)")
    assert messages == []
    with warnings_given() as messages:
        connection.execute("INSERT INTO t(image) VALUES (?)", (image(tmp_path),))
    assert sorted(message.partition(" has entries")[0] for message in messages) == [
        "index by_h on t",
        "the UNIQUE constraint on t",
    ]
    with warnings_given() as messages:
        connection.execute("DELETE FROM t")
    assert messages == []


def test_other_databases(opened: Callable[[], Any], tmp_path: Path) -> None:
    connection = opened()
    connection.execute("ATTACH ':memory:' AS other")
    for table in ("other.t", "temp.u"):
        connection.execute(f"CREATE TABLE {table}(image)")
        connection.execute(f"INSERT INTO {table} VALUES (?)", (image(tmp_path),))
    with warnings_given() as messages:
        connection.execute("CREATE INDEX other.i ON t(width(image))")
        connection.execute("CREATE INDEX i ON u(width(image))")
    assert ["refresh_computed_columns('other.t')" in messages[0], "('temp.u')" in messages[1]] == [True, True]


def test_a_function_of_the_application(con: mediasql.MediaConnection, tmp_path: Path) -> None:
    @con.media_function
    def label(image: bytes) -> str:
        return f"{len(image)}"

    con.create_scalar_function("plain", lambda value: value, 1, deterministic=True)
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES (?)", (image(tmp_path),))
    with warnings_given() as messages:
        con.execute("CREATE INDEX p ON t(plain(image)); CREATE INDEX i ON t(label(image))")
    (message,) = messages
    assert message.startswith("index i on t has entries that come from media: label(image), through label()")


def test_what_expires_belongs_in_no_index(con: mediasql.MediaConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES ('s3://bucket/a.jpg')")
    with warnings_given() as messages:
        con.execute("CREATE INDEX i ON t(presigned_url(image))")
    (message,) = messages
    assert message.endswith("Do without it.")


def test_secrets_are_not_told(con: mediasql.MediaConnection, tmp_path: Path) -> None:
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES (?)", (image(tmp_path),))
    with warnings_given() as messages:
        con.execute("CREATE INDEX i ON t(width(image) || url_host('http://ada:hunter2@example.com/x.jpg'))")
    (message,) = messages
    assert "hunter2" not in message


def test_where_warnings_are_errors(opened: Callable[[], Any], tmp_path: Path) -> None:
    """The index is not made then."""
    connection = statements_as(opened, tmp_path, rows=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = sqlite3.Error if isinstance(connection, sqlite3.Connection) else mediasql.MediaWarning
        with pytest.raises(expected, match="index i on images has entries"):
            connection.execute("CREATE INDEX i ON images(width)")
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'index'").fetchall() == [(0,)]
    connection.execute("CREATE INDEX i ON images(note)")
    connection.execute("INSERT INTO images(image) VALUES (?)", (image(tmp_path, "b"),))


def test_where_all_values_are_remembered(con: mediasql.MediaConnection, web: Web) -> None:
    """No function of ours has to do anything then, and the next write tells."""
    con.execute("CREATE TABLE t(image, w AS (width(image)))")
    con.executemany("INSERT INTO t(image) VALUES (?)", [(web.url(number),) for number in range(3)])
    con.execute("SELECT w FROM t").fetchall()
    with warnings_given() as messages:
        con.execute("CREATE INDEX i ON t(w)")
        con.execute("INSERT INTO t(image) VALUES (?)", (web.url(4),))
    (message,) = messages
    assert message.startswith("index i on t has entries that come from media: w, through width()")


def test_an_authorizer_that_allows_nothing_of_ours(con: mediasql.MediaConnection, tmp_path: Path) -> None:
    """Then nobody is told, and nothing fails."""
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES (?)", (image(tmp_path),))
    seen = []

    def authorizer(action: int, *names: Any) -> int:
        seen.append(action)
        return apsw.SQLITE_DENY if action == apsw.SQLITE_PRAGMA else apsw.SQLITE_OK

    con.authorizer = authorizer
    with warnings_given() as messages:
        con.execute("CREATE INDEX i ON t(width(image))")
    con.authorizer = None
    assert messages == []
    assert apsw.SQLITE_CREATE_INDEX in seen
    assert con.execute("SELECT image FROM t WHERE width(image) = 10").fetchall() == [(image(tmp_path),)]
