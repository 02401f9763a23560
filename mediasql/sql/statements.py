"""Which statements of a connection are under way, and what they need of a function that they call.

Nothing is hooked: when a function has to know, it asks SQLite which statements were started and have not ended. A write
among them that has not given a row of RETURNING is being executed at this moment, since it does all its changes in its
first step; and if SQLite executes nothing inside of it, it is what called, whatever reads are open. The rule is that of
`liveness`: in doubt a value is needed, and in doubt a statement writes.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import apsw

from .c_api import CApi, Running, c_api, unreachable
from .programs import UNKNOWN, Program, Programs
from .self_test import is_understood

_LONGEST_TEXT = 4_000_000  # of a statement that is run ahead
_MOST_EXECUTIONS = 50  # whose programs are known


class Watch(Protocol):
    """Is called for writes that call our functions. Statements that it runs itself are not reported to it."""

    def created(self, sql: str) -> None:
        """A write is running whose text is new under the current schema."""

    def schema_changed(self) -> None:
        """A write is running, and the schema has changed since the last one."""


class Statements:
    """The statements of one connection. Where SQLite cannot be asked, every value is needed.

    `api` asks the SQLite of the connection; by default that of APSW.
    """

    def __init__(self, connection: apsw.Connection, api: CApi | None = None) -> None:
        self._reference = weakref.ref(connection)
        self.api = api or c_api()
        self._database = connection.sqlite3_pointer()
        self._busy = False
        self._programs = Programs(self)
        self._of_executions: dict[int, Program] = {}
        self.watch: Watch | None = None  # of writes that call our functions

    @property
    def unseen(self) -> str | None:
        """Why it cannot be seen what is under way, so that nothing is read ahead of it; None where it can be."""
        return None if self.api is not None else unreachable()

    @property
    def connection(self) -> apsw.Connection:
        """Return the connection, which is open while it calls functions."""
        connection = self._reference()
        assert connection is not None, "a closed connection calls no functions"
        return connection

    def running(self) -> list[Running]:
        """What is under way, the last prepared first; nothing while our own statements run, or nobody can tell."""
        if self.api is None or self._busy:
            return []
        return self.api.running(self._database)

    @property
    def moment(self) -> frozenset[Hashable]:
        """What is different when another statement is executed, or one anew."""
        return frozenset(statement.execution for statement in self.running())

    @property
    def writing(self) -> bool:
        """Whether a statement that changes the database is under way, be it around the one that called."""
        if self.api is None:
            return bool(self.connection.txn_state() == apsw.SQLITE_TXN_WRITE)
        return any(not statement.readonly and not statement.gave_a_row for statement in self.running())

    def calling(self, likely: Sequence[Hashable]) -> Hashable:
        """The execution whose function is being called; None where nobody can tell. In doubt the last of `likely`.

        One that gave no row yet is in its first step. Which of the others is stepped, SQLite does not tell.
        """
        running = self.running()
        first_step = [each.execution for each in running if not each.gave_a_row]
        others = [each.execution for each in running]
        known = [execution for execution in likely if execution in others]
        return max(first_step) if first_step else known[-1] if known else max(others, default=None)

    def is_over(self, execution: Hashable) -> bool:
        """Whether an execution that `calling` told has ended; in doubt not. None, which is any, always has."""
        return not self._busy and execution not in [each.execution for each in self.running()]

    def cursors(self) -> list[Any]:
        """The cursors of the connection, which APSW does not list. The garbage collector looks through all objects."""
        return [found for found in gc.get_referrers(self.connection) if isinstance(found, apsw.Cursor)]

    def trace(self, began: Callable[[], None], closes: Callable[[], None]) -> bool:
        """Call `began()` before each statement, `closes()` when the connection closes. Whether that can be done."""

        def event(told: dict[str, Any]) -> None:
            if told["code"] == apsw.SQLITE_TRACE_CLOSE:
                closes()
            elif not told["trigger"]:
                began()

        self.connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_CLOSE, event, id=self)
        return True

    def untrace(self) -> None:
        """Call what `trace` was given no more."""
        connection = self._reference()
        if connection is not None:
            with suppress(apsw.ConnectionClosedError):
                connection.trace_v2(0, None, id=self)

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Statements run in here are our own."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def needs(self, function: str) -> bool:
        """Return whether the statement that called `function` uses what it returns; True in doubt."""
        if self.connection.txn_state() != apsw.SQLITE_TXN_WRITE:  # nothing writes, so a read is what calls
            return True
        write, others = None, []
        for statement in self.running():
            if statement.readonly or statement.gave_a_row:
                others.append(statement)
            elif write is None:
                write = statement
            else:
                return True  # one inside of the other
        if write is None or function.lower() not in self.unused(write):
            return True
        return bool(others) and not self._calls(write, others, function)

    def _calls(self, write: Running, others: list[Running], function: str) -> bool:
        """Return whether it is certain that `write`, and none of `others`, called `function`.

        A read that gave no row yet is executed now as well, inside of the write or around it. One that gave a row waits
        for its next step, as in a loop over it, or is in that step, as when a function that the write calls reads on.
        """
        assert self.api is not None
        waiting = all(statement.gave_a_row for statement in others)
        return waiting and self.api.executes_alone([*others, write])

    def cursor(self) -> apsw.Cursor:
        """A cursor for our own statements, of which the application's tracers are not told."""
        cursor = self.connection.cursor()
        cursor.exec_trace, cursor.row_trace = _run_it, _give_it
        return cursor

    def text(self, statement: Running) -> str | None:
        """The statement with its bindings in place; None when that cannot be had, or is long for its BLOBs."""
        assert self.api is not None
        connection = self.connection
        limit = connection.limit(apsw.SQLITE_LIMIT_LENGTH)
        try:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, min(limit, _LONGEST_TEXT))
            return self.api.expanded(statement)
        finally:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, limit)

    def unused(self, statement: Running) -> frozenset[str]:
        """Return the lower-case names of functions that a statement under way calls without using their results."""
        return self.program(statement).unused

    def program(self, statement: Running) -> Program:
        """Return the program of a statement under way; UNKNOWN where it cannot be had, or may not be understood."""
        program = self._of_executions.get(statement.execution)  # it stays what it is, whatever happens to the schema
        if program is None:
            assert self.api is not None
            before, self._busy = self._busy, True  # `unwatched` costs more than all that is done here for most rows
            try:
                program = self._programs.of(statement)
                if not is_understood(self.api):
                    program = UNKNOWN
            finally:
                self._busy = before
            if len(self._of_executions) >= _MOST_EXECUTIONS:
                self._of_executions.clear()
            self._of_executions[statement.execution] = program
        return program

    def unused_by(self, sql: str, bindings: Any) -> frozenset[str]:
        """Return what `unused` will for a statement that is to come. Raises apsw.Error."""
        if self.api is None or not is_understood(self.api):
            return frozenset()
        with self.unwatched():
            return self._programs.unused(sql, bindings)


def _run_it(cursor: Any, sql: str, bindings: Any) -> bool:
    return True


def _give_it(cursor: Any, row: Any) -> Any:
    return row
