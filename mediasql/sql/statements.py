"""Which statements of a connection are under way, and what they need of a function that they call.

Nothing is hooked: when a function has to know, it asks SQLite which statements were started and have not ended. A write
among them that has not given a row of RETURNING is being executed at this moment, since it does all its changes in its
first step. The rule is that of `liveness`: in doubt a value is needed, and in doubt a statement writes.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol

import apsw

from .c_api import CApi, Running, c_api, unreachable
from .callers import executes, outside
from .liveness import unused_functions

_MOST_PLANS = 1000
_LONGEST_TEXT = 4_000_000  # of a statement that is run ahead
_CONFIG = (
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
)


class Watch(Protocol):
    """Who wants to know what writes there are. What it runs is not watched in turn."""

    def created(self, sql: str) -> None:
        """A write is under way whose text was not seen before under this schema."""

    def schema_changed(self) -> None:
        """A write is under way, and the schema is another than at the last one."""


class Statements:
    """The statements of one connection. Where SQLite cannot be asked, every value is needed.

    `api` asks the SQLite of the connection; by default that of APSW.
    """

    def __init__(self, connection: apsw.Connection, api: CApi | None = None) -> None:
        self._reference = weakref.ref(connection)
        self._api = api or c_api()
        self._database = connection.sqlite3_pointer()
        self._busy = False
        self._plans: dict[str, frozenset[str]] = {}
        self._last: tuple[int, frozenset[str]] = 0, frozenset()  # an execution, and what it does not use
        self._state: Any = None
        self._names: list[str] = []
        self._versions: list[str] = []
        self._has_samples = False
        self.watch: Watch | None = None  # of writes that call our functions

    @property
    def unseen(self) -> str | None:
        """Why it cannot be seen what is under way, so that nothing is read ahead of it; None where it can be."""
        return None if self._api is not None else unreachable()

    @property
    def _connection(self) -> apsw.Connection:
        connection = self._reference()
        assert connection is not None, "a closed connection calls no functions"
        return connection

    def running(self) -> list[Running]:
        """What is under way, the last prepared first; nothing while our own statements run, or nobody can tell."""
        if self._api is None or self._busy:
            return []
        return self._api.running(self._database)

    @property
    def moment(self) -> frozenset[Hashable]:
        """What is different when another statement is executed, or one anew."""
        return frozenset(statement.execution for statement in self.running())

    @property
    def writing(self) -> bool:
        """Whether a statement that changes the database is under way, be it around the one that called."""
        if self._api is None:
            return bool(self._connection.txn_state() == apsw.SQLITE_TXN_WRITE)
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
        return [found for found in gc.get_referrers(self._connection) if isinstance(found, apsw.Cursor)]

    def trace(self, began: Callable[[], None], closes: Callable[[], None]) -> bool:
        """Call `began()` before each statement, `closes()` when the connection closes. Whether that can be done."""

        def event(told: dict[str, Any]) -> None:
            if told["code"] == apsw.SQLITE_TRACE_CLOSE:
                closes()
            elif not told["trigger"]:
                began()

        self._connection.trace_v2(apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_CLOSE, event, id=self)
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
        """Whether the statement under way uses what `function` returns. Call it from the module that SQLite called."""
        if self._connection.txn_state() != apsw.SQLITE_TXN_WRITE:  # nothing writes, so a read is what calls
            return True
        write, others = None, []
        for statement in self.running():
            if statement.readonly or statement.gave_a_row:
                others.append(statement)
            elif write is None:
                write = statement
            else:
                return True  # one inside of the other
        if write is None:
            return True
        # A read that gave no row yet is executed now as well, inside of the write or around it, and may be what calls.
        # One that gave a row may wait for its next step, as a loop over it does, or be read on by what the write calls.
        if any(not statement.gave_a_row for statement in others):
            return True
        if others and not self._reads_wait(write, outside(sys._getframe(1))):
            return True
        return function.lower() not in self.unused(write)

    def _reads_wait(self, write: Running, caller: FrameType | None) -> bool:
        """Whether reads that gave a row wait for their next step while `write` runs, as `caller` tells."""
        return executes(caller)

    def cursor(self) -> apsw.Cursor:
        """A cursor for our own statements, of which the application's tracers are not told."""
        cursor = self._connection.cursor()
        cursor.exec_trace, cursor.row_trace = _run_it, _give_it
        return cursor

    def text(self, statement: Running) -> str | None:
        """The statement with its bindings in place; None when that cannot be had, or is long for its BLOBs."""
        assert self._api is not None
        connection = self._connection
        limit = connection.limit(apsw.SQLITE_LIMIT_LENGTH)
        try:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, min(limit, _LONGEST_TEXT))
            return self._api.expanded(statement)
        finally:
            connection.limit(apsw.SQLITE_LIMIT_LENGTH, limit)

    def unused(self, statement: Running) -> frozenset[str]:
        """Lower-case names of the functions that a statement under way calls and whose results it does not use."""
        if statement.execution != self._last[0]:  # its program stays what it is, whatever happens to the schema
            before, self._busy = self._busy, True  # `unwatched` costs more than all that is done here for most rows
            try:
                self._last = statement.execution, self._plan(statement)
            finally:
                self._busy = before
        return self._last[1]

    def _plan(self, statement: Running) -> frozenset[str]:
        assert self._api is not None
        try:
            changed = self._forget_old_plans()
            if changed and self.watch is not None:
                self.watch.schema_changed()
            sql = self._api.text(statement)
            known = self._plans.get(sql)
            if known is not None:
                return known
            if self.watch is not None:
                self.watch.created(sql)
            if self._depends_on_bindings(sql):
                expanded = self._api.expanded(statement)
                return frozenset() if expanded is None else self._explain(expanded, 0)
            found = self._plans[sql] = self._explain(sql, self._api.parameters(statement))
            return found
        except (apsw.Error, UnicodeError):
            return frozenset()

    def _explain(self, sql: str, parameters: int) -> frozenset[str]:
        # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
        return unused_functions(self.cursor().execute(f"EXPLAIN {sql}", (None,) * parameters, can_cache=False))

    def _forget_old_plans(self) -> bool:
        """Forget plans when the schema is another than theirs, or something else that the compiler looks at. Whether
        it is."""
        connection, execute = self._connection, self.cursor().execute
        names = connection.db_names()
        if names != self._names:
            self._names = names
            self._versions = [f"PRAGMA {apsw.format_sql_value(name)}.schema_version" for name in names]
        config = connection.config
        state = (
            [execute(version).get for version in self._versions],
            [config(option, -1) for option in _CONFIG],
            connection.authorizer,
            names,
        )
        changed = bool(state != self._state)
        if changed or len(self._plans) > _MOST_PLANS:
            self._plans.clear()
            self._state = state
            find = "SELECT 1 FROM {}.sqlite_schema WHERE name = 'sqlite_stat4'"
            self._has_samples = any(execute(find.format(apsw.format_sql_value(name))).get for name in names)
        return changed

    def _depends_on_bindings(self, sql: str) -> bool:
        """Whether the planner may look at bound values: for patterns, and with the samples of ANALYZE (STAT4)."""
        return self._has_samples or "like" in sql.lower() or "glob" in sql.lower()


def _run_it(cursor: Any, sql: str, bindings: Any) -> bool:
    return True


def _give_it(cursor: Any, row: Any) -> Any:
    return row
