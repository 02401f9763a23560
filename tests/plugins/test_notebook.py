"""`show`: pictures, players and reasons in the HTML, nothing hostile, and no more read than is shown."""

from __future__ import annotations

import base64
import io
import re
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mediasql
from mediasql.plugins.notebook import Shown, show
from mediasql.plugins.notebook.cells import kind_of
from tests import store
from tests.media import make
from tests.media.headers.pictures import picture
from tests.servers.http import HttpServer
from tests.waiting import soon

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "javascript:alert(1)//a.mp4",
    "JaVaScRiPt://example.com/%0aalert(1)//a.mp4",
    "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg onload=alert(1)>",
    "vbscript://a/b.mp3",
    'file:///a"onerror="alert(1).mp4',
    "\0<b>&amp;\u202egpj.exe",
]
HARMLESS = {"div", "table", "thead", "tbody", "tr", "th", "td", "span", "br", "img", "video", "audio"}


class Page(HTMLParser):
    """What a browser would make of the HTML: elements with their attributes, and the text of each table cell."""

    def __init__(self, shown: Shown) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(shown._repr_html_())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.cells:
            self.cells[-1] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [attributes for name, attributes in self.elements if name == tag]


def decoded(url: str) -> Image.Image:
    kind, _, data = url.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    assert kind == f"data:{image.get_format_mimetype()}"
    assert len(data) * 3 / 4 <= 10 * 1024
    return image


@pytest.fixture
def con(environment: object) -> Iterator[mediasql.MediaConnection]:
    connection = mediasql.connect(timeout=20)
    yield connection
    connection.close()


@pytest.fixture
def media(con: mediasql.MediaConnection, sample_environment: store.Store) -> mediasql.MediaConnection:
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, media MEDIA, width INT AS (width(media)))")
    return con


def insert(con: mediasql.MediaConnection, *values: object) -> None:
    con.executemany("INSERT INTO t(media) VALUES (?)", [(value,) for value in values])


def test_a_table_of_media(media: mediasql.MediaConnection, sample_environment: store.Store) -> None:
    bell = Path(sample_environment.environment["SAMPLES_FOLDER"]) / "bell.wav"
    insert(
        media,
        "http://www.example.com/images/000000000036.jpg",
        "s3://media-samples/videos/clock.mp4",
        "gs://media-samples/audio/scale.flac",
        str(bell),
        "s3://media-samples/photos/none.jpg",
        None,
    )
    page = Page(media.show("SELECT media, width FROM t ORDER BY id"))
    (image,) = page.all("img")
    assert decoded(image["src"]).size == (120, 160)
    (video,) = page.all("video")
    assert re.match(r"http://127\.0\.0\.1:\d+/media-samples/videos/clock\.mp4\?.*X-Amz-Expires=3600&", video["src"])
    assert (video["preload"], "controls" in video) == ("none", True)
    assert decoded(video["poster"]).size == (240, 135)
    signed, inline = page.all("audio")
    assert "X-Goog-Expires=3600" in signed["src"]
    assert inline["src"] == "data:audio/wav;base64," + base64.b64encode(bell.read_bytes()).decode()
    assert page.cells[10] == "s3://media-samples/photos/none.jpg404 Not Found (NoSuchKey)"
    assert page.cells[12:14] == ["NULL", "NULL1 value failed and is NULL; to see why: SELECT * FROM media_errors"
                                 "1 cell says why there is nothing to see or hear"]  # fmt: skip


def test_what_failed_for_the_moment_is_told_below(
    con: mediasql.MediaConnection, http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediasql.storage.fetch.FIRST_DELAY", 0.0)
    failing, missing = http_server.at("s/500/a.jpg"), http_server.at("none.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error", mediasql.MediaWarning)
        shown = str(con.show("SELECT width(column1) AS w FROM (VALUES (?), (?))", (failing, missing)))
        alone = str(con.show("SELECT count(*) FROM (SELECT 1) WHERE width(?) > 5", (failing,)))
        con.execute("SELECT 1")
    moment = "could not be read for the moment, so rows may be missing; the same statement asks again"
    assert "2 values failed and are NULL; to see why: SELECT * FROM media_errors" in shown
    assert f"1 of these values {moment}" in shown
    assert "1 value failed and is NULL" in alone
    assert f"That value {moment}" in alone


def test_media_is_found_by_type_by_name_and_by_bytes(con: mediasql.MediaConnection, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture("PNG"))
    (tmp_path / "nameless").write_bytes(picture("PNG"))
    here = str(tmp_path)
    con.execute("CREATE TABLE typed(image Image NOT NULL, plain TEXT)")
    con.execute("INSERT INTO typed VALUES (?1 || '/nameless', ?1 || '/nameless')", (here,))
    assert Page(con.show("SELECT image, plain FROM typed")).elements.count(("img", {})) == 0
    assert len(Page(con.show("SELECT image, plain FROM typed")).all("img")) == 1
    assert len(Page(con.show("SELECT i FROM (SELECT image AS i FROM typed)")).all("img")) == 1
    assert len(Page(con.show("SELECT ? || '/a.png', 'a.png', 'none.png'", (here,))).all("img")) == 1
    page = Page(con.show("SELECT ?, ?, x'00ff'", (picture("GIF"), make.audio("flac", codec="flac", seconds=0.2))))
    assert len(page.all("img")) == len(page.all("audio")) == 1
    assert page.cells[-1] == "BLOB of 2 bytes"


def test_a_file_that_is_large_is_not_written_into_the_page(con: mediasql.MediaConnection, tmp_path: Path) -> None:
    film = make.video("mp4", size=(320, 240))
    (tmp_path / "small.mp4").write_bytes(film)
    (tmp_path / "large.mp4").write_bytes(film + b"\0\0\0\x08free" * 150_000)
    con.execute("CREATE TABLE v(video VIDEO)")
    con.executemany("INSERT INTO v VALUES (?)", [(str(tmp_path / name),) for name in ("small.mp4", "large.mp4")])
    page = Page(con.show("SELECT video FROM v"))
    (video,) = page.all("video")
    assert base64.b64decode(video["src"].partition(",")[2]) == film
    assert len(page.all("img")) == 1, "its first frame"
    assert "more than 1 MB without a URL that a browser can play" in page.cells[-1]


@pytest.mark.parametrize("type", ["IMAGE", "VIDEO", "AUDIO", "MEDIA", "TEXT"])
def test_nothing_hostile_gets_through(con: mediasql.MediaConnection, type: str) -> None:
    con.execute(f"CREATE TABLE t(value {type})")
    con.executemany("INSERT INTO t VALUES (?)", [(value,) for value in HOSTILE])
    name = '"<script>alert(1)</script><img src=x onerror=alert(1)>"'
    page = Page(con.show(f"SELECT value AS {name}, value FROM t"))
    assert {tag for tag, _ in page.elements} <= HARMLESS
    for _, attributes in page.elements:
        assert not [attribute for attribute in attributes if attribute.startswith("on")]
        assert attributes.keys() <= {"style", "src", "poster", "alt", "title", "controls", "preload"}
        for address in (attributes.get("src"), attributes.get("poster")):
            assert address is None or re.match(r"https?://|data:(image/(jpeg|webp)|audio|video)", address)
    assert page.cells[0] == "<script>alert(1)</script><img src=x onerror=alert(1)>"
    assert page.cells[2].startswith("<script>alert(1)</script>")


@settings(max_examples=50)
@given(st.lists(st.text(), min_size=1, max_size=3))
def test_text_comes_out_as_it_went_in(values: list[str]) -> None:
    con = mediasql.connect()
    shown = con.show(f"SELECT {', '.join('?' * len(values))}", values)
    for cell, value in zip(Page(shown).cells[len(values) :], values, strict=True):
        if len(value) <= 300 and value:
            assert len(cell) == len(value)
            assert all(a == b or b == " " for a, b in zip(value, cell, strict=True))
            assert [c for c in cell if c.isalnum()] == [c for c in value if c.isalnum()]
    assert len(str(shown).split("\n")) == len(f"{shown} ".splitlines()) == 3
    con.close()


def test_an_untrusted_database_gets_no_player(environment: Path) -> None:
    con = mediasql.connect(profile="hosted")
    urls = ["http://127.0.0.1/a.mp4", "http://127.0.0.1/a.mp3", "http://127.0.0.1/a.jpg", "/etc/passwd.png"]
    con.execute("CREATE TABLE t(media MEDIA)")
    con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
    page = Page(con.show("SELECT media FROM t"))
    assert not {"img", "video", "audio"} & {tag for tag, _ in page.elements}
    assert len(re.findall("profile", page.text)) >= 4
    con.close()


# --- rows ------------------------------------------------------------------------------------------------------------
def test_only_the_rows_that_are_shown_are_read(con: mediasql.MediaConnection) -> None:
    stepped = []
    con.create_scalar_function("seen", lambda value: stepped.append(value) or value)
    numbers = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r LIMIT 5000)"
    shown = con.show(f"{numbers} SELECT seen(i) AS i FROM r", rows=7)
    assert len(stepped) == 8
    assert str(shown).splitlines() == [
        "i",
        "─",
        *"1234567",
        "The first 7 rows; 4,993 more are not shown: rows=28 shows more",
    ]
    shown = con.show(f"{numbers} SELECT i FROM r WHERE seen(i)", rows=7)
    assert "there are more" in str(shown), "counting them would call a function"
    assert len(stepped) == 16
    assert len(Page(con.show(f"{numbers} SELECT i FROM r")).all("tr")) == 51
    assert "more" not in str(con.show(f"{numbers} SELECT i FROM r LIMIT 50"))


def test_counting_takes_no_time(con: mediasql.MediaConnection) -> None:
    endless = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r) SELECT i FROM r"
    with soon():
        assert "there are more" in str(con.show(endless))


def test_no_request_is_made_for_rows_that_are_not_shown(con: mediasql.MediaConnection, http_server: HttpServer) -> None:
    for number in range(10):
        http_server.put("", f"n{number}.png", picture("PNG", size=(20, 20)))
    con.execute("CREATE TABLE t(image IMAGE)")
    con.executemany("INSERT INTO t VALUES (?)", [(http_server.at(f"n{number}.png"),) for number in range(10)])
    http_server.reset()
    assert len(Page(con.show("SELECT image FROM t", rows=4)).all("img")) == 4
    assert sorted(request.path for request in http_server.requests()) == [f"/n{number}.png" for number in range(4)]


def test_pictures_are_made_at_the_same_time(con: mediasql.MediaConnection, http_server: HttpServer) -> None:
    http_server.put("", "p.png", picture("PNG", size=(20, 20)))
    con.execute("CREATE TABLE t(image IMAGE)")
    urls = [(f"{http_server.url}/together/4/p.png?{number}",) for number in range(10)]
    con.executemany("INSERT INTO t VALUES (?)", urls)
    assert len(Page(con.show("SELECT image FROM t")).all("img")) == 10


@pytest.mark.parametrize("rows", [0, -1, True, "10"])
def test_rows_that_are_none(con: mediasql.MediaConnection, rows: Any) -> None:
    with pytest.raises(mediasql.UsageError, match="rows is"):
        con.show("SELECT 1", rows=rows)


# --- statements ------------------------------------------------------------------------------------------------------
def test_the_last_rows_are_shown(con: mediasql.MediaConnection) -> None:
    shown = con.show("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2); SELECT a FROM t; SELECT 'x' AS b; -- end")
    assert str(shown) == "b\n─\nx"
    assert str(con.show("SELECT a FROM t; DELETE FROM t")).splitlines()[2:] == ["1", "2"]
    assert con.execute("SELECT count(*) FROM t").get == 0
    assert str(con.show("INSERT INTO t VALUES (1), (2)")) == "2 rows changed"
    assert str(con.show("CREATE TABLE u(a)")) == str(con.show(" -- nothing")) == "Done"
    assert str(con.show("SELECT a AS long FROM u")) == "long\n────\nNo rows"
    assert str(con.show("INSERT INTO t VALUES (3) RETURNING a")) == "a\n─\n3"


def test_bindings(con: mediasql.MediaConnection) -> None:
    assert str(con.show("SELECT ? AS a; SELECT ? AS b, ?", (1, 2, 3))).splitlines()[-1] == "2  3"
    assert str(con.show("SELECT 1; SELECT :a AS a, :b", {"a": 5, "b": 6})).splitlines()[-1] == "5  6"
    for wrong in ((1,), (1, 2, 3, 4)):
        with pytest.raises(mediasql.UsageError, match="3 bindings are needed"):
            con.show("SELECT ?; SELECT ?, ?", wrong)
    with pytest.raises(apsw.SQLError, match="no such column"):
        con.show("SELECT nowhere")


def test_a_connection_that_was_registered(environment: Path) -> None:
    con = apsw.Connection(":memory:")
    with pytest.raises(mediasql.ConfigError, match="register"):
        show(con, "SELECT 1")
    mediasql.register(con)
    assert str(show(con, "SELECT media_version() AS v")).splitlines()[2] == mediasql.__version__


@pytest.mark.parametrize(
    ("declared", "value", "kind"),
    [
        (None, "https://example.com/a.JPG?x=1", "image"),
        (None, "s3://b/a.mp4", "video"),
        (None, "see https://example.com/a.jpg", None),
        (None, "https://example.com/", None),
        (None, 5, None),
        (None, "", None),
        ("media", "s3://b/k", "media"),
        ("media", "s3://b/k.flac", "audio"),
        ("video", "s3://b/k.jpg", "video"),
        ("image", b"nothing", "image"),
        (None, "data:video/mp4;base64,AAAA", "video"),
    ],
)  # fmt: skip
def test_kinds(declared: str | None, value: Any, kind: str | None) -> None:
    assert kind_of(declared, value, None) == kind
