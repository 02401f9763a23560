from __future__ import annotations

import asyncio
import io
import os
import re
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pytest
from datasette.app import Datasette
from datasette.utils import StartupError
from PIL import Image

import mediasql
from mediasql.plugins.datasette.streaming import PART
from tests.media import make
from tests.servers.datasette import SETTINGS
from tests.servers.http import HttpServer
from tests.servers.server import fetch
from tests.store import Store

MEDIA = re.compile(r'"(/-/mediasql/media/[^"]+)"')
THUMBNAIL = re.compile(r'"(/-/mediasql/thumbnail/[^"]+)"')
Open = Callable[..., Datasette]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def get(datasette: Datasette, path: str, **options: Any) -> Any:
    return run(datasette.client.get(path, **options))


def ask(datasette: Datasette, sql: str, database: str = "data") -> Any:
    """The rows of a query; the message where it fails."""
    answer = get(datasette, f"/{database}.json", params={"sql": sql, "_shape": "arrays"}).json()
    return answer["rows"] if answer["ok"] else answer["error"]


def picture(width: int = 600, height: int = 400, format: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.effect_mandelbrot((width, height), (-2, -1, 1, 1), 50).convert("RGB").save(file, format)
    return file.getvalue()


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Path]:
    def make(script: str, *rows: tuple[Any, ...], name: str = "data") -> Path:
        path = tmp_path / f"{name}.db"
        with closing(sqlite3.connect(path)) as connection:
            for function in ("width", "presigned_url"):  # as whoever made the file had them
                connection.create_function(function, 1, lambda url: None, deterministic=True)
            connection.executescript(script)
            for row in rows:
                connection.execute(f"INSERT INTO t VALUES ({', '.join('?' * len(row))})", row)
            connection.commit()
        return path

    return make


@pytest.fixture
def datasette() -> Iterator[Open]:
    opened: list[Datasette] = []

    def open_(*paths: Path, metadata: Any = None, settings: Any = None, **plugin: Any) -> Datasette:
        metadata = {**(metadata or {}), "plugins": {"mediasql": plugin}}
        opened.append(Datasette([str(path) for path in paths], metadata=metadata, settings=SETTINGS | (settings or {})))
        return opened[-1]

    yield open_
    for each in opened:
        each.executor.shutdown()
        for database in each.databases.values():
            database.close()


@pytest.fixture
def web(http_server: HttpServer) -> HttpServer:
    http_server.put("ds", "a.jpg", picture())
    http_server.put("ds", "page.jpg", b"<html><script>alert(1)</script></html>", "text/html")
    http_server.put(
        "ds", "drawing.svg.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "image/svg+xml"
    )
    http_server.reset()
    return http_server


def test_sql_asks_about_what_is_allowed(datasette: Open, database: Any, web: HttpServer) -> None:
    path = database("CREATE TABLE t(u, w INT AS (width(u)))", *[(f"{web.at(f'ds/{n}.jpg')}",) for n in range(40)])
    for number in range(40):
        web.put("ds", f"{number}.jpg", picture(100 + number, 50))
    web.reset()
    ds = datasette(path, allow=[web.at("ds")])
    assert ask(ds, "SELECT w FROM t") == [[100 + number] for number in range(40)]
    assert len(web.requests()) == 40
    assert ask(ds, f"SELECT image_format(thumbnail('{web.at('ds/1.jpg')}', 20))") == [["JPEG"]]


def test_rows_are_read_ahead(datasette: Open, database: Any, web: HttpServer) -> None:
    web.put("", "b.jpg", picture(10, 10))
    path = database("CREATE TABLE t(u)", *[(web.at(f"together/4/b.jpg?{n}").replace("%3F", "?"),) for n in range(60)])
    ds = datasette(path, allow=[web.url])
    assert ask(ds, "SELECT sum(width(u)) FROM t") == [[600]]


def test_nothing_is_reached_unless_it_is_allowed(
    datasette: Open, database: Any, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDIASQL_ALLOW", web.url)
    monkeypatch.setenv("MEDIASQL_PROFILE", "untrusted")
    url = web.at("ds/a.jpg")
    ds = datasette(database("CREATE TABLE t(u IMAGE)", (url,)))
    assert "refused by policy" in ask(ds, "SELECT width(u) FROM t")
    assert "refused by policy" in ask(ds, f"SELECT * FROM media('{url}')")
    page = get(ds, "/data/t")
    assert page.status_code == 200
    assert "refused by policy" in page.text
    assert not MEDIA.search(page.text)
    assert web.requests() == []


def test_what_its_server_forbids_to_store_is_not_kept_for_others(
    datasette: Open, database: Any, web: HttpServer
) -> None:
    web.put("ds", "a.wav", make.audio("wav", codec="pcm_s16le"))
    urls = [web.at("nostore/1/ds/a.jpg"), web.at("nostore/1/ds/a.wav")]
    ds = datasette(database("CREATE TABLE t(u MEDIA)", *[(url,) for url in urls]), allow=[web.url])
    page = get(ds, "/data/t").text
    paths = {*MEDIA.findall(page), *THUMBNAIL.findall(page)}
    assert len(paths) >= 2
    for path in paths:
        for _ in range(2):
            web.reset()
            answer = get(ds, path)
            assert answer.status_code == 200
            assert answer.headers["cache-control"] == "no-store"
            assert web.requests(), "each visitor's is a request of its own"


ERROR = re.compile(r'<p class="message-error">([^<]*)</p>')
BANNER = re.compile(r'<p class="message-warning">([^<]*)</p>')


def test_a_page_tells_that_something_could_not_be_read_for_the_moment(
    datasette: Open,
    database: Any,
    web: HttpServer,
    recwarn: pytest.WarningsRecorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mediasql.storage.fetch.FIRST_DELAY", 0.0)
    failing = [web.at(f"s/500/ds/{name}.jpg") for name in "ab"]
    path = database("CREATE TABLE t(u, w INT AS (width(u)))", *[(url,) for url in [*failing, web.at("ds/none.jpg")]])
    database("CREATE TABLE t(u)", name="other")
    ds = datasette(path, path.with_name("other.db"), allow=[web.url], settings={"sql_time_limit_ms": 60_000})
    query = {"sql": "SELECT u FROM t WHERE w > 5"}
    page = get(ds, "/data", params=query)
    (banner,) = BANNER.findall(page.text)
    assert banner.startswith("2 values could not be read for the moment and are NULL, so rows may be missing")
    assert failing[0] in banner
    assert "500" in banner
    assert "Media errors" in banner
    assert ERROR.findall(page.text) == []
    assert "0 results" in page.text
    assert "ds_messages" not in page.cookies, "it is for this page"
    (banner,) = BANNER.findall(get(ds, "/data/t").text)
    assert banner.startswith("2 values")
    # Missing for good is another matter, and what failed for another page or database is told there.
    assert not BANNER.search(get(ds, "/data", params={"sql": f"SELECT width('{web.at('ds/none.jpg')}')"}).text)
    assert not BANNER.search(get(ds, "/other/t").text)
    assert not BANNER.search(get(ds, "/").text)
    assert not [warning for warning in recwarn if issubclass(warning.category, mediasql.MediaWarning)]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ({"alow": ["s3://a"]}, r"database '\w+': there is no option 'alow'; there are: .*allow.*presigned"),
        ({"profile": "owner"}, "profile: in Datasette it is always 'hosted'"),
        ({"timeout": "soon"}, "timeout: 'soon' is not valid; a positive number"),
        ({"allow": ["bucket"]}, "allow: .* is not valid"),
        ({"presigned": 0}, "presigned: 0 is not valid; a whole number of seconds"),
    ],
)
def test_a_wrong_configuration_ends_the_start(datasette: Open, plugin: dict[str, Any], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        run(datasette(**plugin).invoke_startup())


def test_a_configuration_that_is_a_list_ends_the_start() -> None:
    with pytest.raises(StartupError, match="a mapping of options is needed"):
        run(Datasette(memory=True, metadata={"plugins": {"mediasql": ["allow"]}}).invoke_startup())


def test_secrets_come_from_the_environment(
    datasette: Open, database: Any, web: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = web.at("bearer/ds/a.jpg")
    monkeypatch.setenv("TOKEN_OF_MEDIA", "Bearer secret-bearer")
    options = {web.at("bearer"): {"headers": {"Authorization": {"$env": "TOKEN_OF_MEDIA"}}}}
    ds = datasette(database("CREATE TABLE t(u)", (url,)), allow=[web.url], storage_options=options)
    assert ask(ds, "SELECT width(u) FROM t") == [[600]]
    assert "secret-bearer" not in get(ds, "/-/metadata.json").text + get(ds, "/-/plugins.json?all=1").text


@pytest.mark.parametrize(
    "call",
    [
        "media_cache_clear()",
        "media_cache_evict(u)",
        "media_prefetch(u)",
        "media_refresh(u)",
        "local_path(u)",
        "media_config('cache_dir')",
        "add_computed_column('t', 'w', 'width(u)')",
        "refresh_computed_columns('t')",
    ],
)
def test_visitors_change_nothing(datasette: Open, database: Any, web: HttpServer, call: str) -> None:
    path = database(f"CREATE TABLE t(u); CREATE VIEW v AS SELECT {call} FROM t", (web.at("ds/a.jpg"),))
    before = path.read_bytes()
    ds = datasette(path, allow=[web.url])
    assert "profile 'hosted' is for the SQL of strangers" in ask(ds, f"SELECT {call} FROM t")
    assert "unsafe use of" in ask(ds, "SELECT * FROM v")
    assert web.requests() == []
    assert path.read_bytes() == before
    assert ask(ds, "SELECT folder FROM media_cache_stats") == [[None]]


def test_cells_of_each_kind(datasette: Open, database: Any, web: HttpServer) -> None:
    at = web.at
    path = database(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, i IMAGE, v VIDEO, a AUDIO, m MEDIA, b BLOB, t)",
        (1, at("ds/x"), at("ds/x"), at("ds/x"), at("ds/x.mp4"), picture(50, 50, "PNG"), at("ds/a.jpg")),
        (2, None, "", 7, 1.5, b"\1\2", "https://example.com/a.jpg"),
    )
    ds = datasette(path, allow=[at("ds")])
    for page in ("/data/t", "/data/t/1"):
        text = get(ds, page).text
        cells = dict(re.findall(r'<td class="col-(\w) type-\w+">(.*?)</td>', text, re.DOTALL)[:6])
        image = r'<a href="/-/mediasql/media/[^>]*><img loading="lazy" src="/-/mediasql/thumbnail/'
        assert re.match(image, cells["i"])
        assert re.match(r'<video controls preload="none" src="/-/mediasql/media/\S+" poster="/', cells["v"])
        assert '<audio controls preload="none" src="/-/mediasql/media/' in cells["a"]
        assert cells["m"].startswith("<video")
        assert cells["b"].startswith('<img src="data:image/jpeg;base64,')
        assert re.match(image, cells["t"])
    text = get(ds, "/data/t").text
    assert '<a href="https://example.com/a.jpg">' in text  # as it is without us
    assert "2&nbsp;bytes" in text
    text = get(ds, "/data", params={"sql": "SELECT t AS picture, i FROM t WHERE id = 1"}).text
    assert len(THUMBNAIL.findall(text)) == 1  # the columns of a query have no declared types
    assert web.requests() == []


@pytest.mark.parametrize(
    "value",
    [
        "javascript:alert(1)//a.jpg",
        "data:image/svg+xml,<svg onload=alert(1)>",
        "data:text/html,<script>alert(1)</script>.jpg",
        '"><script>alert(1)</script>.jpg',
        "' onerror=alert(1) a.jpg",
        "vbscript:x.mp4",
    ],
)
def test_hostile_values_are_text(datasette: Open, database: Any, value: str, tmp_path: Path) -> None:
    kinds = ("IMAGE", "VIDEO", "AUDIO", "MEDIA", "TEXT")
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
    path = database(f"CREATE TABLE t({columns})", (value,) * len(kinds))
    ds = datasette(path, allow=["s3://a", str(tmp_path)])
    for page in (get(ds, "/data/t"), get(ds, "/data", params={"sql": "SELECT * FROM t"})):
        assert page.status_code == 200
        body = re.sub(r"<textarea.*?</textarea>", "", page.text, flags=re.DOTALL)
        assert "<script>alert" not in body
        assert not re.search(r"""(?:src|href|poster)\s*=\s*["']?\s*(?:javascript|data|vbscript):""", body, re.I)
        assert not re.search(r"<[^>]*[\"'\s]onerror=alert", body)


def test_thumbnails(datasette: Open, database: Any, web: HttpServer) -> None:
    rows = [(web.at(f"ds/{name}"),) for name in ("a.jpg", "none.jpg", "page.jpg", "drawing.svg.jpg")]
    ds = datasette(database("CREATE TABLE t(u IMAGE)", *rows), allow=[web.url])
    good, missing, page, drawing = (get(ds, path) for path in THUMBNAIL.findall(get(ds, "/data/t").text))
    assert (good.status_code, good.headers["content-type"]) == (200, "image/jpeg")
    assert len(good.content) <= 10 * 1024
    assert Image.open(io.BytesIO(good.content)).size == (240, 160)
    assert good.headers["cache-control"].startswith("private")
    for answer, status, reason in ((missing, 404, "404 Not Found"), (page, 415, "not an image"), (drawing, 415, "not")):
        assert answer.status_code == status
        assert reason in answer.text
        assert "<script" not in answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "sandbox" in answer.headers["content-security-policy"]
    errors = ask(ds, "SELECT url, function, kind FROM media_errors ORDER BY url")
    assert errors == sorted(
        [[url, "thumbnail", kind] for (url,), kind in zip(rows[1:], ("not found", "damaged", "damaged"), strict=True)]
    )
    listed = get(ds, "/-/mediasql/errors").text
    assert all(url in listed for (url,) in rows[1:])
    web.reset()
    web.put("ds", "none.jpg", picture())
    again = get(ds, THUMBNAIL.findall(get(ds, "/data/t").text)[1])
    assert again.status_code == 200
    assert [rows[1][0]] not in ask(ds, "SELECT url FROM media_errors")


def test_sounds_without_a_cover_are_no_error(datasette: Open, database: Any, web: HttpServer) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame(format="s16", layout="mono", samples=800)
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    web.put("ds", "a.wav", file.getvalue())
    ds = datasette(database("CREATE TABLE t(u AUDIO)", (web.at("ds/a.wav"),), (web.at("ds/b.wav"),)), allow=[web.url])
    text = get(ds, "/data/t").text
    assert [get(ds, path).status_code for path in THUMBNAIL.findall(text)] == [200, 404]
    sound = get(ds, MEDIA.findall(text)[0])
    assert (sound.headers["content-type"], sound.content) == ("audio/wav", file.getvalue())


@pytest.mark.parametrize("server", ["", "norange/", "nolength/"])
def test_ranges(datasette: Open, database: Any, web: HttpServer, server: str) -> None:
    data = picture() + os.urandom(2 * PART + 1234)  # players skip what is behind the picture
    web.put("ds", "large.jpg", data)
    ds = datasette(database("CREATE TABLE t(u IMAGE)", (web.at(f"{server}ds/large.jpg"),)), allow=[web.url])
    path = MEDIA.findall(get(ds, "/data/t").text)[0]
    whole = get(ds, path)
    assert (whole.status_code, whole.content == data) == (200, True)
    assert whole.headers["content-type"] == "image/jpeg"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in whole.headers["content-security-policy"]
    if server == "nolength/":
        return
    size = len(data)
    for asked, start, stop in (
        ("bytes=0-", 0, size),
        ("bytes=0-99", 0, 100),
        (f"bytes={PART - 5}-{PART + 5}", PART - 5, PART + 6),
        ("bytes=-7", size - 7, size),
        (f"bytes=-{size + 5}", 0, size),
        (f"bytes={size - 1}-{size + 50}", size - 1, size),
    ):
        part = get(ds, path, headers={"Range": asked})
        assert (part.status_code, part.content == data[start:stop]) == (206, True), asked
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert part.headers["content-length"] == str(stop - start)
    for asked in (f"bytes={size}-", "bytes=-0"):
        refused = get(ds, path, headers={"Range": asked})
        assert (refused.status_code, refused.content) == (416, b"")
        assert refused.headers["content-range"] == f"bytes */{size}"
    for asked in ("bytes=5-3", "lines=1-2", "bytes=-", "bytes=0-1,5-6"):
        assert get(ds, path, headers={"Range": asked}).status_code == 200, asked
    etag = whole.headers["etag"]
    assert get(ds, path, headers={"If-None-Match": etag}).status_code == 304
    assert get(ds, path, headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    assert get(ds, path, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200
    head = run(ds.client.head(path))
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(size))


def test_pages_and_drawings_are_not_served(datasette: Open, database: Any, web: HttpServer) -> None:
    rows = [(web.at("ds/page.jpg"),), (web.at("ds/drawing.svg.jpg"),)]
    ds = datasette(database("CREATE TABLE t(u IMAGE)", *rows), allow=[web.url])
    for path in MEDIA.findall(get(ds, "/data/t").text):
        answer = get(ds, path)
        assert answer.status_code == 415
        assert answer.headers["content-type"].startswith("text/plain")
        assert "<script" not in answer.text


def test_tokens_cannot_be_made(datasette: Open, database: Any, web: HttpServer) -> None:
    path = database("CREATE TABLE t(u IMAGE)", (web.at("ds/a.jpg"),))
    ds = datasette(path, allow=[web.url])
    good = MEDIA.findall(get(ds, "/data/t").text)[0]
    other = datasette(path, allow=[web.url])
    payload, _, signature = good.rpartition(".")
    forged = f"{payload}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"
    made = [forged, "/-/mediasql/media/x", f"/-/mediasql/media/{other.sign('x')}"]
    made.append(f"/-/mediasql/media/{ds.sign(['data', None, web.at('ds/a.jpg')])}")  # signed for another purpose
    made.append(f"/-/mediasql/media/{ds.sign(['gone', None, web.at('ds/a.jpg')], 'mediasql')}")
    web.reset()
    for address in made:
        assert get(ds, address).status_code == 403
    assert get(other, good).status_code == 403
    denied = f"/-/mediasql/media/{ds.sign(['data', None, 's3://b/a.jpg'], 'mediasql')}"
    assert "refused by policy" in get(ds, denied).text
    assert run(ds.client.post(good)).status_code == 405
    assert web.requests() == []


def test_what_the_owner_has_in_the_cache_is_not_served(datasette: Open, database: Any, web: HttpServer) -> None:
    """The redirect leads where the configuration allows nothing, and nobody follows it where all is there already."""
    url = f"{web.url}/to/{quote(web.at('ds/a.jpg'), safe='')}/a.jpg"
    with closing(mediasql.connect()) as owner:
        assert owner.execute("SELECT width(?1), length(content(?1))", (url,)).get[0] == 600
    web.reset()
    ds = datasette(database("CREATE TABLE t(u IMAGE)", (url,)), allow=[web.at("to")])
    for kind in ("media", "thumbnail"):
        address = f"/-/mediasql/{kind}/{ds.sign(['data', 't', url], 'mediasql')}"
        answer = get(ds, address)
        assert "refused by policy" in answer.text, kind
        assert len(answer.content) < 2000
    assert {request.status for request in web.requests()} == {302}


def test_private_databases_and_tables_stay_private(datasette: Open, database: Any, web: HttpServer) -> None:
    private = database("CREATE TABLE t(u IMAGE)", (web.at("ds/a.jpg"),), (web.at("ds/absent.jpg"),), name="private")
    public = database("CREATE TABLE t(u IMAGE); CREATE TABLE hidden(u IMAGE)", (web.at("ds/a.jpg"),), name="public")
    with closing(sqlite3.connect(public)) as connection:
        connection.execute("INSERT INTO hidden SELECT u FROM t")
        connection.commit()
    rules = {
        "private": {"allow": {"id": "root"}},
        "public": {"tables": {"hidden": {"allow": {"id": "root"}}}},
    }
    ds = datasette(private, public, metadata={"databases": rules}, allow=[web.url])
    root = {"ds_actor": ds.sign({"a": {"id": "root"}}, "actor")}
    for table in ("/private/t", "/public/hidden"):
        text = get(ds, table, cookies=root).text
        for path in (MEDIA.findall(text)[0], *THUMBNAIL.findall(text)):
            assert get(ds, path).status_code == 403
            assert get(ds, path, cookies=root).status_code in (200, 404)
    assert "absent.jpg" in get(ds, "/-/mediasql/errors", cookies=root).text
    assert "absent.jpg" not in get(ds, "/-/mediasql/errors").text


def test_each_database_has_its_own_allowance(datasette: Open, database: Any, web: HttpServer) -> None:
    paths = [database("CREATE TABLE t(u)", (web.at("ds/a.jpg"),), name=name) for name in ("one", "two")]
    rules = {"one": {"plugins": {"mediasql": {"allow": [web.url]}}}}
    ds = datasette(*paths, metadata={"databases": rules})
    assert ask(ds, "SELECT width(u) FROM t", "one") == [[600]]
    assert "refused by policy" in ask(ds, "SELECT width(u) FROM t", "two")


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/a.jpg", "http://10.0.0.1/a.jpg", "/etc/passwd", ""])
def test_a_hostile_database_reaches_nothing(datasette: Open, database: Any, url: str, web: HttpServer) -> None:
    url = url or web.at("ds/a.jpg")  # as good as a server of the intranet, and one that would tell
    path = database(
        f"CREATE TABLE t(u IMAGE, w INT AS (width('{url}')), v AS (presigned_url('{url}')));"
        f"CREATE VIEW sly AS SELECT u FROM t; CREATE VIEW listing AS SELECT * FROM media('{url}/*');",
        (url,),
    )
    ds = datasette(path, allow=["s3://bucket"])
    for page in (get(ds, "/data/t"), get(ds, "/data/listing")):
        assert page.status_code == 400
        assert "refused by policy" in page.text
    assert get(ds, "/data").status_code == get(ds, "/").status_code == 200
    sly = get(ds, "/data/sly")
    assert (sly.status_code, "refused by policy" in sly.text) == (200, True)
    assert not MEDIA.search(sly.text)
    recorded = {tuple(row) for row in ask(ds, "SELECT url, function, kind FROM media_errors")}
    assert recorded >= {(url, "width", "refused"), (f"{url}/*", "media", "refused")}
    assert url in get(ds, "/-/mediasql/errors").text
    assert web.requests() == []


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE t(u); CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT raise(IGNORE) WHERE width(new.u); END",
        "CREATE TABLE t(u); CREATE TRIGGER r AFTER INSERT ON t BEGIN UPDATE t SET u = width(u); END",
        "CREATE TABLE t(u CHECK (width(u) IS NULL))",
        "CREATE TABLE t(u, w AS (width(u)) STORED)",
        "CREATE TABLE t(u); CREATE INDEX i ON t(width(u))",
        "CREATE TABLE t(u); CREATE INDEX i ON t(u) WHERE width(u) > 1",
    ],
)
def test_writing_to_a_hostile_database_reaches_nothing(
    datasette: Open, database: Any, web: HttpServer, schema: str
) -> None:
    """Datasette lets plugins and canned queries write."""
    url = web.at("ds/a.jpg")
    query = {"sql": f"INSERT INTO t VALUES ('{url}')", "write": True}
    ds = datasette(database(schema), metadata={"databases": {"data": {"queries": {"add": query}}}})
    answer = run(ds.client.post("/data/add", data={"_json": 1}))
    assert "refused by policy" in answer.json()["message"]
    assert ask(ds, "SELECT count(*) FROM t") == [[0]]
    assert ask(ds, "SELECT url, function, kind FROM media_errors") == [[url, "width", "refused"]]
    assert web.requests() == []


def test_players_may_get_signed_urls(datasette: Open, database: Any, sample_environment: Store) -> None:
    path = database("CREATE TABLE t(u VIDEO)", ("s3://media-samples/videos/tide.mp4",))
    ds = datasette(path, allow=["s3://media-samples"], presigned=600)
    answer = get(ds, MEDIA.findall(get(ds, "/data/t").text)[0])
    assert answer.status_code == 302
    assert "X-Amz-Expires=600" in answer.headers["location"]
    played = fetch(answer.headers["location"], headers={"Range": "bytes=4-7"})
    assert (played.status, played.body) == (206, b"ftyp")
    assert get(ds, THUMBNAIL.findall(get(ds, "/data/t").text)[0]).headers["content-type"] == "image/jpeg"


def test_nothing_is_read_for_a_browser_that_is_gone(datasette: Open, database: Any, web: HttpServer) -> None:
    web.put("ds", "long.jpg", picture() + bytes(20 * PART))
    ds = datasette(database("CREATE TABLE t(u IMAGE)", (web.at("ds/long.jpg"),)), allow=[web.url], cache_size=0)
    path = MEDIA.findall(get(ds, "/data/t").text)[0]
    web.reset()
    sent = 0

    async def visit() -> None:
        leaves = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if asked:
                await leaves.wait()
                return {"type": "http.disconnect"}
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            nonlocal sent
            sent += len(message.get("body", b""))
            if sent:
                leaves.set()

        scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        await ds.app()({**scope, "scheme": "http", "headers": [(b"host", b"localhost")]}, receive, send)

    run(visit())
    assert 0 < sent <= 3 * PART
    assert len(web.requests()) <= 5


def test_links_lead_to_where_datasette_is_mounted(datasette: Open, database: Any, web: HttpServer) -> None:
    ds = datasette(
        database("CREATE TABLE t(u VIDEO)", (web.at("ds/a.mp4"),)), allow=[web.url], settings={"base_url": "/data/at/"}
    )
    text = get(ds, "/data/t").text
    assert len(re.findall(r'(?:src|href)="/data/at/-/mediasql/media/', text)) == 2
    assert 'poster="/data/at/-/mediasql/thumbnail/' in text
    assert 'href="/data/at/-/mediasql/errors"' in text
