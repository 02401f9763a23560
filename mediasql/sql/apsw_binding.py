"""The registry on an APSW connection: functions, tables, and which statement is under way."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, cast

import apsw

from ..config import Config
from .call import bind
from .computed import ROW_BEGINS
from .liveness import live_functions
from .registry import Function, functions, tables
from .session import Session
from .vtable import Module

_MOST_PLANS = 1000
_KEEPS_SCHEMA = ("SELE", "INSE", "UPDA", "DELE", "REPL", "WITH")  # any other statement may change it
_NAME_IN_EXPLAIN = 18  # characters of a function's name that older SQLite versions show


class Statements:
    """Follows the statements of one connection through APSW's execution tracer, after whose own is called.

    A write does all its changes before it returns for the first time, so it is under way from its start to then;
    whatever calls a function at another time reads.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.serial = 0
        self._reference = weakref.ref(connection)
        self._write: weakref.ref[apsw.Cursor] | None = None
        self._write_sql = ""
        self._write_bindings: Any = None
        self._plans: dict[str, frozenset[str] | None] = {}
        self._versions: list[int] = []
        self._explaining = False
        self._chained: Callable[..., bool] | None = connection.exec_trace
        connection.exec_trace = self._started

    @property
    def _connection(self) -> apsw.Connection:
        connection = self._reference()
        assert connection is not None, "a closed connection calls no functions"
        return connection

    def _started(self, cursor: apsw.Cursor | apsw.Connection, sql: str, bindings: Any) -> bool:
        if self._explaining:
            return True
        if isinstance(cursor, apsw.Connection):  # SAVEPOINT and RELEASE of `with connection`
            return self._chained is None or self._chained(cursor, sql, bindings)
        self.serial += 1
        if self._plans and sql.lstrip()[:4].upper() not in _KEEPS_SCHEMA:
            self._plans.clear()
        if cursor.is_readonly:
            if self._write is not None and self._write() is cursor:
                self._write = None
        else:
            self._write = weakref.ref(cursor)
            self._write_sql = sql
            self._write_bindings = bindings
            if cursor.description:  # RETURNING: rows follow when the writing is done
                self._connection.trace_v2(
                    apsw.SQLITE_TRACE_ROW | apsw.SQLITE_TRACE_PROFILE, self._first_step_done, id=self
                )
        return self._chained is None or self._chained(cursor, sql, bindings)

    def _first_step_done(self, event: dict[str, Any]) -> None:
        self._write = None
        self._connection.trace_v2(0, None, id=self)

    @property
    def writing(self) -> bool:
        """Whether the statement under way changes the database."""
        cursor = None if self._write is None else self._write()
        if cursor is None:
            return False
        try:
            return cursor.has_vdbe
        except (apsw.ExecutionCompleteError, apsw.CursorClosedError, apsw.ConnectionClosedError):
            self._write = None
            return False

    def needs(self, function: str) -> bool:
        """Whether the statement under way uses what `function` returns."""
        if self._write is None or not self.writing:
            return True
        live = self._live()
        return live is None or function[:_NAME_IN_EXPLAIN].lower() in live

    def _live(self) -> frozenset[str] | None:
        versions = [self._connection.data_version(name) for name in self._connection.db_names()]
        if versions != self._versions or len(self._plans) > _MOST_PLANS:  # another connection may change the schema
            self._plans.clear()
            self._versions = versions
        if self._write_sql not in self._plans:
            self._plans[self._write_sql] = self._explain(self._write_sql)
        return self._plans[self._write_sql]

    def _explain(self, sql: str) -> frozenset[str] | None:
        self._explaining = True
        try:
            return live_functions(self._connection.execute(f"EXPLAIN {sql}", self._write_bindings))
        except apsw.Error:
            return None
        finally:
            self._explaining = False


def attach(connection: apsw.Connection, config: Config) -> Session:
    """Give `connection` all functions and tables of the registry."""
    session = Session(connection, config, Statements(connection), _interrupted_of(connection))
    for function in functions().values():
        add_function(connection, session, function)
    connection.create_scalar_function(ROW_BEGINS, lambda *_: session.row_begins(), 0, flags=apsw.SQLITE_DIRECTONLY)
    for table in tables().values():
        connection.create_module(
            table.name,
            cast("apsw.VTModule", Module(table, session)),
            use_bestindex_object=True,
            eponymous=True,
            read_only=True,
            iVersion=1,
        )
    return session


def _interrupted_of(connection: apsw.Connection) -> Callable[[], bool]:
    reference = weakref.ref(connection)

    def interrupted() -> bool:
        connection = reference()
        return connection is not None and connection.is_interrupted

    return interrupted


def add_function(connection: apsw.Connection, session: Session, function: Function) -> None:
    """Register one function in all its arities."""
    flags = apsw.SQLITE_DIRECTONLY if function.directonly else 0
    for arity in function.arities:
        connection.create_scalar_function(
            function.name, bind(function, session), arity, deterministic=function.deterministic, flags=flags
        )
