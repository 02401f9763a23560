"""Refreshed columns and indexes: right for the media that there are now, and nothing else is written."""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Connect, picture

pytestmark = [
    pytest.mark.filterwarnings("ignore::mediasql.MediaWarning"),  # of indexes, see test_media_indexes.py
    pytest.mark.usefixtures("quick_retries"),
]

_names = itertools.count()


class Files:
    """Pictures in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def url(self, name: str) -> str:
        return str(self._folder / f"{name}.jpg")

    def write(self, name: str, width: int, height: int = 50) -> str:
        """Write a picture of that size, and give its URL."""
        (self._folder / f"{name}.jpg").write_bytes(picture(width, height))
        return self.url(name)

    def remove(self, name: str) -> None:
        (self._folder / f"{name}.jpg").unlink()


class Site:
    """Pictures on a web server, of names that no other test has."""

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self._prefix = f"refresh{next(_names)}"

    def url(self, name: str, behaviour: str = "") -> str:
        return f"{self.server.url}/{behaviour}{self._prefix}/{name}.jpg"

    def write(self, name: str, width: int, height: int = 50) -> str:
        self.server.put("", f"{self._prefix}/{name}.jpg", picture(width, height))
        return self.url(name)

    def fails(self, name: str, status: int) -> None:
        """Answer with this status from now on."""
        self.server.put("", f"{self._prefix}/{name}.jpg", b"", f"status/{status}")

    def asked(self) -> Counter[tuple[str, int]]:
        """Requests since the last call: names and the statuses of answers."""
        asked = Counter((request.path.rpartition("/")[2][:-4], request.status) for request in self.server.requests())
        self.server.reset()
        return asked


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def site(http_server: HttpServer) -> Site:
    http_server.reset()
    return Site(http_server)


def written(con: mediasql.MediaConnection, run: Callable[[], Any]) -> tuple[Any, list[tuple[str, int]]]:
    """What `run` gives, and the rows it writes: table and rowid."""
    rows: list[tuple[str, int]] = []
    con.set_update_hook(lambda kind, database, table, rowid: rows.append((table, rowid)))
    try:
        return run(), rows
    finally:
        con.set_update_hook(None)


def test_only_what_changed_is_written(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("""
        CREATE TABLE t(id INTEGER PRIMARY KEY, image, w INT AS (width(image)) STORED, h INT AS (height(image)));
        CREATE INDEX i ON t(h);
        CREATE INDEX j ON t(w);
        CREATE INDEX k ON t(image);
    """)
    urls = [(files.write(f"{number}", 10 + number),) for number in range(50)]
    con.executemany("INSERT INTO t(image) VALUES (?)", urls)
    pages = con.execute("PRAGMA data_version").get
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert (str(refreshed), rows) == ("Checked 50 objects: 0 changed, 0 errors", [])
    assert refreshed.indexes == ()
    assert con.execute("PRAGMA data_version").get == pages

    files.write("7", 700)
    files.write("8", 800)
    files.write("9", 19, 900)
    files.write("10", 20)  # as it was
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert str(refreshed) == "Checked 50 objects: 3 changed, 0 errors"
    assert rows == [("t", 8), ("t", 9)]
    assert (refreshed.rows, refreshed.indexes) == (2, ("i",))
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert con.execute("SELECT w FROM t WHERE id IN (8, 9, 10)").fetchall() == [(700,), (800,), (19,)]
    assert con.execute("SELECT id FROM t INDEXED BY i WHERE h = 900").fetchall() == [(10,)]
    assert con.execute("SELECT id FROM t INDEXED BY j WHERE w = 700").fetchall() == [(8,)]


def test_in_sql_and_one_object(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("CREATE TABLE t(image, w AS (width(image)) STORED); INSERT INTO t VALUES (?)", (files.write("a", 1),))
    files.write("a", 2)
    assert con.execute("SELECT refresh_computed_columns('t')").get == "Checked 1 object: 1 changed, 0 errors"
    assert con.execute("SELECT w FROM t").get == 2
    con.execute("CREATE TABLE plain(a, b AS (a || a) STORED, c AS (url_ext(a)) STORED); CREATE INDEX i ON plain(b, c)")
    con.execute("INSERT INTO plain VALUES ('x.jpg')")
    assert con.refresh_computed_columns("plain") == mediasql.connection.Refreshed()


@pytest.mark.parametrize("kind", ["view", "missing", "virtual"])
def test_what_is_no_table(con: mediasql.MediaConnection, kind: str) -> None:
    con.execute("CREATE VIEW view AS SELECT 1; CREATE VIRTUAL TABLE virtual USING media('/*')")
    with pytest.raises(mediasql.UsageError, match=f"there is no table missing|{kind} is a {kind}"):
        con.refresh_computed_columns(kind)


def test_entries_of_rows_that_are_gone(con: mediasql.MediaConnection, files: Files) -> None:
    """A DELETE leaves the entry in a partial index of a row that would not be in there now."""
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, image, w AS (width(image)) UNIQUE)")
    con.execute("CREATE INDEX i ON t(id) WHERE w > 50; CREATE INDEX j ON t(id) WHERE w > 1000")
    for number in range(5):
        con.execute("INSERT INTO t(image) VALUES (?)", (files.write(f"{number}", 100 + number),))
    files.write("1", 10)
    con.execute("DELETE FROM t WHERE id = 2")
    entries = "SELECT count(*) FROM t INDEXED BY i WHERE w > 50"
    assert con.execute(entries).get == 5
    refreshed = con.refresh_computed_columns("t")
    assert (str(refreshed), refreshed.indexes) == ("Checked 4 objects: 0 changed, 0 errors", ("i",))
    assert con.execute(entries).get == 4
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_a_unique_constraint(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("CREATE TABLE t(image, w AS (width(image)) UNIQUE, v AS (height(image)) STORED UNIQUE)")
    con.execute("INSERT INTO t(image) VALUES (?), (?)", (files.write("a", 1, 1), files.write("b", 2, 2)))
    files.write("b", 3, 3)
    refreshed = con.refresh_computed_columns("t")
    assert (refreshed.rows, refreshed.indexes) == (1, ("sqlite_autoindex_t_1",))
    assert con.execute("SELECT v FROM t WHERE w = 3").get == 3
    assert con.execute("PRAGMA integrity_check").get == "ok"
    files.write("b", 1)
    with pytest.raises(apsw.ConstraintError, match=r"UNIQUE constraint failed: t\.w"):
        con.refresh_computed_columns("t")


def test_rows_enter_and_leave_a_partial_index(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, image); CREATE INDEX i ON t(id) WHERE width(image) > 100")
    for name, width in (("leaves", 200), ("enters", 50), ("stays", 300), ("never", 20)):
        con.execute("INSERT INTO t(image) VALUES (?)", (files.write(name, width),))
    files.write("leaves", 60)
    files.write("enters", 101)
    assert str(con.refresh_computed_columns("t")) == "Checked 4 objects: 2 changed, 0 errors"
    assert con.execute("SELECT id FROM t INDEXED BY i WHERE width(image) > 100").fetchall() == [(2,), (3,)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


TABLES = {
    "attached": ("ATTACH ':memory:' AS \"an other\"", '"an other".t', "an other.t"),
    "temporary": ("", "temp.t", "t"),
    "quoted": ("", '"a ""quoted"" (table, AS (1)"', 'a "quoted" (table, AS (1)'),
    "dotted": ("", '"x.y"', "x.y"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables_by_their_names(con: mediasql.MediaConnection, files: Files, kind: str) -> None:
    before, table, given = TABLES[kind]
    schema, _, bare = table.rpartition(".") if kind != "dotted" else ("", "", table)
    index = f"{schema}." if schema else ""
    con.execute(f"""
        {before};
        CREATE TABLE {table}("the ""id"" x" TEXT, [an image],
            'w (AS)' /* , ( */ INT GENERATED ALWAYS AS (width([an image]) -- ) AS (
        ) STORED, "select" AS (height(`an image`)));
        CREATE INDEX {index}"an, ""index" ON {bare}("select" DESC, "the ""id"" x") WHERE [w (AS)] > 0;
        INSERT INTO {table}("the ""id"" x", [an image]) VALUES ('x', '{files.write("a", 10, 10)}');
    """)
    files.write("a", 20, 30)
    assert str(con.refresh_computed_columns(given)) == "Checked 1 object: 1 changed, 0 errors"
    assert con.execute(f'SELECT "w (AS)", "select" FROM {table} WHERE "select" = 30').fetchall() == [(20, 30)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ("k TEXT PRIMARY KEY, image", ""),
        ("image, k PRIMARY KEY COLLATE NOCASE", ""),
        ("k, image", ", PRIMARY KEY(k DESC, image)"),
        ("image, k", ", PRIMARY KEY(image, k)"),
    ],
)
def test_without_rowid(con: mediasql.MediaConnection, files: Files, columns: str, constraint: str) -> None:
    con.execute(
        f"CREATE TABLE t({columns}, w AS (width(image)) STORED, v AS (height(image)){constraint}) WITHOUT ROWID;"
        "CREATE INDEX i ON t(v)"
    )
    for number, k in enumerate(["a", "B", "c", 7, 2.5, b"blob"]):
        con.execute("INSERT INTO t(k, image) VALUES (?, ?)", (k, files.write(f"{number}", 10, 10)))
    files.write("1", 11)
    files.write("5", 15)
    changes = con.total_changes()
    refreshed = con.refresh_computed_columns("t")
    assert (str(refreshed), refreshed.rows) == ("Checked 6 objects: 2 changed, 0 errors", 2)
    assert con.total_changes() - changes == 2
    assert con.execute("SELECT k, w FROM t WHERE v = 50 ORDER BY w").fetchall() == [("B", 11), (b"blob", 15)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_columns_called_as_the_rowid_is(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("CREATE TABLE t(rowid, image, OID, w AS (width(image)) STORED)")
    con.execute(
        "INSERT INTO t(rowid, image, oid) VALUES (5, ?, 5), (5, ?, 5)", (files.write("a", 1), files.write("b", 1))
    )
    files.write("b", 2)
    assert con.refresh_computed_columns("t").rows == 1
    assert con.execute("SELECT w FROM t").fetchall() == [(1,), (2,)]
    con.execute("CREATE TABLE u(rowid, _ROWID_, oid, w AS (width(oid)) STORED)")
    with pytest.raises(mediasql.UsageError, match="the rowid of u has no name"):
        con.refresh_computed_columns("u")


def test_columns_that_are_computed_from_columns(con: mediasql.MediaConnection, files: Files) -> None:
    """A value that is kept may come from another that is kept, from several objects, and from other columns."""
    con.execute("""
        CREATE TABLE t(id INTEGER PRIMARY KEY, a, b COLLATE NOCASE,
            both AS (wa + width(b)) STORED,
            wa INT AS (width(a)) STORED,
            shown TEXT COLLATE NOCASE AS (CASE WHEN both > 25 THEN 'Large' ELSE 'large ' || height(a) END) STORED,
            kind AS (typeof(wa) || typeof(text)) STORED,
            text TEXT AS (wa) STORED,
            plain AS (id * 2) STORED,
            chosen AS (width(CASE id WHEN 1 THEN a ELSE b END)));
        CREATE INDEX i ON t(both, chosen);
        CREATE INDEX j ON t(shown, text) WHERE kind = 'integertext';
    """)
    for pair in (("a", "b"), ("c", "b"), ("c", "d")):
        con.execute("INSERT INTO t(a, b) VALUES (?, ?)", [files.write(name, 10) for name in pair])
    columns = "both, wa, shown, kind, text, plain, chosen"
    assert con.execute(f"SELECT {columns} FROM t WHERE id = 1").fetchall() == [
        (20, 10, "large 50", "integertext", "10", 2, 10)
    ]
    files.write("d", 20)
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert (str(refreshed), rows) == ("Checked 4 objects: 1 changed, 0 errors", [("t", 3)])
    files.write("a", 10, 60)
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert (str(refreshed), rows) == ("Checked 4 objects: 1 changed, 0 errors", [("t", 1)])
    files.remove("b")
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert rows == [("t", 1), ("t", 2)]
    assert con.execute(f"SELECT {columns} FROM t").fetchall() == [
        (None, 10, "large 60", "integertext", "10", 2, 10),
        (None, 10, "large 50", "integertext", "10", 4, None),
        (30, 10, "Large", "integertext", "10", 6, 20),
    ]
    assert con.execute("PRAGMA integrity_check").get == "ok"


@pytest.mark.parametrize("type", ["", "TEXT", "INT", "REAL", "NUMERIC", "BLOB"])
@pytest.mark.parametrize(
    "expression", ["width(image)", "width(image) || ''", "width(image) + 0.0", "'0' || width(image)"]
)
def test_what_is_the_same_once_it_is_stored(
    con: mediasql.MediaConnection, files: Files, type: str, expression: str
) -> None:
    """The value of an expression is not always what is stored."""
    con.execute(f"CREATE TABLE t(image, v {type} AS ({expression}) STORED); CREATE INDEX i ON t(v)")
    con.execute("INSERT INTO t VALUES (?), (?)", (files.write("a", 5), files.write("b", 5)))
    assert con.refresh_computed_columns("t").rows == 0
    files.write("b", 6)
    assert con.refresh_computed_columns("t").rows == 1
    kept = con.execute("SELECT v, typeof(v) FROM t").fetchall()
    con.execute("UPDATE t SET image = image")
    assert con.execute("SELECT v, typeof(v) FROM t").fetchall() == kept
    assert con.refresh_computed_columns("t").rows == 0


def test_letter_case_matters(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute("CREATE TABLE t(image, v COLLATE NOCASE AS (CASE WHEN width(image) > 5 THEN 'A' ELSE 'a' END) STORED)")
    con.execute("INSERT INTO t VALUES (?)", (files.write("a", 5),))
    files.write("a", 6)
    assert con.refresh_computed_columns("t").rows == 1
    assert con.execute("SELECT v FROM t").get == "A"


def test_a_url_that_no_column_has(con: mediasql.MediaConnection, files: Files) -> None:
    """SQLite does not know that an UPDATE changes what is computed from no column, and would leave its index."""
    con.execute(f"CREATE TABLE t(k, w AS (width('{files.write('a', 5)}')) STORED, v AS (w || '!') STORED)")
    con.execute("CREATE INDEX i ON t(w); CREATE INDEX j ON t(v); INSERT INTO t VALUES (1), (2)")
    files.write("a", 6)
    assert str(con.refresh_computed_columns("t")) == "Checked 1 object: 1 changed, 0 errors"
    assert con.execute("SELECT k, v FROM t INDEXED BY i WHERE w = 6").fetchall() == [(1, "6!"), (2, "6!")]
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_a_url_that_is_made_of_the_primary_key(con: mediasql.MediaConnection, files: Files) -> None:
    folder = files.url("x").removesuffix("x.jpg")
    con.execute(f"""
        PRAGMA foreign_keys = ON;
        CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, n, w AS (width('{folder}' || id || '.jpg')) STORED);
        CREATE TABLE child(t REFERENCES t(id) ON UPDATE SET NULL ON DELETE CASCADE);
        CREATE INDEX i ON t(w);
    """)
    for number in (1, 2, 3):
        files.write(f"{number}", 10)
        con.execute("INSERT INTO t(n) VALUES (?)", (number,))
    con.execute("INSERT INTO child VALUES (1), (2), (3)")
    files.write("2", 20)
    assert con.refresh_computed_columns("t").rows == 1
    assert con.execute("SELECT * FROM t").fetchall() == [(1, 1, 10), (2, 2, 20), (3, 3, 10)]
    assert con.execute("SELECT * FROM child").fetchall() == [(1,), (2,), (3,)]
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert con.execute("PRAGMA foreign_keys").get == 1


def test_triggers_and_foreign_keys_take_no_part(con: mediasql.MediaConnection, files: Files) -> None:
    con.execute(f"""
        PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ON;
        CREATE TABLE place(url PRIMARY KEY);
        INSERT INTO place VALUES ('{files.write("a", 1)}');
        CREATE TABLE t(image UNIQUE REFERENCES place(url) ON UPDATE CASCADE ON DELETE CASCADE,
            w AS (width(image)) STORED);
        CREATE TABLE child(image REFERENCES t(image) ON UPDATE SET NULL ON DELETE CASCADE);
        INSERT INTO t VALUES ('{files.url("a")}'); INSERT INTO child VALUES ('{files.url("a")}');
        CREATE TABLE log(what);
        CREATE TRIGGER before BEFORE UPDATE ON t BEGIN INSERT INTO log VALUES ('before'); END;
        CREATE TRIGGER after AFTER UPDATE OF image ON t BEGIN INSERT INTO log VALUES ('after'); END;
        CREATE TEMP TRIGGER other AFTER UPDATE ON main.t BEGIN INSERT INTO log VALUES ('temp'); END;
        PRAGMA foreign_keys = OFF; DELETE FROM place; PRAGMA foreign_keys = ON;
    """)
    files.write("a", 2)
    assert con.refresh_computed_columns("t").rows == 1
    assert con.execute("SELECT w FROM t").get == 2
    assert con.execute("SELECT * FROM log").fetchall() == []
    assert con.execute("SELECT * FROM child").fetchall() == [(files.url("a"),)]
    con.execute("INSERT INTO place SELECT image FROM t; UPDATE t SET image = image")
    assert sorted(con.execute("SELECT * FROM log").fetchall()) == [("after",), ("before",), ("temp",)]


@pytest.mark.parametrize("conflict", ["", " ON CONFLICT REPLACE", " ON CONFLICT IGNORE"])
@pytest.mark.parametrize("transaction", [False, True])
def test_a_constraint_that_is_broken(
    con: mediasql.MediaConnection, files: Files, conflict: str, transaction: bool
) -> None:
    con.execute(
        f"CREATE TABLE t(image, w AS (width(image)) STORED UNIQUE{conflict}); CREATE INDEX i ON t(height(image))"
    )
    con.execute(
        "INSERT INTO t VALUES (?), (?), (?)",
        [files.write(name, width) for name, width in zip("abc", (1, 2, 3), strict=True)],
    )
    if transaction:
        con.execute("BEGIN; CREATE TABLE other(x)")
    files.write("a", 10, 20)
    files.write("b", 3)
    before = con.execute("SELECT * FROM t").fetchall()
    with pytest.raises(apsw.ConstraintError, match=r"UNIQUE constraint failed: t\.w"):
        con.refresh_computed_columns("t")
    assert con.in_transaction is transaction
    assert con.execute("SELECT * FROM t").fetchall() == before
    assert con.execute("PRAGMA integrity_check").get != "ok"  # still
    files.write("b", 4)
    assert con.refresh_computed_columns("t").rows == 2
    if transaction:
        con.execute("COMMIT")
    assert con.execute("SELECT w FROM t").fetchall() == [(10,), (4,), (3,)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_what_expires_is_not_compared(
    con: mediasql.MediaConnection, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    con.execute("CREATE TABLE t(image, s3, w AS (width(image)) STORED, link AS (presigned_url(s3)) STORED)")
    con.execute("INSERT INTO t VALUES (?, 's3://bucket/key')", (files.write("a", 1),))
    con.execute("CREATE INDEX i ON t(presigned_url(s3, 60))")
    assert con.refresh_computed_columns("t").rows == 0
    files.write("a", 2)
    assert con.refresh_computed_columns("t").rows == 1


def test_blobs_are_passed_over(con: mediasql.MediaConnection, files: Files) -> None:
    called = []

    @con.media_function
    def label(image: bytes) -> str:
        called.append(len(image))
        return f"{len(image)}"

    data = picture(3, 3)
    con.execute("CREATE TABLE t(image, l AS (label(image)) STORED, w AS (width(image)))")
    con.execute("CREATE INDEX i ON t(w)")
    con.execute("INSERT INTO t VALUES (?), (?), (NULL)", (data, files.write("a", 5)))
    called.clear()
    assert str(con.refresh_computed_columns("t")) == "Checked 1 object: 0 changed, 0 errors"
    size = len(picture(5, 50))
    assert called == [size]
    files.write("a", 400, 300)
    assert str(con.refresh_computed_columns("t")) == "Checked 1 object: 1 changed, 0 errors"
    assert con.execute("SELECT w, l FROM t").fetchall() == [
        (3, f"{len(data)}"),
        (400, f"{len(picture(400, 300))}"),
        (None, None),
    ]
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_while_statements_are_read(con: mediasql.MediaConnection, files: Files) -> None:
    """As in a loop over the tables; of the table itself too, which is read on as it is then."""
    for name in ("a", "b"):
        con.execute(f"CREATE TABLE {name}(image, w AS (width(image)) STORED, v AS (height(image)))")
        con.execute(f"CREATE INDEX i{name} ON {name}(v)")
        con.execute(f"INSERT INTO {name} VALUES (?), (?)", (files.write(name, 1), files.write(f"other {name}", 1)))
    for name in ("a", "b"):
        files.write(name, 2, 3)
    reading = con.execute("SELECT w FROM a ORDER BY rowid DESC")
    assert next(reading) == (1,)
    results = [
        str(con.refresh_computed_columns(name))
        for (name,) in con.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    ]
    assert results == ["Checked 2 objects: 1 changed, 0 errors"] * 2
    assert list(reading) == [(2,)]
    every = "SELECT refresh_computed_columns(name) FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    files.write("b", 4)
    assert con.execute(every).fetchall() == [
        ("Checked 2 objects: 0 changed, 0 errors",),
        ("Checked 2 objects: 1 changed, 0 errors",),
    ]


def test_another_connection_holds_the_lock(connect: Connect, files: Files, tmp_path: Path) -> None:
    con = connect(path=tmp_path / "locked.db")
    con.execute("CREATE TABLE t(image, w AS (width(image)) STORED); INSERT INTO t VALUES (?)", (files.write("a", 1),))
    other = apsw.Connection(str(tmp_path / "locked.db"))
    other.execute("BEGIN IMMEDIATE")
    assert con.refresh_computed_columns("t").changed == 0  # nothing to be written
    files.write("a", 2)
    with pytest.raises(apsw.BusyError, match="database is locked"):
        con.refresh_computed_columns("t")
    other.execute("COMMIT")
    other.close()
    assert con.refresh_computed_columns("t").changed == 1


def test_no_lock_is_held_while_stores_are_asked(connect: Connect, site: Site, tmp_path: Path) -> None:
    con = connect(path=tmp_path / "shared.db")
    con.create_scalar_function("same", lambda value: value, 1, deterministic=True)
    con.execute("CREATE TABLE t(image, w AS (width(same(image))) STORED); PRAGMA journal_mode = WAL").fetchall()
    other = apsw.Connection(str(tmp_path / "shared.db"))
    busy: list[bool] = []

    def same(value: Any) -> Any:
        try:
            other.execute("CREATE TABLE IF NOT EXISTS other(x); INSERT INTO other VALUES (1)")
        except apsw.BusyError:
            busy.append(True)
        else:
            busy.append(False)
        return value

    con.execute("INSERT INTO t VALUES (?), (?)", (site.write("a", 1), site.write("b", 2)))
    site.write("a", 10)
    con.create_scalar_function("same", same, 1, deterministic=True)
    assert con.refresh_computed_columns("t").rows == 1
    other.close()
    assert busy[0] is False
    assert busy[-1] is True  # while the row is written
    assert con.execute("SELECT w FROM t").fetchall() == [(10,), (2,)]


# ---- on the web ----


def many(con: mediasql.MediaConnection, urls: list[str]) -> None:
    con.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, image, w INT AS (width(image)) STORED, v AS (height(image)))")
    con.executemany("INSERT INTO t(image) VALUES (?)", [(url,) for url in urls])
    con.execute("CREATE INDEX i ON t(v)")


def test_stores_are_asked_what_changed(con: mediasql.MediaConnection, site: Site) -> None:
    """One conditional request for each object, however many rows have it."""
    names = [f"{number}" for number in range(40)]
    many(con, [site.write(name, 10) for name in names] * 2)
    site.asked()
    assert str(con.refresh_computed_columns("t")) == "Checked 40 objects: 0 changed, 0 errors"
    assert site.asked() == {(name, 304): 1 for name in names}
    site.write("3", 30)
    site.write("4", 10, 44)
    assert str(con.refresh_computed_columns("t")) == "Checked 40 objects: 2 changed, 0 errors"
    asked = site.asked()
    assert asked == {(name, 206 if name in ("3", "4") else 304): 1 for name in names}
    assert con.execute("SELECT id FROM t WHERE w = 30 OR v = 44 ORDER BY id").fetchall() == [(4,), (5,), (44,), (45,)]
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert site.asked() == {}


def test_many_are_asked_at_a_time(con: mediasql.MediaConnection, site: Site) -> None:
    """The server answers none of the requests before four have come."""
    behaviour = ""
    con.create_scalar_function("place", lambda name: site.url(name, behaviour), 1, deterministic=True)
    con.execute("CREATE TABLE t(name, w AS (width(place(name))) STORED)")
    con.executemany("INSERT INTO t VALUES (?)", [(f"{number}",) for number in range(60) if site.write(f"{number}", 10)])
    behaviour = "together/4/"
    site.asked()
    assert str(con.refresh_computed_columns("t")) == "Checked 60 objects: 0 changed, 0 errors"
    assert sum(site.asked().values()) == 60


def test_what_is_known_already_may_not_be_what_is_kept(connect: Connect, site: Site, tmp_path: Path) -> None:
    """Somebody asked for an object that changed: the store has nothing new to say, and the column is out of date."""
    con = connect(path=tmp_path / "images.db")
    many(con, [site.write("a", 10), site.write("b", 10)])
    site.write("a", 20, 20)
    assert con.execute("SELECT media_refresh(?)", (site.url("a"),)).get == 1
    site.asked()
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 1 changed, 0 errors"
    assert site.asked() == {("a", 304): 1, ("b", 304): 1}
    site.write("b", 30, 30)
    other = connect()
    assert other.execute("SELECT media_refresh(?)", (site.url("b"),)).get == 1
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 1 changed, 0 errors"
    assert con.execute("SELECT w, v FROM t").fetchall() == [(20, 20), (30, 30)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_other_connections_know_it_then(connect: Connect, site: Site) -> None:
    con, other = connect(), connect()
    many(con, [site.write("a", 10)])
    assert other.execute("SELECT width(?)", (site.url("a"),)).get == 10
    site.write("a", 20)
    con.refresh_computed_columns("t")
    assert con.execute("SELECT width(image) FROM t").get == 20
    assert other.execute("SELECT width(?)", (site.url("a"),)).get == 20


@pytest.mark.parametrize("cache_size", [None, 0])
def test_whole_files(connect: Connect, site: Site, cache_size: int | None) -> None:
    """Bytes that are kept on disk serve as long as the store says that they are right."""
    con = connect(**({} if cache_size is None else {"cache_size": cache_size}))
    con.execute("CREATE TABLE t(image, hash AS (content_hash(image)) STORED, small AS (thumbnail(image, 8, 8)) STORED)")
    con.execute("CREATE INDEX i ON t(length(content(image)))")
    con.execute("INSERT INTO t VALUES (?), (?)", (site.write("a", 10), site.write("b", 20)))
    site.asked()
    before = con.execute("SELECT hash, small FROM t ORDER BY rowid").fetchall()
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 0 changed, 0 errors"
    if cache_size is None:
        assert sum(site.asked().values()) == 2
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 0 changed, 0 errors"
    if cache_size is None:
        assert site.asked() == {("a", 304): 1, ("b", 304): 1}
    site.write("a", 90)
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert (str(refreshed), rows) == ("Checked 2 objects: 1 changed, 0 errors", [("t", 1)])
    after = con.execute("SELECT hash, small FROM t ORDER BY rowid").fetchall()
    assert after[1] == before[1]
    assert set(after[0]).isdisjoint(before[0])
    fresh = "SELECT count(*) FROM t WHERE hash IS content_hash(image) AND small IS thumbnail(image, 8, 8)"
    assert con.execute(fresh).get == 2
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_what_is_missing_becomes_null(con: mediasql.MediaConnection, site: Site) -> None:
    many(con, [site.write("a", 10), site.write("b", 10), site.write("c", 10)])
    site.fails("a", 404)
    site.server.put("", site.url("b").partition(f"{site.server.url}/")[2], b"no picture")
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 2 changed, 0 errors"
    assert con.execute("SELECT w, v FROM t").fetchall() == [(None, None), (None, None), (10, 50)]
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 0 changed, 0 errors"
    site.write("a", 11)  # at once, whatever `failure_age` says
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 1 changed, 0 errors"
    assert con.execute("SELECT w FROM t WHERE v = 50").fetchall() == [(11,), (10,)]


@pytest.mark.parametrize("forgotten", [False, True])
def test_what_fails_for_the_moment_stays_as_it_is(connect: Connect, site: Site, forgotten: bool) -> None:
    con = connect(timeout=20, cache_size=0)
    many(con, [site.write("a", 10), site.write("b", 10), site.write("c", 10)])
    con.execute("DROP INDEX i")
    if forgotten:
        con.execute("SELECT media_cache_clear()")
    site.fails("a", 500)
    site.write("b", 20)
    site.asked()
    refreshed, rows = written(con, lambda: con.refresh_computed_columns("t"))
    assert (str(refreshed), rows) == ("Checked 3 objects: 1 changed, 1 error", [("t", 2)])
    assert con.execute("SELECT w FROM t").fetchall() == [(10,), (20,), (10,)]
    (failure,) = con.execute("SELECT url, kind FROM media_errors").fetchall()
    assert failure == (site.url("a"), "transient")
    site.write("a", 30)
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 1 changed, 0 errors"
    assert con.execute("SELECT w FROM t").fetchall() == [(30,), (20,), (10,)]
    assert con.execute("SELECT * FROM media_errors").fetchall() == []


def test_an_index_of_what_fails_for_the_moment(connect: Connect, site: Site) -> None:
    """It is built anew for what changed; for what fails, with what was known."""
    con = connect(timeout=20)
    many(con, [site.write("a", 10, 10), site.write("b", 10, 10), site.write("c", 10, 10)] * 2)
    site.fails("a", 500)
    site.write("b", 10, 20)
    site.asked()
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 1 changed, 1 error"
    (error,) = con.execute("SELECT error FROM media_errors").fetchone()
    attempts = int(error.partition("(after ")[2].split()[0])
    assert site.asked()[("a", 500)] == attempts, "all for one question, although two statements needed the value"
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert con.execute("SELECT id FROM t WHERE v = 10").fetchall() == [(1,), (3,), (4,), (6,)]
    assert con.execute("SELECT id FROM t WHERE v = 20").fetchall() == [(2,), (5,)]


def test_an_index_that_cannot_be_built_now(connect: Connect, site: Site) -> None:
    con = connect(timeout=20, cache_size=0)
    many(con, [site.write("a", 10, 10), site.write("b", 10, 10)])
    con.execute("SELECT media_cache_clear()")
    site.fails("a", 500)
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 0 changed, 1 error"
    site.write("b", 20, 20)
    con.execute("SELECT media_cache_clear()")
    before = con.execute("SELECT w FROM t").fetchall()
    with pytest.raises(
        mediasql.TransientError, match="index i is out of date and cannot be rebuilt at the moment: height"
    ):
        con.refresh_computed_columns("t")
    assert con.execute("SELECT w FROM t").fetchall() == before
    site.write("a", 30, 30)
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 2 changed, 0 errors"
    assert con.execute("SELECT w FROM t WHERE v IN (20, 30) ORDER BY w").fetchall() == [(20,), (30,)]


def test_what_is_refused_stays_as_it_is(con: mediasql.MediaConnection, site: Site) -> None:
    """Nobody said that it changed. An index has what the column is when it is read, which is NULL then."""
    many(con, [site.write("a", 10), site.write("b", 10)])
    site.fails("a", 403)
    assert str(con.refresh_computed_columns("t")) == "Checked 2 objects: 0 changed, 1 error"
    assert con.execute("SELECT w FROM t").fetchall() == [(10,), (10,)]


def test_a_failure_while_rows_are_written(connect: Connect, site: Site) -> None:
    """The store said what changed, and fails when the whole file is read for it: that row stays, others do not."""
    con = connect(timeout=20, cache_size=0)
    con.execute("CREATE TABLE t(image, hash AS (content_hash(image)) STORED)")
    urls = [site.write(name, 10) for name in "abc"]
    con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
    before = con.execute("SELECT hash FROM t").fetchall()
    for name in "abc":
        site.write(name, 20)

    def fail_later(statement: Any) -> None:
        if statement["sql"].startswith("UPDATE"):
            site.fails("b", 500)

    con.trace_v2(apsw.SQLITE_TRACE_STMT, fail_later)
    assert str(con.refresh_computed_columns("t")) == "Checked 3 objects: 2 changed, 1 error"
    con.trace_v2(0, None)
    after = con.execute("SELECT hash FROM t").fetchall()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, False]


def test_every_failure_raises_where_that_is_wanted(connect: Connect, site: Site) -> None:
    con = connect(timeout=20, on_error="raise")
    many(con, [site.write("a", 10), site.write("b", 10)])
    site.write("a", 20)
    for status, error in ((500, mediasql.TransientError), (404, mediasql.NotFound)):
        site.fails("b", status)
        with pytest.raises(error):
            con.refresh_computed_columns("t")
        assert con.execute("SELECT w FROM t").fetchall() == [(10,), (10,)]


def test_interrupted(connect: Connect, site: Site) -> None:
    """Wherever that happens, everything is as it was."""
    con = connect()
    calls = itertools.count()
    interrupts_at: int | None = None

    def passes(value: Any) -> Any:
        if next(calls) == interrupts_at:
            con.interrupt()
        return value

    con.create_scalar_function("passes", passes, 1, deterministic=True)
    con.execute(
        "CREATE TABLE t(image, w AS (width(image)) STORED, v AS (height(passes(image)))); CREATE INDEX i ON t(v)"
    )
    con.execute("INSERT INTO t VALUES (?), (?), (?)", [site.write(name, 10, 10) for name in "abc"])
    before = con.execute("SELECT w FROM t").fetchall()
    refreshed = None
    for at in range(100):
        site.write("a", 20, 20)
        calls, interrupts_at = itertools.count(), at
        try:
            refreshed = con.refresh_computed_columns("t")
        except apsw.InterruptError:
            assert con.execute("SELECT w FROM t").fetchall() == before
            assert not con.in_transaction
        else:
            break
    interrupts_at = None
    assert at > 6  # it compared, built the index, and wrote
    assert refreshed is not None
    assert str(refreshed) == "Checked 3 objects: 1 changed, 0 errors"
    assert con.execute("SELECT w FROM t WHERE v = 20").fetchall() == [(20,)]
    assert con.execute("PRAGMA integrity_check").get == "ok"


# ---- everything at once ----

SIZES = st.tuples(st.integers(1, 6), st.integers(1, 4))


@settings(max_examples=25)
@given(st.integers(0, 2**40))
@pytest.mark.parametrize("host", ["apsw", "sqlite3"])
def test_random_tables(tmp_path_factory: pytest.TempPathFactory, host: str, seed: int) -> None:
    """Values are those of the files as they are, indexes are sound, and rows without a change are not written."""
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("media")
    sizes: dict[str, tuple[int, int] | None] = {}
    model = Model(chance, folder, sizes)
    con: Any = mediasql.connect() if host == "apsw" else sqlite3.connect(":memory:", isolation_level=None)
    if host == "sqlite3":
        mediasql.load(con)
    try:
        con.execute(model.table)
        for index in model.indexes:
            con.execute(index)
        for number in range(chance.randrange(1, 12)):
            con.execute("INSERT INTO t(k, a, b) VALUES (?, ?, ?)", (number, model.reference(), model.reference()))
        for _ in range(3):
            model.change()
            before = rows(con, model)
            count = total_changes(con)
            told = con.execute("SELECT refresh_computed_columns('t')").fetchone()[0]
            assert told.endswith(" 0 errors")
            after = rows(con, model)
            assert after == [model.expected(*row[:3]) for row in before]
            assert total_changes(con) - count == sum(one != other for one, other in zip(before, after, strict=True))
            assert con.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            repeated = con.execute("SELECT refresh_computed_columns('t')").fetchone()[0]
            assert ": 0 changed, 0 errors" in repeated
            if chance.random() < 0.3:
                con.execute("DELETE FROM t WHERE k = ?", (chance.randrange(12),))
    finally:
        con.close()


def total_changes(con: Any) -> int:
    return con.total_changes() if callable(con.total_changes) else con.total_changes


def rows(con: Any, model: Model) -> list[tuple[Any, ...]]:
    return con.execute(f"SELECT k, a, b{''.join(f', {name}' for name in model.stored)} FROM t ORDER BY k").fetchall()


class Model:
    """A random table of pictures, and what its columns are for the files as they are."""

    def __init__(self, chance: random.Random, folder: Path, sizes: dict[str, tuple[int, int] | None]) -> None:
        self._chance = chance
        self._folder = folder
        self._sizes = sizes
        for name in "pqrs":
            self._write(name)
        columns = {
            "wa INT": ("width(a)", lambda a, b: a and a[0]),
            "hb": ("height(b)", lambda a, b: b and b[1]),
            "area": ("wa * hb", lambda a, b: a and b and a[0] * b[1]),
            "kind TEXT": ("CASE WHEN wa > 3 THEN 'wide' ELSE 'narrow' || hb END", self._kind),
            "text TEXT": ("width(b) || 'x' || coalesce(height(b), '-')", lambda a, b: b and f"{b[0]}x{b[1]}"),
            "plain": ("upper(k)", None),
        }
        self._definitions = dict(list(columns.items()))
        order = chance.sample(list(columns), len(columns))
        kinds = {name: chance.choice(["STORED", "VIRTUAL"]) for name in columns}
        generated = [f"{name} AS ({columns[name][0]}) {kinds[name]}" for name in order]
        self.stored = [name.split()[0] for name in order if kinds[name] == "STORED"]
        key, end = chance.choice(
            [("INTEGER PRIMARY KEY", ""), ("", ""), ("PRIMARY KEY", " WITHOUT ROWID"), ("UNIQUE", "")]
        )
        self.table = f"CREATE TABLE t(k {key}, a TEXT, {', '.join(generated)}, b){end}"
        parts = ["wa", "hb DESC", "area", "kind COLLATE NOCASE", "text", "width(a) + 1", "height(b) || 'px'", "k", "a"]
        conditions = ["", " WHERE wa > 2", " WHERE height(b) = 2", " WHERE kind IS NOT NULL AND k > 1", " WHERE area"]
        self.indexes = [
            f"CREATE INDEX i{number} ON t({', '.join(chance.sample(parts, chance.randint(1, 3)))})"
            f"{chance.choice(conditions)}"
            for number in range(chance.randrange(4))
        ]

    @staticmethod
    def _kind(a: Any, b: Any) -> str | None:
        return "wide" if a and a[0] > 3 else b and f"narrow{b[1]}"

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.jpg"

    def _write(self, name: str) -> None:
        self._sizes[name] = (self._chance.randint(1, 6), self._chance.randint(1, 4))
        self._path(name).unlink(missing_ok=True)  # so that it is another file, however quick this is
        self._path(name).write_bytes(picture(*self._sizes[name]))

    def change(self) -> None:
        """Some files are written again, some removed, some damaged, some stay."""
        for name in "pqrs":
            what = self._chance.random()
            if what < 0.3:
                self._write(name)
            elif what < 0.5:
                self._sizes[name] = None
                self._path(name).unlink(missing_ok=True)
                if what < 0.4:
                    self._path(name).write_bytes(b"no picture" * self._chance.randint(1, 9))

    def reference(self) -> str | None:
        name = self._chance.choice([*"pqrs", None])
        return None if name is None else str(self._path(name))

    def expected(self, k: Any, a: str | None, b: str | None) -> tuple[Any, ...]:
        sizes = [None if path is None else self._sizes[Path(path).stem] for path in (a, b)]
        values = {
            name.split()[0]: of(*sizes) if of is not None else str(k) for name, (_, of) in self._definitions.items()
        }
        return (k, a, b, *(values[name] for name in self.stored))
