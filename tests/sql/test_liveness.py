"""Whatever the schema and the statement: the same rows as with functions that always compute, and no useless fetch."""

from __future__ import annotations

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.connection import session_of
from mediasql.sql import apsw_binding
from mediasql.sql.liveness import called_functions, unused_functions
from mediasql.sql.media import Media
from mediasql.sql.registry import Function, Parameter

# Many, since a function that is needed anywhere in a statement is computed for all of it, and would hide mistakes.
NAMES = ("f", "g", "a_function_whose_name_is_longer_than_others", *(f"h{n}" for n in range(12)))

OPERATORS = ["-", "*", "/", "%", "&", "|", "<<", ">>", "||", "AND", "OR"]


def value_of(name: str, text: str) -> int:
    return (sum(text.encode()) + NAMES.index(name)) % 7


class Database:
    """A database with test functions, which count what they compute; `always` knows of no unused results."""

    def __init__(self, always: bool) -> None:
        self.fetches: Counter[str] = Counter()
        self.always = always
        if always:
            self.connection = apsw.Connection(":memory:")
            for name in NAMES:
                self.connection.create_scalar_function(name, self._plain(name), 1, deterministic=True)
        else:
            self.connection = mediasql.connect()
            for name in NAMES:
                apsw_binding.add_function(self.connection, session_of(self.connection), self._function(name))
        self.connection.execute("ATTACH ':memory:' AS aux")

    def _plain(self, name: str) -> Any:
        return lambda value: None if value is None else value_of(name, str(value))

    def _function(self, name: str) -> Function:
        def compute(media: Any) -> int:
            self.fetches[name] += 1
            return value_of(name, str(media))

        return Function(
            name=name,
            call=compute,
            parameters=(Parameter("media", object, False),),
            deterministic=True,
            directonly=False,
            perishable=False,
            remembered=False,
            reads_media=True,
            wants_session=False,
            doc="",
        )

    def run(self, sql: str, bindings: Any = None) -> Any:
        """The rows that a statement gives, or the kind of its error."""
        try:
            if isinstance(bindings, list):
                return list(self.connection.executemany(sql, bindings))
            return list(self.connection.execute(sql, bindings))
        except apsw.Error as error:
            return type(error).__name__

    def dump(self) -> Any:
        return [
            (schema, name, self.run(f'SELECT * FROM {schema}."{name}" ORDER BY 1, 2, 3'))
            for schema, name in self.connection.execute(
                "SELECT schema, name FROM pragma_table_list WHERE name IN ('t', 'u', 'w', 'log', 'made') ORDER BY 1, 2"
            ).fetchall()
        ]

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def lazy() -> Iterator[Database]:
    database = Database(always=False)
    yield database
    database.close()


class Maker:
    """Random SQL that is mostly valid, out of a `random.Random`."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_
        self.choice = random_.choice
        self.unused: list[str] = []
        self.statements: list[tuple[str, Any]] = []

    def maybe(self, text: str, chance: float = 0.5) -> str:
        return text if self.random.random() < chance else ""

    def name(self) -> str:
        """Another function each time, until all were used."""
        if not self.unused:
            self.unused = self.random.sample(NAMES, len(NAMES))
        return self.unused.pop()

    def call(self, column: str) -> str:
        return self.choice(
            [
                f"{self.name()}({column})",
                f"{self.name()}({column}) + 1",
                f"iif({self.name()}({column}) > 4, 'big', 'small')",
                f"coalesce({column}, {self.name()}({column}))",
                f"printf('%s-%s-%s', upper('abc'), {self.name()}({column}), {column})",
                f"max({self.name()}({column}), {self.name()}('constant'), 3)",
                f"json_array({column}, {self.name()}({column}))",
                f"CASE {self.name()}({column}) WHEN 3 THEN {self.name()}({column}) ELSE 'x' END",
                f"{self.name()}({self.name()}({column}))",
                f"{self.name()}({column}) {self.choice(OPERATORS)} 3",
                f"{self.name()}({column}) {self.choice(['<', '<=', '>', '>=', '=', '<>', 'IS'])} 4",
                f"{self.choice(['NOT', '-', '~'])} {self.name()}({column})",
                f"{self.name()}({column}) {self.choice(['IS NULL', 'IS TRUE', 'IN (1, 3, 5)', 'BETWEEN 2 AND 5'])}",
                f"(4, 'x') {self.choice(['<', '='])} ({self.name()}({column}), {column})",
                f"CAST({self.name()}({column}) AS TEXT)",
            ]
        )

    def table(self, name: str, schema: str = "") -> list[str]:
        """A table with the columns k, url, note, v1, v2, v3."""
        columns = [
            f"k {self.choice(['INTEGER PRIMARY KEY', 'INTEGER PRIMARY KEY AUTOINCREMENT', 'INT', 'TEXT UNIQUE'])}",
            f"url TEXT {self.maybe('NOT NULL', 0.2)} {self.maybe('UNIQUE ON CONFLICT REPLACE', 0.15)}",
            "note TEXT DEFAULT 'n'",
        ]
        without_rowid = self.maybe("WITHOUT ROWID", 0.15)
        if without_rowid:
            columns[0] = "k INT PRIMARY KEY"
        earlier = "url"
        for number in (1, 2, 3):
            kind = self.choice(["VIRTUAL", "VIRTUAL", "VIRTUAL", "STORED"])
            check = self.maybe(self.choice([f"CHECK (v{number} <> 5)", "NOT NULL", "UNIQUE"]), 0.12)
            source = self.choice(["url", "note", "note || url", earlier])
            columns.append(f"v{number} AS ({self.call(source)}) {kind} {check}")
            earlier = f"v{number}"
        self.random.shuffle(columns)
        made = [f"CREATE {schema} TABLE {name}({', '.join(columns)}) {without_rowid}"]
        if self.random.random() < 0.4:
            on = self.choice(["v1", "note, v2", "url", f"{self.name()}(url)", "v3 DESC"])
            made.append(f"CREATE {self.maybe('UNIQUE', 0.2)} INDEX i_{name} ON {name}({on}) {self.where('', 0.3)}")
        return made

    def where(self, qualifier: str, chance: float = 0.6) -> str:
        column = qualifier + self.choice(["k", "url", "note", "v1", "v2", "v3"])
        test = self.choice(["> 2", "IS NOT NULL", "<> 4", "LIKE 'u%'", ">= {call}", "IN ({call}, 3)", "IS {call}"])
        whole = self.choice(["{column} {test}", "{column} {test}", "{call}", "NOT {call}", "{call} IS NOT NULL"])
        call = f"{self.name()}({qualifier}{self.choice(['url', 'note'])})"
        return self.maybe("WHERE " + whole.format(column=column, test=test.format(call=call), call=call), chance)

    def trigger(self, number: int) -> str:
        table = self.choice(["t", "u"])
        event = self.choice(["INSERT", "UPDATE", "UPDATE OF note", "DELETE"])
        row = {"INSERT": "new", "DELETE": "old"}.get(event, self.choice(["new", "old"]))
        seen = self.choice(["url", "note", "v1", "v2"])
        body = self.choice(
            [
                f"INSERT INTO log VALUES ({row}.{seen}, {row}.note);",
                f"INSERT INTO log VALUES ({row}.{seen}, {self.call(f'{row}.url')});",
                f"INSERT INTO log SELECT {row}.{seen}, v1 FROM u WHERE note = {row}.note;",
                "INSERT OR IGNORE INTO w(k, url) VALUES (random() % 1 + 500, 'from trigger');",
                f"UPDATE w SET note = {row}.{seen};",
                f"DELETE FROM w WHERE v1 = {row}.{seen};",
                f"SELECT RAISE(IGNORE) WHERE {row}.{seen} = 5;",
                f"SELECT RAISE(ABORT, 'no') WHERE {self.name()}({row}.url) = 5;",
            ]
        )
        when = self.maybe(f"WHEN {row}.{self.choice(['note', 'v2', 'url'])} IS NOT NULL", 0.3)
        timing = self.choice(["BEFORE", "AFTER"])
        return (
            f"CREATE {self.maybe('TEMP', 0.3)} TRIGGER tr{number} {timing} {event} ON {table} {when} BEGIN {body} END"
        )

    def schema(self) -> list[str]:
        made = [
            *self.table("t", self.maybe("TEMP", 0.15)),
            *self.table("u"),
            *self.table("w"),
            "CREATE TABLE log(a, b)",
            "CREATE VIEW vw AS SELECT k, url, note, v1, v2 FROM t",
            f"CREATE TRIGGER tv INSTEAD OF INSERT ON vw BEGIN INSERT INTO t(k, url, note) "
            f"VALUES (new.k, {self.choice(['new.url', 'new.v1', self.call('new.url')])}, new.note); END",
            "CREATE TABLE aux.t2(k INTEGER PRIMARY KEY, url, v1 AS (f(url)), v2 AS (g(url)) STORED)",
            "CREATE TABLE made(k INTEGER PRIMARY KEY REFERENCES u(k) ON DELETE CASCADE, v AS (f(k)))",
        ]
        made += [self.trigger(number) for number in range(self.random.randrange(4))]
        if self.random.random() < 0.15:
            made.append("PRAGMA recursive_triggers = ON")
        if self.random.random() < 0.2:
            made.append("PRAGMA foreign_keys = ON")
        for table in ("t", "u", "w"):
            rows = ", ".join(f"({k}, 'u{self.random.randrange(40)}', '{self.choice('mn')}')" for k in (1, 2, 3, 4))
            made.append(f"INSERT OR IGNORE INTO {table}(k, url, note) VALUES {rows}")
        return made

    def value(self) -> str:
        return self.choice(["'u1'", "'u2'", "'long url'", "NULL", "3", "'ü'", "x'41'", "f('u3')", "printf('u%d', 4)"])

    def rows(self) -> str:
        keys = [str(self.random.randrange(60)) for _ in range(self.choice([1, 1, 2, 3]))]
        return ", ".join(f"({key}, {self.value()}, {self.value()})" for key in keys)

    def select(self) -> str:
        """A SELECT of three columns: k, url, note."""
        source = self.choice(["t", "u", "w"])
        column = self.choice(["url", "note", "v1", "v2", "url || v3", self.call("url"), "printf('%s', url)"])
        order, limit = self.choice(["k", "v1", "url"]), self.random.randrange(1, 5)
        key = self.choice(["k + 100", "random() % 1 + k + 200", "NULL"])
        f, g, call = self.name(), self.name(), self.call("url")
        total = self.choice(["sum", "max", "total", "group_concat"])
        return self.choice(
            [
                f"SELECT {key}, {column}, note FROM {source} {self.where('')} ORDER BY {order} LIMIT {limit}",
                f"SELECT {key}, {column}, 'x' FROM {source} {self.where('')}",
                f"SELECT max(k) + 300, {column}, count(*) FROM {source} GROUP BY {self.choice(['url', 'v2', 'note'])}",
                f"SELECT a.k + 400, a.url, b.{self.choice(['note', 'v1'])} FROM t a JOIN u b ON a.note = b.note",
                f"SELECT a.k + 400, b.v2, a.note FROM t a LEFT JOIN {source} b USING (url)",
                "SELECT value + 500, printf('http://%s/%d', upper('x'), value), 'n' FROM json_each('[1,2,3]')",
                f"SELECT 600 + row_number() OVER w, lag({column}) OVER w, note FROM {source} WINDOW w AS (ORDER BY k)",
                f"WITH c(x, y) AS (SELECT k, {column} FROM {source} LIMIT 3) SELECT x + 700, y, y FROM c",
                f"SELECT k + 800, url, note FROM {source} UNION SELECT k + 900, v1, note FROM u ORDER BY 1 LIMIT 4",
                f"SELECT k + 1000, (SELECT v1 FROM u WHERE u.note = x.note ORDER BY k), note FROM {source} x",
                "VALUES (1100, 'a', 'b'), (1101, f('a'), g('b'))",
                f"SELECT k + 1300, url, note FROM {source} LIMIT {f}('u') OFFSET {g}('v') - 2",
                f"SELECT k + 1400, url, note FROM {source} ORDER BY {call}, k LIMIT 2",
                f"SELECT k + 1500, url, note FROM {source} WHERE k = {f}(note) OR k > {g}('u')",
                f"SELECT 1600 + a.k, b.note, a.url FROM t a JOIN {source} b ON a.k = {f}(b.url)",
                f"SELECT 1700, {total}({call}), 'x' FROM {source}",
                f"SELECT 1800 + k, sum({f}(url)) OVER (ORDER BY k ROWS 1 PRECEDING), note FROM {source}",
                f"SELECT 1900 + value, value, x.k FROM {source} x, json_each(json_array({f}(x.url), 2)) LIMIT 5",
                f"SELECT DISTINCT {f}(url) + 2000, note, {g}(note) FROM {source}",
                f"SELECT 2100 + k, url, note FROM {source} WHERE {f}(url) IN (SELECT {g}(url) FROM u)",
                f"SELECT 2200 + k, url, note FROM {source} WHERE EXISTS (SELECT 1 FROM u WHERE k = {f}({source}.url))",
                f"SELECT min(k) + 2300, url, note FROM {source} GROUP BY {call} HAVING {f}(min(url)) > 2",
                f"SELECT {f}(url) + 2400, url, note FROM {source} UNION ALL SELECT k, {g}(url), 1 FROM u LIMIT 6",
                f"SELECT DISTINCT 1200, {column}, note FROM {source} WHERE v1 IN (SELECT v2 FROM u)",
            ]
        )

    def statement(self) -> tuple[str, Any]:
        table = self.choice(["t", "u", "w", "vw"])
        real = table if table != "vw" else "t"
        columns = "k, url, note"
        conflict = self.choice(["", "", "", "OR REPLACE", "OR IGNORE", "OR FAIL"])
        returning = self.maybe(f"RETURNING {self.choice(['k', 'url, v1', '*', 'f(url)', 'note'])}", 0.25)
        resolution = self.choice(["NOTHING", "UPDATE SET note = excluded.note", "UPDATE SET note = excluded.v1"])
        upsert = self.maybe(f"ON CONFLICT DO {resolution}", 0.2)
        assigned = self.choice(
            ["note = 'changed'", "url = url || 'x'", "note = v1", "k = k + 2000", f"note = {self.call('url')}"]
        )
        statements: list[tuple[str, Any]] = [
            (f"INSERT {conflict} INTO {table}({columns}) VALUES {self.rows()} {returning}", None),
            (f"INSERT {conflict} INTO {real}({columns}) VALUES {self.rows()} {upsert} {returning}", None),
            (f"INSERT {conflict} INTO {table}({columns}) {self.select()}", None),
            (f"INSERT INTO {real}({columns}) SELECT * FROM ({self.select()}) WHERE true {upsert} {returning}", None),
            (f"INSERT INTO {table}({columns}) VALUES (?, ?, ?)", [(n, f"u{n}", "many") for n in range(70, 73)]),
            (
                f"INSERT INTO {real}({columns}) SELECT k + 3000, url, v1 FROM t WHERE url LIKE ?",
                (self.choice(["u%", "%1"]),),
            ),
            (f"INSERT INTO {real} DEFAULT VALUES", None),
            ("INSERT INTO aux.t2(k, url) SELECT k, url FROM u", None),
            ("INSERT OR IGNORE INTO made(k) SELECT k FROM u", None),
            ("REPLACE INTO aux.t2(k, url) VALUES (1, 'u1'), (2, 'u2')", None),
            (f"UPDATE {conflict} {real} SET {assigned} {self.where('')} {returning}", None),
            (f"UPDATE {real} SET note = x.note FROM (SELECT v1, note FROM w) AS x WHERE x.v1 = {real}.v1", None),
            (f"UPDATE {real} SET (url, note) = (SELECT url, v1 FROM u ORDER BY k LIMIT 1) {self.where('')}", None),
            (f"DELETE FROM {real} {self.where('')} {returning}", None),
            (f"CREATE TABLE copy{self.random.randrange(10**6)} AS {self.select()}", None),
            (f"CREATE INDEX IF NOT EXISTS late ON {real}({self.choice(['v1', 'url', 'note, v3'])})", None),
            ("ANALYZE", None),
            ("REINDEX", None),
            (self.select(), None),
        ]
        return self.choice(statements)

    def step(self) -> list[tuple[str, Any]]:
        """A statement, new or one of the last; perhaps behind a PRAGMA that makes another program of it."""
        setting = self.choice(
            ["ignore_check_constraints", "recursive_triggers", "reverse_unordered_selects", "automatic_index"]
        )
        if not self.statements or self.random.random() < 0.7:
            self.statements.append(self.statement())
        found = [(f"PRAGMA {setting} = {self.choice(['ON', 'OFF'])}", None)] if self.random.random() < 0.2 else []
        return [*found, self.choice(self.statements[-3:])]


def compare(lazy: Any, always: Any, seed: int, seen: Counter[str]) -> list[tuple[str, Any]]:
    """Run the same random statements on both, which must answer alike. Returns them, and counts in `seen`."""
    maker = Maker(random.Random(seed))
    script: list[tuple[str, Any]] = [(sql, None) for sql in maker.schema()]
    script += [statement for _ in range(12) for statement in maker.step()]
    for sql, bindings in script:
        expected, found = always.run(sql, bindings), lazy.run(sql, bindings)
        seen["error" if isinstance(expected, str) else "fine"] += 1
        assert found == expected, (seed, script, sql)
    assert lazy.dump() == always.dump(), (seed, script)
    return script


def test_the_same_rows_as_when_everything_is_computed() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=250)
    @given(st.integers(0, 2**48))
    def the_same(seed: int) -> None:
        lazy, always = Database(always=False), Database(always=True)
        try:
            script = compare(lazy, always, seed, seen)
            # Not always "ok": SQLite forgets JSON's subtype in STORED columns, and then an index that has it differs.
            check = "PRAGMA integrity_check"
            assert lazy.run(check) == always.run(check), (seed, script)
        finally:
            lazy.close()
            always.close()

    the_same()
    assert seen["fine"] > 3 * seen["error"] > 0, "most of the statements are valid"


PLAIN = "CREATE TABLE t(k INTEGER PRIMARY KEY, url TEXT, note TEXT, v AS (f(url)), x AS (v + g(url)), y AS (g(x)))"
OTHER = "CREATE TABLE s(k INTEGER PRIMARY KEY, url, note, v AS (f(url)))"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t(url) VALUES ('a')",
        "INSERT INTO t(url) VALUES ('a'), ('b'), ('c')",
        "INSERT OR REPLACE INTO t(k, url) VALUES (1, 'a')",
        "INSERT OR IGNORE INTO t(k, url) VALUES (1, 'a')",
        "INSERT INTO t(k, url) VALUES (1, 'a') ON CONFLICT(k) DO UPDATE SET note = excluded.url",
        "INSERT INTO t(url) SELECT url FROM s",
        "INSERT INTO t(url) SELECT url FROM s WHERE url LIKE 'a%' ORDER BY url DESC LIMIT 2 OFFSET 1",
        "INSERT INTO t(url, note) SELECT max(url), count(*) FROM s GROUP BY note HAVING count(*) > 0",
        "INSERT INTO t(url) SELECT a.url FROM s a JOIN s b ON a.k = b.k + 1",
        "INSERT INTO t(url) SELECT printf('http://%s/%d', upper('host'), k) FROM s",
        "INSERT INTO t(url) SELECT format('%s', url) || date('now') FROM s ORDER BY 1",
        'INSERT INTO t(url, note) SELECT value, json_array(value, 2) FROM json_each(\'["a", "b"]\')',
        "INSERT INTO t(url) WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c LIMIT 5) SELECT n FROM c",
        "INSERT INTO t(url, note) SELECT url, row_number() OVER (PARTITION BY note ORDER BY url) FROM s",
        "INSERT INTO t(url) SELECT url FROM t",
        "INSERT INTO t(url) SELECT url FROM s UNION SELECT note FROM s ORDER BY 1",
        "INSERT INTO t(url) SELECT name FROM media('tests/sql/*.py')",
        "INSERT INTO t(url) VALUES ('a') RETURNING k, url",
        "UPDATE t SET note = 'b'",
        "UPDATE t SET url = 'c' || url WHERE k = 1",
        "UPDATE t SET note = printf('%s!', s.url) FROM s WHERE s.k = t.k",
        "UPDATE t SET note = 'x' RETURNING k",
        "DELETE FROM t",
        "DELETE FROM t WHERE note = 'n' RETURNING url",
        "CREATE INDEX i ON t(note)",
        "CREATE TABLE made AS SELECT url FROM t",
        "VACUUM",
        "ANALYZE",
        "REINDEX",
        "ALTER TABLE t ADD COLUMN more AS (g(url))",
        "ALTER TABLE t RENAME COLUMN note TO remark",
    ],
)
def test_what_nothing_needs_is_not_fetched(lazy: Database, statement: str) -> None:
    fill(lazy)
    assert not isinstance(lazy.run(statement), str)
    assert lazy.fetches == {}


def fill(database: Database) -> None:
    for sql in (
        PLAIN,
        OTHER,
        "INSERT INTO s(k, url, note) VALUES (1, 'a1', 'n'), (2, 'a2', 'n'), (3, 'b', 'm')",
        "INSERT INTO t(k, url, note) VALUES (1, 'a1', 'n'), (2, 'a2', 'n')",
    ):
        assert database.run(sql) == []
    assert database.fetches == {}


@pytest.mark.parametrize(
    ("addition", "statement", "fetches"),
    [
        ("CREATE INDEX i ON t(v)", "INSERT INTO t(url) VALUES ('a')", {"f": 1}),
        ("CREATE INDEX i ON t(note) WHERE v > 100", "INSERT INTO t(url) VALUES ('a')", {"f": 1}),
        ("CREATE INDEX i ON t(f(note))", "INSERT INTO t(url, note) VALUES ('a', 'b')", {"f": 2}),
        ("CREATE INDEX i ON t(v)", "UPDATE t SET note = 'c' WHERE k = 1", {}),
        ("CREATE INDEX i ON t(note)", "UPDATE t SET note = 'c' WHERE k = 1", {}),
        ("SELECT 1", "INSERT INTO t(url) VALUES ('a') RETURNING v", {"f": 1}),
        ("SELECT 1", "INSERT INTO t(url) VALUES (printf('%s%s', upper('a'), f('x')))", {"f": 2}),
        ("SELECT 1", "CREATE INDEX i ON t(v)", {"f": 2}),
        ("SELECT 1", "CREATE TABLE made AS SELECT v FROM t", {"f": 2}),
        (
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO s(url) VALUES (new.note); END",
            "INSERT INTO t(url) VALUES ('a')",
            {},
        ),
        (
            "CREATE TRIGGER r AFTER INSERT ON t BEGIN INSERT INTO s(url) VALUES (new.v); END",
            "INSERT INTO t(url) VALUES ('a')",
            # s has such a column too; a function is needed as a whole, or not at all. But NULL costs nothing.
            {"f": 2},
        ),
        (
            "CREATE TRIGGER r BEFORE DELETE ON t WHEN old.v = 1 BEGIN SELECT 1; END",
            "DELETE FROM t WHERE k = 1",
            {"f": 1},
        ),
    ],
)
def test_what_is_needed_is_fetched(lazy: Database, addition: str, statement: str, fetches: dict[str, int]) -> None:
    fill(lazy)
    assert not isinstance(lazy.run(addition), str)
    lazy.fetches.clear()
    assert not isinstance(lazy.run(statement), str)
    assert lazy.fetches == fetches


@pytest.mark.parametrize(
    "column",
    [
        "v AS (f(url)) STORED",
        "v AS (f(url)) NOT NULL",
        "v AS (f(url)) UNIQUE",
        "v AS (f(url)) CHECK (v < 100)",
        "v AS (f(url)), note2 AS (v || 'x') STORED",
    ],
)
def test_columns_that_need_their_value(lazy: Database, column: str) -> None:
    lazy.run(f"CREATE TABLE t(url, {column}, idle AS (g(url)))")
    lazy.run("INSERT INTO t(url) VALUES ('a')")
    assert lazy.fetches == {"f": 1}


LOG = "CREATE TABLE log(v); CREATE TRIGGER r AFTER DELETE ON t BEGIN INSERT INTO log VALUES (old.v); END"
MATCHES = "INSERT INTO log SELECT v FROM t WHERE kind IS ?"


@pytest.mark.parametrize(
    ("setup", "statement", "change", "result"),
    [
        (
            "CREATE TABLE t(url, v AS (f(url)) CHECK (v > 100)); PRAGMA ignore_check_constraints = ON",
            ("INSERT INTO t(url) VALUES (?)", ("a",)),
            "PRAGMA ignore_check_constraints = OFF",
            "SELECT count(*) FROM t",
        ),
        (
            f"CREATE TABLE t(k INTEGER PRIMARY KEY, url, v AS (f(url))); PRAGMA recursive_triggers = OFF; {LOG}",
            ("REPLACE INTO t(k, url) VALUES (1, ?)", ("a",)),
            "PRAGMA recursive_triggers = ON",
            "SELECT v FROM log",
        ),
        (
            "CREATE TABLE t(url, kind, v AS (f(url))); CREATE INDEX i ON t(kind, v) WHERE kind IS NULL;"
            "CREATE TABLE log(v, w AS (f(v))); INSERT INTO t VALUES ('a', 'photo'), ('b', NULL)",
            (MATCHES, (None,)),
            ("INSERT INTO log(v) VALUES (-1)"),
            (MATCHES, ("photo",)),
        ),
        (
            "CREATE TABLE t(name, url, kind, v AS (f(url))); CREATE INDEX i ON t(name, v, kind);"
            "CREATE INDEX j ON t(kind); CREATE TABLE log(v, w AS (f(v))); INSERT INTO t VALUES ('n', 'a', 'p');"
            "ANALYZE; DELETE FROM sqlite_stat1; INSERT INTO sqlite_stat1 VALUES ('t', 'i', '9000 1 1 1'),"
            "('t', 'j', '9000 9000'); ANALYZE sqlite_schema",
            ("INSERT INTO log SELECT v FROM t WHERE name = 'n' AND kind = 'p'", ()),
            "UPDATE sqlite_stat1 SET stat = iif(idx = 'i', '9000 9000 9000 9000', '9000 1'); ANALYZE sqlite_schema",
            "SELECT v FROM log ORDER BY rowid",
        ),
    ],
    ids=["checks", "triggers", "bindings", "statistics"],
)
def test_a_program_that_becomes_another(setup: str, statement: Any, change: str, result: Any) -> None:
    """Of the same statement and schema: by a PRAGMA, by what is bound, or by what ANALYZE found."""
    found = []
    for always in (False, True):
        database = Database(always)
        database.connection.execute(setup)
        database.run(*statement)
        database.connection.execute(change)
        database.run(*statement)
        found.append(database.run(*([result] if isinstance(result, str) else result)))
        found[-1] = [found[-1], database.run("SELECT * FROM t"), database.run("SELECT * FROM log")]
        database.close()
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("statement", "bindings"),
    [
        ("UPDATE t SET score = ? WHERE k = ?", (0.1 + 0.2, 1)),
        ("INSERT INTO t(url, score) VALUES (?, ?) ON CONFLICT DO UPDATE SET score = excluded.score", ("a", 1 / 3)),
        ("INSERT INTO t(url, score) SELECT url || ?, 1 FROM t WHERE k = ? AND url LIKE ?", ("b", 1, "a%")),
        ("INSERT INTO t(url, score) SELECT :more || url, :more FROM t WHERE k = :k", {"k": 1, "more": "b"}),
    ],
)
def test_with_statistics_nothing_more_is_fetched(lazy: Database, statement: str, bindings: Any) -> None:
    """Then SQLite looks at what is bound when it makes a plan."""
    lazy.run("CREATE TABLE t(k INTEGER PRIMARY KEY, url UNIQUE, score, v AS (f(url)))")
    lazy.run("CREATE INDEX i ON t(score)")
    lazy.run("INSERT INTO t(url, score) VALUES (?, ?)", [("a", 0.5), ("c", 1.5)])
    lazy.run("ANALYZE")
    for _ in range(2):
        assert lazy.run(statement, bindings) in ([], "ConstraintError")
    assert lazy.fetches == {}


def test_a_strict_table_does_not_need_its_virtual_columns(lazy: Database) -> None:
    lazy.run("CREATE TABLE t(url TEXT, v INT AS (f(url)), w INT AS (length(url)) STORED) STRICT")
    assert lazy.run("INSERT INTO t(url) VALUES ('a')") == []
    assert lazy.fetches == {}
    assert lazy.run("SELECT v, w FROM t") == [(value_of("f", "a"), 1)]


def test_a_plan_that_depends_on_bindings(lazy: Database) -> None:
    """With a prefix to look for, v comes from the index; without, from the function."""
    lazy.run("CREATE TABLE t(name TEXT COLLATE NOCASE, url, note, v AS (f(url)))")
    lazy.run("CREATE INDEX i ON t(name, v, url)")
    lazy.run("INSERT INTO t(name, url) VALUES ('abc', 'u1'), ('xyz', 'u2')")
    copy = "INSERT INTO t(name, url, note) SELECT 'copy', url, v FROM t WHERE name LIKE ?"
    for pattern in ("abc%", "%z", "abc%"):
        lazy.run(copy, (pattern,))
    assert lazy.run("SELECT url, note FROM t WHERE name = 'copy' ORDER BY rowid") == [
        ("u1", value_of("f", "u1")),
        ("u2", value_of("f", "u2")),
        ("u1", value_of("f", "u1")),
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t(url) VALUES ('a')",
        "INSERT INTO t(url) VALUES ('a'), ('b') RETURNING url",
        "INSERT INTO t(url) SELECT printf('%s%s', upper('abc'), url) FROM s ORDER BY url LIMIT 3",
        "INSERT INTO t(url) VALUES ('a') ON CONFLICT DO UPDATE SET note = excluded.url",
        "UPDATE t SET note = 'x' WHERE k IN (SELECT k FROM s)",
        "DELETE FROM t WHERE url = 'a'",
    ],
)
@pytest.mark.parametrize("needed", [False, True])
def test_the_bytecode_of_another_version(sql: str, needed: bool) -> None:
    """That of the SQLite which Python has, whichever that is; Debian 12 has 3.40."""
    connection = sqlite3.connect(":memory:")
    for name in NAMES:
        connection.create_function(name, 1, lambda value: 1, deterministic=True)
    connection.execute(PLAIN)
    connection.execute(OTHER)
    if needed:
        connection.execute("CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT new.v; END")
        connection.execute("CREATE TRIGGER q AFTER UPDATE ON t BEGIN SELECT new.v; END")
        connection.execute("CREATE TRIGGER p BEFORE DELETE ON t BEGIN SELECT old.v; END")
    explained = connection.execute(f"EXPLAIN {sql}").fetchall()
    unused = unused_functions(explained)
    assert ("f" in called_functions(explained)) or "DELETE" in sql
    assert "f" not in unused if needed else unused == called_functions(explained) & set(NAMES)
    connection.close()


def test_what_is_not_understood_is_computed() -> None:
    """An opcode from the future, a jump out of the program, no function name: each of them makes all results used."""
    program: list[tuple[Any, ...]] = [
        (0, "Init", 0, 1, 0, None, 0, None),
        (1, "PureFunc", 0, 2, 1, "f(1)", 0, None),
        (2, "Noop", 0, 0, 0, None, 0, None),
        (3, "Halt", 0, 0, 0, None, 0, None),
    ]
    assert unused_functions(program) == {"f"}
    assert unused_functions([*program[:2], (2, "Teleport", 0, 0, 0, None, 0, None), program[3]]) == frozenset()
    assert unused_functions([*program[:2], (2, "Goto", 0, 77, 0, None, 0, None), program[3]]) == frozenset()
    assert unused_functions([*program[:2], (2, "OpenPseudo", 0, 1, 1, None, 0, None), program[3]]) == frozenset()
    assert unused_functions([]) == frozenset()


def test_media_functions_take_part() -> None:
    """`reads_media` is what makes results optional; Media parameters set it."""
    from mediasql.sql.registry import functions

    known = functions()
    assert known["width"].reads_media
    assert known["width"].parameters[0].kind is Media
    assert not known["media_version"].reads_media
