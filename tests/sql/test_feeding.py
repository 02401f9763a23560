"""The SELECT that feeds a write makes the calls that the write makes."""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.sql.executions import Executions
from mediasql.sql.feeding import feeding
from mediasql.sql.statements import Statements


class _Session:
    """As much of a session as a schema is read with."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.statement = Statements(connection)


def database(columns: str = "") -> apsw.Connection:
    con = apsw.Connection(":memory:")
    con.create_scalar_function("f", lambda value: value, 1, deterministic=True)
    con.execute("ATTACH ':memory:' AS \"other one\"")
    for name in ("t", '"odd ""name"', '"other one".t', "temp.tt"):
        con.execute(f'CREATE TABLE {name}(k INTEGER PRIMARY KEY, image, note, "select"{columns})')
        con.executemany(f"INSERT INTO {name}(image, note) VALUES (?, ?)", [(f"i{n}", n % 3) for n in range(5)])
    con.execute("CREATE TABLE log(x UNIQUE)")
    return con


def calls(con: apsw.Connection, sql: str, bindings: Any = ()) -> set[Any]:
    """What `f` is called with."""
    found: set[Any] = set()

    def f(value: Any) -> Any:
        found.add(value)
        return value

    con.create_scalar_function("f", f, 1, deterministic=True)
    con.execute(sql, bindings).fetchall()
    return found


WRITES = [
    "INSERT INTO log SELECT f(image) FROM t",
    "insert or ignore into log(x) select f(image) from t where note > 0 /* where */ -- from\n returning x;",
    "INSERT INTO log WITH c AS (SELECT f(image) AS y FROM t) SELECT y FROM c",
    "WITH c(y) AS (SELECT f(image) FROM t), d AS (SELECT * FROM c) INSERT INTO log SELECT y FROM d",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION SELECT i + 1 FROM n LIMIT 4) INSERT INTO log SELECT f('i' || i) FROM n",
    "INSERT INTO log VALUES (f('a')), (f('b, (c)'))",
    "REPLACE INTO log SELECT f(image) FROM temp.tt",
    "INSERT INTO log SELECT f(image) FROM t WHERE 1 ON CONFLICT(x) DO NOTHING",
    "INSERT INTO t(k, image) SELECT k, image || 'x' FROM t WHERE k > 1 ON CONFLICT(k) DO UPDATE "
    'SET (note, "select") = (f(excluded.image), f(image)) WHERE f(excluded.k) > 3 AND note <> 2 RETURNING k',
    'INSERT INTO "other one".t AS o(k, image) SELECT k + 2, image FROM t WHERE 1 '
    "ON CONFLICT(k) DO UPDATE SET note = f(o.image), image = f(excluded.image)",
    "INSERT INTO temp.tt(k, image) SELECT k, image FROM t WHERE 1 "
    "ON CONFLICT(k) DO UPDATE SET note = 2 WHERE f(tt.note) > 0",
    "INSERT INTO \"other one\".t(note, image) SELECT f(note), 'FROM' FROM t",
    "UPDATE t SET note = f(image)",
    'UPDATE OR IGNORE "odd ""name" AS a SET "select" = f(a.image), note = 1 WHERE f(a.k) > 2 RETURNING note',
    'UPDATE t SET (note, "select") = (f(image), f(k)) WHERE note = 1',
    'UPDATE t SET (note, "select") = (SELECT f(u.image), 2 FROM tt u WHERE u.k = t.k)',
    "UPDATE t SET note = f(u.image) FROM tt AS u WHERE u.k = t.k AND u.note = 1",
    "UPDATE [other one].t SET `note` = f(image)",
    "UPDATE temp.tt SET note = (SELECT max(f(image)) FROM t)",
    "DELETE FROM t WHERE f(image) = 'i2' RETURNING f(note)",
    "CREATE TABLE made AS SELECT f(image) AS x FROM t",
    "CREATE TEMP TABLE IF NOT EXISTS made AS WITH c AS (SELECT f(image) FROM t) SELECT * FROM c",
    "CREATE UNIQUE INDEX i ON t(f(image) COLLATE NOCASE DESC, k)",
    'CREATE INDEX IF NOT EXISTS "other one"."on" ON t(k, f(image)) WHERE note > 0',
]


def made_by(sql: str, columns: str = "", extra: str = "") -> tuple[set[Any], set[Any]]:
    """Arguments of `f`: those of the SELECT, and those of the write."""
    con = database(columns)
    if extra:
        con.execute(extra)
    fed = feeding(sql, Executions(_Session(con)))
    assert fed is not None
    before = con.total_changes()
    foreseen = calls(con, fed.sql)
    assert con.total_changes() == before
    return foreseen, calls(con, sql)


@pytest.mark.parametrize("write", WRITES)
def test_the_same_calls(write: str) -> None:
    foreseen, made = made_by(write)
    assert made
    assert foreseen == made


@pytest.mark.parametrize("index", ["i", "main.i", 'MAIN."I"', "j", "[other one].i", "temp.i", "by 'string'", "without"])
def test_rebuilding_an_index(index: str) -> None:
    extra = """
        CREATE INDEX i ON t(f(image), note DESC) WHERE f(k) > 2;
        CREATE INDEX j ON t(k, f(note) COLLATE NOCASE ASC);
        CREATE INDEX "other one".i ON t(f(note));
        CREATE INDEX temp.i ON tt(f(k + 100));
        CREATE INDEX "by 'string'" ON t('image', f(k));
        CREATE TABLE w(k PRIMARY KEY, g AS (f(k || 'g'))) WITHOUT ROWID;
        INSERT INTO w VALUES (1), (2);
        CREATE INDEX without ON w(g);
    """
    quoted = f'"{index}"' if "'" in index else index
    foreseen, made = made_by(f"REINDEX {quoted}", extra=extra)
    assert made
    assert foreseen == made


@pytest.mark.parametrize(
    ("returning", "foreseen"),
    [
        ("f(image), k, f(note || 'n') AS x", True),
        ('*, CASE WHEN f(image) THEN f("select") END', True),
        ("f(coalesce(?, image))", True),
        ("f(rowid)", False),
        ("f(t.image)", False),
        ("(SELECT f(max(image)) FROM t)", False),
    ],
)
@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO t(k, image, note) SELECT k + 100, image || 'z', 5 FROM t",
        "INSERT INTO t(note, image) VALUES (7, 'new'), (8, 'newer')",
        "UPDATE t SET image = image || '?', note = 4 WHERE f(note) < 2",
        "DELETE FROM t WHERE f(note) < 2",
    ],
)
def test_what_returning_computes(write: str, returning: str, foreseen: bool) -> None:
    con = database()
    sql = f"{write} RETURNING {returning}"
    bindings = (None,) if "?," in returning else ()
    fed = feeding(sql, Executions(_Session(con)))
    assert fed is not None
    assert fed.bindings == len(bindings)
    ahead = calls(con, fed.sql, bindings)  # what cannot be foreseen does not keep the rest of the write from it
    made = calls(con, sql, bindings)
    assert ahead == made if foreseen else ahead < made


@pytest.mark.parametrize(
    ("columns", "extra"),
    [
        (", g AS (f(image)) STORED", ""),
        (", g GENERATED ALWAYS AS (f(h || '!')) STORED, h AS (f(image || ', )'))", ""),
        (", `a, b` TEXT DEFAULT ('x, AS (y)') CHECK (k > 0), g AS (f(image || k)) STORED", ""),
        ("", "CREATE INDEX i ON t(f(image), note)"),
    ],
)
@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO t(k, image) SELECT k + 100, image || 'z' FROM t",
        "INSERT INTO t(image, note, k) VALUES ('new', 1, 50), ('newer', 2, 60)",
        "UPDATE t SET image = image || '?', note = 4 WHERE note < 2",
    ],
)
def test_what_is_computed_for_rows_that_are_written(write: str, columns: str, extra: str) -> None:
    foreseen, made = made_by(write, columns, extra)
    assert {value for value in made if str(value)[:1] == "n" or "z" in str(value) or "?" in str(value)} <= foreseen


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT f(image) FROM t",
        "INSERT",
        "INSERT INTO",
        "INSERT INTO log DEFAULT VALUES",
        "UPDATE",
        "UPDATE t",
        "CREATE",
        "CREATE TABLE x(a, b)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE INDEX",
        "DROP TABLE t",
        "REINDEX",
        "REINDEX t",
        "REINDEX nocase",
        "REINDEX nowhere.i",
        "REINDEX sqlite_autoindex_log_1",
        "PRAGMA user_version = 1",
        "BEGIN",
        "'INSERT'",
        "--INSERT INTO t",
        "((((",
    ],
)
def test_nothing_is_known(sql: str) -> None:
    assert feeding(sql, Executions(_Session(database()))) is None


WORDS = [
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "INDEX",
    "TABLE",
    "INTO",
    "SET",
    "FROM",
    "WHERE",
    "WITH",
    "AS",
    "ON",
    "t",
]
WORDS += [
    "log",
    "(",
    ")",
    ",",
    "=",
    ".",
    "note",
    "image",
    "f(image)",
    "SELECT",
    "VALUES",
    "?",
    ":a",
    "'",
    '"',
    "--",
    ";",
]


@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_no_text_is_too_odd(words: list[str]) -> None:
    feeding(" ".join(words), Executions(_Session(CON)))


CON = database()


def test_bindings_keep_their_numbers() -> None:
    fed = feeding("INSERT INTO log SELECT f(image) || ? FROM t WHERE k > ? AND note < ?2", Executions(_Session(CON)))
    assert fed is not None
    assert fed.bindings == 2
    assert calls(CON, fed.sql, ("!", 3)) == {"i3", "i4"}
