"""The few functions of SQLite's C interface that APSW does not offer: which statements are running.

SQLite hands its functions to loadable extensions in a table, `sqlite3_api_routines`, which is checked before it is used
(`functions_at`) and called by ctypes. So no tracer has to be called for each statement of an application.
"""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import apsw

from ..errors import ConfigError
from ..storage import forking
from . import routines_of_apsw
from .api_routines import OLDEST, ROUTINES

Signature = tuple[Any, tuple[Any, ...]]  # the type of the result, and those of the arguments

_FUNCTIONS: dict[str, Signature] = {
    "next_stmt": (ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_void_p)),
    "stmt_busy": (ctypes.c_int, (ctypes.c_void_p,)),
    "stmt_readonly": (ctypes.c_int, (ctypes.c_void_p,)),
    "stmt_status": (ctypes.c_int, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)),
    "data_count": (ctypes.c_int, (ctypes.c_void_p,)),
    "db_filename": (ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_char_p)),
    "bind_parameter_count": (ctypes.c_int, (ctypes.c_void_p,)),
    "sql": (ctypes.c_char_p, (ctypes.c_void_p,)),
    "expanded_sql": (ctypes.c_void_p, (ctypes.c_void_p,)),
    "free": (None, (ctypes.c_void_p,)),
    "libversion_number": (ctypes.c_int, ()),
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

    def __init__(self, table: int, expected: str | None = None) -> None:
        """Read the `sqlite3_api_routines` at the address `table`. Raises ConfigError as `functions_at` does."""
        # PYFUNCTYPE keeps the GIL: these return at once, and releasing it costs more than they do.
        self._add(functions_at(table, _FUNCTIONS, ctypes.PYFUNCTYPE, expected))
        self.table = table
        self._call: Any = self

    def _add(self, functions: dict[str, Any]) -> None:
        for name, function in functions.items():
            setattr(self, name, function)

    @cached_property
    def library(self) -> int:
        """What tells one SQLite library of this process from another: where a function of it is."""
        return ctypes.cast(self._call.libversion_number, ctypes.c_void_p).value or 0

    @property
    def version(self) -> int:
        """The number of the SQLite version behind the table."""
        return int(self._call.libversion_number())

    def files(self, database: int, schemas: Iterable[str]) -> list[str]:
        """Return the paths of those databases of a connection, an `sqlite3*`, that are in files.

        They are as `os` has them: the bytes of a name that are not UTF-8 are surrogates.
        """
        found = (self._call.db_filename(database, schema.encode()) for schema in schemas)
        return [os.fsdecode(file) for file in found if file]

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

    def executes_alone(self, statements: Sequence[Running]) -> bool:
        """Return whether SQLite executes no more than one statement of their connection now; False in doubt.

        It counts executions that are inside of one another. While there are several, sqlite3_expanded_sql gives the
        text of any statement as a comment, line by line, its bindings not in place.
        """
        call, statement = self._call, statements[0].pointer
        if call.bind_parameter_count(statement):  # which may be BLOBs, and make long texts
            statement = min((each.pointer for each in statements), key=call.bind_parameter_count)
        text = call.expanded_sql(statement)
        if not text:
            return False
        try:
            if ctypes.string_at(text, 3) != b"-- ":
                return True
            first_line = (call.sql(statement) or b"").split(b"\n", 1)[0]
            return not ctypes.string_at(text).startswith(b"-- " + first_line)
        finally:
            call.free(text)

    def text(self, statement: Running) -> str:
        """The statement as it was prepared; nothing where it was not to be kept."""
        return bytes(self._call.sql(statement.pointer) or b"").decode(errors="replace")

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


def functions_at(table: int, wanted: Mapping[str, Signature], kind: Any, expected: str | None = None) -> dict[str, Any]:
    """Return functions of the `sqlite3_api_routines` at an address; None for those that its SQLite is too old to have.

    kind      ctypes.PYFUNCTYPE, which keeps the GIL, or ctypes.CFUNCTYPE, which releases it
    expected  the version that the owner of the table reports, such as '3.40.1'

    Raises ConfigError for a SQLite that is too old, and for a table that is not laid out as `api_routines` says:
    nothing in it but its version is called before that is known.
    """
    slots = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))

    def function(name: str, result: Any, arguments: tuple[Any, ...]) -> Any:
        slot = ROUTINES[name].slot
        if not (address := slots[slot]):
            raise ConfigError(f"this SQLite was built without sqlite3_{name} (slot {slot} of sqlite3_api_routines)")
        return kind(result, *arguments)(address)

    number = int(function("libversion_number", ctypes.c_int, ())())
    # The text would be read where that function points to: only if the number is one of a version.
    known = 3_000_000 < number < 4_000_000
    version = function("libversion", ctypes.c_char_p, ())().decode(errors="replace") if known else None
    if version is None or number != number_of(version) or expected not in (None, version):
        raise ConfigError(
            f"sqlite3_api_routines of this SQLite is not laid out as sqlite3ext.h says: sqlite3_libversion_number, in "
            f"slot {ROUTINES['libversion_number'].slot}, returned {number} where the version is "
            f"{expected or version or 'unknown'}"
        )
    if number < OLDEST:
        raise ConfigError(f"SQLite {text_of(OLDEST)} or later is needed; this is {version}")
    return {
        name: function(name, *signature) if number >= ROUTINES[name].since else None
        for name, signature in wanted.items()
    }


def text_of(number: int) -> str:
    """Return the version of a number: '3.38' for 3038000."""
    major, minor, patch = number // 1_000_000, number // 1000 % 1000, number % 1000
    return f"{major}.{minor}.{patch}" if patch else f"{major}.{minor}"


def number_of(version: str) -> int:
    """Return the number of a version that is written as '3.38.0'; 0 for anything else."""
    parts = [*version.split("."), "0", "0"][:3]
    return int("".join(part.zfill(3) for part in parts)) if all(part.isdecimal() for part in parts) else 0


_lock = forking.lock()
_found: list[CApi | str] = []
_looking = False


def c_api() -> CApi | None:
    """Return SQLite's C interface as APSW's own library offers it; None where it cannot be reached."""
    found = _look()
    return found if isinstance(found, CApi) else None


def unreachable() -> str | None:
    """Return why `c_api()` is None; None where it is not."""
    found = _look()
    return found if isinstance(found, str) else None


def _look() -> CApi | str | None:
    global _looking
    with _lock:
        if not _found and not _looking:
            _looking = True  # the connection made for it may be given to a hook that attaches us
            try:
                _found.append(CApi(routines_of_apsw.address(), apsw.sqlite_lib_version()))
            except (LookupError, ConfigError) as error:
                _found.append(str(error))
            finally:
                _looking = False
        return _found[0] if _found else None
