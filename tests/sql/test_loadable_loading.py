"""`mediasql.load` and `mediasql.loadable_path`: which connections, configurations and files they take."""

from __future__ import annotations

import ctypes
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

import mediasql
from mediasql.sql.loadable import build, loading
from mediasql.sql.loadable.pointer import pointer_of
from tests.sql.api_tables import library
from tests.sql.conftest import Web
from tests.sql.hosts import HostError, program, shell

pytestmark = pytest.mark.usefixtures("loadable")


def test_loading_twice_changes_nothing() -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection, timeout=7)
    mediasql.load(connection)
    assert connection.execute("SELECT media_config('timeout')").fetchone() == (7.0,)
    with pytest.raises(mediasql.ConfigError, match="attached to this connection already"):
        mediasql.load(connection, timeout=8)
    with pytest.raises(mediasql.ConfigError, match="no option 'timeouts'"):
        mediasql.load(sqlite3.connect(":memory:"), timeouts=8)
    connection.close()


def test_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "12.5")
    assert shell(":memory:", ["SELECT media_config('timeout')"]) == [[("12.5",)]]
    with pytest.raises(HostError, match="MEDIASQL_TIMEOUT: 'soon' is not valid; a positive number"):
        shell(":memory:", ["SELECT 1"], MEDIASQL_TIMEOUT="soon")
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "soon")
    with pytest.raises(mediasql.ConfigError, match="MEDIASQL_TIMEOUT"):
        mediasql.load(sqlite3.connect(":memory:"))


def test_a_policy_holds_there(web: Web) -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection, profile="hosted")
    with pytest.raises(sqlite3.OperationalError, match="hosted"):
        connection.execute("SELECT width(?)", (web.url(1),)).fetchall()
    assert connection.execute("SELECT kind FROM media_errors").fetchall() == [("refused",)]
    assert web.asked() == {}
    connection.close()


def test_load_takes_connections_of_apsw_too() -> None:
    connection = apsw.Connection(":memory:")
    mediasql.load(connection, timeout=3)
    assert connection.execute("SELECT media_config('timeout')").get == 3.0
    with pytest.raises(mediasql.ConfigError, match=r"not a builtins\.str"):
        mediasql.load("photos.db")


def test_connections_that_cannot_be_used() -> None:
    closed = sqlite3.connect(":memory:")
    closed.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        mediasql.load(closed)
    elsewhere = sqlite3.connect(":memory:")
    with ThreadPoolExecutor(1) as pool, pytest.raises(sqlite3.ProgrammingError, match="thread"):
        pool.submit(mediasql.load, elsewhere).result()


def test_loading_extensions_stays_forbidden() -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection)
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        connection.execute("SELECT load_extension(?)", (mediasql.loadable_path(),))
    connection.close()


class Bare(sqlite3.Connection):
    """As it is where Python was built without `--enable-loadable-sqlite-extensions`."""

    @property
    def load_extension(self) -> None:  # type: ignore[override]
        raise AttributeError("load_extension")


def test_a_sqlite3_module_that_cannot_load_extensions(tmp_path: Path, web: Web) -> None:
    connection = sqlite3.connect(tmp_path / "a.db", factory=Bare)
    assert not hasattr(connection, "load_extension")
    mediasql.load(connection, timeout=9)
    assert connection.execute("SELECT width(?), media_config('timeout')", (web.url(1),)).fetchone() == (101, 9.0)
    other = sqlite3.connect(":memory:", factory=Bare)
    with pytest.raises(sqlite3.OperationalError, match="no such function: width"):
        other.execute("SELECT width('photo.jpg')")
    mediasql.load(other)
    assert other.execute("SELECT media_config('timeout')").fetchone() == (60.0,)
    for each in (connection, other):
        with pytest.raises(sqlite3.OperationalError, match="not authorized"):
            each.execute("SELECT load_extension(?)", (mediasql.loadable_path(),))
        each.close()


def test_the_pointer_of_a_connection_is_measured() -> None:
    """It is the one that SQLite itself passes around, wherever the object of a connection holds it."""
    sqlite = library()
    for kind in (sqlite3.Connection, Bare):
        connection = sqlite3.connect(":memory:", factory=kind)
        connection.execute("CREATE TABLE t(x)")
        connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(7)])
        pointer = pointer_of(connection, sqlite)
        assert sqlite.sqlite3_total_changes(pointer) == connection.total_changes == 7
        assert sqlite.sqlite3_get_autocommit(pointer) == 0
        connection.commit()
        assert sqlite.sqlite3_get_autocommit(pointer) == 1
        connection.close()


def test_a_pointer_that_cannot_be_measured(tmp_path: Path) -> None:
    """A library that the sqlite3 module does not call hears of no connection; a pointer that no object holds is not
    made up."""
    source, made = tmp_path / "other.c", tmp_path / "other.so"
    source.write_text(
        "int sqlite3_auto_extension(void (*entry)(void)) { OPEN return 0; }\n"
        "int sqlite3_cancel_auto_extension(void (*entry)(void)) { return 0; }\n"
    )
    for opens, message in (
        ("", "calls another SQLite than the library"),
        ("((int (*)(void *, void *, void *))entry)((void *)8, 0, 0);", "has its sqlite3.* in 0 places instead of one"),
    ):
        options = ["-w", "-shared", "-fPIC", f"-DOPEN={opens}", "-o", f"{made}.{len(opens)}", str(source)]
        subprocess.run([*build.compiler(), *options], check=True)
        with pytest.raises(OSError, match=message):
            pointer_of(sqlite3.connect(":memory:"), ctypes.CDLL(f"{made}.{len(opens)}"))


def test_two_libraries_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE t(x)")
    mediasql.load(theirs)
    with pytest.raises(mediasql.ConfigError, match=r"a\.db is open in this process through the extension"):
        mediasql.connect(path)
    ours = apsw.Connection(str(path))
    with pytest.raises(mediasql.ConfigError, match="another SQLite library"):
        mediasql.register(ours)
    theirs.close()
    mediasql.register(ours)
    again = sqlite3.connect(path)
    with pytest.raises(mediasql.ConfigError, match=r"a\.db is open in this process through APSW"):
        mediasql.load(again)
    ours.close()
    mediasql.load(again)
    again.close()


def test_databases_that_were_attached_later(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    theirs = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(theirs)
    theirs.execute("ATTACH ? AS later", (str(path),))
    theirs.execute("CREATE TABLE later.t(x)")
    refused = pytest.raises(mediasql.ConfigError, match=r"a\.db.* is open in this process through the extension")
    with refused:
        mediasql.connect(path)
    with refused:
        mediasql.connect(f"file:{path}?mode=ro")
    with ThreadPoolExecutor(1) as pool, refused:
        pool.submit(mediasql.connect, path).result()
    theirs.execute("DETACH later")
    ours = mediasql.connect()
    ours.execute("ATTACH ? AS later", (str(path),))
    again = sqlite3.connect(path)
    with pytest.raises(mediasql.ConfigError, match=r"a\.db is open in this process through APSW"):
        mediasql.load(again)
    for connection in (ours, again, theirs):
        connection.close()


def test_the_extension_in_the_sqlite_of_apsw(tmp_path: Path) -> None:
    """Which is the same library, so that nothing is mixed. In a program of its own, since each has one library."""
    code = """
import sys, apsw, mediasql
first = mediasql.connect(sys.argv[1])
first.execute("CREATE TABLE t(x)")
second = apsw.Connection(sys.argv[1])
second.enable_load_extension(True)
second.load_extension(mediasql.loadable_path())
second.execute("INSERT INTO t VALUES (url_name('a/b'))")
print(first.execute("SELECT x FROM t").get)
"""
    assert program(sys.executable, "-c", code, str(tmp_path / "a.db"), text="") == "b\n"


READ_ONLY_PERL = """
use DBI;
my ($address, $extension, $statement) = @ARGV;
my $db = DBI->connect("dbi:SQLite:uri=$address", "", "", {RaiseError => 1, PrintError => 0});
$db->sqlite_enable_load_extension(1);
$db->do("SELECT load_extension(?)", undef, $extension);
print $db->selectrow_array($statement), "\n";
"""


def read_only_shell(path: Path, statement: str) -> str:
    load = f".load {mediasql.loadable_path()}"
    trust = "PRAGMA trusted_schema = ON"  # newer ones begin with OFF
    return program("sqlite3", "-bail", "-readonly", "-cmd", load, str(path), text=f"{trust}; {statement};")


def read_only_perl(path: Path, statement: str) -> str:
    return program("perl", "-e", READ_ONLY_PERL, f"file:{path}?mode=ro", mediasql.loadable_path(), statement, text="")


def read_only_module(path: Path, statement: str) -> str:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        mediasql.load(connection)
        return "".join(f"{row[0]}\n" for row in connection.execute(statement).fetchall())
    except sqlite3.DatabaseError as error:
        raise HostError(str(error)) from error
    finally:
        connection.close()


@pytest.mark.parametrize("ask", [read_only_shell, read_only_perl, read_only_module])
def test_a_database_that_is_opened_to_read(ask: Callable[[Path, str], str], tmp_path: Path, web: Web) -> None:
    path = tmp_path / "photos.db"
    before = sqlite3.connect(path)
    before.execute("CREATE TABLE images(image, note)")
    before.execute("INSERT INTO images(image) VALUES (?)", (web.url(1),))
    before.commit()
    before.close()
    for statement in (
        "UPDATE images SET note = width(image)",
        "CREATE INDEX i ON images(width(image))",
        "CREATE VIRTUAL TABLE photos USING media('/tmp/*.jpg')",
        "SELECT add_computed_column('images', 'w', 'width(image)')",
    ):
        with pytest.raises(HostError, match="attempt to write a readonly database"):
            ask(path, statement)
    assert ask(path, "SELECT width(image) + 1 FROM images") == "102\n"


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (read_only_shell, "file is not a database"),
        (read_only_perl, "file is not a database"),
        (read_only_module, "file is not a database"),
        (read_only_shell, "database is locked"),  # the others wait for half a minute
    ],
)
def test_a_database_that_cannot_be_read(ask: Callable[[Path, str], str], tmp_path: Path, said: str) -> None:
    """It is no affair of loading: what needs it fails by itself. Newer versions read the schema for any statement."""
    path = tmp_path / "photos.db"
    other = sqlite3.connect(path)
    if said == "database is locked":
        other.executescript("PRAGMA locking_mode = EXCLUSIVE; CREATE TABLE images(image); BEGIN EXCLUSIVE")
    else:
        path.write_text("much text, of which no table can be made " * 99)
    with pytest.raises(HostError, match=said):
        ask(path, "SELECT width(image) FROM images")
    other.close()


def test_a_library_that_was_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "HERE", tmp_path)
    with pytest.raises(mediasql.MissingExtra, match=r"was not built .* -m mediasql\.sql\.loadable\.build"):
        mediasql.loadable_path()
    with pytest.raises(mediasql.MissingExtra):
        mediasql.load(sqlite3.connect(":memory:"))


def test_the_path_for_shells() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mediasql", "loadable-path"], capture_output=True, text=True, check=True
    )
    assert done.stdout == mediasql.loadable_path() + "\n"
