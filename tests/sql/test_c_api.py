"""SQLite's C interface: where its functions are, and what is said where they are not there."""

from __future__ import annotations

import ctypes
import sqlite3
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

import mediasql
from mediasql.sql import routines_of_apsw
from mediasql.sql.api_routines import OLDEST, ROUTINES
from mediasql.sql.c_api import CApi, c_api, functions_at, number_of, text_of, unreachable
from mediasql.sql.loadable.routines import Routines
from tests.sql.api_tables import copy_of, known, library, other_versions, pointer_to, table_of
from tests.sql.conftest import Web

NUMBER, TEXT = ROUTINES["libversion_number"].slot, ROUTINES["libversion"].slot


def test_places_are_those_of_sqlite() -> None:
    """The library of Python's sqlite3 exports its functions by name, and has them in its table by place."""
    sqlite = library()
    names = known(number_of(sqlite3.sqlite_version))
    table = copy_of(table_of(sqlite), len(names))
    exported = {name: pointer_to(getattr(sqlite, f"sqlite3_{name}")) for name in names if table[ROUTINES[name].slot]}
    assert len(exported) > 250
    assert exported == {name: table[ROUTINES[name].slot] for name in exported}


def test_places_in_the_newest_version() -> None:
    """APSW keeps the names of its SQLite to itself, so what newer versions appended is told by what it does."""
    connection = apsw.Connection(":memory:")
    call = Routines(routines_of_apsw.address()).call
    assert call.version == apsw.SQLITE_VERSION_NUMBER
    assert call.is_interrupted(connection.sqlite3_pointer()) == 0
    running = connection.execute("SELECT 1 UNION ALL SELECT 2")
    connection.interrupt()
    assert call.is_interrupted(connection.sqlite3_pointer()) == 1
    del running
    connection.close()


def test_which_functions_not_all_versions_have() -> None:
    """All others are there in the oldest version that is supported, so that nobody asks whether they are."""
    sqlite = library()
    assert {name for name, value in vars(Routines(table_of(sqlite))).items() if value is None} == (
        set() if number_of(sqlite3.sqlite_version) >= 3_041_000 else {"is_interrupted"}
    )
    assert ROUTINES["is_interrupted"].since > OLDEST


def test_versions() -> None:
    assert [number_of(text) for text in ("3.40.1", "3.41", "3.8.0.2", "4", "latest", "")] == [
        3_040_001,
        3_041_000,
        3_008_000,
        4_000_000,
        0,
        0,
    ]
    assert [text_of(number) for number in (3_038_000, 3_046_001)] == ["3.38", "3.46.1"]


def test_the_table_of_apsw_outlives_what_found_it() -> None:
    before = apsw.vfs_names()
    address = routines_of_apsw.address()
    assert apsw.vfs_names() == before
    assert CApi(address, apsw.sqlite_lib_version()).version == apsw.SQLITE_VERSION_NUMBER
    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)
    with pytest.raises(apsw.ExtensionLoadingError):
        connection.load_extension("mediasql-routines", "mediasql-routines")
    connection.close()


def test_connection_hooks_may_attach_mediasql() -> None:
    """They are called for the connection that finds the table, too."""
    code = """
import apsw, mediasql
apsw.connection_hooks.append(mediasql.register)
connection = apsw.Connection(":memory:")
print(connection.execute("SELECT media_config('readahead')").get)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"


def test_a_hook_that_fails_once_spoils_nothing() -> None:
    code = """
import apsw, mediasql

def fail(connection):
    raise ZeroDivisionError

apsw.connection_hooks.append(fail)
try:
    mediasql.connect()
except ZeroDivisionError:
    apsw.connection_hooks.clear()
print(mediasql.connect().execute("SELECT media_config('readahead')").get)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "on\n"


def apsw_table() -> ctypes.Array[ctypes.c_void_p]:
    return copy_of(routines_of_apsw.address(), len(known(apsw.SQLITE_VERSION_NUMBER)))


@pytest.mark.parametrize("by", [-1, 1])
def test_a_table_that_is_laid_out_otherwise(by: int) -> None:
    table = apsw_table()
    moved = (ctypes.c_void_p * len(table))(*(table[(at + by) % len(table)] for at in range(len(table))))
    expected = rf"slot {NUMBER}, returned -?\d+ where the version is {apsw.sqlite_lib_version()}"
    with pytest.raises(mediasql.ConfigError, match=expected):
        CApi(ctypes.addressof(moved), apsw.sqlite_lib_version())
    with pytest.raises(mediasql.ConfigError, match=r"is not laid out as sqlite3ext\.h says"):
        Routines(ctypes.addressof(moved))


def test_a_function_that_is_missing() -> None:
    table = apsw_table()
    slot = ROUTINES["stmt_busy"].slot
    table[slot] = None
    with pytest.raises(mediasql.ConfigError, match=rf"built without sqlite3_stmt_busy \(slot {slot} of"):
        CApi(ctypes.addressof(table))


def test_versions_that_do_not_agree(tmp_path: Path) -> None:
    other = other_versions(tmp_path)
    table = apsw_table()
    table[NUMBER] = pointer_to(other.number_3039000)
    with pytest.raises(mediasql.ConfigError, match=r"returned 3039000 where the version is 3\.5"):
        CApi(ctypes.addressof(table))
    with pytest.raises(mediasql.ConfigError, match=r"where the version is 3\.40\.1"):
        CApi(ctypes.addressof(apsw_table()), "3.40.1")
    table[NUMBER], table[TEXT] = pointer_to(other.number_3030001), pointer_to(other.text_3030001)
    with pytest.raises(mediasql.ConfigError, match=r"SQLite 3\.38 or later is needed; this is 3\.30\.1"):
        CApi(ctypes.addressof(table))


def test_a_version_without_a_function_that_came_later() -> None:
    address = routines_of_apsw.address()
    found = functions_at(address, {"carray_bind_v2": (None, ())}, ctypes.PYFUNCTYPE)
    assert found["carray_bind_v2"] is not None
    sqlite = library()
    if number_of(sqlite3.sqlite_version) < ROUTINES["carray_bind_v2"].since:  # or there is no such version here
        assert functions_at(table_of(sqlite), {"carray_bind_v2": (None, ())}, ctypes.PYFUNCTYPE) == {
            "carray_bind_v2": None
        }


WITHOUT = """
import sys, warnings, apsw

class Omitted(apsw.Connection):
    @property
    def enable_load_extension(self):
        raise AttributeError("no attribute 'enable_load_extension'")

apsw.Connection = Omitted  # as APSW is where SQLite was built with SQLITE_OMIT_LOAD_EXTENSION
import mediasql

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    mediasql.connect(readahead="off").close()
    print(len(told))
    con, other = mediasql.connect(), mediasql.connect()
    mediasql.register(apsw.Connection(":memory:"))
    print(len(told), told[0].category.__name__, told[0].filename, told[0].message)
print(con.execute("SELECT media_config('readahead')").get)
print(mediasql.connect(readahead="off").execute("SELECT media_config('readahead')").get)
con.execute("CREATE TABLE t(image, w AS (width(image)) STORED, h AS (height(image)))")
con.executemany("INSERT INTO t(image) VALUES (?)", [(url,) for url in sys.argv[1:]])
print(con.execute("SELECT sum(w), sum(h), sum(width(image)) FROM t").get)
print(con.execute("UPDATE t SET image = image RETURNING w").fetchall())
print(con.add_computed_column("t", "h2", "height(image)"))
"""


def test_an_apsw_that_loads_no_extensions(environment: Path, web: Web) -> None:
    """It says once that nothing is read ahead, and where people look for it; values are the same."""
    urls = [web.url(number) for number in range(5)]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *urls], capture_output=True, text=True, check=True)
    quiet, warning, shown, off, *values = done.stdout.splitlines()
    assert quiet == "0"
    assert warning.startswith(
        "1 MediaWarning <string> mediasql does not read ahead, so that a query waits for one file"
    )
    assert "APSW cannot load an extension here (AttributeError: no attribute 'enable_load_extension')" in warning
    assert shown.startswith("off: APSW cannot load an extension here (AttributeError: ")
    assert off == "off"
    assert values == [
        "(510, 250, 510)",
        "[(100,), (101,), (102,), (103,), (104,)]",
        "Added 5 column values with 0 errors",
    ]


def test_here_it_can_be_reached() -> None:
    assert unreachable() is None
    assert c_api() is c_api() is not None
