"""Databases whose names, or whose folders' names, are not UTF-8: the system allows any bytes in them."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

import mediasql
from mediasql.plugins import dbapi
from mediasql.storage.paths import is_utf8, path_text, sqlite_uri
from tests.sql.conftest import picture

NAME = os.fsdecode(b"caf\xe9.db")


@pytest.fixture
def photo(tmp_path: Path) -> str:
    (tmp_path / "photo.jpg").write_bytes(picture(30, 20))
    return str(tmp_path / "photo.jpg")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / os.fsdecode(b"m\xe9dia")
    path.mkdir()
    return path


def in_sqlite3(path: str, loadable: str) -> Any:
    connection = sqlite3.connect(path)
    mediasql.load(connection)
    return connection


def in_apsw(path: str, loadable: str) -> Any:
    return mediasql.connect(path)


def registered(path: str, loadable: str) -> Any:
    flags = apsw.SQLITE_OPEN_URI | apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(sqlite_uri(path), flags=flags)
    mediasql.register(connection)
    return connection


def in_dbapi(path: str, loadable: str) -> Any:
    return dbapi.connect(path)


HOSTS = [in_sqlite3, in_apsw, registered, in_dbapi]


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
@pytest.mark.parametrize("host", HOSTS)
def test_all_works_there(host: Callable[..., Any], encoding: str, folder: Path, photo: str, loadable: str) -> None:
    path = str(folder / NAME)
    con = host(path, loadable)
    con.execute(f"PRAGMA encoding = '{encoding}'")
    con.execute("CREATE TABLE images(image, width INT AS (width(image)), height INT AS (height(image)) STORED)")
    con.execute("INSERT INTO images(image) VALUES (?)", (photo,))
    if isinstance(con, sqlite3.Connection | dbapi.Connection):
        con.commit()
    assert con.execute("SELECT width, height FROM images").fetchall() == [(30, 20)]
    assert con.execute("SELECT width FROM media(?)", (photo,)).fetchall() == [(30,)]
    con.execute("ATTACH ':memory:' AS other")
    con.execute("CREATE TABLE other.images AS SELECT * FROM main.images")
    assert con.execute("SELECT width(image) FROM other.images").fetchall() == [(30,)]
    con.close()
    assert os.listdir(os.fsencode(folder)) == [b"caf\xe9.db"]


@pytest.mark.parametrize("given", [os.fsencode, str, Path])
def test_connect_takes_paths_of_all_kinds(given: Callable[[str], Any], folder: Path) -> None:
    for name in (NAME, "plain.db", "é.db", "a?b#c%41.db"):
        con = mediasql.connect(given(str(folder / name)))
        con.execute("CREATE TABLE t(x)")
        con.close()
        assert (folder / name).exists()
    assert len(os.listdir(folder)) == 4


def test_a_relative_path_in_such_a_folder(folder: Path, photo: str, loadable: str, monkeypatch: Any) -> None:
    monkeypatch.chdir(folder)
    for host in HOSTS:
        con = host("plain.db", loadable)
        assert con.execute("SELECT width(?)", (photo,)).fetchall() == [(30,)]
        con.close()


@pytest.fixture
def other_library(loadable: str) -> None:
    if sqlite3.sqlite_version == apsw.sqlite_lib_version():
        pytest.skip("NOT TESTED: here Python's sqlite3 and APSW may use the same library")


def test_two_libraries_do_not_open_it(folder: Path, other_library: None) -> None:
    path = str(folder / NAME)
    shown = f"{path_text(path)} is open in this process through"
    ours = mediasql.connect(path)
    ours.execute("CREATE TABLE t(x)")
    theirs = sqlite3.connect(path)
    with pytest.raises(mediasql.ConfigError) as refusal:
        mediasql.load(theirs)
    assert f"{shown} APSW" in str(refusal.value)
    ours.close()
    mediasql.load(theirs)
    for name in (path, os.fsencode(path)):
        with pytest.raises(mediasql.ConfigError) as refusal:
            mediasql.connect(name)
        assert f"{shown} the extension" in str(refusal.value)
    theirs.close()
    mediasql.connect(path).close()


def test_two_libraries_do_not_open_what_is_attached(folder: Path, other_library: None) -> None:
    path = str(folder / NAME)
    theirs = sqlite3.connect(f"file:{folder.parent}/main.db", uri=True)
    theirs.execute("ATTACH ? AS other", (sqlite_uri(path),))
    theirs.execute("CREATE TABLE other.t(x)")
    mediasql.load(theirs)
    with pytest.raises(mediasql.ConfigError, match="the extension"):
        mediasql.connect(path)
    theirs.close()


def test_the_shell_opens_it(folder: Path, photo: str) -> None:
    command = [sys.executable, "-m", "mediasql", str(folder / NAME), f"CREATE TABLE t AS SELECT width('{photo}') AS w"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sqlite3.connect(folder / NAME).execute("SELECT w FROM t").fetchall() == [(30,)]


def test_the_sqlite3_shell_loads_us_there(folder: Path, photo: str, loadable: str) -> None:
    shell = shutil.which("sqlite3")
    assert shell, "make servers installs it"
    command = [shell, str(folder / NAME), "-cmd", f".load {loadable}", f"SELECT width('{photo}')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("30\n", "")


def test_the_extension_in_such_a_folder(folder: Path, photo: str, loadable: str) -> None:
    """It is another copy of the library, of which Python is told the path."""
    copy = shutil.copy(f"{loadable}.so", folder / "mediasql.so")
    command = ["sqlite3", ":memory:", "-cmd", f".load {copy}", f"SELECT width('{photo}')"]
    environment = {**os.environ, "MEDIASQL_PYTHON": sys.executable, "PYTHONPATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout, done.stderr) == ("30\n", "")


@pytest.mark.parametrize(
    ("path", "text", "uri"),
    [
        ("/a/b.db", "/a/b.db", "file:%2Fa%2Fb.db"),
        ("é ?#%.db", "é ?#%.db", "file:%C3%A9%20%3F%23%25.db"),
        (NAME, "caf\\xe9.db", "file:caf%E9.db"),
    ],
)
def test_paths_as_text_and_for_sqlite(path: str, text: str, uri: str) -> None:
    assert (path_text(path), sqlite_uri(path)) == (text, uri)
    assert is_utf8(path) == (path == text)
