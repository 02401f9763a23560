"""Cursors of the DB-API module: one statement at a time, and the rows that it gives."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

import apsw

from ...connection import MediaConnection, session_of
from ...sql.bindings import Bindings, rows_ahead
from .errors import ProgrammingError, Translating
from .values import Parameters, adapted

if TYPE_CHECKING:
    from .connection import Connection

_BLANK = re.compile(r"(?:[\s;]+|--[^\n]*|/\*.*?(?:\*/|\Z))*", re.DOTALL)
_WORD = re.compile(r"\w*")
_CHANGES_ROWS = {"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"}
_BEGINS = {*_CHANGES_ROWS, "CREATE", "ALTER", "DROP", "REINDEX", "ANALYZE", "SAVEPOINT"}


@lru_cache(maxsize=512)
def _keyword(sql: str) -> str:
    """The first word of a statement, in capitals."""
    word = _WORD.match(sql, _end_of_blank(sql, 0))
    return word[0].upper() if word else ""


def _end_of_blank(sql: str, start: int) -> int:
    """Where white space and comments end."""
    blank = _BLANK.match(sql, start)
    return blank.end() if blank else start


class Cursor:
    """A cursor of PEP 249. Made by `Connection.cursor`.

    description  of each column its name and declared type (None for expressions), and five None;
                 None when the last statement gives no rows
    rowcount     rows that INSERT, UPDATE or DELETE changed, once all rows of RETURNING were fetched; otherwise -1
    lastrowid    rowid of the last row that the connection inserted, as of the last `execute`
    arraysize    rows that `fetchmany` gives by default
    """

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._cursor = connection.apsw.cursor()
        self._errors = Translating()
        self._transients = connection.transients
        self._sql = ""
        self._parameters: Parameters = ()
        self._prepared = self._begun = self._counts = False
        self.arraysize = 1
        self.description: tuple[tuple[Any, ...], ...] | None = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    @property
    def connection(self) -> Connection:
        """The connection of this cursor. Raises ProgrammingError when the cursor was closed."""
        if self._connection is None:
            raise ProgrammingError("Cannot operate on a closed cursor.")
        return self._connection

    def _open(self) -> MediaConnection:
        """The connection below. Raises ProgrammingError when that or the cursor was closed."""
        return self.connection.apsw

    def execute(self, sql: str, parameters: Parameters = ()) -> Self:
        """Execute one statement, with a sequence of parameters for `?` or a mapping for `:name`."""
        self._renew(sql)
        self._parameters = adapted(parameters)
        with self._errors:
            try:
                self._cursor.execute(sql, self._parameters)
            finally:
                self._cursor.exec_trace = None
            self._refresh_description()
        if self.description is None:
            self._finish()
        if self._begun:
            self.lastrowid = self._open().last_insert_rowid()
        return self

    def executemany(self, sql: str, parameters: Iterable[Parameters], *, readahead_rows: int | None = None) -> Self:
        """Execute an INSERT, UPDATE or DELETE for each of `parameters`. What RETURNING gives is dropped.

        readahead_rows  see `mediasql.MediaConnection.executemany`: how many of `parameters` may be looked at ahead,
                        by default of lists and the like as many as are of use, and of iterators none
        """
        self._renew(sql)
        if _keyword(sql) not in _CHANGES_ROWS:
            raise ProgrammingError("executemany() can only execute DML statements.")
        counted = self._counting(parameters, rows_ahead(parameters, readahead_rows))
        with self._errors:
            try:
                for _ in self._cursor.executemany(sql, counted):
                    pass
            finally:
                self._cursor.exec_trace = None
        self._counts = False
        self.description = None
        return self

    def _counting(self, parameters: Iterable[Parameters], most_ahead: int) -> Iterator[Parameters]:
        """Yield what APSW executes with, and asks for when it is done with the one before."""
        connection = self._open()
        if isinstance(parameters, list | tuple):
            given: Iterable[Parameters] = list(map(adapted, parameters))
        else:
            given = map(adapted, self._of_caller(parameters))
        session = session_of(connection)
        reads_ahead = most_ahead and session.scout.executions is not None
        ahead = Bindings(session, self._sql, given, most_ahead) if reads_ahead else given
        changed, changes = 0, connection.changes
        for each in ahead:
            yield each
            self._cursor.exec_trace = None  # or it would be called for each
            changed += changes()
            self.rowcount = changed

    def _of_caller(self, parameters: Iterable[Parameters]) -> Iterator[Parameters]:
        try:
            yield from parameters
        except Exception as error:
            self._errors.of_iterator = error
            raise

    def executescript(self, sql: str) -> Self:
        """Commit, and execute any number of statements, without parameters and without beginning a transaction."""
        self.connection.commit()
        self._renew(sql)
        self._cursor.exec_trace = None  # which is for one statement
        with self._errors:
            for _ in self._cursor.execute(sql):
                pass
        return self

    def _renew(self, sql: str) -> None:
        """Forget the last statement, as if no rows had been left."""
        connection = self._open()
        if self._sql:
            self._cursor.close(force=True)
            self._cursor = connection.cursor()
        self._cursor.exec_trace = self._about_to_run
        self._sql = sql
        self._prepared = self._begun = self._counts = self._errors.running = False
        self.description = None
        self.rowcount = -1

    def _about_to_run(self, cursor: apsw.Cursor, sql: str, parameters: object) -> bool:
        """APSW calls this when it has prepared the statement.

        Whoever executes takes it off the cursor afterwards: there, it would keep this object, and what it reads, until
        garbage is collected. It must not do so itself, since APSW has no reference of its own to what it calls.
        """
        if self._prepared:
            return True
        self._prepared = True
        if not cursor.has_vdbe:  # a comment
            return True
        if len(sql) < len(self._sql) and _end_of_blank(self._sql, len(sql)) < len(self._sql):
            raise ProgrammingError("You can only execute one statement at a time.")
        keyword = _keyword(self._sql)
        if keyword in _BEGINS:
            self._counts = keyword in _CHANGES_ROWS and not cursor.is_readonly
            if keyword == "SAVEPOINT" or not cursor.is_readonly:
                self.connection.begin()
        self.description = cursor.description or None
        self._begun = self._errors.running = True
        return True

    def _refresh_description(self) -> None:
        """APSW keeps prepared statements, and SQLite notices only when it runs one that its columns are others now."""
        if self.description is None:
            return
        try:
            self.description = self._cursor.description
        except apsw.ExecutionCompleteError:  # without rows
            self.description = self._described()
            self._finish()

    def _described(self) -> tuple[tuple[Any, ...], ...]:
        found: list[tuple[tuple[Any, ...], ...]] = []

        def look(cursor: apsw.Cursor, sql: str, parameters: object) -> bool:
            found.append(cursor.description)
            return False

        other = self._open().cursor()
        other.exec_trace = look
        with contextlib.suppress(apsw.ExecTraceAbort):
            other.execute(self._sql, self._parameters, can_cache=False)
        return found[0] if found else self.description or ()

    def _finish(self) -> None:
        """All rows were fetched: now SQLite tells how many it changed, and values that failed are warned of."""
        self._transients.look()
        if self._counts:
            self.rowcount = self._open().changes()
            self._counts = False

    def fetchone(self) -> tuple[Any, ...] | None:
        """The next row, or None. Raises ProgrammingError when the last statement gives no rows."""
        self._check_rows()
        return next(self, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        """The next rows, as many as `size` or `arraysize` says, or as are left."""
        self._check_rows()
        return list(islice(self, self.arraysize if size is None else size))

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows that are left."""
        self._check_rows()
        rows: list[tuple[Any, ...]] = []
        with self._errors:
            rows = self._cursor.fetchall()
        self._finish()
        return rows

    def _check_rows(self) -> None:
        self._open()
        if self.description is None:
            raise ProgrammingError("there are no rows to fetch: the last statement gives none, or there was none")

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        self._open()
        row: Any = None
        with self._errors:
            row = next(self._cursor, None)
        if row is None:
            self._finish()
            raise StopIteration
        return tuple(row)

    def setinputsizes(self, sizes: Sequence[Any]) -> None:
        """SQLite needs no sizes."""

    def setoutputsize(self, size: int, column: int | None = None) -> None:
        """SQLite needs no sizes."""

    def close(self) -> None:
        """Forget the rows that are left. The cursor cannot be used any more."""
        self._connection = None
        self._cursor.close(force=True)
