"""With PRAGMA trusted_schema=OFF, a schema may call functions of mediasql only if the configuration says so."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

import mediasql
from mediasql.sql.registry import functions, tables
from tests.sql.conftest import picture

pytestmark = pytest.mark.usefixtures("loadable")


def error_of(connection: Any, statement: str, expected: type[Exception] = apsw.Error) -> str:
    """Why a statement fails, with `expected` in APSW; Python's sqlite3 has errors of its own."""
    expected = sqlite3.DatabaseError if isinstance(connection, sqlite3.Connection) else expected
    with pytest.raises(expected) as caught:
        connection.execute(statement).fetchall()
    return str(caught.value)


README = (Path(__file__).parents[2] / "README.md").read_text()


def apsw_connection(path: Path, **config: Any) -> Any:
    connection = apsw.Connection(str(path))
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()  # parses the schema
    mediasql.register(connection, **config)
    return connection


def sqlite3_connection(path: Path, **config: Any) -> Any:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    mediasql.load(connection, **config)
    return connection


@pytest.fixture(params=[apsw_connection, sqlite3_connection])
def distrusting(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Opens a database on a connection that trusts no schema."""
    opens: Callable[..., Any] = request.param
    return opens


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Of every place where a schema calls something."""
    (tmp_path / "a.jpg").write_bytes(picture(30, 20))
    path = tmp_path / "my.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"""
            CREATE TABLE images(image, note);
            INSERT INTO images VALUES ('{tmp_path}/a.jpg', NULL);
            CREATE TABLE log(x);
        """)
    with closing(mediasql.connect(path)) as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        connection.execute("""
            ALTER TABLE images ADD COLUMN width INT AS (width(image));
            CREATE TABLE stored(image, h AS (height(image)) STORED);
            CREATE TABLE checked(image CHECK (width(image) > 0));
            CREATE TABLE indexed(image);
            CREATE INDEX i ON indexed(height(image));
            CREATE VIEW sizes AS SELECT width(image), height(image) FROM images;
            CREATE VIEW listed AS SELECT name FROM media((SELECT image FROM images));
            CREATE VIRTUAL TABLE photos USING media('/nowhere/*.jpg');
            CREATE VIEW photographed AS SELECT count(*) FROM photos;
            CREATE TRIGGER logs AFTER INSERT ON log BEGIN UPDATE log SET x = (SELECT width(image) FROM images); END;
            CREATE VIEW changes AS SELECT media_refresh(image) FROM images;
        """)
    return path


WORKS: dict[str, list[Any]] = {
    "SELECT width FROM images": [(30,)],
    "INSERT INTO stored SELECT image FROM images RETURNING h": [(20,)],
    "INSERT INTO checked SELECT image FROM images": [],
    "INSERT INTO indexed SELECT image FROM images": [],
    "SELECT * FROM sizes": [(30, 20)],
    "SELECT * FROM listed": [("a.jpg",)],
    "SELECT * FROM photographed": [(0,)],
    "INSERT INTO log VALUES (1)": [],
    "SELECT add_computed_column('images', 'mode', 'image_mode(image)')": [("Added 1 column value with 0 errors",)],
}


@pytest.mark.parametrize("statement", WORKS)
@pytest.mark.parametrize("trust", ["", "trust_schema", "variable", "pragma"])
@pytest.mark.filterwarnings("ignore::mediasql.MediaWarning")
def test_what_a_schema_calls(
    distrusting: Callable[..., Any],
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: str,
    trust: str,
) -> None:
    if trust == "variable":
        monkeypatch.setenv("MEDIASQL_TRUST_SCHEMA", "1")
    with closing(distrusting(database, **({"trust_schema": True} if trust == "trust_schema" else {}))) as connection:
        if trust == "pragma":
            connection.execute("PRAGMA trusted_schema = ON")
        if trust:
            assert connection.execute(statement).fetchall() == WORKS[statement]
            assert connection.execute("SELECT width(image) FROM images").fetchall() == [(30,)]
        else:
            assert "unsafe use of" in error_of(connection, statement)
            # Statements themselves may call what they like.
            assert connection.execute(f"SELECT width('{database.parent}/a.jpg')").fetchall() == [(30,)]


def test_no_column_is_added_that_could_not_be_read(distrusting: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "plain.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE images(image)")
    with closing(distrusting(path)) as connection:
        add = "SELECT add_computed_column('images', 'width', 'width(image)')"
        assert "PRAGMA trusted_schema=ON" in error_of(connection, add, mediasql.UsageError)
        assert connection.execute("SELECT * FROM images").fetchall() == []


@pytest.mark.parametrize("writable", [0, 1])
@pytest.mark.filterwarnings("ignore::mediasql.MediaWarning")
def test_loading_leaves_the_schema_as_writable_as_it_was(database: Path, writable: int) -> None:
    with closing(apsw.Connection(str(database))) as connection:
        connection.execute(f"PRAGMA writable_schema = {writable}")
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        mediasql.register(connection)
        assert connection.config(apsw.SQLITE_DBCONFIG_WRITABLE_SCHEMA, -1) == writable


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.filterwarnings("ignore::mediasql.MediaWarning")
def test_what_changes_something_is_for_statements_only(
    distrusting: Callable[..., Any], database: Path, trust: bool
) -> None:
    with closing(distrusting(database, trust_schema=trust)) as connection:
        if not trust:
            connection.execute("PRAGMA trusted_schema = ON")
        assert "unsafe use of media_refresh()" in error_of(connection, "SELECT * FROM changes")


def test_which_functions_are_innocuous(database: Path) -> None:
    """All that a schema may call at all, and no other."""
    innocuous = "SELECT name FROM pragma_function_list WHERE flags & 0x200000"
    with closing(mediasql.connect()) as connection:
        before = {name for (name,) in connection.execute(innocuous)}
    assert before.isdisjoint(functions())
    with closing(mediasql.connect(trust_schema=True)) as connection:

        @connection.media_function
        def label(image: bytes) -> str:
            return "label"

        found = {name for (name,) in connection.execute(innocuous)}
    assert found - before == {name for name, function in functions().items() if not function.directonly} | {"label"}


@pytest.mark.parametrize("table", tables())
def test_all_tables(table: str, tmp_path: Path) -> None:
    """May be read by a view where it is trusted."""
    arguments = f"('{tmp_path}/a.jpg')" if tables()[table].parameters else ""
    (tmp_path / "a.jpg").write_bytes(picture(3, 3))
    for trust in (False, True):
        with closing(mediasql.connect(trust_schema=trust)) as connection:
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            connection.execute(f"CREATE VIEW v AS SELECT count(*) FROM {table}{arguments}")
            if trust:
                assert connection.execute("SELECT * FROM v").get >= 0
            else:
                with pytest.raises(apsw.SQLError, match=f'unsafe use of virtual table "{table}"'):
                    connection.execute("SELECT * FROM v")


def test_a_profile_forbids_all_the_same(distrusting: Callable[..., Any], database: Path) -> None:
    with closing(distrusting(database, trust_schema=True, profile="untrusted")) as connection:
        error = error_of(connection, "SELECT width FROM images", mediasql.ForbiddenByPolicy)
        assert "profile 'untrusted'" in error


MAKES = {
    "column": "CREATE TABLE t(image, w AS (width(image)))",
    "quoted": 'CREATE TABLE t(image, w AS ("height" (image)) STORED)',
    "index": "CREATE TABLE t(image); CREATE INDEX i ON t(MIME_TYPE (image))",
    "view": "CREATE VIEW v AS SELECT name FROM media('/x/*')",
    "attached": "",
    "none": "CREATE TABLE t(width INT, media, height, CHECK (width > 0)); CREATE VIEW v AS SELECT length(media) FROM t",
}


@pytest.mark.parametrize("schema", MAKES)
def test_loading_warns_if_a_schema_calls_mediasql(distrusting: Callable[..., Any], tmp_path: Path, schema: str) -> None:
    path = tmp_path / "schema.db"
    with closing(mediasql.connect(path)) as connection:
        connection.execute(MAKES[schema] or MAKES["column"])

    def warnings_given(**config: Any) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if schema == "attached":
                with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                    connection.execute("ATTACH ? AS other", (str(path),))
                    connection.execute("PRAGMA trusted_schema = OFF")
                    mediasql.load(connection, **config)
                    assert connection.execute("PRAGMA trusted_schema").fetchone() == (0,)
            else:
                with closing(distrusting(path, **config)) as connection:
                    assert connection.execute("PRAGMA trusted_schema").fetchall() == [(0,)]
        assert all(warning.category is mediasql.MediaWarning for warning in caught)
        return [str(warning.message) for warning in caught]

    messages = warnings_given()
    assert len(messages) == (schema != "none")
    for message in messages:
        assert "PRAGMA trusted_schema=ON" in message
        assert "MEDIASQL_TRUST_SCHEMA=1" in message
    assert warnings_given(trust_schema=True) == []


@pytest.mark.parametrize("line", [0, 1])
def test_the_lines_of_the_readme(loadable: str, database: Path, monkeypatch: pytest.MonkeyPatch, line: int) -> None:
    """In a shell that begins as newer versions do."""
    section = README.partition("## In other SQLite tools")[2].partition("\n## ")[0]
    block = next(part for part in section.split("```sh\n")[1:] if "trusted_schema" in part.partition("```")[0])
    command = block.partition("```")[0].splitlines()[line]
    begins = database.parent / "begins"
    begins.write_text(".output /dev/null\n.dbconfig trusted_schema off\n.dbconfig defensive on\n.output\n")
    newer = f"sqlite3 -init {shlex.quote(str(begins))} "
    monkeypatch.chdir(database.parent)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    distrust = f'{newer} -cmd ".load $(mediasql loadable-path)" my.db "SELECT image, width FROM images"'
    for run, works in ((distrust, False), (command.replace("sqlite3 ", newer, 1), True)):
        done = subprocess.run(run, shell=True, capture_output=True, text=True, check=False, env=environment)
        if works:
            assert done.stdout == f"{database.parent}/a.jpg|30\n"
            assert done.stderr == ""
        else:
            assert done.stdout == ""
            assert done.returncode != 0
            assert "MediaWarning" in done.stderr
            assert "PRAGMA trusted_schema=ON" in done.stderr
