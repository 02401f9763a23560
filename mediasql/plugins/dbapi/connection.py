"""Connections of the DB-API module, and their transactions."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from ...connection import MediaConnection, session_of
from ...connection import connect as _connect
from . import errors
from .cursor import Cursor
from .errors import ProgrammingError, Translating
from .values import Parameters

_LEVELS = {"", "DEFERRED", "IMMEDIATE", "EXCLUSIVE"}


def connect(
    database: str | bytes | os.PathLike[str] | os.PathLike[bytes] = ":memory:",
    *,
    isolation_level: str | None = "",
    busy_timeout: float = 5.0,
    **config: Any,
) -> Connection:
    """Open a database with all functions and tables of mediasql.

    isolation_level  how transactions begin: '' or 'DEFERRED', 'IMMEDIATE', 'EXCLUSIVE'; None: only when you say BEGIN
    busy_timeout     seconds to wait for another connection that writes to the same file
    config           options of `mediasql.Config`, such as `timeout=10`, the seconds for one media file

    Raises OperationalError for a file that cannot be opened, ProgrammingError for an option that does not exist.
    """
    with Translating():
        connection = _connect(database, **config)
        connection.set_busy_timeout(int(busy_timeout * 1000))
    return Connection(connection, isolation_level)


class Connection:
    """A connection of PEP 249, with the shortcuts that `sqlite3.Connection` has. Made by `connect`."""

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    def __init__(self, connection: MediaConnection, isolation_level: str | None = "") -> None:
        self._connection: MediaConnection | None = connection
        self._isolation_level: str | None = None
        self.transients = session_of(connection).transients  # of whose statements its cursors see the end
        self.isolation_level = isolation_level

    @property
    def apsw(self) -> MediaConnection:
        """The connection that this stands on, for `media_function`, `add_computed_column` and all that APSW has.

        Raises ProgrammingError when it was closed.
        """
        if self._connection is None:
            raise ProgrammingError("Cannot operate on a closed database.")
        return self._connection

    @property
    def in_transaction(self) -> bool:
        """Whether there is something to commit or roll back."""
        return self.apsw.in_transaction

    @property
    def total_changes(self) -> int:
        """Rows changed since the connection was opened."""
        return self.apsw.total_changes()

    @property
    def isolation_level(self) -> str | None:
        """See `connect`. Set to None, it commits what is under way."""
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        if level is None:
            self.commit()
        elif level.upper() not in _LEVELS:
            raise ProgrammingError(f"isolation_level is {level!r}; None, '', 'DEFERRED', 'IMMEDIATE' or 'EXCLUSIVE'")
        self._isolation_level = level

    def cursor(self) -> Cursor:
        """A new cursor."""
        return Cursor(self)

    def execute(self, sql: str, parameters: Parameters = ()) -> Cursor:
        """`Cursor.execute` of a new cursor."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Parameters], *, readahead_rows: int | None = None) -> Cursor:
        """`Cursor.executemany` of a new cursor."""
        return self.cursor().executemany(sql, parameters, readahead_rows=readahead_rows)

    def executescript(self, sql: str) -> Cursor:
        """`Cursor.executescript` of a new cursor."""
        return self.cursor().executescript(sql)

    def begin(self) -> None:
        """Begin a transaction, unless one is under way or `isolation_level` is None."""
        if self._isolation_level is not None and not self.in_transaction:
            self._run(f"BEGIN {self._isolation_level}")

    def commit(self) -> None:
        """Make permanent what was changed since the last commit or rollback, if anything."""
        if self.in_transaction:
            self._run("COMMIT")

    def rollback(self) -> None:
        """Undo what was changed since the last commit or rollback, if anything."""
        if self.in_transaction:
            self._run("ROLLBACK")

    def _run(self, sql: str) -> None:
        with Translating():
            self.apsw.execute(sql)

    def interrupt(self) -> None:
        """End the statement that runs in another thread: there it raises OperationalError."""
        self.apsw.interrupt()

    def create_function(
        self, name: str, narg: int, func: Callable[..., Any] | None, *, deterministic: bool = False
    ) -> None:
        """Make `func` an SQL function, or remove it with None. (For media there is `apsw.media_function`.)"""
        with Translating():
            self.apsw.create_scalar_function(name, func, narg, deterministic=deterministic)

    def close(self) -> None:
        """Close it. What was not committed is rolled back. To close it again changes nothing."""
        if self._connection is not None:
            self._connection.close(force=True)
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """Commit, or roll back after an exception; the connection stays open, as in `sqlite3`."""
        if kind is not None:
            self.rollback()
            return
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
