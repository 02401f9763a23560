"""What is remembered of objects, by whom, for how long: across statements, connections and processes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.connection import session_of
from mediasql.media import answers, records
from mediasql.media.probe import Answer
from mediasql.storage.cache.database import Database
from mediasql.storage.cache.identity import Identity
from mediasql.storage.location import Location
from mediasql.storage.providers.base import ObjectInfo
from tests.clock import Clock
from tests.servers.http import HttpServer
from tests.servers.process import ROOT
from tests.sql.conftest import Connect, Web, picture
from tests.waiting import eventually


def width(con: mediasql.MediaConnection, url: str) -> Any:
    return con.execute("SELECT width(?)", (url,)).get


@pytest.fixture
def changing(http_server: HttpServer, request: pytest.FixtureRequest) -> Callable[[int], str]:
    """`changing(5)` makes an object a picture 5 wide, and gives its URL."""
    name = f"{request.node.name}.jpg"

    def change(wide: int) -> str:
        http_server.put("versions", name, picture(wide, 7))
        return http_server.at(f"versions/{name}")

    http_server.reset()
    return change


def test_another_connection_asks_nothing(connect: Connect, web: Web) -> None:
    first = connect()
    urls = [web.url(number) for number in range(10)]
    sizes = [first.execute("SELECT width(?1), height(?1), media_info(?1)", (url,)).fetchall() for url in urls]
    assert web.asked().total() == 10
    second = connect()
    assert [second.execute("SELECT width(?1), height(?1), media_info(?1)", (url,)).fetchall() for url in urls] == sizes
    assert web.asked().total() == 0


def test_another_process_asks_nothing(connect: Connect, web: Web) -> None:
    con = connect()
    assert width(con, web.url(3)) == 103
    con.close()
    web.asked()
    code = "import sys, mediasql; con = mediasql.connect(); print(con.execute('SELECT width(?)', sys.argv[1:]).get)"
    said = subprocess.run([sys.executable, "-c", code, web.url(3)], cwd=ROOT, check=True, capture_output=True)
    assert said.stdout == b"103\n"
    assert said.stderr == b""
    assert web.asked().total() == 0


def test_what_nobody_came_for_is_kept_too(connect: Connect, web: Web) -> None:
    con = connect()
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(web.url(number),) for number in range(10)])
    cursor = con.execute("SELECT width(u) FROM t")
    next(cursor)
    ahead = session_of(con).ahead
    eventually(lambda: all(ahead.peek(web.url(number)) for number in range(1, 10)))
    cursor.close()
    con.close()
    web.asked()
    again = connect()
    assert [width(again, web.url(number)) for number in range(10)] == [100 + number for number in range(10)]
    assert web.asked().total() == 0


@pytest.mark.parametrize("again", ["same connection", "another"])
def test_past_max_age_the_store_is_asked_whether_it_changed(
    connect: Connect, changing: Callable[[int], str], http_server: HttpServer, again: str
) -> None:
    url = changing(5)
    con = connect(max_age=0)
    assert width(con, url) == 5
    http_server.reset()
    other = con if again == "same connection" else connect(max_age=0)
    assert other.execute("SELECT width(?1), height(?1), etag(?1)", (url,)).fetchall()[0][:2] == (5, 7)
    assert [(request.status, request.bytes) for request in http_server.requests()] == [(304, 0)]
    changing(6)
    http_server.reset()
    assert other.execute("SELECT width(?1), height(?1)", (url,)).fetchall() == [(6, 7)]
    assert [request.status for request in http_server.requests()] == [206]
    assert width(connect(), url) == 6


def test_what_was_asked_for_in_a_statement_is_good_for_all_of_it(connect: Connect, web: Web) -> None:
    con = connect(max_age=0)
    assert con.execute("SELECT width(?1), height(?1), etag(?1) IS NULL", (web.url(1),)).fetchall() == [(101, 50, 0)]
    assert web.asked().total() == 1


def test_within_max_age_nothing_is_asked(
    connect: Connect, changing: Callable[[int], str], http_server: HttpServer
) -> None:
    url = changing(5)
    for max_age in (100, None):
        assert width(connect(max_age=max_age), url) == 5
        changing(6)
    assert len(http_server.requests()) == 1


@pytest.mark.parametrize("who", ["who asked", "another"])
def test_an_answer_grows_old(connect: Connect, changing: Callable[[int], str], clock: Clock, who: str) -> None:
    url = changing(5)
    con, other = connect(max_age=1000), connect(max_age=1000)
    assert width(con, url) == 5
    changing(6)
    later = con if who == "who asked" else other
    clock.move(500)
    assert width(later, url) == 5
    clock.move(600)
    assert width(later, url) == 6


def test_what_is_missing_is_not_asked_for_a_thousand_times(connect: Connect, web: Web) -> None:
    url = f"{web.server.url}/nothing-here.jpg"
    con = connect()
    for _ in range(20):
        assert width(con, url) is None
    assert con.execute("SELECT media_error(?)", (url,)).get == "404 Not Found"
    assert width(connect(), url) is None
    assert web.asked().total() == 1
    assert width(connect(failure_age=0), url) is None
    assert web.asked().total() == 1


def test_a_failure_is_remembered_no_longer_than_told(
    connect: Connect, changing: Callable[[int], str], http_server: HttpServer, clock: Clock
) -> None:
    url = changing(5).replace("versions/", "versions/late-")
    con = connect(failure_age=1000)
    assert width(con, url) is None
    name = url.rpartition("/")[2]
    http_server.put("versions", name, picture(8, 8))
    clock.move(500)
    assert width(con, url) is None
    clock.move(600)
    assert width(con, url) == 8


def test_what_failed_for_the_moment_is_asked_for_again(connect: Connect, web: Web) -> None:
    url = f"{web.server.url}/flaky/4/500/p1.jpg?moment"
    con = connect()
    assert width(con, url) is None  # after four attempts
    assert width(connect(), url) == 101


def test_refresh_asks_now(connect: Connect, changing: Callable[[int], str], http_server: HttpServer) -> None:
    url = changing(5)
    con, other = connect(max_age=None), connect(max_age=None)
    assert width(con, url) == width(other, url) == 5
    assert con.execute("SELECT media_refresh(?)", (url,)).get == 0
    changing(6)
    http_server.reset()
    assert con.execute("SELECT media_refresh(?)", (url,)).get == 1
    assert [request.status for request in http_server.requests()] == [206]
    assert width(con, url) == 6
    assert width(connect(max_age=None), url) == 6
    assert con.execute("SELECT media_refresh(?)", (f"{http_server.url}/no.jpg",)).get is None
    with pytest.raises(apsw.SQLError, match="media_refresh"):
        con.execute("CREATE VIEW v AS SELECT media_refresh('x'); SELECT * FROM v").fetchall()


def test_many_are_refreshed_at_once(connect: Connect, web: Web) -> None:
    con = connect()
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(web.url(number, "together/4/"),) for number in range(10)])
    con.execute("SELECT width(u) FROM t").fetchall()
    web.asked()
    assert con.execute("SELECT sum(media_refresh(u)), count(*) FROM t").fetchall() == [(0, 10)]
    assert max(web.asked().values()) == 1


def test_a_listing_tells_what_changed(connect: Connect, s3_server: Any) -> None:
    for number in range(5):
        s3_server.put("listed-memory", f"o{number}.jpg", picture(10 + number, 5))
    options = {"storage_options": s3_server.storage_options}
    query = "SELECT name, width FROM media('s3://listed-memory/*.jpg')"
    rows = [(f"o{number}.jpg", 10 + number) for number in range(5)]
    assert connect(**options).execute(query).fetchall() == rows
    s3_server.put("listed-memory", "o3.jpg", picture(99, 5))
    rows[3] = ("o3.jpg", 99)
    for age in (100, 0):  # what the listing confirms is true now, however old it is
        s3_server.reset()
        assert connect(**options, max_age=age).execute(query).fetchall() == rows
        objects = [request.path for request in s3_server.requests() if request.path.endswith(".jpg")]
        assert objects == (["/listed-memory/o3.jpg"] if age else [])


def test_a_listing_tells_what_changed_of_bytes_too(connect: Connect, s3_server: Any) -> None:
    for number in range(3):
        s3_server.put("listed-bytes", f"o{number}.jpg", picture(10 + number, 5))
    options = {"storage_options": s3_server.storage_options}
    con = connect(**options)
    query = "SELECT name, width, length(content(url)) FROM media('s3://listed-bytes/*.jpg')"
    con.execute("SELECT media_prefetch(url) FROM media('s3://listed-bytes/*.jpg')").fetchall()
    s3_server.put("listed-bytes", "o1.jpg", picture(99, 40))
    s3_server.reset()
    rows = [(f"o{at}.jpg", wide, len(picture(wide, high))) for at, wide, high in ((0, 10, 5), (1, 99, 40), (2, 12, 5))]
    assert con.execute(query).fetchall() == rows
    assert connect(**options).execute(query).fetchall() == rows
    objects = [request.path for request in s3_server.requests() if request.path.endswith(".jpg")]
    assert objects == ["/listed-bytes/o1.jpg"] * 2  # its header, and its bytes


def test_a_listing_tells_functions_too(connect: Connect, s3_server: Any) -> None:
    for number in range(5):
        s3_server.put("listed-functions", f"o{number}.jpg", picture(10 + number, 5))
    options = {"storage_options": s3_server.storage_options}
    con, other = connect(**options), connect(**options)
    query = "SELECT width(url), etag(url) = etag, height(url), width FROM media('s3://listed-functions/*.jpg')"
    rows = [(10 + number, 1, 5, 10 + number) for number in range(5)]
    for each in (con, con, other):
        assert each.execute(query).fetchall() == rows
    s3_server.put("listed-functions", "o3.jpg", picture(99, 5))
    rows[3] = (99, 1, 5, 99)
    s3_server.reset()
    for each in (con, other, con, connect(**options, max_age=0)):
        assert each.execute(query).fetchall() == rows
        assert each.execute("SELECT width('s3://listed-functions/o3.jpg')").get == 99
    objects = [request.path for request in s3_server.requests() if request.path.endswith(".jpg")]
    assert objects == ["/listed-functions/o3.jpg"] * 2  # the last again in a statement without a listing


def test_a_listing_makes_no_cache(connect: Connect, s3_server: Any, environment: Path) -> None:
    s3_server.put("listed-only", "a.jpg", picture(5, 5))
    con = connect(storage_options=s3_server.storage_options)
    assert con.execute("SELECT size > 0 FROM media('s3://listed-only/*')").fetchall() == [(1,)]
    assert not (environment / "mediasql-cache").exists()


def test_what_bytes_on_disk_tell_is_as_old_as_they_are(
    connect: Connect, changing: Callable[[int], str], clock: Clock
) -> None:
    url = changing(5)
    connect(max_age=1000).execute("SELECT media_prefetch(?)", (url,)).fetchall()
    changing(6)
    second = connect(max_age=1000)
    for _ in range(3):  # whoever makes use of them makes them no younger
        clock.move(300)
        assert width(second, url) == 5
        connect(max_age=1000).execute("SELECT height(?1), content_hash(?1)", (url,)).fetchall()
    clock.move(300)
    assert width(second, url) == 6
    assert width(connect(max_age=1000), url) == 6


def test_local_files_are_looked_at_each_time(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    con = connect(max_age=None)
    for wide in (5, 6):
        path.write_bytes(picture(wide, 7))
        os.utime(path, ns=(1_600_000_000_000_000_000 + wide, 1_600_000_000_000_000_000 + wide))
        for each in (con, connect(max_age=None)):
            assert width(each, str(path)) == wide
    store = answers.opened(mediasql.Config.load())
    assert store is not None
    assert [(scope, key) for scope, key, *_ in store.rows()] == [("file", str(path))]


def test_a_local_file_that_is_being_written_is_not_kept(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(picture(5, 7))
    assert width(connect(), str(path)) == 5
    store = answers.opened(mediasql.Config.load())
    assert store is not None
    assert list(store.rows()) == []


def test_secrets_are_not_written(connect: Connect, web: Web, s3_server: Any, environment: Path) -> None:
    con = connect(
        storage_options={"http": {"headers": {"Authorization": "Bearer HUSHHUSH1"}, "password": "HUSHHUSH2"}},
    )
    host = web.server.url.removeprefix("http://")
    urls = [
        f"http://someone:HUSHHUSH3@{host}/p1.jpg",
        f"{web.url(2)}?token=HUSHHUSH4",
        f"{web.url(3)}?X-Amz-Signature=HUSHHUSH5&X-Amz-Credential=HUSHHUSH6",
        f"{web.url(4)}?code=HUSHHUSH7&jwt=HUSHHUSH8&access_key=HUSHHUSH9&sessionid=HUSHHUSH",
    ]
    assert [width(con, url) for url in urls] == [101, 102, 103, 104]
    assert None not in con.execute("SELECT content(value) FROM json_each(?)", (json.dumps(urls),)).fetchall()
    con.close()
    s3_server.put("hushed", "a.jpg", picture(5, 5))
    minio = connect(storage_options=s3_server.storage_options)
    minio.execute("SELECT width(?1), media_prefetch(?1)", ("s3://hushed/a.jpg",)).fetchall()
    minio.close()
    again = connect(storage_options=con_options(con))
    web.asked()
    assert [width(again, url) for url in urls] == [101, 102, 103, 104]
    assert web.asked().total() == 0
    assert width(again, urls[1].replace("HUSH4", "HUSH9")) == 102
    assert web.asked().total() == 1  # who knows what another token opens
    again.close()
    written = b"".join(file.read_bytes() for file in (environment / "mediasql-cache").rglob("*") if file.is_file())
    assert b"p1.jpg" in written
    assert b"HUSH" not in written
    assert b"s3://hushed/a.jpg" in written
    for option in ("key", "secret"):
        assert s3_server.storage_options["s3"][option].encode() not in written


def con_options(con: mediasql.MediaConnection) -> Any:
    return session_of(con).config.storage_options


def test_who_asks_makes_a_difference(connect: Connect, web: Web) -> None:
    url = web.url(1)
    assert width(connect(), url) == 101
    assert width(connect(storage_options={"http": {"username": "a", "password": "b"}}), url) == 101
    assert width(connect(storage_options={"http": {"username": "c", "password": "d"}}), url) == 101
    assert web.asked().total() == 3


def test_what_a_policy_forbids_is_not_told_from_memory(connect: Connect, web: Web) -> None:
    con = connect()
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(web.url(number),) for number in range(10)])
    assert con.execute("SELECT sum(width(u)) FROM t").get == 1045
    con.close()
    guest = connect(profile="hosted", allow=[web.url(0), web.url(1)])
    assert [width(guest, web.url(0)), width(guest, web.url(1))] == [100, 101]
    with pytest.raises(mediasql.ForbiddenByPolicy):
        width(guest, web.url(2))


@given(
    st.lists(st.tuples(st.integers(0, 11), st.sampled_from(["width", "height", "media_type", "byte_size"]))),
    st.integers(0, 12),
)
@settings(max_examples=40)
def test_any_order_gives_the_same(web: Web, asked: list[tuple[int, str]], known: int) -> None:
    """10 and 11 do not exist or are no picture; the first `known` are on disk."""
    urls = [*(web.url(number) for number in range(10)), f"{web.server.url}/none.jpg", f"{web.server.url}/text.jpg"]
    store = answers.opened(mediasql.Config.load())
    assert store is not None
    store.clear()
    first = mediasql.connect(timeout=20)
    first.execute("CREATE TABLE t(u)")
    first.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls[:known]])
    first.execute("SELECT width(u) FROM t").fetchall()
    first.close()
    second, plain = mediasql.connect(timeout=20), mediasql.connect(timeout=20, cache_size=0)
    for number, function in asked:
        query = f"SELECT {function}(?)"
        assert second.execute(query, (urls[number],)).get == plain.execute(query, (urls[number],)).get
    second.close()
    plain.close()


# --- a cache that is of no use ---------------------------------------------------------------------------------------


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[100:] = os.urandom(len(data) - 100)
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [damage, cut, empty, Path.unlink])
def test_a_damaged_database_is_made_anew(
    connect: Connect, web: Web, environment: Path, spoil: Callable[[Path], None]
) -> None:
    con = connect()
    assert width(con, web.url(1)) == 101
    con.close()
    answers.opened(mediasql.Config.load()).close()  # type: ignore[union-attr]
    spoil(environment / "mediasql-cache" / "answers.db")
    for asked in (True, False):
        web.asked()
        con = connect()
        assert width(con, web.url(1)) == 101
        con.close()
        assert web.asked().total() == asked


def test_damage_that_sqlite_does_not_see_is_never_served(
    connect: Connect, web: Web, environment: Path, tmp_path: Path
) -> None:
    """Any bytes of the file may be any others: what is told is right all the same, now and afterwards."""
    urls = [web.url(number) for number in range(10)]
    con = connect()
    for url in urls:
        con.execute("SELECT width(?)", (url,)).fetchall()
    con.close()
    kept().close()
    good = (environment / "mediasql-cache" / "answers.db").read_bytes()
    random = Random(11)
    asked = 0
    web.asked()
    for number in range(40):
        data = bytearray(good)
        for _ in range(25):
            data[random.randrange(4096, len(data))] = random.randrange(256)
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "answers.db").write_bytes(data)
        for order in (urls, random.sample(urls, 10)):
            con = connect(cache_dir=folder, max_age=None)
            for url in order:
                wide = 100 + urls.index(url)
                assert con.execute("SELECT width(?1), height(?1), media_type(?1)", (url,)).fetchone() == (
                    wide,
                    50,
                    "image",
                )
                assert f'"width": {wide}' in con.execute("SELECT media_info(?)", (url,)).get
            con.execute("SELECT count(*), max(url) FROM media_cache").fetchall()
            con.close()
        asked += web.asked().total()
    assert 40 < asked < 40 * 10  # some of it was damaged each time, and the rest was of use


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE answers SET width = 7",
        "UPDATE answers SET streams = '{'",
        "UPDATE answers SET mime_type = CAST(x'ff' AS TEXT)",
        "UPDATE answers SET checked = 'x'",
        "UPDATE answers SET failure = 'NotFound', message = NULL",
        "UPDATE answers SET key = key || 'x'; UPDATE answers SET key = replace(replace(key, iif(id = 1, 'p1', 'p2'), "
        "iif(id = 1, 'p2', 'p1')), 'x', '')",
        "UPDATE scopes SET scope = scope || 'x'",
        "UPDATE answers SET seal = 'x', seals = x'00'",
    ],
)
def test_an_answer_that_was_tampered_with_is_asked_for_anew(connect: Connect, web: Web, damage: str) -> None:
    con = connect()
    assert [width(con, web.url(number)) for number in (1, 2)] == [101, 102]
    con.close()
    kept().database.write(lambda db: db.execute(damage).fetchall())
    kept().close()
    con = connect()
    for number in (9, 2, 1, 1, 2, 9):
        assert width(con, web.url(number)) == 100 + number
        assert con.execute("SELECT height(?)", (web.url(number),)).get == 50
    con.execute("SELECT * FROM media_cache").fetchall()


def test_a_folder_deleted_meanwhile_does_not_matter(connect: Connect, web: Web, environment: Path) -> None:
    import shutil

    con = connect()
    for number in range(10):
        if number == 5:
            shutil.rmtree(environment / "mediasql-cache")
        assert width(con, web.url(number)) == 100 + number


@pytest.mark.parametrize("version", [99, 0])
def test_other_versions_are_never_misread(connect: Connect, web: Web, environment: Path, version: int) -> None:
    con = connect()
    assert width(con, web.url(1)) == 101
    con.close()
    answers.opened(mediasql.Config.load()).close()  # type: ignore[union-attr]
    path = environment / "mediasql-cache" / "answers.db"
    with apsw.Connection(str(path)) as other:
        other.pragma("user_version", version)
    other.close()
    web.asked()
    con = connect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert width(con, web.url(1)) == 101
    assert web.asked().total() == 1
    assert [str(warning.message) for warning in said] == [
        message for message in (str(warning.message) for warning in said) if "newer version of mediasql" in message
    ]
    assert len(said) == (version == 99)
    con.close()
    with apsw.Connection(str(path)) as other:
        assert other.pragma("user_version") == (99 if version == 99 else records.LAYOUT)


def test_somebody_else_s_database_is_left_alone(connect: Connect, web: Web, environment: Path) -> None:
    path = environment / "mediasql-cache" / "answers.db"
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE precious(a)")
    other.close()
    with pytest.warns(mediasql.CacheWarning, match=r"answers\.db is not a database of mediasql"):
        assert width(connect(), web.url(1)) == 101
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("precious",)]
    other.close()


def test_a_folder_that_cannot_be_made_is_told_once(connect: Connect, web: Web, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for number in range(3):
            assert width(connect(cache_dir=tmp_path / "file" / "cache"), web.url(number)) == 100 + number
    assert len(said) == 1
    assert "MEDIASQL_CACHE_DIR" in str(said[0].message)


def test_nothing_is_kept_when_nothing_may_be(connect: Connect, web: Web, environment: Path) -> None:
    for _ in range(2):
        assert width(connect(cache_size=0), web.url(1)) == 101
    assert web.asked().total() == 2
    assert not (environment / "mediasql-cache").exists()


def test_a_forked_child_has_connections_of_its_own(connect: Connect, web: Web) -> None:
    assert width(connect(), web.url(1)) == 101
    code = f"""
import os, mediasql
con = mediasql.connect()
assert con.execute("SELECT width('{web.url(1)}')").get == 101
child = os.fork()
if child == 0:
    other = mediasql.connect()
    ok = other.execute("SELECT width('{web.url(1)}') + width('{web.url(2)}')").get == 203
    other.close()
    os._exit(0 if ok else 3)
assert os.waitpid(child, 0)[1] == 0
assert con.execute("SELECT width('{web.url(2)}')").get == 102
con.close()
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_a_forked_child_need_not_wait_for_who_wrote_when_it_was_made(connect: Connect, web: Web) -> None:
    code = f"""
import os, sys, threading, mediasql
from mediasql.media import answers
con = mediasql.connect()
assert con.execute("SELECT width('{web.url(1)}')").get == 101
kept = answers.opened(mediasql.Config.load())
with kept._writing, kept._wake:
    child = os.fork()
if child == 0:
    other = mediasql.connect()
    assert other.execute("SELECT width('{web.url(2)}')").get == 102
    other.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


def test_a_forked_child_does_not_wait_for_what_its_parent_fetches(web: Web) -> None:
    """What was read ahead is on its way to the parent, and would never arrive here."""
    code = f"""
import json, os, signal, mediasql
urls = ['{web.url(0)}', *(f'{web.server.url}/slow/1000/p{{number}}.jpg' for number in range(1, 9))]
con = mediasql.connect(cache_size=0)
rows = con.execute("SELECT width(value) FROM json_each(?)", (json.dumps(urls),))
assert next(rows) == (100,)
child = os.fork()
if child == 0:
    signal.alarm(60)
    widths = [con.execute("SELECT width(?)", (url,)).get for url in urls[-2:]]
    os._exit(0 if widths == [107, 108] else 3)
assert rows.fetchall() == [(100 + number,) for number in range(1, 9)]
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=120)


# --- whose answers those are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", ["host", "path"])
def test_what_lies_beside_is_not_taken_for_another_account_s(connect: Connect, web: Web, depth: str) -> None:
    """Kept with no options, and asked for by who has some for the one and none for the other."""
    other = web.server.url.replace("127.0.0.1", "localhost") if depth == "host" else web.server.url
    urls = [*(web.url(number) for number in range(8)), f"{other}/p8.jpg", web.url(9)]
    con = connect()
    assert [width(con, url) for url in urls] == list(range(100, 110))
    con.close()
    guest = connect(storage_options={other if depth == "host" else urls[8]: {"username": "a", "password": "b"}})
    web.asked()
    for function, values in (("width", list(range(100, 110))), ("height", [50] * 10)):
        query = f"SELECT {function}(?)"
        assert [guest.execute(query, (url,)).get for url in urls] == values
    assert web.asked() == {"/p8.jpg": 1}


def test_a_refusal_is_for_who_asked(connect: Connect, web: Web, http_server: HttpServer) -> None:
    """The next process may have other credentials, of the same account."""
    url = f"{web.server.url}/flaky/1/403/p1.jpg"
    assert width(connect(), url) is None
    assert width(connect(), url) == 101


def test_a_signature_that_ended_says_nothing_of_the_next(connect: Connect, web: Web) -> None:
    needed = "Algorithm=A&X-Amz-Credential=C&X-Amz-Date=D&X-Amz-Expires=1&X-Amz-SignedHeaders=h&X-Amz-Signature="
    for status in (403, 404):
        url = f"{web.server.url}/flaky/1/{status}/p1.jpg"
        assert width(connect(), url) is None
        assert width(connect(), f"{url}?X-Amz-{needed}2") == 101


def test_two_signatures_of_one_object_are_one_request(connect: Connect, web: Web) -> None:
    signed = "X-Amz-Algorithm=A&X-Amz-Credential=C&X-Amz-Date=D&X-Amz-Expires=1&X-Amz-SignedHeaders=h&X-Amz-Signature="
    query = "SELECT width(value) FROM json_each(?)"
    urls = [f"{web.url(1, 'slow/50/')}?{signed}{number}" for number in range(5)]
    assert connect().execute(query, (json.dumps(urls),)).fetchall() == [(101,)] * 5
    assert web.asked().total() == 1
    urls = [f"{web.server.url}/flaky/1/403/p2.jpg?{signed}{number}" for number in range(3)]
    found = connect().execute(query, (json.dumps(urls),)).fetchall()
    assert sorted(found, key=str) == [(102,), (102,), (None,)]  # the first that came was refused
    assert web.asked().total() == 2


def test_what_a_listing_shows_is_not_missing(connect: Connect, s3_server: Any) -> None:
    con = connect(storage_options=s3_server.storage_options)
    s3_server.put("listed-later", "other.txt", b"")
    assert width(con, "s3://listed-later/a.jpg") is None
    s3_server.put("listed-later", "a.jpg", picture(9, 5))
    assert con.execute("SELECT width FROM media('s3://listed-later/*.jpg')").get == 9


def test_that_a_local_file_cannot_be_read_is_not_remembered(connect: Connect) -> None:
    """It may be a moment later, with the same time and size."""
    memory = session_of(connect()).memory
    key = ("a.jpg", 1, 2, 3)
    memory.keep(key, time.monotonic(), mediasql.Forbidden("permission denied"))
    assert memory.find(key) is None


def test_local_names_need_not_be_utf_8(connect: Connect, tmp_path: Path) -> None:
    for number, name in enumerate((b"a.jpg", b"caf\xe9.jpg", "caf\u00e9.jpg".encode())):
        path = os.fsencode(tmp_path) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(picture(5 + number, 7))
        os.utime(path, (1.6e9, 1.6e9))
    for _ in range(3):
        con = connect()
        assert sorted(con.execute("SELECT width FROM media(?)", (f"{tmp_path}/*",)).fetchall()) == [(5,), (6,), (7,)]
        con.close()
    assert {os.path.basename(key) for _, key, *_ in kept().rows()} == {"a.jpg", "caf\\xe9.jpg", "caf\u00e9.jpg"}


# --- what is old -----------------------------------------------------------------------------------------------------


def test_all_sessions_see_what_one_refreshed(connect: Connect, changing: Callable[[int], str], web: Web) -> None:
    url = changing(5)
    con, other = connect(max_age=None), connect(max_age=None)
    assert width(con, url) == width(other, url) == width(other, url) == 5
    changing(6)
    assert con.execute("SELECT media_refresh(?)", (url,)).get == 1
    assert width(other, url) == 6


def kept() -> answers.Answers:
    found = answers.opened(mediasql.Config.load())
    assert found is not None
    return found


def test_values_are_not_loaded_over_those_that_wait_to_be_written(
    connect: Connect, web: Web, changing: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "DELAY", 60.0)
    first, second = web.url(0), changing(5)
    con = connect(max_age=None)
    assert [width(con, url) for url in (first, second, web.url(2))] == [100, 5, 102]
    con.close()
    again = connect(max_age=None)
    changing(6)
    assert again.execute("SELECT media_refresh(?)", (second,)).get == 1
    again.execute("CREATE TABLE t(u)")
    again.executemany("INSERT INTO t VALUES (?)", [(url,) for url in (first, first, second)])
    assert width(again, first) == 100
    assert width(again, second) == 6


def written(count: int) -> bool:
    return len(kept().database.read("SELECT 1 FROM answers")) >= count


def test_answers_are_written_while_the_connection_stays_open(connect: Connect, web: Web) -> None:
    con = connect()
    for number in range(3):
        assert width(con, web.url(number)) == 100 + number
        eventually(partial(written, number + 1))


def test_what_was_used_is_written_without_anything_new(
    connect: Connect, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_USED", 3)
    con = connect()
    con.execute("SELECT width(?1), width(?2)", (web.url(0), web.url(1))).fetchall()
    con.close()
    for number in (0, 1, 0, 1):
        connect().execute("SELECT height(?)", (web.url(number),)).fetchall()
    eventually(lambda: kept().database.read("SELECT 1 FROM answers WHERE hits > 0"))


@pytest.mark.parametrize("order", ["as they lie", "any"])
def test_known_answers_are_looked_up_once(
    connect: Connect, web: Web, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    urls = [f"{web.url(1)}#{number}" for number in range(300)]
    con = connect()
    con.execute("SELECT width(?)", (web.url(1),)).fetchall()
    answer = session_of(con).memory.find(web.url(1))
    assert answer is not None
    for number in range(300):
        kept().put(Identity("http", urls[number]), answer[1])
    con.close()
    kept().close()
    if order == "any":
        Random(5).shuffle(urls)
    con = connect()
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
    reads = 0
    read = Database.read

    def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return read(*arguments)

    monkeypatch.setattr(Database, "read", counted)
    web.asked()
    assert con.execute("SELECT sum(width(u)) FROM t").get == 300 * 101
    assert web.asked().total() == 0
    assert reads < (20 if order == "as they lie" else 250)


def test_a_clock_that_was_set_back_does_not_keep_answers_for_ever(
    connect: Connect, changing: Callable[[int], str]
) -> None:
    url = changing(5)
    con = connect()
    assert width(con, url) == 5
    identity = session_of(con).store.identity(Location.parse(url))
    assert identity is not None
    known = session_of(con).memory.find(url)
    assert known is not None
    con.close()
    kept().put(identity, known[1], at=time.time() + 1e8)
    kept().close()
    changing(6)
    con = connect()
    assert width(con, url) == 6
    con.close()
    (checked,) = kept().database.read("SELECT checked FROM answers")[0]
    assert checked < time.time() + 10
    assert width(connect(), url) == 6


@pytest.mark.parametrize("odd", [{"etag": "\udcff"}, {"size": 2**70}])
def test_what_sqlite_cannot_hold_costs_nobody_else_the_cache(connect: Connect, web: Web, odd: dict[str, Any]) -> None:
    store = kept()
    store.put(Identity("odd", "x"), Answer(ObjectInfo(**odd)))
    con = connect()
    assert width(con, web.url(1)) == 101
    con.close()
    assert [key for _, key, *_ in store.rows()] == [web.url(1)]
