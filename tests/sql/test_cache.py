"""The cache as SQL sees it: bytes that are on disk cost no request, and what is there can be seen and thrown away."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Connect, Web, picture

DATA = bytes(range(256)) * 4096  # 1 MB


def table(con: mediasql.MediaConnection, urls: list[str]) -> None:
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])


def test_what_was_prefetched_is_not_asked_for_again(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(number) for number in range(10)])
    sizes = con.execute("SELECT media_prefetch(u) FROM t").fetchall()
    assert web.asked().total() == 10
    for each in (con, connect()):
        if each is not con:
            table(each, [web.url(number) for number in range(10)])
        rows = each.execute("SELECT length(content(u)), width(u), content_hash(u) FROM t").fetchall()
        assert [row[:2] for row in rows] == [(size, 100 + number) for number, (size,) in enumerate(sizes)]
        data = each.execute("SELECT content(?)", (web.url(3),)).get
        assert rows[3][2] == hashlib.sha256(data).hexdigest()
    assert web.asked().total() == 0


def test_what_is_not_kept_was_not_prefetched(connect: Connect, http_server: HttpServer, tmp_path: Path) -> None:
    http_server.put("cached", "large.bin", DATA)
    url = http_server.at("cached/large.bin")
    for size, reason in ((1000, "is not kept: it is larger than the cache of 1000 bytes"), (0, "nothing is kept")):
        con = connect(cache_size=size)
        assert con.execute("SELECT media_prefetch(?)", (url,)).get is None
        assert reason in con.execute("SELECT error FROM media_errors").get  # type: ignore[operator]
    (tmp_path / "a.jpg").write_bytes(picture(5, 5))
    assert connect(cache_size=0).execute("SELECT media_prefetch(?)", (str(tmp_path / "a.jpg"),)).get > 0  # type: ignore[operator]
    assert connect().execute("SELECT media_prefetch(?)", (url,)).get == len(DATA)


def test_content_is_fetched_once(connect: Connect, http_server: HttpServer) -> None:
    http_server.put("cached", "a.bin", DATA)
    http_server.reset()
    url = http_server.at("cached/a.bin")
    for _ in range(2):
        assert connect().execute("SELECT content(?)", (url,)).get == DATA
    assert len(http_server.requests()) == 1


def test_a_changed_object_is_read_anew(connect: Connect, http_server: HttpServer) -> None:
    url = http_server.at("cached/b.bin")
    for content in (DATA, DATA[::-1]):
        http_server.put("cached", "b.bin", content)
        http_server.reset()
        assert connect(max_age=0).execute("SELECT content(?)", (url,)).get == content
        assert connect(max_age=0).execute("SELECT content(?)", (url,)).get == content
        assert [request.status for request in http_server.requests()] in ([206, 304], [206, 206, 304])
    http_server.put("cached", "b.bin", DATA)
    con = connect()
    assert con.execute("SELECT content(?)", (url,)).get == DATA[::-1]
    assert con.execute("SELECT media_refresh(?)", (url,)).get == 1
    assert con.execute("SELECT content(?)", (url,)).get == DATA


def test_a_path_is_a_file_while_the_statement_runs(connect: Connect, http_server: HttpServer) -> None:
    urls = []
    for number in range(12):
        http_server.put("cached", f"p{number}.jpg", picture(60 + number, 40))
        urls.append(http_server.at(f"cached/p{number}.jpg"))
    con = connect(cache_size=2000)  # room for three
    table(con, urls)
    seen = []
    cursor = con.execute("SELECT u, local_path(u) FROM t")
    for url, path in cursor:
        seen.append((url, path))
        assert path.endswith(".jpg")
        assert os.stat(path).st_mode & 0o077 == 0
        for earlier, kept in seen:
            assert Path(kept).read_bytes() == connect(cache_size=0).execute("SELECT content(?)", (earlier,)).get
    assert len(seen) == 12
    con.execute("SELECT local_path(?)", (urls[0],)).fetchall()
    con.execute("SELECT media_prefetch(?)", (urls[1],)).fetchall()
    con.close()
    assert sum(Path(path).exists() for _, path in seen) <= 3


def test_a_local_file_is_its_own_path(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").write_bytes(picture(5, 5))
    monkeypatch.chdir(tmp_path)
    con = connect()
    assert con.execute("SELECT local_path('a.jpg')").get == str(tmp_path / "a.jpg")
    assert con.execute("SELECT local_path('none.jpg')").get is None
    assert con.execute("SELECT error FROM media_errors").fetchall() == [("no such file",)]
    with pytest.raises(mediasql.ForbiddenByPolicy, match="hosted"):
        connect(profile="hosted", allow=[str(tmp_path)]).execute("SELECT local_path('a.jpg')").fetchall()


def test_what_is_cached_can_be_seen(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(number) for number in range(4)])
    con.execute("SELECT width(u) FROM t").fetchall()
    con.execute("SELECT content(u) FROM t LIMIT 2").fetchall()
    rows = con.execute(
        "SELECT u, bytes = size, bytes > 0, etag IS NOT NULL, pinned, error, store FROM t JOIN media_cache ON url = u"
    ).fetchall()
    assert rows == [(web.url(number), number < 2, number < 2, 1, 0, None, "http") for number in range(4)]
    assert con.execute("SELECT count(*) FROM media_cache WHERE first_use <= last_use AND checked LIKE '20%Z'").get == 4
    con.execute("SELECT width(?)", (f"{web.server.url}/text.jpg",)).fetchall()
    assert con.execute("SELECT error LIKE 'not an image%' FROM media_cache WHERE url LIKE '%/text.jpg'").get == 1
    con.execute("SELECT local_path(?)", (web.url(1),)).fetchall()
    assert con.execute("SELECT url, pinned FROM media_cache WHERE pinned").fetchall() == [(web.url(1), 1)]


def test_what_headers_told_can_be_joined(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(number) for number in range(4)])
    con.execute("SELECT width(u) FROM t LIMIT 3").fetchall()
    con.execute("SELECT media_prefetch(?)", (web.url(9),)).fetchall()
    web.asked()
    told = "width, height, image_format, image_mode, mime_type, duration"
    query = f"SELECT {told} FROM t {{}} media_cache ON url = u"
    rows = con.execute(query.format("JOIN")).fetchall()
    assert sorted(rows) == [(100 + number, 50, "JPEG", "RGB", "image/jpeg", None) for number in range(3)]
    assert con.execute(query.format("LEFT JOIN") + " ORDER BY u").fetchall()[3] == (None,) * 6
    assert con.execute("SELECT width, bytes > 0 FROM media_cache WHERE url = ?", (web.url(9),)).fetchall() == [
        (None, 1)
    ]
    own = [row[0] for row in con.execute("SELECT name FROM pragma_table_info('media_cache')")]
    of_media = [row[0] for row in con.execute("SELECT name FROM pragma_table_info('media')")]
    assert {name for name in of_media if name not in ("name", "pattern")} <= set(own)
    assert web.asked().total() == 0


def test_the_plan_of_a_join_looks_up_by_url(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(1)])
    plan = con.execute("EXPLAIN QUERY PLAN SELECT bytes FROM t CROSS JOIN media_cache ON url = u").fetchall()
    assert "VIRTUAL TABLE INDEX" in plan[-1][3]
    con.execute("SELECT width(u) FROM t").fetchall()
    assert con.execute("SELECT bytes FROM t CROSS JOIN media_cache ON url = u").fetchall() == [(0,)]
    assert con.execute("SELECT count(*) FROM media_cache WHERE url IN (?, 'x', 3, NULL)", (web.url(1),)).get == 1


def test_hits_and_savings_are_counted(connect: Connect, web: Web) -> None:
    con = connect()
    size = con.execute("SELECT length(content(?))", (web.url(1),)).get
    assert con.execute("SELECT bytes, bytes_fetched, bytes_saved FROM media_cache_stats").fetchall() == [
        (size, size, 0)
    ]
    before = con.execute("SELECT byte_hits, byte_misses FROM media_cache_stats").fetchone()
    assert connect().execute("SELECT length(content(?))", (web.url(1),)).get == size
    after = con.execute("SELECT byte_hits, byte_misses, bytes_saved, hit_rate > 0 FROM media_cache_stats").fetchone()
    assert after == (before[0] + 1, before[1], size, 1)  # type: ignore[index]
    assert connect(cache_size=0).execute("SELECT count(*) FROM media_cache_stats").get == 0


def test_eviction(connect: Connect, web: Web) -> None:
    con, other = connect(), connect()
    table(con, [web.url(number) for number in range(4)])
    con.execute("SELECT width(u), content(u) FROM t").fetchall()
    other.execute("SELECT width(?)", (web.url(2),)).fetchall()
    web.asked()
    held = con.execute("SELECT bytes FROM media_cache WHERE url = ?", (web.url(2),)).get
    assert con.execute("SELECT media_cache_evict(?)", (web.url(2),)).get == held > 0
    assert con.execute("SELECT count(*) FROM media_cache").get == 3
    assert con.execute("SELECT media_cache_evict(?)", (web.url(2),)).get == 0
    assert other.execute("SELECT height(?)", (web.url(2),)).get == 50
    assert web.asked().total() == 1
    assert con.execute("SELECT media_cache_clear()").get == 3 * held
    assert con.execute("SELECT bytes, objects FROM media_cache_stats").fetchall() == [(0, 0)]
    assert [width for (width,) in con.execute("SELECT width(u) FROM t")] == [100, 101, 102, 103]
    assert web.asked().total() == 4
    with pytest.raises(mediasql.ForbiddenByPolicy, match="owner"):
        connect(profile="untrusted").execute("SELECT media_cache_clear()").fetchall()


def test_guests_see_what_they_asked_for_and_may_reach(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(number) for number in range(4)])
    con.execute("SELECT width(u) FROM t").fetchall()
    guest = connect(profile="hosted", allow=[web.url(1), web.url(2)])
    assert guest.execute("SELECT url FROM media_cache").fetchall() == []
    guest.execute("SELECT width(?)", (web.url(1),)).fetchall()
    assert guest.execute("SELECT url FROM media_cache").fetchall() == [(web.url(1),)]
    other = connect(profile="hosted", allow=[web.url(1)])
    assert other.execute("SELECT url FROM media_cache").fetchall() == []


def test_a_scan_larger_than_the_cache_streams_through(connect: Connect, http_server: HttpServer) -> None:
    urls = []
    for number in range(20):
        http_server.put("cached", f"s{number}.bin", bytes([number]) * 200_000)
        urls.append(http_server.at(f"cached/s{number}.bin"))
    http_server.reset()
    con = connect(cache_size=1_000_000)
    table(con, urls)
    assert con.execute("SELECT substr(content(u), 7, 1), length(content(u)) FROM t").fetchall() == [
        (bytes([number]), 200_000) for number in range(20)
    ]
    assert len(http_server.requests()) == 20
    assert con.execute("SELECT bytes <= 1000000 AND bytes > 0 FROM media_cache_stats").get == 1


def test_the_next_scan_of_more_than_the_cache_finds_about_what_fits(connect: Connect, http_server: HttpServer) -> None:
    urls = []
    for number in range(40):
        http_server.put("cached", f"c{number}.bin", bytes([number]) * 50_000)
        urls.append(http_server.at(f"cached/c{number}.bin"))
    asked = []
    for _ in range(3):
        con = connect(cache_size=1_000_000)  # room for half of them
        table(con, urls)
        http_server.reset()
        assert con.execute("SELECT sum(length(content(u))) FROM t").get == 40 * 50_000
        asked.append(len(http_server.requests()))
        con.close()
    assert asked[0] == 40
    assert max(asked[1:]) < 32


def test_the_database_of_the_cache_is_read_by_other_tools(connect: Connect, web: Web, environment: Path) -> None:
    con = connect()
    con.execute("SELECT width(?)", (web.url(1),)).fetchall()
    con.close()
    # In a process of their own: in this one, another SQLite library would take the locks away.
    script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1], uri=True).execute(sys.argv[2]).fetchall())"
    command = [
        *(sys.executable, "-c", script),
        *(f"file:{environment}/mediasql-cache/answers.db?mode=ro", "SELECT key, width FROM answers"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"[('{web.url(1)}', 101)]\n", done.stderr


def test_a_cold_look_at_headers_keeps_no_bytes(connect: Connect, web: Web) -> None:
    con = connect()
    table(con, [web.url(number) for number in range(10)])
    began = time.time()
    con.execute("SELECT width(u) FROM t").fetchall()
    assert con.execute("SELECT bytes FROM media_cache_stats").get == 0
    assert con.execute("SELECT count(*) FROM media_cache WHERE unixepoch(first_use) < ?", (began - 2,)).get == 0
