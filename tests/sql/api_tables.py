"""Tables of SQLite's C interface as tests need them: that of the library which Python's sqlite3 calls, and copies of it
with other functions in them."""

from __future__ import annotations

import _sqlite3
import ctypes
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

from mediasql.sql.api_routines import ROUTINES
from mediasql.sql.loadable import build

Entry = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
Table = Any  # an array of void *

# What a SQLite of another version would have in its table: a library, since a function is expected to be of one.
OTHER_VERSIONS = """
int number_3030001(void) { return 3030001; }
const char *text_3030001(void) { return "3.30.1"; }
int number_3039000(void) { return 3039000; }
const char *text_3039000(void) { return "3.39.0"; }
"""


def library() -> ctypes.CDLL:
    return ctypes.CDLL(_sqlite3.__file__)


def table_of(sqlite: ctypes.CDLL) -> int:
    """The address of the `sqlite3_api_routines` of a library that Python's sqlite3 calls."""
    found: list[int] = []
    entry = Entry(lambda database, message, table: found.append(table) or 0)
    sqlite.sqlite3_auto_extension(entry)
    try:
        sqlite3.connect(":memory:").close()
    finally:
        sqlite.sqlite3_cancel_auto_extension(entry)
    return found[0]


def copy_of(address: int, length: int) -> Table:
    return (ctypes.c_void_p * length).from_buffer_copy(
        ctypes.string_at(address, length * ctypes.sizeof(ctypes.c_void_p))
    )


def known(version: int) -> list[str]:
    """The names of the functions that a table of this version has, in their order."""
    return [name for name, (_, since) in ROUTINES.items() if since <= version]


def pointer_to(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


def other_versions(folder: Path) -> ctypes.CDLL:
    source, made = folder / "versions.c", folder / "versions.so"
    source.write_text(OTHER_VERSIONS)
    subprocess.run([*build.compiler(), "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
    return ctypes.CDLL(str(made))
