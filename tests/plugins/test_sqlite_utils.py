"""sqlite-utils with the plugin, as a program: what a connection of mediasql answers, on the same database."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils
from click.testing import CliRunner
from sqlite_utils.cli import cli

import mediasql
from mediasql.sql.loadable import loading
from tests import forked, store
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture
from tests.waiting import eventually

pytestmark = pytest.mark.usefixtures("loadable")
PROGRAM = [sys.executable, "-m", "sqlite_utils"]


def output(*arguments: object, text: str = "") -> str:
    """What it prints, when it has nothing to complain about."""
    done = forked.run("sqlite-utils", *arguments, text=text)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def objects(path: object, sql: str) -> list[dict[str, Any]]:
    """The oracle: the rows of a connection of mediasql."""
    connection = mediasql.connect(str(path))
    try:
        cursor = connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor]
    finally:
        connection.close()


@pytest.fixture
def database(tmp_path: Path, web: Web) -> Path:
    """References to four pictures, one that is missing and one that is none."""
    path = tmp_path / "photos.db"
    places = [web.url(number) for number in range(4)] + [f"{web.server.url}/none.jpg", f"{web.server.url}/text.jpg"]
    connection = mediasql.connect(path)
    connection.execute("CREATE TABLE photos(image IMAGE, h INT AS (height(image)))")
    connection.executemany("INSERT INTO photos VALUES (?)", [(place,) for place in places])
    connection.close()
    return path


def test_it_is_found() -> None:
    (plugin,) = [found for found in json.loads(output("plugins")) if found["name"] == "mediasql"]
    assert set(plugin["hooks"]) == {"prepare_connection", "register_commands"}


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT image, width(image) AS w, h, media_error(image) AS error FROM photos",
        "SELECT count(*) AS n, sum(h) AS h FROM photos WHERE width(image) > 101",
        "WITH w AS (SELECT width(image) AS w FROM photos) SELECT w FROM w WHERE w IS NOT NULL ORDER BY w DESC LIMIT 2",
    ],
)
def test_queries(database: Path, sql: str) -> None:
    expected = objects(database, sql)
    assert json.loads(output("query", database, sql)) == expected
    assert any(any(row.values()) for row in expected)


def test_rows(database: Path) -> None:
    assert json.loads(output("rows", database, "photos")) == objects(database, "SELECT * FROM photos")


def test_a_database_in_memory(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.png").write_bytes(picture(100 + number, 50))
    sql = f"SELECT name, size, width FROM media('{tmp_path}/*.png') ORDER BY width DESC"
    found = json.loads(output("memory", sql))
    assert found == objects(":memory:", sql)
    assert [row["width"] for row in found] == [102, 101, 100]


def test_inserting_references_asks_for_nothing(database: Path, web: Web) -> None:
    web.asked()
    rows = [{"image": web.url(7)}, {"image": web.url(8)}]
    output("insert", database, "photos", "-", text=json.dumps(rows))
    assert web.asked() == {}
    assert objects(database, "SELECT image FROM photos LIMIT -1 OFFSET 6") == rows


def test_a_stored_column(database: Path, tmp_path: Path, web: Web) -> None:
    other = tmp_path / "other.db"
    shutil.copy(database, other)
    done = forked.run("sqlite-utils", "media", "add-column", database, "photos", "w", "width(image)")
    assert (done.returncode, done.stdout) == (0, "Added 6 column values with 2 errors\n")
    assert done.stderr.splitlines() == [
        f"{web.server.url}/none.jpg: 404 Not Found",
        f"{web.server.url}/text.jpg: not an image, video or audio file that can be read",
    ]
    connection = mediasql.connect(other)
    connection.add_computed_column("photos", "w", "width(image)")
    connection.close()
    assert output("schema", database) == output("schema", other)
    plain = sqlite3.connect(database)
    assert plain.execute("SELECT w FROM photos").fetchall() == [(100,), (101,), (102,), (103,), (None,), (None,)]
    plain.close()


def test_a_virtual_column(database: Path, web: Web) -> None:
    web.asked()
    added = output("media", "add-column", database, "photos", "w", "width(image)", "--virtual", "--type", "FLOAT")
    assert added == "Added column w, computed when it is read\n"
    assert web.asked() == {}
    assert '"w" FLOAT GENERATED ALWAYS AS (width(image)) VIRTUAL' in output("schema", database)
    assert json.loads(output("rows", database, "photos", "-c", "w", "--limit", 2)) == [{"w": 100.0}, {"w": 101.0}]
    assert web.asked() == {"/p0.jpg": 1, "/p1.jpg": 1}


@pytest.mark.parametrize("kind", [[], ["--virtual"]], ids=["stored", "virtual"])
def test_an_index_on_a_column(database: Path, web: Web, kind: list[str]) -> None:
    """It answers without mediasql, and without asking for a file again."""
    forked.run("sqlite-utils", "media", "add-column", database, "photos", "w", "width(image)", *kind)
    made = forked.run("sqlite-utils", "create-index", database, "photos", "w")
    assert made.returncode == 0
    assert ("MediaWarning: index idx_photos_w on photos has entries that come from media" in made.stderr) == bool(kind)
    web.asked()
    where = ["--where", "w BETWEEN 101 AND 102", "-c", "w"]
    assert json.loads(output("rows", database, "photos", *where)) == [{"w": 101}, {"w": 102}]
    plain = sqlite3.connect(database)
    sql = "SELECT w FROM photos WHERE w BETWEEN 101 AND 102"
    if kind and (3, 44) <= sqlite3.sqlite_version_info < (3, 46, 2):  # as the README says
        with pytest.raises(sqlite3.OperationalError, match="unknown function: width"):
            plain.execute(sql)
    else:
        assert "INDEX" in plain.execute(f"EXPLAIN QUERY PLAN {sql}").fetchone()[3]
        assert plain.execute(sql).fetchall() == [(101,), (102,)]
    plain.close()
    assert web.asked() == {}


def test_a_table_of_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.png").write_bytes(picture(100 + number, 50))
    path = tmp_path / "folder.db"
    output("query", path, f"CREATE VIRTUAL TABLE photos USING media('{tmp_path}/*.png')")
    assert json.loads(output("tables", path)) == [{"table": "photos"}]
    wide = output("rows", path, "photos", "-c", "name", "-c", "width", "--where", "width > 100", "-o", "width desc")
    assert json.loads(wide) == [{"name": "p2.png", "width": 102}, {"name": "p1.png", "width": 101}]
    (tmp_path / "p3.png").write_bytes(picture(103, 50))
    assert json.loads(output("query", path, "SELECT max(width) AS widest FROM photos")) == [{"widest": 103}]


FILES = 60


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["query", "many.db", "SELECT sum(width(image)) FROM many"], str(sum(range(100, 100 + FILES)))),
        (["media", "add-column", "many.db", "many", "w", "width(image)"], f"Added {FILES} column values with 0 errors"),
    ],
    ids=["query", "add-column"],
)
def test_files_are_fetched_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, http_server: HttpServer, arguments: list[str], shown: str
) -> None:
    monkeypatch.chdir(tmp_path)
    connection = sqlite3.connect("many.db")
    connection.execute("CREATE TABLE many(image)")
    for number in range(FILES):
        http_server.put("utils", f"{number}.jpg", picture(100 + number, 50))
        place = f"{http_server.url}/together/4/utils/{number}.jpg"
        connection.execute("INSERT INTO many(image) VALUES (?)", (place,))
    connection.commit()
    connection.close()
    http_server.reset()
    assert shown in output(*arguments)
    assert len(http_server.requests()) == FILES


def test_adding_urls(tmp_path: Path, sample_environment: store.Store) -> None:
    path = tmp_path / "new.db"
    jpeg, png = "s3://media-samples/photos/*.jpg", "s3://media-samples/photos/*.png"
    sample_environment.s3.reset()
    assert output("media", "add", path, "photos", jpeg, png, "--type", "image") == "Added 5 rows to photos\n"
    assert not any("/photos/" in request.path for request in sample_environment.s3.requests()), "nothing is opened"
    assert '"image" IMAGE' in output("schema", path)
    listed = [row["url"] for row in objects(":memory:", f"SELECT url FROM media('{jpeg}')")]
    listed.append("s3://media-samples/photos/scan.png")
    assert [row["image"] for row in objects(path, "SELECT image FROM photos")] == listed

    everything = "s3://media-samples/photos/*"
    assert output("media", "add", path, "photos", everything, "--ignore") == "Added 1 row to photos\n"
    assert output("media", "add", path, "photos", everything, png) == "Added 7 rows to photos\n"


def test_adding_urls_to_a_column(tmp_path: Path) -> None:
    (tmp_path / "a 'b.png").write_bytes(picture(3, 4))
    path, table = tmp_path / "x.db", 'odd "table'
    connection = mediasql.connect(path)
    connection.execute(
        'CREATE TABLE "odd ""table"(k INTEGER PRIMARY KEY, "the ""video" Video, w AS (width("the ""video")))'
    )
    connection.close()
    output("media", "add", path, table, f"{tmp_path}/*.png")
    assert objects(path, 'SELECT k, "the ""video" IS NOT NULL AS added, w FROM "odd ""table"') == [
        {"k": 1, "added": 1, "w": 3}
    ]
    refused = forked.run("sqlite-utils", "media", "add", path, table, f"{tmp_path}/*.png", "--column", "other")
    assert refused.returncode == 1
    assert "has no column named other" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "{db}", "SELECT width(3)"], "width(3): media is a number; a URL (TEXT) or the media"),
        (["query", "{db}", "SELECT url FROM media('ftp2://x/*')"], "no provider for ftp2:// URLs"),
        (["media", "add", "{db}", "new", "{web}/p1.jpg", "ftp2://x/*"], "no provider for ftp2:// URLs"),
        (["media", "add", "{db}", "two", "{web}/p1.jpg"], "two has the columns a, b; say with --column"),
        (["media", "add", "{db}", "none", "{web}/p1.jpg"], "none has no column of type IMAGE, VIDEO, AUDIO, MEDIA"),
        (["media", "add-column", "{db}", "nope", "w", "width(image)"], "'width(image)', 1): there is no table"),
        (["media", "add-column", "{db}", "photos", "w", "widht(image)"], "no such function: widht"),
        (["media", "add-column", "{db}", "photos", "link", "presigned_url(image)"], "--virtual"),
        (["media", "add-column", "{db}", "photos", "w", "width('{web}/s/503/p1.jpg')"], "503"),
        (["media", "add-column", "{web}", "photos", "w", "width(image)"], "does not exist"),
        (["media", "add-column", __file__, "photos", "w", "width(image)"], "file is not a database"),
    ],
)  # fmt: skip
def test_errors(database: Path, web: Web, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "1")
    connection = sqlite3.connect(database)
    connection.executescript("CREATE TABLE two(a IMAGE, b VIDEO); CREATE TABLE none(a)")
    before = list(connection.iterdump())
    done = forked.run("sqlite-utils", *[argument.format(db=database, web=web.server.url) for argument in arguments])
    assert done.returncode != 0
    assert done.stdout == ""
    assert "Error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(connection.iterdump()) == before
    connection.close()


def test_a_variable_that_is_not_valid(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "soon")
    done = forked.run("sqlite-utils", "tables", database)
    assert done.returncode == 1
    assert done.stderr == "Error: MEDIASQL_TIMEOUT: 'soon' is not valid; a positive number of seconds is needed\n"


def test_an_interrupted_column_leaves_nothing(database: Path, web: Web) -> None:
    objects(database, f"UPDATE photos SET image = '{web.url(1, 'hang/')}' RETURNING image")
    plain = sqlite3.connect(database)
    before = list(plain.iterdump())
    web.asked()
    command = [*PROGRAM, "media", "add-column", str(database), "photos", "w", "width(image)"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        eventually(lambda: process.poll() is not None or web.server.requests())
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    assert process.returncode == 1
    assert out == ""
    assert error.strip() == "Aborted!"
    assert list(plain.iterdump()) == before
    plain.close()


def test_from_python(database: Path) -> None:
    found = sqlite_utils.Database(database)
    assert next(found.query("SELECT width(image) AS w, h FROM photos")) == {"w": 100, "h": 50}
    with pytest.raises(mediasql.ConfigError, match="with another SQLite library"):
        mediasql.connect(database)
    found.conn.close()
    connection = mediasql.connect(database)
    with pytest.raises(mediasql.ConfigError, match="with another SQLite library"):
        sqlite_utils.Database(database)
    connection.close()


def test_without_the_extension(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sqlite-utils works on; what needs media fails with the remedy."""
    monkeypatch.setattr(loading, "NAME", "not-built.so")
    tables = CliRunner().invoke(cli, ["tables", str(database)])
    assert tables.exit_code == 0
    assert json.loads(tables.stdout) == [{"table": "photos"}]
    assert "Warning: no media functions: the loadable extension was not built" in tables.stderr
    column = CliRunner().invoke(cli, ["media", "add-column", str(database), "photos", "w", "width(image)"])
    assert column.exit_code == 1
    assert "mediasql.sql.loadable.build" in column.stderr.splitlines()[-1]
    with pytest.warns(UserWarning, match="no media functions"):
        sqlite_utils.Database(database).conn.close()
