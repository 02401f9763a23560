"""The program `datasette` with the plugin: several visitors, servers that hang, and wrong configurations."""

from __future__ import annotations

import io
import re
import socket
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from tests.servers import datasette
from tests.servers.datasette import PROGRAM, ask
from tests.servers.http import HttpServer
from tests.servers.process import running
from tests.servers.server import fetch
from tests.sql.conftest import picture
from tests.store import Store
from tests.waiting import soon

LIMIT = 1000  # ms, Datasette's own


def gallery(folder: Path, urls: list[str], schema: str = "CREATE TABLE t(u MEDIA)") -> Path:
    path = folder / "data.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.create_function("width", 1, lambda url: None, deterministic=True)
        connection.executescript(schema)
        connection.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
        connection.commit()
    return path


def test_it_shows_and_plays(sample_store: Store, environment: Path, tmp_path: Path) -> None:
    """`datasette data.db -m metadata.yaml`, with media in S3 and on the web."""
    image, video = f"{sample_store.http.url}/images/logo.png", "s3://media-samples/videos/clock.mp4"
    path = gallery(tmp_path, [image, video])
    metadata = tmp_path / "metadata.yaml"
    metadata.write_text(f"plugins:\n  mediasql:\n    allow:\n    - s3://media-samples\n    - {sample_store.http.url}\n")
    env = {**sample_store.environment, "MEDIASQL_CACHE_DIR": str(environment / "cache")}
    command = [PROGRAM, str(path), "-m", str(metadata), "--setting", "sql_time_limit_ms", "60000"]
    with running(lambda port: [*command, "-p", str(port)], env=env) as child:
        base = f"http://127.0.0.1:{child.port}"
        text = fetch(f"{base}/data/t").body.decode()
        addresses = re.findall(r'"(/-/mediasql/thumbnail/[^"]+)"', text)
        pictures = [fetch(base + address).body for address in addresses]
        assert [Image.open(io.BytesIO(data)).size for data in pictures] == [(160, 160), (240, 135)]
        played = fetch(base + re.findall(r'"(/-/mediasql/media/[^"]+)"', text)[-1])
        assert played.body == (sample_store.folder / "s3/media-samples/videos/clock.mp4").read_bytes()
        assert ask(f"{base}/data", "SELECT width(u), duration(u) FROM t")["rows"] == [[256, None], [1280, 2.0]]


def test_it_says_what_is_wrong_with_the_configuration(tmp_path: Path) -> None:
    metadata = tmp_path / "metadata.json"
    metadata.write_text('{"plugins": {"mediasql": {"buckets": ["s3://a"]}}}')
    done = subprocess.run(
        [PROGRAM, "--memory", "-m", str(metadata), "--get", "/"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "there is no option 'buckets'; there are: timeout" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_time_limit_holds_while_servers_hang(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        base = f"http://127.0.0.1:{silent.getsockname()[1]}"
        schema = (
            "CREATE TABLE t(u MEDIA, w INT AS (width(u)));"
            "CREATE VIEW listing AS SELECT u, (SELECT count(*) FROM media(u || '/*')) AS n FROM t"
        )
        path = gallery(tmp_path, [f"{base}/{number}.jpg" for number in range(50)], schema)
        settings = {"sql_time_limit_ms": LIMIT, "num_sql_threads": 1}
        with datasette.start(path, plugin={"allow": [base], "timeout": 600}, **settings) as address:
            assert ask(f"{address}/data", "SELECT width(NULL)")["rows"] == [[None]]
            for sql in (
                "SELECT width(u) FROM t",
                "SELECT w FROM t WHERE w > 1 ORDER BY w",
                f"SELECT * FROM media('{base}/*.jpg')",
                "SELECT * FROM listing",
                "SELECT max(duration(u)) FROM t",
                "SELECT length(thumbnail(u, 50, 50)), length(content(u)) FROM t",
            ):
                began = time.monotonic()
                with soon():
                    answer = ask(f"{address}/data", sql)
                assert "SQL query took too long" in answer["error"], sql
                assert 1000 * (time.monotonic() - began) > LIMIT * 0.9
                with soon():
                    assert ask(f"{address}/data", "SELECT 1")["rows"] == [[1]], "on the one thread there is"
            page = fetch(f"{address}/data/t")
            assert (page.status, b"SQL query took too long" in page.body) == (400, True)


def test_visitors_at_the_same_time(tmp_path: Path, http_server: HttpServer) -> None:
    """Each query reads ahead, and none waits for that of another: more are on their way than either has."""
    files = 3
    urls = []
    for number in range(2 * files):
        http_server.put("both", f"{number}.jpg", picture(100 + number, 50))
        urls.append(f"{http_server.url}/together/{files + 1}/both/{number}.jpg")
    path = gallery(tmp_path, urls)
    with datasette.start(path, plugin={"allow": [http_server.url]}) as address:
        halves = (f"rowid <= {files}", f"rowid > {files}")
        sql = "SELECT sum(width(u)) FROM t WHERE "
        http_server.reset()
        with ThreadPoolExecutor(2) as pool:
            sums = list(pool.map(lambda half: ask(f"{address}/data", sql + half)["rows"][0][0], halves))
        assert sums == [sum(range(100, 100 + files)), sum(range(100 + files, 100 + 2 * files))]
    assert len(http_server.requests()) == 2 * files


@pytest.mark.parametrize("plugin", [{}, {"allow": []}])
def test_nothing_is_reached_by_default(tmp_path: Path, http_server: HttpServer, plugin: dict[str, list[str]]) -> None:
    """Not even what the environment allows, which was meant for another program."""
    url = f"{http_server.url}/a.jpg"
    http_server.put("", "a.jpg", picture(10, 10))
    http_server.reset()
    env = {"MEDIASQL_ALLOW": http_server.url, "MEDIASQL_PROFILE": "owner"}
    with datasette.start(gallery(tmp_path, [url, str(tmp_path / "data.db")]), plugin=plugin, env=env) as address:
        for sql in ("SELECT width(u) FROM t", f"SELECT url FROM media('{tmp_path}/*')", "SELECT content(u) FROM t"):
            assert "refused by policy" in ask(f"{address}/data", sql)["error"]
        page = fetch(f"{address}/data/t")
        assert page.body.count(b"refused by policy") == 2
        assert b"/-/mediasql/media/" not in page.body
    assert http_server.requests() == []
