"""Computed columns that are added to tables: their values are right, and nothing else changes, whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import random
import sqlite3
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Web
from tests.waiting import eventually, meanwhile, soon

PRAGMAS = ("foreign_keys", "legacy_alter_table", "recursive_triggers", "writable_schema", "defer_foreign_keys")
SWITCHES = (
    apsw.SQLITE_DBCONFIG_DEFENSIVE,
    apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY,
)


def state(con: mediasql.MediaConnection) -> Any:
    """Everything that can be seen of a connection's databases."""
    found: dict[str, Any] = {name: con.execute(f"PRAGMA {name}").get for name in PRAGMAS}
    found["switches"] = [con.config(switch, -1) for switch in SWITCHES]
    found["transaction"] = con.in_transaction
    for schema in con.db_names():
        objects = con.execute(f"SELECT type, name, tbl_name, sql FROM {schema}.sqlite_schema").fetchall()
        found[schema] = sorted(objects, key=str)
        for kind, name, _, _ in objects:
            if kind == "table":
                quoted = '"' + str(name).replace('"', '""') + '"'
                wr = con.execute("SELECT wr FROM pragma_table_list WHERE schema = ? AND name = ?", (schema, name)).get
                rowid = "" if wr else "_rowid_, "
                found[f"{schema}.{name}"] = con.execute(f"SELECT {rowid}* FROM {schema}.{quoted}").fetchall()
    return found


def apart(seen: dict[str, Any], columns: int) -> dict[str, Any]:
    """A state but for the definition of main.t and the last columns of its rows."""
    return {
        **seen,
        "main": [row for row in seen["main"] if row[:2] != ("table", "t")],
        "main.t": [row[: len(row) - columns] for row in seen["main.t"]],
    }


RICH = """
    CREATE TABLE parent(id INTEGER PRIMARY KEY);
    INSERT INTO parent VALUES (1), (2);
    CREATE TABLE t( /* a, comment) */
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image TEXT COLLATE NOCASE NOT NULL DEFAULT 'a''b)', -- another, (
        parent REFERENCES parent(id) ON DELETE CASCADE,
        "select" AS (upper(image)) VIRTUAL,
        [odd name] AS (length(image)) STORED,
        UNIQUE (image, parent),
        CHECK (length(image) > 0) -- last
    );
    INSERT INTO t(id, image, parent) VALUES (3, 'a', 1), (7, 'bb', 2), (90, 'gone', NULL), (4, 'ccc', 1);
    DELETE FROM t WHERE id = 90;
    CREATE INDEX i ON t(parent) WHERE "select" <> 'x';
    CREATE UNIQUE INDEX j ON t(image || 'x', [odd name]);
    CREATE TABLE log(what);
    CREATE TRIGGER after_update AFTER UPDATE ON t BEGIN INSERT INTO log VALUES ('main'); END;
    CREATE TEMP TRIGGER temp_update AFTER UPDATE ON main.t BEGIN INSERT INTO log VALUES ('temp'); END;
    CREATE VIEW v AS SELECT t.*, parent.id AS p FROM t JOIN parent ON t.parent = parent.id;
    CREATE TABLE child(t REFERENCES t(id) ON DELETE CASCADE ON UPDATE SET NULL);
    INSERT INTO child VALUES (3), (4);
    CREATE TEMP TABLE other(x);
    ANALYZE;
"""


@pytest.mark.parametrize("transaction", ["", "BEGIN", "SAVEPOINT s", "BEGIN IMMEDIATE"])
@pytest.mark.parametrize("enforced", [0, 1])
def test_nothing_else_changes(con: mediasql.MediaConnection, transaction: str, enforced: int) -> None:
    con.execute(RICH)
    con.execute(f"PRAGMA foreign_keys = {enforced}")
    if transaction:
        con.execute(transaction)
    before = state(con)
    added = con.add_computed_column("t", "ext", "url_ext(image || '.JPG')")
    assert str(added) == "Added 3 column values with 0 errors"
    after = state(con)
    assert apart(after, 1) == apart(before, 0)
    assert [row[-1] for row in after["main.t"]] == ["jpg"] * 3
    if transaction:
        con.execute("COMMIT" if "BEGIN" in transaction else "RELEASE s")
    con.execute("INSERT INTO t(image) VALUES ('new.png')")
    assert con.execute("SELECT id, ext, [odd name] FROM t ORDER BY id DESC LIMIT 1").fetchall() == [(91, "jpg", 7)]
    assert con.execute("SELECT count(*) FROM v").get == 3
    assert con.execute("PRAGMA integrity_check").get == "ok"
    assert con.execute("PRAGMA foreign_key_check").fetchall() == []
    assert con.execute("SELECT * FROM log").fetchall() == []
    con.execute("UPDATE t SET image = 'dddd' WHERE id = 7")
    assert sorted(con.execute("SELECT * FROM log").fetchall()) == [("main",), ("temp",)]


@pytest.mark.parametrize(
    ("definition", "table", "column", "type"),
    [
        ("CREATE TABLE t(k TEXT PRIMARY KEY, image) WITHOUT ROWID", "t", "e", None),
        ("CREATE TABLE t(k TEXT, image TEXT) STRICT", "t", "e", None),
        ("CREATE TABLE t(k TEXT, image TEXT) STRICT", "t", "e", "ANY"),
        ("CREATE TABLE t(k TEXT, image)", "t", 'a "quoted", (name)', None),
        ("CREATE TABLE t(k TEXT, image)", "t", "select", ""),
        ('CREATE TABLE "my, (table"(k TEXT, image)', "my, (table", "e", None),
        ('CREATE TABLE "a.b"(k TEXT, image)', "a.b", "e", None),
        ("CREATE TABLE 't'('k' TEXT, [image])", "main.t", "e", None),
        ("CREATE TEMP TABLE t(k TEXT, image)", "temp.t", "e", None),
        ("ATTACH ':memory:' AS aux; CREATE TABLE aux.t(k TEXT, image)", "aux.t", "e", None),
        ("CREATE TABLE t(k INTEGER PRIMARY KEY DESC, image)", "T", "e", None),
        (
            "CREATE TABLE t(k, image, e2 AS (upper(image)) VIRTUAL, PRIMARY KEY(k), CHECK (k <> 'e TEXT'))",
            "t",
            "e",
            None,
        ),
    ],
)
def test_tables_of_all_kinds(
    con: mediasql.MediaConnection, definition: str, table: str, column: str, type: str | None
) -> None:
    con.execute(definition)
    schema, dot, bare = table.rpartition(".") if table != "a.b" else ("", "", table)
    quoted = f'{schema}{dot}"{bare}"'
    con.execute(f"INSERT INTO {quoted}(k, image) VALUES (2, 'a.jpg'), (1, 'b.png')")
    before = con.execute(f"SELECT k, image FROM {quoted} ORDER BY k").fetchall()
    assert con.add_computed_column(table, column, "url_ext(image) -- the extension", type=type).values == 2
    name = '"' + column.replace('"', '""') + '"'
    assert con.execute(f"SELECT k, image FROM {quoted} ORDER BY k").fetchall() == before
    assert con.execute(f"SELECT {name}, typeof({name}) FROM {quoted} ORDER BY k").fetchall() == [
        ("png", "text"),
        ("jpg", "text"),
    ]
    con.execute(f"INSERT INTO {quoted}(k, image) VALUES (3, 'c.gif')")
    assert con.execute(f"SELECT {name} FROM {quoted} WHERE k = 3").get == "gif"
    hidden = "SELECT hidden FROM pragma_table_xinfo(?) WHERE name = ?"
    assert con.execute(hidden, (bare, column)).get == 3
    assert con.execute("PRAGMA integrity_check").get == "ok"


def test_virtual_columns(con: mediasql.MediaConnection) -> None:
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES ('a.jpg')")
    con.add_computed_column("t", "url", "presigned_url(image)", stored=False)
    assert con.execute("SELECT add_computed_column('t', 'e', 'url_ext(image)', 0)").get.startswith("Added column e")
    assert con.execute("SELECT name, type, hidden FROM pragma_table_xinfo('t')").fetchall() == [
        ("image", "", 0),
        ("url", "TEXT", 2),
        ("e", "TEXT", 2),
    ]


@pytest.mark.parametrize(
    ("table", "expression", "error", "message"),
    [
        ("nowhere", "1", mediasql.UsageError, "there is no table nowhere"),
        ("v", "1", mediasql.UsageError, "v is a view; a computed column needs a table"),
        ("t", "presigned_url(image)", mediasql.UsageError, "presigned_url gives a value that expires.*stored=False"),
        ("t", "upper(link)", mediasql.UsageError, "presigned_url gives a value that expires"),
        ("t", "nowhere(image)", apsw.SQLError, "no such function: nowhere"),
        ("t", "missing_column", apsw.SQLError, "no such column: missing_column"),
        ("t", "random()", apsw.SQLError, "non-deterministic"),
        ("t", "1), extra TEXT, (2", apsw.SQLError, "syntax error|duplicate|no such"),
        ("t", "", apsw.SQLError, "syntax error"),
    ],
)
def test_what_cannot_be_added(
    con: mediasql.MediaConnection, table: str, expression: str, error: type[Exception], message: str
) -> None:
    con.execute("CREATE TABLE t(image, link AS (presigned_url(image))); CREATE VIEW v AS SELECT 1")
    con.execute("INSERT INTO t VALUES ('https://example.com/a.jpg')")
    before = state(con)
    with pytest.raises(error, match=message):
        con.add_computed_column(table, "c", expression)
    assert state(con) == before
    for name, refusal in (("image", "duplicate column name: image"), ("rowid", "cannot add rowid alias")):
        with pytest.raises(apsw.SQLError, match=refusal):
            con.add_computed_column("t", name, "1")
        assert state(con) == before


def test_errors_are_counted_by_value(con: mediasql.MediaConnection, web: Web) -> None:
    con.execute("CREATE TABLE t(image)")
    urls = [web.url(1), f"{web.server.url}/missing.jpg", web.url(2), f"{web.server.url}/text.jpg", None]
    con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in urls])
    assert str(con.add_computed_column("t", "w", "width(image)")) == "Added 5 column values with 2 errors"
    assert str(con.add_computed_column("t", "h", "height(image)")) == "Added 5 column values with 2 errors"
    assert con.execute("SELECT w, h FROM t").fetchall() == [
        (101, 50),
        (None, None),
        (102, 50),
        (None, None),
        (None, None),
    ]
    one = "SELECT add_computed_column('s', 'w', 'width(image)')"
    con.execute("CREATE TABLE s(image); INSERT INTO s VALUES ('missing.jpg')")
    assert con.execute(one).get == "Added 1 column value with 1 error"
    con.execute("CREATE TABLE empty(image)")
    assert str(con.add_computed_column("empty", "w", "width(image)")) == "Added 0 column values with 0 errors"


@pytest.mark.usefixtures("quick_retries")
@pytest.mark.parametrize("how", ["transient", "interrupt", "progress", "ctrl-c"])
@pytest.mark.parametrize("transaction", [False, True])
def test_broken_off_half_way(web: Web, how: str, transaction: bool) -> None:
    con = mediasql.connect(timeout=20)
    con.execute(RICH)
    con.execute("PRAGMA foreign_keys = ON")
    before = state(con)
    if transaction:
        con.execute("BEGIN; INSERT INTO log VALUES ('before')")
        if how in ("transient", "ctrl-c"):  # SQLite rolls back the whole transaction when it is interrupted
            before = state(con)
    urls = {"a": web.url(1), "bb": web.url(2), "ccc": web.url(3)}
    if how == "transient":
        urls["bb"] = f"{web.server.url}/s/500/p1.jpg"
    calls = 0

    def url(name: str) -> str:
        nonlocal calls
        calls += 1
        if calls == 3:
            if how == "interrupt":
                con.interrupt()
            if how == "ctrl-c":
                raise KeyboardInterrupt
            if how == "progress":
                con.set_progress_handler(lambda: True, 20)
        return urls[name]

    con.create_scalar_function("url", url, 1, deterministic=True)
    expected = {"transient": mediasql.TransientError, "ctrl-c": KeyboardInterrupt}.get(how, apsw.InterruptError)
    with pytest.raises(expected):
        con.add_computed_column("t", "w", "width(url(image))")
    con.set_progress_handler(None)
    assert calls >= 3
    assert state(con) == before
    if con.in_transaction:
        con.execute("ROLLBACK")
    urls["bb"] = web.url(3)
    assert con.add_computed_column("t", "w", "width(url(image))").values == 3
    con.close()


def test_a_locked_database(tmp_path: Path) -> None:
    path = tmp_path / "locked.db"
    con, other = mediasql.connect(path), apsw.Connection(str(path))
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES ('a.jpg')")
    before = state(con)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError, match="database is locked"):
        con.add_computed_column("t", "e", "url_ext(image)")
    other.execute("COMMIT")
    assert state(con) == before
    assert con.add_computed_column("t", "e", "url_ext(image)").values == 1
    assert other.execute("SELECT e FROM t").get == "jpg"
    con.close()
    other.close()


def test_values_are_there_without_mediasql(tmp_path: Path, web: Web) -> None:
    path = tmp_path / "images.db"
    con = mediasql.connect(path)
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES (?), (?)", (web.url(1), web.url(2)))
    con.add_computed_column("t", "w", "width(image)")
    con.add_computed_column("t", "h", "height(image)", stored=False)
    con.execute("CREATE INDEX i ON t(h)")
    con.close()
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT w FROM t").fetchall() == [(101,), (102,)]
        assert plain.execute("SELECT count(*) FROM t WHERE h = 50").fetchall() == [(2,)]
    plain.close()


SLOW = """
import sys, time, mediasql
con = mediasql.connect(progress=None)
con.create_scalar_function("slow", lambda value: time.sleep(0.45) or value, 1, deterministic=True)
con.execute("CREATE TABLE t(x); INSERT INTO t VALUES (1), (2), (3), (4)")
print(con.add_computed_column("t", "y", "slow(x)"))
"""


def test_progress_on_a_terminal_only() -> None:
    piped = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    assert (piped.stdout, piped.stderr) == ("Added 4 column values with 0 errors\n", "")
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.DEVNULL, stderr=writer)
    os.close(writer)
    shown = b""
    try:
        while part := os.read(reader, 1000):
            shown += part
    except OSError:
        pass  # how a terminal ends on Linux
    assert process.wait() == 0
    os.close(reader)
    assert b"computing" in shown
    assert b"/4 " in shown


def test_ctrl_c_while_computing(web: Web) -> None:
    con = mediasql.connect(timeout=600)
    con.execute("CREATE TABLE t(image); INSERT INTO t VALUES (?)", (f"{web.server.url}/hang/p1.jpg",))
    before = state(con)

    def interrupt() -> None:
        eventually(web.server.requests)
        con.interrupt()

    with soon(), meanwhile(interrupt), pytest.raises(apsw.InterruptError):
        con.add_computed_column("t", "w", "width(image)")
    assert state(con) == before
    con.close()


@settings(max_examples=60)
@given(st.integers(0, 2**40))
def test_random_tables(seed: int) -> None:
    """Everything but the new column is as it was, and its values are those of the expression."""
    chance = random.Random(seed)
    con = mediasql.connect()
    types = ["TEXT", "INT", "INTEGER PRIMARY KEY", "", "REAL", "BLOB", "TEXT COLLATE NOCASE", "NUMERIC UNIQUE", "ANY"]
    comments = ["", "/* , ( */", "-- ),'\n", "\n\t"]
    names = chance.sample(['"a b"', "[c]", "`d`", "'e'", "f", '"g""h"', "rowid", "_x"], chance.randrange(1, 6))
    columns = [f"{name} {chance.choice(types)} {chance.choice(comments)}" for name in names]
    if sum("PRIMARY KEY" in column for column in columns) > 1:
        columns = [column.replace("PRIMARY KEY", "") for column in columns]
    generated = [
        f"y{n} AS (coalesce({chance.choice(names)}, '') || {n}) {chance.choice(['STORED', 'VIRTUAL'])}"
        for n in range(2)
    ]
    everything = columns + generated[: chance.randrange(3)]
    chance.shuffle(everything)
    constraints = [c for c in (f"CHECK ({names[0]} <> 'zzz')", f"UNIQUE ({names[-1]} DESC)") if chance.random() < 0.4]
    without = " WITHOUT ROWID" if any("PRIMARY KEY" in c for c in columns) and chance.random() < 0.5 else ""
    con.execute(f"CREATE TABLE {chance.choice(comments)} t({', '.join(everything + constraints)}){without}")
    if chance.random() < 0.5:
        con.execute(f"CREATE INDEX i ON t({chance.choice(names)}, {names[0]} || 'x')")
    for _ in range(chance.randrange(8)):
        values = [chance.choice([None, 1, 2.5, "text", b"blob", 7, chance.random()]) for _ in names]
        with contextlib.suppress(apsw.ConstraintError, apsw.MismatchError):
            con.execute(f"INSERT INTO t({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)
    before = state(con)
    added = con.add_computed_column("t", "added", f"typeof({names[0]}) || quote({names[-1]})")
    after = state(con)
    assert added.values == len(before["main.t"])
    assert apart(after, 1) == apart(before, 0)
    assert con.execute(f"SELECT count(*) FROM t WHERE added IS NOT typeof({names[0]}) || quote({names[-1]})").get == 0
    assert con.execute("PRAGMA integrity_check").get == "ok"
    con.close()


class Point:
    """Its name has `int` in it."""


def test_the_type_of_a_function_of_the_application(con: mediasql.MediaConnection) -> None:
    @con.media_function
    def brightness(image: bytes) -> float | None:
        return 0.5

    @con.media_function(batch_size=2)
    def label(image: list[bytes]) -> list[str]:
        return [""] * len(image)

    @con.media_function
    def place(image: bytes) -> Point:
        return Point()

    con.execute("CREATE TABLE t(image)")
    for name in ("brightness", "label", "place"):
        con.add_computed_column("t", f"its_{name}", f"{name}(image)")
    declared = con.execute("SELECT name, type FROM pragma_table_xinfo('t')").fetchall()
    assert declared == [("image", ""), ("its_brightness", "REAL"), ("its_label", "TEXT"), ("its_place", "")]


def test_in_sql_it_reads_ahead_and_takes_a_type(web: Web, http_server: HttpServer) -> None:
    con = mediasql.connect(timeout=20)
    con.execute("CREATE TABLE t(image)")
    places = [(f"{http_server.url}/together/4/p{number % 10}.jpg?{number}",) for number in range(30)]
    con.executemany("INSERT INTO t VALUES (?)", places)
    web.asked()
    arguments = ("t", "w", "width(image)", 1, "FLOAT")
    added = con.execute("SELECT add_computed_column(?, ?, ?, ?, ?)", arguments).get
    assert added == "Added 30 column values with 0 errors"
    assert len(http_server.requests()) == 30
    assert con.execute("SELECT type FROM pragma_table_xinfo('t') WHERE name = 'w'").get == "FLOAT"
    assert con.execute("SELECT typeof(w), sum(w) FROM t").fetchall() == [("real", 3 * sum(range(100, 110)))]
    con.close()
