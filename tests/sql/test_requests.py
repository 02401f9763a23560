"""What statements ask of the web: nothing while references are inserted, and no more than needed else."""

from __future__ import annotations

import pytest

import mediasql
from tests.sql.conftest import Web


def images(con: mediasql.MediaConnection, web: Web, count: int = 3) -> None:
    con.execute("CREATE TABLE images(k INTEGER PRIMARY KEY, image IMAGE, note)")
    con.execute("ALTER TABLE images ADD COLUMN width INT AS (width(image))")
    con.execute("ALTER TABLE images ADD COLUMN height INT AS (height(image))")
    con.executemany("INSERT INTO images(image) VALUES (?)", [(web.url(n),) for n in range(count)])


def test_inserting_references_asks_for_nothing(con: mediasql.MediaConnection, web: Web) -> None:
    images(con, web)
    for statement in (
        "UPDATE images SET note = 'x'",
        "UPDATE images SET image = image || '?v=1' WHERE rowid = 1",
        "INSERT INTO images(image) SELECT image FROM images RETURNING image",
        "DELETE FROM images WHERE rowid = 1",
        "VACUUM",
        "ANALYZE",
        "REINDEX",
    ):
        con.execute(statement)
        assert web.asked() == {}, statement
    query = "SELECT width, height FROM images WHERE rowid IN (2, 3)"
    assert con.execute(query).fetchall() == [(101, 50), (102, 50)]
    assert web.asked() == {"/p1.jpg": 1, "/p2.jpg": 1}
    con.execute(query).fetchall()
    assert web.asked() == {}


@pytest.mark.parametrize("many", [False, True])
def test_inserting_references_within_a_loop_asks_for_nothing(
    con: mediasql.MediaConnection, web: Web, many: bool
) -> None:
    """The SELECT of the loop is half-read: what calls might be its next step, but is the INSERT."""
    images(con, web, 0)
    con.execute("CREATE TABLE source AS SELECT value AS n FROM json_each('[1, 2, 3]')")
    insert = "INSERT INTO images(image) VALUES (?)"
    with con:
        for (number,) in con.execute("SELECT n FROM source"):
            url = (web.url(number),)
            con.executemany(insert, [url]) if many else con.execute(insert, url)
    assert web.asked() == {}
    with con:
        reading = con.execute("SELECT width FROM images")
        con.execute(insert, (web.url(4),))
        assert [row[0] for row in reading] == [101, 102, 103, 104]
        con.execute("UPDATE images SET note = (SELECT width(image))")
    assert web.asked() == {f"/p{number}.jpg": 1 for number in (1, 2, 3, 4)}


@pytest.mark.parametrize(
    ("needing", "returns"),
    [
        ("CREATE INDEX i ON images(width)", []),
        ("CREATE INDEX i ON images(note) WHERE height > 1", []),
        ("CREATE TRIGGER r AFTER INSERT ON images BEGIN UPDATE images SET note = new.width; END", []),
        ("SELECT 1", [(103,)]),
    ],
)
def test_what_needs_a_value_asks_once(
    con: mediasql.MediaConnection, web: Web, needing: str, returns: list[tuple[int]]
) -> None:
    images(con, web, 0)
    con.execute(needing)
    suffix = " RETURNING width" if returns else ""
    assert con.execute(f"INSERT INTO images(image) VALUES (?){suffix}", (web.url(3),)).fetchall() == returns
    assert web.asked() == {"/p3.jpg": 1}


@pytest.mark.parametrize("column", ["w AS (width(image)) STORED", "w AS (width(image)) CHECK (w > 1)"])
def test_columns_that_need_a_value_ask_once(con: mediasql.MediaConnection, web: Web, column: str) -> None:
    con.execute(f"CREATE TABLE images(image, {column}, h AS (height(image)))")
    con.execute("INSERT INTO images(image) VALUES (?), (?)", (web.url(1), web.url(2)))
    assert web.asked() == {"/p1.jpg": 1, "/p2.jpg": 1}
    assert con.execute("SELECT w FROM images").fetchall() == [(101,), (102,)]


def test_an_index_is_read_without_asking(con: mediasql.MediaConnection, web: Web) -> None:
    images(con, web)
    con.execute("CREATE INDEX i ON images(width)")
    assert web.asked() == {"/p0.jpg": 1, "/p1.jpg": 1, "/p2.jpg": 1}
    fresh = mediasql.connect()
    fresh.deserialize("main", con.serialize("main"))
    assert fresh.execute("SELECT rowid FROM images WHERE width = 101").fetchall() == [(2,)]
    fresh.execute("VACUUM")
    assert web.asked() == {}
    fresh.close()


def test_a_limit_asks_for_no_more(con: mediasql.MediaConnection, web: Web) -> None:
    images(con, web, 40)
    assert len(con.execute("SELECT width FROM images WHERE width > height LIMIT 2").fetchall()) == 2
    assert sum(web.asked().values()) <= 2 * 2 + 16  # one is needed for each row; the window is 16 at least


def test_a_write_reads_ahead_only_what_it_uses(con: mediasql.MediaConnection, web: Web) -> None:
    con.execute("CREATE TABLE source(a, b)")
    con.executemany("INSERT INTO source VALUES (?, ?)", [(web.url(n), web.url(n + 6)) for n in range(6)])
    con.execute("CREATE TABLE copy(a, b, w INT AS (width(a)) STORED, h INT AS (height(b)) VIRTUAL)")
    con.execute("INSERT INTO copy(a, b) SELECT a, b FROM source")
    assert web.asked() == {f"/p{n}.jpg": 1 for n in range(6)}
