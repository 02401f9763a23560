"""The loadable extension in programs of others: what the APSW binding answers, on the same database."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import mediasql
from tests import example_media
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture
from tests.sql.hosts import HOSTS, HostError, Rows, apsw_rows

Host = Callable[[str, list[str]], list[Rows]]
pytestmark = pytest.mark.usefixtures("loadable")


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> Host:
    return HOSTS[request.param]


@pytest.fixture
def database(tmp_path: Path, web: Web) -> Path:
    """References to six pictures, one that is missing and one that is none."""
    path = tmp_path / "photos.db"
    places = [web.url(number) for number in range(6)] + [f"{web.server.url}/none.jpg", f"{web.server.url}/text.jpg"]
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE images(k INTEGER PRIMARY KEY, image IMAGE, note)")
    connection.executemany("INSERT INTO images(image) VALUES (?)", [(place,) for place in places])
    connection.execute("INSERT INTO images(image) VALUES (NULL)")
    connection.commit()
    connection.close()
    return path


@pytest.mark.parametrize(
    "statements",
    [
        # Each by itself, but programs take their time to start.
        [
            "SELECT media_version()",
            "SELECT k, width(image), height(image), mime_type(image) FROM images",
            "SELECT width(image) AS w, count(*) FROM images GROUP BY w ORDER BY w",
            "SELECT k FROM images WHERE width(image) > 101 ORDER BY width(image) DESC LIMIT 3",
            "SELECT a.k, b.k FROM images a JOIN images b ON width(a.image) = width(b.image) ORDER BY 1, 2",
            "WITH c AS (SELECT k, width(image) AS w FROM images) SELECT sum(w) OVER (ORDER BY k) FROM c",
            "SELECT k, value FROM images, json_each(json_array(width(image), height(image)))",
            "SELECT typeof(x), hex(x) FROM (SELECT content(image) AS x FROM images WHERE k < 3)",
            "SELECT typeof(b), typeof(d) FROM (SELECT byte_size(image) AS b, duration(image) AS d FROM images)",
            "SELECT presigned_url('s3://bucket/key', 60) LIKE 'https://%bucket%'",
        ],
        [
            "SELECT k, media_error(image) IS NULL FROM images",
            "SELECT url, function, kind FROM media_errors ORDER BY url",
        ],
        ["ALTER TABLE images ADD COLUMN w INT AS (width(image))", "SELECT k, w FROM images", "SELECT * FROM images"],
        [
            "ALTER TABLE images ADD COLUMN w INT AS (width(image))",
            "CREATE INDEX by_width ON images(w)",
            "SELECT refresh_computed_columns('images')",
            "INSERT INTO images(image) SELECT image FROM images WHERE k < 3",
            "SELECT k, w FROM images WHERE w BETWEEN 100 AND 102 ORDER BY w, k",
            "PRAGMA integrity_check",
        ],
        [
            "CREATE TABLE stored(image, w INT AS (width(image)) STORED, h INT AS (height(image)) CHECK (h > 1))",
            "INSERT INTO stored SELECT image FROM images WHERE k <= 3 RETURNING w, h",
            "SELECT * FROM stored ORDER BY w",
        ],
        [
            "SELECT add_computed_column('images', 'h', 'height(image)')",
            "SELECT k, h FROM images",
            "PRAGMA table_xinfo(images)",
        ],
        ["UPDATE images SET note = width(image) WHERE height(image) = 50 RETURNING k, note"],
    ],
)
def test_functions_and_columns(host: Host, database: Path, tmp_path: Path, statements: list[str]) -> None:
    other = tmp_path / "other.db"
    shutil.copy(database, other)
    expected = apsw_rows(other, statements)
    assert host(str(database), statements) == expected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("media")
    for number in range(5):
        (made / f"p{number}.jpg").write_bytes(picture(100 + number, 50))
    (made / "é ß.jpg").write_bytes(picture(7, 8))
    example_media.write(made)
    return made


TABLES = [
    "SELECT name, size, width, height, mime_type FROM media('{0}/*.jpg') ORDER BY name",
    "SELECT count(*) FROM media('{0}/')",
    "SELECT name FROM media('{0}/*') WHERE width > 102 ORDER BY width DESC, name",
    "SELECT name FROM media('{0}/*.jpg') WHERE name IN ('p1.jpg', 'p3.jpg', NULL) ORDER BY name",
    "SELECT name FROM media('{0}/*.jpg') WHERE name LIKE 'P%' AND name GLOB '*[12].jpg' ORDER BY 1",
    "SELECT name FROM media('{0}/*.jpg') WHERE name = 'p1.jpg' OR name = 'p2.jpg' ORDER BY 1",
    "SELECT name FROM media('{0}/*.jpg') WHERE name IN (SELECT 'p' || value || '.jpg' FROM json_each('[0, 4, 9]'))",
    "SELECT count(*) FROM (SELECT name FROM media('{0}/*.jpg') LIMIT 2 OFFSET 1)",
    "SELECT rowid IS NOT NULL, pattern FROM media('{0}/p1.jpg')",
    "SELECT name, stream_index, codec, CAST(9 * s.duration AS INT) FROM media('{0}/*.mp4') m, media_streams(url) s",
    "SELECT directory, tag, name, value FROM media_exif('{0}/photo.jpg') ORDER BY 1, 2",
    "SELECT count(*) FROM media_streams(NULL)",
    "SELECT a.name FROM media('{0}/p*.jpg') a JOIN media('{0}/*.jpg') b ON a.width = b.width + 1 ORDER BY 1",
]


def test_tables(host: Host, database: Path, folder: Path) -> None:
    statements = [statement.format(folder) for statement in TABLES]
    expected = apsw_rows(database, statements)
    assert all(expected)
    assert host(str(database), statements) == expected


@pytest.mark.parametrize(
    "statements",
    [
        "CREATE VIRTUAL TABLE photos USING media('{0}/*.jpg'); SELECT name, width FROM photos ORDER BY name; "
        "SELECT count(*) FROM photos WHERE height = 50; DROP TABLE photos",
        'CREATE VIRTUAL TABLE temp.photos USING media("{0}/*.jpg"); SELECT width(url) FROM photos ORDER BY 1',
    ],
)
def test_virtual_tables(host: Host, database: Path, folder: Path, statements: str) -> None:
    together = statements.format(folder).split("; ")
    expected = apsw_rows(database, together)
    assert host(str(database), together) == expected
    assert any(expected)


@pytest.mark.parametrize(
    ("statement", "message", "kind"),
    [
        (
            "SELECT width(3)",
            "width(3): media is a number; a URL (TEXT) or the media itself (BLOB) is needed",
            mediasql.UsageError,
        ),
        ("SELECT width('ftp2://x/y')", "ftp2", mediasql.UnknownScheme),
        ("SELECT name FROM media", "media needs its pattern: SELECT … FROM media(pattern)", mediasql.UsageError),
        ("SELECT name FROM media('ftp2://x/*')", "ftp2", mediasql.UnknownScheme),
        ("SELECT url FROM media('http://127.0.0.1:1/*.jpg')", "http://127.0.0.1:1", mediasql.TransientError),
        ("SELECT * FROM media('a', 'b', 'c')", "too many arguments", apsw.SQLError),
        ("CREATE VIRTUAL TABLE v USING media('a', 'b')", "takes 1 arguments", mediasql.UsageError),
        ("CREATE VIRTUAL TABLE v USING media(s3)", "v: the argument s3 needs quotes: 's3'", mediasql.UsageError),
        ("SELECT media_config('no_such')", "there is no option 'no_such'", mediasql.ConfigError),
        ("SELECT add_computed_column('images', 'x', 'presigned_url(image, 60)')", "expires", mediasql.UsageError),
        ("INSERT INTO images(image) VALUES (1), (width('ftp2://x'))", "ftp2", mediasql.UnknownScheme),
        ("DELETE FROM media_errors", "may not be modified", apsw.SQLError),
    ],
)
def test_errors(host: Host, database: Path, statement: str, message: str, kind: type[Exception]) -> None:
    with pytest.raises(HostError) as caught:
        host(str(database), [statement])
    if host is HOSTS["datasette"] and "profile 'hosted'" in str(caught.value):
        return  # which has more to refuse
    assert message in str(caught.value)
    with pytest.raises(kind) as expected:
        apsw_rows(database, [statement])
    assert str(expected.value) in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_transient_failure_is_not_stored(
    host: Host, database: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "2")
    broken = f"{web.server.url}/s/503/p1.jpg"
    setup = "CREATE TABLE s(image, w AS (width(image)) STORED)"
    with pytest.raises(HostError, match="503"):
        host(str(database), [setup, f"INSERT INTO s VALUES ('{web.url(1)}'), ('{broken}')"])
    assert host(str(database), ["SELECT count(*) FROM s", f"SELECT width('{broken}')"]) == [[("0",)], [(None,)]]


def test_objects_that_changed(host: Host, database: Path, http_server: HttpServer) -> None:
    """STORED columns are brought up to date, and an index on a VIRTUAL one, damaged as it is."""
    urls = [f"{http_server.url}/refreshed{number}.jpg" for number in range(3)]

    def write(number: int, width: int) -> None:
        http_server.put("", f"refreshed{number}.jpg", picture(width, width))

    for number in range(3):
        write(number, 10 + number)
    columns = "image, w INT AS (width(image)) STORED, h INT AS (height(image))"
    values = ", ".join(f"('{url}')" for url in urls)
    host(
        str(database),
        [f"CREATE TABLE r({columns})", "CREATE INDEX by_h ON r(h)", f"INSERT INTO r VALUES {values}"],
    )
    write(1, 90)
    (refreshed,) = host(str(database), ["SELECT refresh_computed_columns('r')"])
    assert refreshed == [("Checked 3 objects: 1 changed, 0 errors",)]
    statements = ["SELECT w FROM r WHERE h = 90", "PRAGMA integrity_check", "DELETE FROM r WHERE w = 90"]
    assert host(str(database), statements) == [[("90",)], [("ok",)], []]


def test_a_read_only_database(host: Host, database: Path, tmp_path: Path) -> None:
    database.chmod(0o444)
    address = f"file:{database}?mode=ro"
    if host is not HOSTS["module"]:
        statements = ["PRAGMA query_only = 1", "SELECT width(image) FROM images WHERE k = 1"]
        assert host(str(database), statements)[1] == [("100",)]
        return
    connection = sqlite3.connect(address, uri=True)
    mediasql.load(connection)
    assert connection.execute("SELECT width(image) FROM images WHERE k = 1").fetchall() == [(100,)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("SELECT add_computed_column('images', 'w', 'width(image)')").fetchall()
    connection.close()


def test_inserting_references_asks_for_nothing(host: Host, database: Path, web: Web) -> None:
    web.asked()
    host(
        str(database),
        [
            "ALTER TABLE images ADD COLUMN w INT AS (width(image))",
            f"INSERT INTO images(image) VALUES ('{web.url(7)}'), ('{web.url(8)}')",
            "INSERT INTO images(image) SELECT image || '?v=1' FROM images RETURNING k",
            "UPDATE images SET note = 'x'",
            "DELETE FROM images WHERE k > 10",
        ],
    )
    assert web.asked() == {}
    assert host(str(database), ["SELECT w FROM images WHERE k = 2"]) == [[("101",)]]
    assert web.asked() == {"/p1.jpg": 1}


FILES = 60


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT sum(width(image)) FROM many",
        "SELECT sum(w) FROM (SELECT width(image) AS w FROM many ORDER BY w)",
        "UPDATE many SET note = width(image)",
        "CREATE INDEX i ON many(w)",
    ],
)
def test_files_are_fetched_together(host: Host, tmp_path: Path, http_server: HttpServer, statement: str) -> None:
    if host is HOSTS["datasette"] and not statement.startswith("SELECT"):
        pytest.skip("it only reads")
    path = tmp_path / "many.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE many(image, note)")
    for number in range(FILES):
        http_server.put("host", f"{number}.jpg", picture(100 + number, 50))
        connection.execute("INSERT INTO many(image) VALUES (?)", (f"{http_server.url}/together/4/host/{number}.jpg",))
    connection.commit()
    connection.close()
    host(str(path), ["ALTER TABLE many ADD COLUMN w INT AS (width(image))"])
    http_server.reset()
    found = host(str(path), [statement])
    if statement.startswith("SELECT"):
        assert found == [[(str(sum(range(100, 100 + FILES))),)]]
    assert len(http_server.requests()) == FILES


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT k, m.name, width(i.image) FROM i, media(i.folder) m ORDER BY 1, 2",
        "SELECT width(image) AS w FROM i WHERE exists (SELECT 1 FROM media(folder)) ORDER BY w",
        "SELECT width(image), (SELECT count(*) FROM media(folder)) FROM i LIMIT 2",
    ],
)
def test_a_listing_may_take_longer_than_the_scout(
    host: Host, tmp_path: Path, http_server: HttpServer, statement: str
) -> None:
    """What is run ahead waits for it, and must not take the scout's own limit for an interruption by the host."""
    path = tmp_path / "listed.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE i(k, image, folder)")
    for number in range(3):
        http_server.put("", f"{number}.jpg", picture(100 + number, 50))
        http_server.put("", f"listed/{number}/", b'<a href="a.jpg">a</a> <a href="b.jpg">b</a>', "text/html")
        http_server.put("", f"listed/{number}/a.jpg", picture(200 + number, 50))
        base = f"{http_server.url}/slow/150"
        connection.execute(
            "INSERT INTO i VALUES (?, ?, ?)", (number, f"{base}/{number}.jpg", f"{base}/listed/{number}/")
        )
    connection.commit()
    connection.close()
    found = host(str(path), [statement])  # before APSW does, which would leave the answers in the cache
    assert found == apsw_rows(path, [statement])
    assert found[0]


README = (Path(__file__).parents[2] / "README.md").read_text()
SECTION = README.partition("## In other SQLite tools")[2].partition("\n## ")[0]


def test_the_lines_of_the_readme(
    database: Path, web: Web, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(database, database.parent / "my.db")
    monkeypatch.chdir(database.parent)
    first, second = SECTION.partition("```sh\n")[2].partition("```")[0].splitlines()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = [
        subprocess.run(line, shell=True, capture_output=True, text=True, check=True, env={**os.environ, "PATH": path})
        for line in (first, second)
    ]
    lines = [f"{web.url(number)}|{100 + number}" for number in range(6)]
    assert done[0].stdout.splitlines()[:6] == lines
    assert [each.stderr for each in done] == ["", ""]
    exec(SECTION.partition("```python\n")[2].partition("```")[0], {})
    assert capsys.readouterr().out.splitlines()[:6] == [line.replace("|", " ") for line in lines]


def test_what_is_left_without_mediasql(database: Path) -> None:
    """The table in the README."""
    apsw_rows(
        database,
        [
            "SELECT add_computed_column('images', 'kept', 'width(image)')",
            "ALTER TABLE images ADD COLUMN w INT AS (height(image) + width(image))",
            "CREATE INDEX by_w ON images(w)",
            "CREATE VIRTUAL TABLE photos USING media('/tmp/*.jpg')",
        ],
    )
    plain = sqlite3.connect(database)
    assert plain.execute("SELECT kept FROM images WHERE k <= 2").fetchall() == [(100,), (101,)]
    assert plain.execute("SELECT w FROM images WHERE w BETWEEN 150 AND 152 ORDER BY w").fetchall() == [
        (150,),
        (151,),
        (152,),
    ]
    for refused, message in {
        "SELECT w FROM images NOT INDEXED": r"unknown function: width\(\)",
        "INSERT INTO images(image) VALUES ('x')": r"unknown function: width\(\)",
        "SELECT * FROM photos": "no such module: media",
    }.items():
        with pytest.raises(sqlite3.OperationalError, match=message):
            plain.execute(refused).fetchall()
    plain.close()
