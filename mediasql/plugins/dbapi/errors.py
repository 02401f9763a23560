"""The exceptions of the DB-API module, and which of them stands for which of SQLite's and mediasql's.

Errors of mediasql are both: `except dbapi.OperationalError` catches a timeout, and so does `except TransientError`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import apsw

from ...errors import MediaError, TransientError, UnavailableError


class Warning(Exception):
    """Of PEP 249; never raised."""


class Error(Exception):
    """Base of all errors. Those of SQLite have its codes, as in `sqlite3`."""

    sqlite_errorcode: int
    sqlite_errorname: str


class InterfaceError(Error):
    """The module itself was used in a way that SQLite does not know."""


class DatabaseError(Error):
    """Base of what concerns the database."""


class DataError(DatabaseError):
    """A value is too big, or media is missing or damaged."""


class OperationalError(DatabaseError):
    """A failure of the moment, a file that cannot be opened, or SQL that SQLite does not accept."""


class IntegrityError(DatabaseError):
    """A constraint would be violated."""


class InternalError(DatabaseError):
    """SQLite met a state that it does not expect."""


class ProgrammingError(DatabaseError):
    """A wrong call: closed connections, parameters that do not fit, and mediasql's UsageError."""


class NotSupportedError(DatabaseError):
    """Of PEP 249; never raised."""


# As Modules/_sqlite/util.c has it; all others are DatabaseError.
_OF_SQLITE: list[tuple[tuple[type[apsw.Error], ...], type[Error]]] = [
    ((apsw.InternalError, apsw.NotFoundError), InternalError),
    ((apsw.TooBigError,), DataError),
    ((apsw.ConstraintError, apsw.MismatchError), IntegrityError),
    ((apsw.MisuseError, apsw.RangeError), InterfaceError),
    (
        (
            apsw.SQLError,
            apsw.PermissionsError,
            apsw.AbortError,
            apsw.BusyError,
            apsw.LockedError,
            apsw.ReadOnlyError,
            apsw.InterruptError,
            apsw.IOError,
            apsw.FullError,
            apsw.CantOpenError,
            apsw.SchemaChangeError,
            apsw.ExtensionLoadingError,
        ),
        OperationalError,
    ),
    (
        (
            apsw.BindingsError,
            apsw.ConnectionClosedError,
            apsw.CursorClosedError,
            apsw.ThreadingViolationError,
            apsw.IncompleteExecutionError,
        ),
        ProgrammingError,
    ),
]


_both: dict[type[MediaError], type[Any]] = {}


def _both_of(kind: type[MediaError]) -> type[Any]:
    """A class that is an error of mediasql and one of PEP 249."""
    if kind not in _both:
        base: type[Error] = ProgrammingError
        if issubclass(kind, UnavailableError):
            base = DataError
        elif issubclass(kind, TransientError):
            base = OperationalError
        _both[kind] = type(kind.__name__, (kind, base), {"__doc__": kind.__doc__, "__module__": __name__})
    return _both[kind]


def translated(error: Exception, running: bool) -> Exception:
    """The DB-API's error for any other.

    running  whether it happened in a statement, and not before it began
    """
    if isinstance(error, MediaError):
        both: Exception = _both_of(type(error))(str(error), status=error.status)
        return both
    if isinstance(error, apsw.Error):
        mapped = next((cls for kinds, cls in _OF_SQLITE if isinstance(error, kinds)), DatabaseError)(str(error))
        if (code := getattr(error, "extendedresult", None)) is not None:
            mapped.sqlite_errorcode = code
            mapped.sqlite_errorname = str({**apsw.mapping_extended_result_codes, **apsw.mapping_result_codes}[code])
        return mapped
    if isinstance(error, KeyError) and not running:
        return ProgrammingError(f"You did not supply a value for binding parameter :{error.args[0]}.")
    if running:  # a Python function that SQL called
        return OperationalError(f"{type(error).__name__}: {error}")
    return ProgrammingError(str(error))


class Translating:
    """`with Translating():` raises errors of PEP 249 instead of those of APSW and mediasql.

    running        whether a statement runs, so that an error of Python comes from a function that SQL called
    of_iterator    what the iterator given to executemany raised, which is nobody's business but the caller's
    """

    def __init__(self) -> None:
        self.running = False
        self.of_iterator: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        of_iterator, self.of_iterator = self.of_iterator, None  # which holds on to the frames that it went through
        if isinstance(error, Exception) and not isinstance(error, Error) and error is not of_iterator:
            raise translated(error, self.running) from error
