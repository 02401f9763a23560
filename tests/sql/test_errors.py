"""What failures do: the table of DESIGN section 7, cell by cell."""

from __future__ import annotations

from typing import Any

import pytest

import mediasql
from mediasql.sql.registry import Media, functions
from tests.sql.conftest import Web

MISSING, DAMAGED, TRANSIENT, FORBIDDEN = "missing.jpg", "text.jpg", "s/500/p1.jpg", "s/403/p1.jpg"
KINDS = {MISSING: "not found", DAMAGED: "damaged", TRANSIENT: "transient", FORBIDDEN: "forbidden"}
STATUS = {MISSING: 404, DAMAGED: None, TRANSIENT: 500, FORBIDDEN: 403}
WRITES = {
    "INSERT INTO kept(image) SELECT image FROM images": "SELECT w FROM kept",
    "UPDATE images SET note = width(image)": "SELECT note FROM images",
    "CREATE INDEX i ON images(w)": "SELECT w FROM images INDEXED BY i",
    "CREATE TABLE made AS SELECT width(image) AS w FROM images": "SELECT w FROM made",
    "SELECT add_computed_column('images', 'stored', 'width(image)')": "SELECT stored FROM images",
}


pytestmark = pytest.mark.usefixtures("quick_retries")


@pytest.fixture(params=["null", "raise"])
def on_error(request: pytest.FixtureRequest) -> Any:
    return request.param


def images(con: mediasql.MediaConnection, *urls: str) -> None:
    con.execute("CREATE TABLE images(image, note, w AS (width(image)))")
    con.execute("CREATE TABLE kept(image, w AS (width(image)) STORED)")
    con.executemany("INSERT INTO images(image) VALUES (?)", [(url,) for url in urls])


def everything(con: mediasql.MediaConnection) -> Any:
    tables = con.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    schema = con.execute("SELECT * FROM sqlite_schema").fetchall()
    return schema, [con.execute(f"SELECT rowid, image FROM {name}").fetchall() for (name,) in tables]


@pytest.mark.parametrize("path", [MISSING, DAMAGED, TRANSIENT, FORBIDDEN])
def test_reading(web: Web, path: str, on_error: str) -> None:
    con = mediasql.connect(on_error=on_error, timeout=20)
    url = f"{web.server.url}/{path}"
    images(con, url)
    if on_error == "null":
        assert con.execute("SELECT w, height(image) FROM images").fetchall() == [(None, None)]
        row = con.execute("SELECT url, kind, status, attempts, first_time = last_time FROM media_errors").fetchone()
        assert row == (url, KINDS[path], STATUS[path], 1, 1)
    else:
        with pytest.raises(mediasql.MediaError, match=rf"^width\('{url}'\): "):
            con.execute("SELECT w, height(image) FROM images").fetchall()
    tries = 4 if path == TRANSIENT else 1
    assert web.asked()[f"/{path}"] <= tries, "both columns, and one request for them"
    con.close()


@pytest.mark.parametrize("path", [MISSING, DAMAGED])
@pytest.mark.parametrize("statement", WRITES)
def test_writing_what_cannot_be_had_stores_null(
    con: mediasql.MediaConnection, web: Web, path: str, statement: str
) -> None:
    images(con, f"{web.server.url}/{path}", web.url(1))
    con.execute(statement)
    query = WRITES[statement]
    assert sorted(con.execute(query).fetchall(), key=str) == sorted([(None,), (101,)], key=str)
    assert con.execute("SELECT kind FROM media_errors").fetchall() == [(KINDS[path],)]


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("transaction", [False, True])
def test_a_failure_of_the_moment_is_not_stored(web: Web, statement: str, transaction: bool) -> None:
    con = mediasql.connect(timeout=20)
    images(con, web.url(1), f"{web.server.url}/{TRANSIENT}")
    before = everything(con)
    if transaction:
        con.execute("BEGIN")
    with pytest.raises(mediasql.TransientError, match=r"width\('http://.*'\): 500 Internal Server Error"):
        con.execute(statement)
    assert everything(con) == before
    assert con.execute("SELECT attempts FROM media_errors").get == 1
    con.close()


def test_raise_when_writing(web: Web) -> None:
    con = mediasql.connect(on_error="raise")
    images(con, f"{web.server.url}/{MISSING}")
    with pytest.raises(mediasql.NotFound):
        con.execute("INSERT INTO kept(image) SELECT image FROM images")
    assert con.execute("SELECT count(*) FROM kept").get == 0
    con.close()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("width('nowhere://x')", mediasql.UnknownScheme, r"width\('nowhere://x'\): .*nowhere"),
        ("width(7)", mediasql.UsageError, r"width\(7\): media is a number; a URL \(TEXT\) or the media"),
        ("presigned_url('https://x/a', 0)", mediasql.SigningError, r"presigned_url\('https://x/a', 0\): 0 seconds"),
        ("presigned_url('https://x/a', 'soon')", mediasql.UsageError, "seconds is 'soon'; a whole number is needed"),
        ("presigned_url('https://x/a', 1.5)", mediasql.UsageError, r"seconds is 1\.5; a whole number"),
        ("presigned_url('https://x/a', x'31')", mediasql.UsageError, "a whole number"),
        ("presigned_url('https://x/a', 9e999)", mediasql.UsageError, "a whole number"),
        ("media_config('nothing')", mediasql.ConfigError, "there is no option 'nothing'; there are: timeout"),
        ("media_error('nowhere://x')", mediasql.UnknownScheme, "nowhere"),
    ],
)
@pytest.mark.parametrize("write", ["", "CREATE TABLE made AS "])
def test_a_wrong_call_raises(
    con: mediasql.MediaConnection, call: str, error: type[Exception], message: str, write: str
) -> None:
    with pytest.raises(error, match=message):
        con.execute(f"{write}SELECT {call}").fetchall()
    assert con.execute("SELECT * FROM media_errors").fetchall() == []


def test_messages(con: mediasql.MediaConnection, web: Web) -> None:
    url = f"{web.server.url}/missing.jpg?X-Amz-Signature=abc&v=it's"
    con.execute("SELECT width(?)", (url,)).fetchall()
    assert con.execute("SELECT error FROM media_errors").get == "404 Not Found"
    strict = mediasql.connect(on_error="raise")
    with pytest.raises(mediasql.NotFound) as raised:
        strict.execute("SELECT width(?)", (url,)).fetchall()
    shown = url.replace("abc", "***").replace("'", "''")
    assert str(raised.value) == f"width('{shown}'): 404 Not Found"
    assert raised.value.status == 404
    with pytest.raises(mediasql.NotFound) as raised:
        strict.execute("SELECT width(?)", (f"http://me:hidden@{url.removeprefix('http://')}",)).fetchall()
    assert "hidden" not in str(raised.value)
    with pytest.raises(mediasql.MediaError) as raised:
        strict.execute("SELECT width(?)", ("x" * 10_000_000,)).fetchall()
    assert len(str(raised.value)) < 400
    strict.close()


def test_a_success_removes_the_failure(web: Web) -> None:
    con = mediasql.connect(timeout=20, failure_age=0)
    url = f"{web.server.url}/late.jpg"
    for attempts in (1, 2):
        con.execute("SELECT width(?)", (url,)).fetchall()
        assert con.execute("SELECT attempts, function FROM media_errors").fetchall() == [(attempts, "width")]
    web.server.put("", "late.jpg", b"no picture")
    assert con.execute("SELECT media_error(?)", (url,)).get.startswith("not an image")
    fresh = f"{web.server.url}/flaky/1/404/p5.jpg"
    assert con.execute("SELECT width(?)", (fresh,)).get is None
    assert con.execute("SELECT count(*) FROM media_errors").get == 2
    assert con.execute("SELECT width(?)", (fresh,)).get == 105
    assert con.execute("SELECT url FROM media_errors").fetchall() == [(url,)]
    con.close()


def test_media_error(con: mediasql.MediaConnection, web: Web) -> None:
    query = "SELECT media_error(?)"
    assert con.execute(query, (web.url(1),)).get is None
    assert con.execute(query, (f"{web.server.url}/missing.jpg",)).get == "404 Not Found"
    quick = mediasql.connect(timeout=20)
    assert "500" in quick.execute(query, (f"{web.server.url}/{TRANSIENT}",)).get
    with pytest.raises(mediasql.TransientError):
        quick.execute(f"CREATE TABLE kept AS {query} AS e", (f"{web.server.url}/{TRANSIENT}",))
    quick.close()


def test_null_gives_null(con: mediasql.MediaConnection) -> None:
    called = 0
    for function in functions().values():
        for arity in function.arities:
            for null in range(arity):
                arguments = ["NULL" if at == null else "1" for at in range(arity)]
                assert con.execute(f"SELECT {function.name}({', '.join(arguments)})").get is None
                called += 1
    assert called > 25


HOSTILE = [
    "",
    " ",
    "\0",
    "a\0b.jpg",
    "http://",
    "http://[",
    "http://127.0.0.1:99999/x",
    "s3://",
    "file://",
    "data:",
    "::",
    "x" * 100_000,
    "http://127.0.0.1:1/\r\nHost: evil",
    "../" * 500,
    "%00%ff",
    "\U0001f600",
    b"",
    b"\xff\xfe",
    b"http://127.0.0.1/x.jpg",
    b"\xff\xd8\xff\xe0" + b"\0" * 50,
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:30])
def test_hostile_values(value: str | bytes) -> None:
    """NULL, an answer or an error of ours: nothing else comes out, whatever goes in."""
    con = mediasql.connect(timeout=0.2)
    queries = {f"SELECT * FROM {table}(?) LIMIT 3": table for table in ("media", "media_streams", "media_exif")}
    for function in functions().values():
        if any(parameter.kind is Media for parameter in function.parameters):
            more = ", 9" * (function.arities[0] - 1)
            queries[f"SELECT {function.name}(?{more})"] = function.name
    messages = {}
    for query, name in queries.items():
        try:
            con.execute(query, (value,)).fetchall()
        except mediasql.MediaError as error:
            messages[name] = str(error)
    assert all(message.startswith(name) for name, message in messages.items())
    assert con.execute("SELECT 1").get == 1
    con.close()


def test_text_that_is_not_utf8(con: mediasql.MediaConnection) -> None:
    """SQLite lets it in, APSW does not hand it out; the connection is none the worse."""
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        con.execute("SELECT width(CAST(x'ff2e6a7067' AS TEXT))").fetchall()
    assert con.execute("SELECT url_ext('a.jpg')").get == "jpg"
