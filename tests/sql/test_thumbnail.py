"""`thumbnail` in SQL: concurrent, composing, sparing with bytes, and NULL where there is no picture."""

from __future__ import annotations

import pytest

import mediasql
from tests.media import make
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture


def test_it_composes_and_fits(con: mediasql.MediaConnection, web: Web) -> None:
    query = "SELECT width(thumbnail(?1, 50)), height(thumbnail(?1, 50)), width(thumbnail(?1, 500, 20))"
    assert con.execute(query, (web.url(0),)).fetchall() == [(50, 25, 40)]
    assert con.execute(query, (picture(200, 100),)).fetchall() == [(50, 25, 40)]
    assert con.execute("SELECT thumbnail(NULL, 5), typeof(thumbnail(?, 5))", (picture(9, 9),)).get == (None, "blob")


def test_pictures_are_made_ahead_with_one_request_each(con: mediasql.MediaConnection, web: Web) -> None:
    con.execute("CREATE TABLE t(image IMAGE)")
    con.executemany("INSERT INTO t VALUES (?)", [(web.url(number, "together/4/"),) for number in range(10)])
    rows = con.execute("SELECT width(thumbnail(image, 64, 64)) FROM t").fetchall()
    assert rows == [(64,)] * 10
    assert set(web.asked().values()) == {1}


def test_what_has_none_is_null_and_says_why(con: mediasql.MediaConnection, web: Web) -> None:
    missing, text = f"{web.server.url}/nothing.jpg", f"{web.server.url}/text.jpg"
    con.execute("CREATE TABLE t(image)")
    con.executemany("INSERT INTO t VALUES (?)", [(missing,), (text,), (web.url(1),)])
    assert con.execute("SELECT thumbnail(image, 9) IS NULL FROM t").fetchall() == [(1,), (1,), (0,)]
    kinds = con.execute("SELECT url, kind, function FROM media_errors").fetchall()
    assert sorted(kinds) == sorted([(missing, "not found", "thumbnail"), (text, "damaged", "thumbnail")])


@pytest.mark.parametrize("size", [-1, 5000])
def test_a_wrong_size_raises(con: mediasql.MediaConnection, web: Web, size: int) -> None:
    with pytest.raises(mediasql.UsageError, match=rf"thumbnail\('.*', {size}\): {size} pixels"):
        con.execute("SELECT thumbnail(?, ?)", (web.url(1), size)).fetchall()


def test_of_a_film_little_is_read(con: mediasql.MediaConnection, http_server: HttpServer) -> None:
    film = make.video("mp4", size=(320, 240), frames=700)
    http_server.put("", "film.mp4", film)
    url = http_server.at("film.mp4")
    http_server.reset()
    assert con.execute("SELECT width(thumbnail(?, 32))", (url,)).get == 32
    assert sum(request.bytes for request in http_server.requests()) < len(film) / 3


def test_a_stored_column_of_thumbnails(con: mediasql.MediaConnection, web: Web) -> None:
    con.execute("CREATE TABLE t(image IMAGE)")
    con.execute("INSERT INTO t VALUES (?), (?)", (web.url(1), web.url(2)))
    assert not web.asked()
    added = con.add_computed_column("t", "small", "thumbnail(image, 32, 32)")
    assert (added.values, added.errors) == (2, 0)
    assert con.execute("SELECT typeof(small), width(small) FROM t").fetchall() == [("blob", 32)] * 2
    assert con.execute("SELECT type FROM pragma_table_xinfo('t') WHERE name = 'small'").get == "BLOB"


def test_what_is_in_the_cache_is_not_read_again(con: mediasql.MediaConnection, http_server: HttpServer) -> None:
    http_server.put("", "kept.jpg", picture(300, 200))
    http_server.put("", "kept.mp4", make.video("mp4", size=(320, 240), frames=700))
    query = "SELECT width(thumbnail(?, 20)), width(thumbnail(?, 20))"
    urls = (http_server.at("kept.jpg"), http_server.at("kept.mp4"))
    assert con.execute(query, urls).get == (20, 20)
    http_server.reset()
    con.execute("SELECT 1").fetchall()
    assert con.execute(query, urls).get == (20, 20)
    assert http_server.requests() == []
