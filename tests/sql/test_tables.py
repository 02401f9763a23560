"""The tables: what they list and open, how little for a question, and that hints change no answer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from tests import example_media
from tests.servers.server import Server
from tests.sql.conftest import Web, picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    example_media.write(made)
    (made / "below").mkdir()
    (made / "below" / "deep.jpg").write_bytes(picture(30, 20))
    (made / "below" / "bad.jpg").write_text("no picture")
    return made


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.usefixtures("here")
def test_ways_to_ask(con: mediasql.MediaConnection) -> None:
    con.execute("CREATE VIRTUAL TABLE temp.films USING media('*.mp4')")
    con.execute("CREATE TABLE places(url); INSERT INTO places VALUES ('*.jpg'), ('below/*'), (NULL)")
    names = "SELECT group_concat(name, ' ') FROM (SELECT name FROM {} ORDER BY name)"
    for source, expected in {
        "media('*.jpg')": "photo.jpg",
        "media WHERE pattern = '*.jpg'": "photo.jpg",
        "media WHERE pattern IN ('*.jpg', '*.flac')": "photo.jpg song.flac",
        "media('**')": "below/bad.jpg below/deep.jpg clip.mp4 photo.jpg song.flac",
        "media('below/')": "bad.jpg deep.jpg",
        "films": "clip.mp4",
        "films WHERE pattern = '*.mp4'": "clip.mp4",
        "films WHERE pattern = '*.jpg'": None,
        "media('*.jpg') WHERE pattern = '*.mp4'": None,
        "media(NULL)": None,
        "media WHERE pattern = '*.jpg' OR pattern = '*.flac'": "photo.jpg song.flac",
        "media WHERE pattern = '**' AND (name = 'clip.mp4' OR url GLOB 'below/d*')": "below/deep.jpg clip.mp4",
        "media_exif WHERE media = 'photo.jpg' OR media = 'clip.mp4'": "GPSLatitudeRef Model Orientation",
        "places, media(places.url)": "bad.jpg deep.jpg photo.jpg",
        "media m JOIN places p ON m.pattern = p.url": "bad.jpg deep.jpg photo.jpg",
        "places LEFT JOIN media(places.url)": "bad.jpg deep.jpg photo.jpg",
    }.items():
        assert con.execute(names.format(source)).get == expected, source
    correlated = "SELECT url, (SELECT count(*) FROM media(places.url)) FROM places"
    assert con.execute(correlated).fetchall() == [("*.jpg", 1), ("below/*", 2), (None, 0)]
    with pytest.raises(apsw.SQLError, match="too many arguments on media"):
        con.execute("SELECT * FROM media(1, 2)")
    for wrong, message in {
        "SELECT * FROM media": "media needs its pattern: SELECT … FROM media",
        "SELECT * FROM media WHERE pattern > 'a'": "media needs its pattern",
        "SELECT * FROM media_streams(5)": r"media_streams\(5\): media is a number",
        "CREATE VIRTUAL TABLE a USING media(photos)": "the argument photos needs quotes: 'photos'",
        "CREATE VIRTUAL TABLE a USING media('x', 'y')": "takes 1 argument",
    }.items():
        with pytest.raises(mediasql.UsageError, match=message):
            con.execute(wrong).fetchall()
    with pytest.raises(apsw.SQLError, match="table films may not be modified"):
        con.execute("DELETE FROM films")


@pytest.mark.usefixtures("here")
def test_streams_and_exif_of_urls_and_blobs(con: mediasql.MediaConnection) -> None:
    for source in ("'clip.mp4'", "content('clip.mp4')"):
        rows = con.execute(f"SELECT stream_index, type, codec FROM media_streams({source})").fetchall()
        assert rows == [(0, "video", "h264"), (1, "audio", "aac")]
    for source in ("'photo.jpg'", "content('photo.jpg')"):
        rows = con.execute(f"SELECT directory, name, value FROM media_exif({source}) WHERE name = 'Model'").fetchall()
        assert rows == [("Image", "Model", "Sample X100")]
    assert con.execute("SELECT * FROM media_streams('photo.jpg'), media_exif('song.flac')").fetchall() == []
    assert con.execute("SELECT count(*) FROM media_errors").get == 0


@pytest.mark.usefixtures("quick_retries")
def test_tables_about_one_file_have_no_rows_where_functions_give_null(web: Web) -> None:
    con = mediasql.connect(timeout=20, failure_age=0)
    for table in ("media_streams", "media_exif"):
        for path, kind in (("missing.jpg", "not found"), ("text.jpg", "damaged"), ("s/500/p1.jpg", "transient")):
            url = f"{web.server.url}/{path}"
            assert con.execute(f"SELECT * FROM {table}(?)", (url,)).fetchall() == []
            assert con.execute("SELECT function, kind FROM media_errors WHERE url = ?", (url,)).fetchall()[-1] == (
                table,
                kind,
            )
        with pytest.raises(mediasql.TransientError):
            con.execute(f"CREATE TABLE made AS SELECT * FROM {table}('{web.server.url}/s/500/p1.jpg')")
        assert con.execute(f"SELECT count(*) FROM {table}(x'00')").get == 0
        fresh = f"{web.server.url}/flaky/1/404/p3.jpg?{table}"
        for failures in (1, 0):
            con.execute(f"SELECT * FROM {table}(?)", (fresh,)).fetchall()
            assert con.execute("SELECT count(*) FROM media_errors WHERE url = ?", (fresh,)).get == failures
        web.server.reset()
    strict = mediasql.connect(on_error="raise")
    with pytest.raises(mediasql.NotFound, match=r"^media_streams\('http.*'\): 404 Not Found"):
        strict.execute("SELECT * FROM media_streams(?)", (f"{web.server.url}/missing.jpg",)).fetchall()
    strict.close()
    con.close()


@pytest.mark.usefixtures("here")
def test_lazy_columns_that_fail(con: mediasql.MediaConnection) -> None:
    query = "SELECT name, width, error IS NOT NULL FROM media('below/*') ORDER BY name"
    assert con.execute(query).fetchall() == [("bad.jpg", None, 1), ("deep.jpg", 30, 0)]
    assert con.execute("SELECT url, function, kind FROM media_errors").fetchall() == [
        ("below/bad.jpg", "media.width", "damaged")
    ]


def test_one_url(con: mediasql.MediaConnection, web: Web) -> None:
    """A URL without a wildcard is not listed, and asked only for what needs it."""
    assert con.execute("SELECT url, name, mime_type FROM media(?)", (web.url(4),)).fetchall() == [
        (web.url(4), "p4.jpg", "image/jpeg")
    ]
    assert web.asked() == {}
    assert con.execute("SELECT size > 100, width, height, image_format FROM media(?)", (web.url(4),)).fetchall() == [
        (1, 104, 50, "JPEG")
    ]
    assert web.asked() == {"/p4.jpg": 1}
    missing = f"{web.server.url}/missing.jpg"
    assert con.execute("SELECT size, width, error FROM media(?)", (missing,)).fetchall() == [
        (None, None, "404 Not Found")
    ]


NAMES = [
    *(
        "a.jpg",
        "A.jpg",
        "b/a.jpg",
        "b/B.JPG",
        "b/c/ü.png",
        "b_x.jpg",
        "c%.jpg",
        "Ä.jpg",
        "ä.jpg",
        "10.jpg",
        "9",
        "1e3",
        "7",
    ),
    *(f"many/{n:03}.jpg" for n in range(60)),
]


@pytest.fixture(scope="module")
def bucket(s3_server: Server) -> Server:
    for name in NAMES:
        s3_server.put("tables", name, b"x" * (len(name) * 7))
    s3_server.seed("manykeys", 3000)
    return s3_server


def lists(server: Server) -> list[str]:
    """The queries of list requests since the last call."""
    asked = [request.query for request in server.requests() if "list-type" in request.query]
    server.reset()
    return asked


@pytest.fixture
def s3(bucket: Server) -> Iterator[mediasql.MediaConnection]:
    connection = mediasql.connect(storage_options=bucket.storage_options)
    connection.execute("SELECT name FROM media('s3://tables/many/000*')").fetchall()  # credentials and the region
    bucket.reset()
    yield connection
    connection.close()


def test_listing_page_by_page(s3: mediasql.MediaConnection, bucket: Server) -> None:
    rows = s3.execute("SELECT name FROM media('s3://manykeys/**')")
    assert next(rows)
    assert len(lists(bucket)) == 1
    rows.close()
    assert lists(bucket) == []
    assert len(s3.execute("SELECT name FROM media('s3://manykeys/**') LIMIT 5").fetchall()) == 5
    (query,) = lists(bucket)
    assert "max-keys=5" in query
    assert s3.execute("SELECT count(*) FROM media('s3://manykeys/**')").get == 3000
    assert len(lists(bucket)) == 3
    assert s3.execute("SELECT count(*) FROM media('s3://manykeys/**') WHERE name GLOB 'd001/o0010*'").get == 100
    (query,) = lists(bucket)
    assert "o0010" in query
    assert s3.execute("SELECT size FROM media('s3://manykeys/**') WHERE name = 'd000/o000007.jpg'").fetchall() == [
        (1024,)
    ]
    assert len(lists(bucket)) == 1
    assert s3.execute("SELECT count(*) FROM media('s3://manykeys/**') WHERE name >= 'd001/o001990.jpg'").get == 1010
    first, _ = lists(bucket)
    assert "start-after=d001%2Fo001990.jpf" in first
    between = "SELECT min(name), max(name) FROM media('s3://manykeys/**') WHERE name > ? AND url <= ?"
    bounds = "d000/o000989.jpg", "s3://manykeys/d001/o001002.jpg"
    assert s3.execute(between, bounds).fetchall() == [("d000/o000990.jpg", "d001/o001002.jpg")]
    assert len(lists(bucket)) == 1
    assert s3.execute("SELECT size FROM media('s3://manykeys/**') WHERE name = NULL").fetchall() == []
    assert lists(bucket) == []


def test_a_listing_that_fails(s3: mediasql.MediaConnection) -> None:
    with pytest.raises(mediasql.MediaError, match=r"^media\('s3://no-such-bucket/\*'\): .*404"):
        s3.execute("SELECT count(*) FROM media('s3://no-such-bucket/*')").fetchall()


def condition(chance: random.Random, depth: int = 0) -> tuple[str, list[object]]:
    """A condition on listing columns, with its bindings."""
    if depth < 2 and chance.random() < 0.4:
        (one, first), (two, second) = condition(chance, depth + 1), condition(chance, depth + 1)
        return f"({one} {chance.choice(['AND', 'AND', 'OR'])} {two})", first + second
    if chance.random() < 0.1:
        negated, values = condition(chance, depth + 1)
        return f"NOT {negated}", values
    column = chance.choice(["name", "name", "url"])
    root = "s3://tables/" if column == "url" else ""
    name = chance.choice([*NAMES, "b", "many/01", "A.JPG", ""])
    comparison = chance.choice(["<", "<=", ">", ">="])
    operator = chance.choice(["=", "LIKE", "GLOB", "IN", comparison, "BETWEEN", "COLLATE", "ESCAPE", "number", "null"])
    match operator:
        case "=" | "<" | "<=" | ">" | ">=":
            end = chance.choice(["", "", "!", "\n", "\U0010ffff"])
            return f"{column} {operator} ?", [root + name[: chance.randint(1, 9)] + end]
        case "BETWEEN":
            return f"{column} BETWEEN ? AND ?", sorted([root + name, root + chance.choice(NAMES)])
        case "LIKE":
            pattern = chance.choice([root, root.upper()]) + chance.choice(
                [name, name.swapcase(), name[:4] + "%", "%.jpg", "_" + name[1:]]
            )
            return f"{column} {chance.choice(['LIKE', 'NOT LIKE'])} ?", [pattern]
        case "GLOB":
            return f"{column} GLOB ?", [
                root + chance.choice([name, name[:3] + "*", "*.jpg", "[ab]*", "?.jpg", "many/0[12]?*"])
            ]
        case "IN":
            return f"{column} IN (?, ?, ?)", [
                root + name,
                chance.choice([None, root + "a.jpg", 7]),
                root + "many/003.jpg",
            ]
        case "COLLATE":
            return f"{column} = ? COLLATE NOCASE", [root + name.upper()]
        case "ESCAPE":
            return f"{column} LIKE ? ESCAPE '\\'", [root + name.replace("%", "\\%").replace("_", "\\_")[:3] + "%"]
        case "number":
            return f"{column} {chance.choice(['=', 'LIKE', 'GLOB', '<'])} ?", [
                chance.choice([7, 9, 9.0, 1e3, b"9", b"a.jpg"])
            ]
        case _:
            return f"{column} {chance.choice(['=', 'LIKE', 'IS', 'IS NOT'])} ?", [None]


@pytest.fixture(scope="module")
def listings(bucket: Server) -> Iterator[mediasql.MediaConnection]:
    """`listed` and `listed_many` have the rows of listings, to be asked without hints."""
    connection = mediasql.connect(storage_options=bucket.storage_options)
    for table, pattern in (("listed", "s3://tables/**"), ("listed_many", "s3://tables/many/*.jpg")):
        connection.execute(f"CREATE TABLE {table}(url TEXT, name TEXT, size INT)")
        connection.execute(f"INSERT INTO {table} SELECT url, name, size FROM media('{pattern}')")
    assert connection.execute("SELECT count(*) FROM listed").get == len(NAMES)
    yield connection
    connection.close()


@settings(max_examples=150)
@given(seed=st.integers(0, 2**40))
def test_hints_change_no_answer(listings: mediasql.MediaConnection, seed: int) -> None:
    chance = random.Random(seed)
    where, values = condition(chance)
    pattern, listed = chance.choice([("s3://tables/**", "listed"), ("s3://tables/many/*.jpg", "listed_many")])
    shape = chance.choice(["ORDER BY url", "ORDER BY size, url LIMIT 5 OFFSET 2"])
    plain = f"SELECT url, name FROM {listed} WHERE {where} {shape}"
    asked = f"SELECT url, name FROM media('{pattern}') WHERE {where} {shape}"
    assert listings.execute(asked, values).fetchall() == listings.execute(plain, values).fetchall(), (asked, values)
    count = len(listings.execute(f"SELECT 1 FROM media('{pattern}') WHERE {where} LIMIT 3", values).fetchall())
    total = listings.execute(f"SELECT count(*) FROM ({plain.partition(' ORDER')[0]})", values).get
    assert count == min(3, int(str(total)))
