"""The few functions of SQLite's C interface that APSW does not offer: which statements are running.

SQLite hands its functions to loadable extensions in a table, `sqlite3_api_routines`, to which versions only append.
APSW's wheels bring small extensions; one of them, loaded into a connection of its own, gives us that table, and ctypes
calls it. So no tracer has to be called for each statement of an application.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from typing import Any, NamedTuple

import apsw

# Places in sqlite3_api_routines (sqlite3ext.h).
_PLACES: dict[str, tuple[int, Any, tuple[Any, ...]]] = {
    "next_stmt": (152, ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p)),
    "stmt_busy": (184, ctypes.c_int, (ctypes.c_void_p,)),
    "stmt_readonly": (185, ctypes.c_int, (ctypes.c_void_p,)),
    "stmt_status": (170, ctypes.c_int, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)),
    "data_count": (48, ctypes.c_int, (ctypes.c_void_p,)),
    "bind_parameter_count": (7, ctypes.c_int, (ctypes.c_void_p,)),
    "sql": (153, ctypes.c_char_p, (ctypes.c_void_p,)),
    "expanded_sql": (215, ctypes.c_void_p, (ctypes.c_void_p,)),
    "free": (58, None, (ctypes.c_void_p,)),
    "libversion_number": (67, ctypes.c_int, ()),
}
_STATUS_RUN = 6  # SQLITE_STMTSTATUS_RUN: how often the statement was started
_numbers = itertools.count(1)


class Running(NamedTuple):
    """A statement that was started and has not ended.

    No other execution, of whatever statement, has its number; one that runs triggers may have several in turn.
    """

    pointer: int
    execution: int
    readonly: bool
    gave_a_row: bool


# What was under way at the last look, by connection and statement; of all libraries, since two may look at the same.
_seen: dict[int, dict[int, Running]] = {}


class CApi:
    """Reads the statements of a connection; to be called on the thread that uses the connection."""

    def __init__(self, table: int) -> None:
        places = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        for name, (place, result, arguments) in _PLACES.items():
            # PYFUNCTYPE keeps the GIL: these return at once, and releasing it costs more than they do.
            setattr(self, name, ctypes.PYFUNCTYPE(result, *arguments)(places[place] or 0))
        self._call: Any = self

    @property
    def library(self) -> int:
        """What tells one SQLite library of this process from another: where a function of it is."""
        return ctypes.cast(self._call.libversion_number, ctypes.c_void_p).value or 0

    @property
    def version(self) -> int:
        """The number of the SQLite version behind the table."""
        return int(self._call.libversion_number())

    def running(self, database: int) -> list[Running]:
        """The statements of `database`, an `sqlite3*`, that are under way; the last prepared is first.

        SQLite counts how often a statement was started, from 0 for a new one, which may lie where an earlier one did.
        Looking at it sets that back to 0. So 0 says that it is the execution of the last look, and any other number
        that it is not, or that it ran a trigger since. Whoever else looks at SQLITE_STMTSTATUS_RUN finds less there.
        """
        call, seen, found = self._call, _seen.get(database), {}
        following, busy = call.next_stmt, call.stmt_busy  # an application may have a hundred idle ones
        statement = following(database, None)
        while statement:
            if busy(statement):
                row = call.data_count(statement) > 0
                known = seen.get(statement) if seen else None
                if call.stmt_status(statement, _STATUS_RUN, 1) or known is None:
                    known = Running(statement, next(_numbers), bool(call.stmt_readonly(statement)), row)
                elif known.gave_a_row is not row:
                    known = known._replace(gave_a_row=row)
                found[statement] = known
            statement = following(database, statement)
        _seen[database] = found
        return list(found.values())

    def text(self, statement: Running) -> str:
        """The statement as it was prepared."""
        return bytes(self._call.sql(statement.pointer)).decode(errors="replace")

    def parameters(self, statement: Running) -> int:
        """How many bindings it takes."""
        return int(self._call.bind_parameter_count(statement.pointer))

    def expanded(self, statement: Running) -> str | None:
        """The statement with its bindings in place; None when that is too long for SQLite.

        Of a statement that is executed inside of another one, SQLite gives a comment, its bindings not in place.
        """
        if not self.parameters(statement):
            return self.text(statement)
        text = self._call.expanded_sql(statement.pointer)
        if not text:
            return None
        try:
            return ctypes.string_at(text).decode(errors="replace")
        finally:
            self._call.free(text)


_lock = threading.RLock()
_found: list[CApi | None] = []
_looking = False


def c_api() -> CApi | None:
    """SQLite's C interface as APSW's own library offers it; None where this build of APSW has no extensions."""
    global _looking
    with _lock:
        if not _found and not _looking:
            _looking = True  # the connection made for it may be given to a hook that attaches us
            _found.append(_look())
        return _found[0] if _found else None


def _look() -> CApi | None:
    if hasattr(ctypes.CDLL(None), "sqlite3StmtVtabInit"):
        return None  # of another SQLite library, which the extension would call instead of its own
    try:
        from apsw import sqlite_extra

        path = sqlite_extra.path("stmt")
        connection = apsw.Connection(":memory:")
        sqlite_extra.load(connection, "stmt")
        # Closing the connection unloads the extension, unless it is open here too.
        table = ctypes.c_void_p.in_dll(ctypes.CDLL(path), "sqlite3_api").value
        connection.close()
    except (ImportError, AttributeError, LookupError, OSError, ValueError, apsw.Error):
        return None
    except Exception as error:
        if type(error).__module__ == "apsw.sqlite_extra":  # its NotAvailable
            return None
        raise
    api = CApi(table) if table else None
    return api if api is not None and api.version == apsw.SQLITE_VERSION_NUMBER else None
