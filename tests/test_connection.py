"""connect() and register(): what they attach to, with which configuration, and when it ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

import mediasql


@pytest.fixture
def hooked() -> Iterator[None]:
    apsw.connection_hooks.append(mediasql.register)
    yield
    apsw.connection_hooks.remove(mediasql.register)


def config(connection: apsw.Connection, name: str) -> object:
    return connection.execute("SELECT media_config(?)", (name,)).get


def test_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "7")
    for path in (":memory:", "", tmp_path / "a.db", str(tmp_path / "b.db")):
        con = mediasql.connect(path)
        assert isinstance(con, apsw.Connection)
        assert config(con, "timeout") == 7.0
        con.close()
    con = mediasql.connect(timeout=5, on_error="raise")
    assert (config(con, "timeout"), config(con, "on_error")) == (5.0, "raise")
    con.close()
    with pytest.raises(mediasql.ConfigError, match="timeout"):
        mediasql.connect(timeout=-1)
    with pytest.raises(mediasql.ConfigError, match="colour"):
        mediasql.connect(colour="red")
    with pytest.raises(apsw.CantOpenError):
        mediasql.connect(tmp_path / "no" / "folder.db")


def test_register() -> None:
    con = apsw.Connection(":memory:")
    mediasql.register(con, timeout=3)
    mediasql.register(con)
    assert config(con, "timeout") == 3.0
    with pytest.raises(mediasql.ConfigError, match="attached to this connection already"):
        mediasql.register(con, timeout=4)
    con.close()
    other = sqlite3.connect(":memory:")
    with pytest.raises(mediasql.ConfigError, match=r"not a sqlite3\.Connection"):
        mediasql.register(other)  # type: ignore[arg-type]
    other.close()


@pytest.mark.usefixtures("hooked")
def test_a_hook_for_all_connections() -> None:
    """It attaches first; what connect is given holds all the same."""
    plain, con = apsw.Connection(":memory:"), mediasql.connect(timeout=2)
    assert plain.execute("SELECT url_ext('a.jpg')").get == "jpg"
    assert config(con, "timeout") == 2.0
    con.execute("CREATE TABLE t(url, w AS (width(url)) STORED NOT NULL)")
    with pytest.raises(apsw.ConstraintError):
        con.execute("INSERT INTO t VALUES ('missing.jpg')")
    assert con.execute("SELECT attempts FROM media_errors").fetchall() == [(1,)]
    plain.close()
    con.close()


def test_a_connection_that_was_not_registered() -> None:
    con = mediasql.MediaConnection(":memory:")
    with pytest.raises(mediasql.ConfigError, match=r"call mediasql\.register first"):
        con.add_computed_column("t", "c", "1")
    con.close()


def test_storage_options_are_not_shown() -> None:
    con = mediasql.connect(storage_options={"s3": {"key": "AKID", "secret": "hidden"}})
    shown = str(config(con, "storage_options"))
    assert "key" in shown
    assert "hidden" not in shown
    con.close()


def test_databases_outlive_connections(tmp_path: Path) -> None:
    """Closing closes network connections too, and can be done twice; the file is then free."""
    path = tmp_path / "kept.db"
    con = mediasql.connect(path)
    con.execute("CREATE TABLE t(image, e AS (url_ext(image))); INSERT INTO t VALUES ('a.jpg')")
    con.close()
    con.close()
    con = mediasql.connect(path)
    assert con.execute("SELECT e FROM t").get == "jpg"
    con.close()
    plain = sqlite3.connect(path)
    with pytest.raises(sqlite3.OperationalError, match=r"(unknown|no such) function: url_ext"):
        plain.execute("SELECT e FROM t").fetchall()
    plain.close()
