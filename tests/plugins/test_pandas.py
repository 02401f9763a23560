"""pandas over a connection of the standard library's `sqlite3` that loaded mediasql."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture


@pytest.fixture
def connection(loadable: str, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "photos.db")
    mediasql.load(opened, timeout=20)
    yield opened
    opened.close()


def test_a_frame_round_trip(connection: sqlite3.Connection, tmp_path: Path, web: Web) -> None:
    connection.execute("CREATE TABLE photos(image IMAGE, width INT AS (width(image)))")
    places = [web.url(number) for number in range(4)] + [f"{web.server.url}/none.jpg"]
    pandas.DataFrame({"image": places}).to_sql("photos", connection, if_exists="append", index=False)
    assert web.asked() == {}, "references only"
    sql = "SELECT image, width, height(image) AS height FROM photos WHERE image <> ? ORDER BY width DESC"
    frame = pandas.read_sql(sql, connection, params=(places[0],))
    connection.close()
    oracle = mediasql.connect(tmp_path / "photos.db")
    rows = oracle.execute(sql, (places[0],)).fetchall()
    oracle.close()
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(rows, columns=["image", "width", "height"]))
    assert frame.width.dropna().tolist() == [103, 102, 101]


def test_a_bucket_is_a_frame(connection: sqlite3.Connection, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"p{number}.jpg").write_bytes(picture(100 + number, 50))
    frame = pandas.read_sql(f"SELECT name, width FROM media('{tmp_path}/*.jpg')", connection, index_col="name")
    assert frame.width.to_dict() == {"p0.jpg": 100, "p1.jpg": 101, "p2.jpg": 102}


def test_a_frame_is_read_ahead(connection: sqlite3.Connection, http_server: HttpServer) -> None:
    for number in range(40):
        http_server.put("frame", f"{number}.jpg", picture(100 + number, 50))
    places = [f"{http_server.url}/together/4/frame/{number}.jpg" for number in range(40)]
    pandas.DataFrame({"image": places}).to_sql("many", connection, index=False)
    http_server.reset()
    frame = pandas.concat(pandas.read_sql("SELECT width(image) AS width FROM many", connection, chunksize=10))
    assert frame.width.tolist() == list(range(100, 140))
    assert len(http_server.requests()) == 40
