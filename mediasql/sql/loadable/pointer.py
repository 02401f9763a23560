"""Finds the `sqlite3*` of a connection of Python's sqlite3 module, which does not tell it.

The connection's object holds it, at a place that is measured, not assumed: SQLite passes the `sqlite3*` of each new
connection to what `sqlite3_auto_extension` registered, and that pointer is looked for in the object.
"""

from __future__ import annotations

import ctypes
import sqlite3
import threading
from functools import cache
from typing import Any

_OK = 0
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_WORD = ctypes.sizeof(ctypes.c_size_t)

# For ever, since a thread that opens a connection may call one after it was cancelled.
_entries: list[Any] = []


def pointer_of(connection: sqlite3.Connection, library: ctypes.CDLL) -> ctypes.c_void_p:
    """Return the `sqlite3*` of an open connection. `library` is the SQLite that the sqlite3 module calls.

    Raises OSError where the module calls another one, and where connections do not hold the pointer.
    """
    return ctypes.c_void_p(ctypes.c_size_t.from_address(id(connection) + _offset(library)).value)


@cache
def _offset(library: ctypes.CDLL) -> int:
    """Return how many bytes behind the beginning of a connection's object its `sqlite3*` is. Raises OSError."""
    thread, opened = threading.get_ident(), []

    def enter(database: int, message: int, table: int) -> int:
        if threading.get_ident() == thread:
            opened.append(database)
        return _OK

    _entries.append(_ENTRY(enter))
    library.sqlite3_auto_extension(_entries[-1])
    try:
        sample = sqlite3.Connection(":memory:")
    finally:
        library.sqlite3_cancel_auto_extension(_entries[-1])
    words = (ctypes.c_size_t * (sqlite3.Connection.__basicsize__ // _WORD)).from_address(id(sample))
    found = [at * _WORD for at, word in enumerate(words) if word in opened]
    sample.close()
    if not opened:
        raise OSError("Python's sqlite3 module calls another SQLite than the library that it is linked with")
    if len(found) != 1:
        raise OSError(f"a connection of Python's sqlite3 module has its sqlite3* in {len(found)} places instead of one")
    return found[0]
