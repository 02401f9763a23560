"""The few functions of SQLite's C interface that APSW does not offer: which statements are running.

SQLite hands its functions to loadable extensions in a table, `sqlite3_api_routines`, to which versions only append.
APSW's wheels bring small extensions; one of them, loaded into a connection of its own, gives us that table, and ctypes
calls it. So no tracer has to be called for each statement of an application.
"""

from __future__ import annotations

import ctypes
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


class Running(NamedTuple):
    """A statement that was started and has not ended. `run` tells one execution of it from the next."""

    pointer: int
    run: int
    readonly: bool
    gave_a_row: bool


class CApi:
    """Reads the statements of a connection; to be called on the thread that uses the connection."""

    def __init__(self, table: int) -> None:
        places = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        for name, (place, result, arguments) in _PLACES.items():
            # PYFUNCTYPE keeps the GIL: these return at once, and releasing it costs more than they do.
            setattr(self, name, ctypes.PYFUNCTYPE(result, *arguments)(places[place] or 0))
        self._call: Any = self

    @property
    def version(self) -> int:
        """The number of the SQLite version behind the table."""
        return int(self._call.libversion_number())

    def running(self, database: int) -> list[Running]:
        """The statements of `database`, an `sqlite3*`, that are under way; the last prepared is first."""
        call, found, statement = self._call, [], None
        while statement := call.next_stmt(database, statement):
            if call.stmt_busy(statement):
                found.append(
                    Running(
                        statement,
                        call.stmt_status(statement, _STATUS_RUN, 0),
                        bool(call.stmt_readonly(statement)),
                        call.data_count(statement) > 0,
                    )
                )
        return found

    def text(self, statement: Running) -> str:
        """The statement as it was prepared."""
        return bytes(self._call.sql(statement.pointer)).decode(errors="replace")

    def parameters(self, statement: Running) -> int:
        """How many bindings it takes."""
        return int(self._call.bind_parameter_count(statement.pointer))

    def expanded(self, statement: Running) -> str | None:
        """The statement with its bindings in place; None when that is too long for SQLite."""
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
