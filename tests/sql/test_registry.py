"""What a connection gains, that all of it is documented, that each example is true, and that others may add to it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apsw
import pytest

import mediasql
from mediasql.sql.registry import examples, functions, summary, tables
from tests import example_media, readme

FUNCTIONS, TABLES = readme.reference("functions"), readme.reference("tables")
STATEMENTS_ONLY = {name for name, entry in FUNCTIONS.items() if readme.STATEMENTS_ONLY in entry.text}
DETERMINISTIC, DIRECTONLY = 0x800, 0x80000
INTERNAL = "_mediasql"  # what the names of functions begin with that only mediasql's own statements call


class Listed(NamedTuple):
    """What SQLite lists for a connection: flags by name and number of arguments, and the names of modules."""

    functions: dict[tuple[str, int], int]
    modules: set[str]


def listed(connection: Any) -> Listed:
    functions = connection.execute("SELECT name, narg, flags FROM pragma_function_list").fetchall()
    modules = connection.execute("SELECT name FROM pragma_module_list").fetchall()
    return Listed({(name, count): flags for name, count, flags in functions}, {name for (name,) in modules})


def apsw_connection(attach: bool) -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    if attach:
        mediasql.register(connection)
    return connection


def sqlite3_connection(attach: bool) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    if attach:
        mediasql.load(connection)
    return connection


@pytest.fixture(params=[apsw_connection, sqlite3_connection], ids=["APSW", "loadable"])
def connections(request: pytest.FixtureRequest, loadable: str) -> Iterator[tuple[Any, Any]]:
    """A connection without mediasql, and one with it."""
    without, with_mediasql = request.param(attach=False), request.param(attach=True)
    yield without, with_mediasql
    without.close()
    with_mediasql.close()


def test_a_connection_gains_what_the_reference_names(connections: tuple[Any, Any]) -> None:
    before, after = map(listed, connections)
    assert before.functions.items() <= after.functions.items(), "none of SQLite's own is replaced"
    gained = {
        call: flags
        for call, flags in after.functions.items()
        if call not in before.functions and not call[0].startswith(INTERNAL)
    }
    assert gained.keys() == {(name, count) for name, entry in FUNCTIONS.items() for count in entry.arities}
    assert {name for (name, _), flags in gained.items() if flags & DIRECTONLY} == STATEMENTS_ONLY
    assert {name for (name, _), flags in gained.items() if not flags & DETERMINISTIC} == STATEMENTS_ONLY
    assert after.modules - before.modules == TABLES.keys()
    assert before.modules <= after.modules


def test_internal_functions_are_for_statements_only(connections: tuple[Any, Any]) -> None:
    internal = {call: flags for call, flags in listed(connections[1]).functions.items() if call[0].startswith(INTERNAL)}
    assert internal
    assert all(flags & DIRECTONLY for flags in internal.values()), internal


def test_the_reference_names_what_is_registered() -> None:
    assert FUNCTIONS.keys() == functions().keys()
    assert TABLES.keys() == tables().keys()


def call_of(name: str) -> str:
    return f"{name}({', '.join(['image'] * FUNCTIONS[name].arities[0])})"


@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - STATEMENTS_ONLY))
def test_functions_serve_in_schemas(name: str) -> None:
    con = mediasql.connect()
    con.execute(f"CREATE TABLE t(image, value AS ({call_of(name)}))")
    con.execute(f"CREATE INDEX i ON t({call_of(name)})")
    con.execute(f"CREATE VIEW v AS SELECT {call_of(name)} FROM t")
    assert con.execute("SELECT * FROM t, v").fetchall() == []
    con.close()


@pytest.mark.parametrize("name", sorted(STATEMENTS_ONLY))
def test_a_schema_cannot_call_what_is_for_statements_only(name: str) -> None:
    con = mediasql.connect()
    con.execute(f"CREATE TABLE t(image); CREATE VIEW v AS SELECT {call_of(name)} FROM t")
    with pytest.raises(apsw.SQLError, match=rf"unsafe use of {name}\(\)"):
        con.execute("SELECT * FROM v")
    con.close()


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TABLES))
def test_everything_is_documented(name: str) -> None:
    entry = functions().get(name) or tables()[name]
    first = summary(entry.doc).partition("\n")[0]
    assert len(first) > 15, name
    assert summary(entry.doc).endswith("."), name
    assert examples(entry.doc), name
    assert entry.signature.startswith(name)
    if name in TABLES:
        assert all(column.doc and column.name.islower() for column in tables()[name].columns)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    example_media.write(folder)
    return folder


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TABLES))
def test_examples(name: str, example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_folder)
    con = mediasql.connect()
    for sql, expected in examples((functions().get(name) or tables()[name]).doc):
        rows = con.execute(sql).fetchall()
        assert "\n".join("|".join("" if value is None else str(value) for value in row) for row in rows) == expected
    con.close()


ADDED = '''
"""An addition of someone else."""
from collections.abc import Iterator

from mediasql.sql.registry import Column, Media, Session, function, table


@function()
def loudness(media: Media, scale: int = 1) -> int | None:
    """How loud it is.

    sql> SELECT loudness('x')
    1
    """
    return len(media.location.url) * scale


@table(Column("n", "INTEGER", "A number.", int))
def count_to(session: Session, last: int) -> Iterator[int]:
    """Numbers.

    sql> SELECT n FROM count_to(2)
    1
    2
    """
    yield from range(1, last + 1)
'''


def test_other_packages_add_theirs(tmp_path: Path) -> None:
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text("")
    (tmp_path / "loud" / "sound.py").write_text(ADDED)
    information = tmp_path / "loud-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[mediasql]\nloud = loud\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mediasql; con = mediasql.connect()\n"
        'print(con.execute(\'SELECT loudness("abc"), loudness("abc", 2), loudness(NULL)\').fetchall())\n'
        "print(con.execute('SELECT n FROM count_to(3) WHERE n > 1').fetchall())\n"
        "con.execute('CREATE TABLE t(a, b AS (loudness(a))); INSERT INTO t VALUES (NULL)')\n"
        "con.execute('CREATE VIRTUAL TABLE two USING count_to(2)')\n"
        "print(con.execute('SELECT * FROM two').fetchall())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[(3, 6, None)]\n[(2,), (3,)]\n[(1,), (2,)]\n", "")
