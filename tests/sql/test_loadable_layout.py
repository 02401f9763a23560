"""What the loadable extension says to a host whose table of functions is not what SQLite's header says: never a crash.

Each host is a program of its own, which calls the entry point as SQLite does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mediasql
from mediasql.sql.loadable import build

pytestmark = pytest.mark.usefixtures("loadable")

HOST = """
import ctypes, sys
from pathlib import Path
from mediasql.sql.api_routines import ROUTINES
from mediasql.sql.c_api import number_of
from tests.sql.api_tables import copy_of, known, library, other_versions, pointer_to, table_of
import sqlite3

sqlite, extension = library(), ctypes.PyDLL(sys.argv[1])
names = known(number_of(sqlite3.sqlite_version))
table = copy_of(table_of(sqlite), len(names))
slot = {name: ROUTINES[name].slot for name in names}
sqlite.sqlite3_free.argtypes = [ctypes.c_void_p]

def load(table):
    '''What the entry point returns, and says.'''
    database, error = ctypes.c_void_p(), ctypes.c_char_p()
    sqlite.sqlite3_open(b":memory:", ctypes.byref(database))
    code = extension.sqlite3_mediasql_init(database, ctypes.byref(error), ctypes.byref(table))
    text = error.value and error.value.decode()
    sqlite.sqlite3_free(error)
    return code, text

def changed(**functions):
    made = copy_of(ctypes.addressof(table), len(table))
    for name, address in functions.items():
        made[slot[name]] = address
    return made

"""


def host(code: str, *arguments: str) -> tuple[str, str]:
    """What it prints, and what the extension writes to standard error."""
    path = str(build.HERE / build.NAME)
    done = subprocess.run(
        [sys.executable, "-c", HOST + code, path, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(mediasql.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_the_table_as_it_is() -> None:
    assert host("print(load(table), load(table))") == ("(256, None) (256, None)\n", "")


def test_any_two_functions_exchanged() -> None:
    """Neighbours, in each place: one of them is always named. Those that tell the version, and `mprintf`, go first."""
    out, err = host(
        """
wrong = 0
for name, following in zip(names, names[1:]):
    if None in (table[slot[name]], table[slot[following]]):
        continue
    code, text = load(changed(**{name: table[slot[following]], following: table[slot[name]]}))
    wrong += code != 1 or not (text is None or f", for sqlite3_{name}, has another function" in text)
    if text is None:
        print(name, following)
print("wrong", wrong)
"""
    )
    unsaid = [
        "last_insert_rowid libversion",
        "libversion libversion_number",
        "libversion_number malloc",
        "malloc mprintf",
        "mprintf open",
    ]
    assert out.splitlines() == [*unsaid, "wrong 0"]
    assert len(err.splitlines()) == len(unsaid)  # there it cannot allocate what SQLite will free
    assert "slot 67, for sqlite3_libversion_number, has another function" in err


def test_a_shifted_table() -> None:
    out, err = host("print(load(copy_of(ctypes.addressof(table) + 8, len(table) - 1)))")
    assert out == "(1, None)\n"
    assert "sqlite3_api_routines of this SQLite is not laid out as sqlite3ext.h says: slot 67" in err


@pytest.mark.parametrize("address", ["None", "8", "id(sys)", "ctypes.addressof(table)"])
def test_what_is_no_function(address: str) -> None:
    out, err = host(f"print(load(changed(libversion_number={address})))")
    assert out == "(1, None)\n"
    assert "for sqlite3_libversion_number, has no function of a library" in err


def test_a_function_that_was_left_out() -> None:
    out, _ = host("print(load(changed(create_module_v2=None))[1])")
    assert out.startswith("mediasql: this SQLite (3.")
    assert out.endswith(") was built without sqlite3_create_module_v2\n")


def test_what_only_python_calls_was_left_out() -> None:
    out, _ = host("print(load(changed(txn_state=None))[1])")
    assert "this SQLite was built without sqlite3_txn_state" in out


def test_an_old_sqlite(tmp_path: Path) -> None:
    code = """
other = other_versions(Path(sys.argv[2]))
old = changed(libversion_number=pointer_to(other.number_3030001), libversion=pointer_to(other.text_3030001))
print(load(old)[1])
"""
    assert host(code, str(tmp_path))[0] == "mediasql: SQLite 3.38 or later is needed; this is 3.30.1\n"


def test_versions_that_do_not_agree(tmp_path: Path) -> None:
    code = """
other = other_versions(Path(sys.argv[2]))
print(load(changed(libversion_number=pointer_to(other.number_3039000))))
older = changed(libversion_number=pointer_to(other.number_3039000), libversion=pointer_to(other.text_3039000))
print(load(older)[1])
"""
    out, err = host(code, str(tmp_path))
    none, reported = out.splitlines()
    assert none == "(1, None)"
    assert "has a function that returns 3039000 where the version is 3." in err
    # The functions are all there, but SQL tells another version than they do.
    assert "mediasql: the functions that mediasql was given are of SQLite 3.39, and sqlite_version() of" in reported


def test_a_refusal_leaves_the_extension_to_others() -> None:
    assert host("print(load(changed(create_module_v2=None))[0], load(table))")[0] == "1 (256, None)\n"
