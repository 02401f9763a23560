"""Which statement of an APSW connection is under way, and what it needs of a function that it calls.

SQLite's trace events tell when statements begin and end, also those that a virtual table or a function runs inside of
another; Python frames tell who called us where SQLite does not: a cursor that is read on says nothing. The rule is that
of `liveness`: in doubt a value is needed, and in doubt a statement writes.

The execution tracer is used for one thing only, to see bindings on which a plan may depend. It calls the one that was
there before. Whoever sets another later, or one of a cursor, loses nothing but speed, and that rarely.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw

from .liveness import unused_functions

_TRACE = "mediasql statements"
_MOST_PLANS = 1000
_ENDS = apsw.SQLITE_TRACE_STMT | apsw.SQLITE_TRACE_PROFILE
# Statements that leave the plans of others as they are, by their first four letters. ROLLBACK is not among them.
_KEEPS_PLANS = frozenset(
    ("SELE", "INSE", "UPDA", "DELE", "REPL", "WITH", "VALU", "BEGI", "COMM", "SAVE", "RELE", "EXPL")
)
_CONFIG = (
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
)


@dataclass(slots=True)
class _Running:
    """A statement that began and did not end. `frame` is the id of the Python frame that stepped it first.

    returned   it gave its first row of RETURNING: all its changes are done
    again      it ended at once. Then the schema had changed since it was compiled, and it runs again without an event
    unused     functions whose results it does not use; None until it is asked for
    """

    sql: str
    readonly: bool
    frame: int
    bindings: Any
    returned: bool = False
    again: bool = False
    unused: frozenset[str] | None = None


class Statements:
    """Follows the statements of one connection.

    Reads are followed only while a write is under way: reads that began before it, and are read on in the middle of
    it, can be so only by Python code that the write calls, in a frame of its own.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self.serial = 0
        self._reference = weakref.ref(connection)
        self._running: dict[int, _Running] = {}
        self._open_reads: set[int] = set()
        self._watched = 0
        self._plans: dict[str, frozenset[str]] = {}
        self._seen: Any = None
        self._state: Any = None
        self._has_samples = False
        self._busy = False
        self._bindings: tuple[str, Any] = ("", None)
        self._chained: Callable[..., bool] | None = connection.exec_trace
        connection.exec_trace = self._executed
        self._watch(_ENDS)  # SQLite tells the end of those statements only that began when it was asked to

    @property
    def _connection(self) -> apsw.Connection:
        connection = self._reference()
        assert connection is not None, "a closed connection calls no functions"
        return connection

    @property
    def writing(self) -> bool:
        """Whether a statement that changes the database is under way, be it around the one that called."""
        for statement in self._running.values():
            if not statement.readonly and not statement.returned:
                return not statement.again or self._connection.txn_state() == apsw.SQLITE_TXN_WRITE
        return False

    @contextmanager
    def unwatched(self) -> Iterator[None]:
        """Statements run in here are our own, and not followed."""
        before, self._busy = self._busy, True
        try:
            yield
        finally:
            self._busy = before

    def needs(self, function: str) -> bool:
        """Whether the statement under way uses what `function` returns. Call it from what SQLite called."""
        if not self._running or self._busy:
            return True
        statement = next(reversed(self._running.values()))
        caller = sys._getframe(1).f_back  # of what SQLite called: the Python code that steps the statement
        if statement.readonly or statement.returned or statement.frame != id(caller):
            return True
        if statement.again and self._open_reads:
            return True
        if statement.unused is None:
            statement.unused = self._unused(statement)
        return function.lower() not in statement.unused

    def _executed(self, cursor: Any, sql: str, bindings: Any) -> bool:
        if self._busy:
            return True
        self._bindings = (sql.strip(), bindings)
        return self._chained is None or self._chained(cursor, sql, bindings)

    def _watch(self, events: int) -> None:
        if self._watched != events:
            self._watched = events
            self._connection.trace_v2(events, self._event, id=_TRACE)

    def _event(self, event: dict[str, Any]) -> None:
        if self._busy:
            return
        code, key = event["code"], event["id"]
        if code == apsw.SQLITE_TRACE_STMT:
            if key not in self._running or not event["trigger"]:
                self._begins(key, event)
        elif code == apsw.SQLITE_TRACE_PROFILE:
            self._ended(key, event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"])
        elif key in self._running:
            self._running[key].returned = True

    def _begins(self, key: int, event: dict[str, Any]) -> None:
        sql, nested = event["sql"], event["trigger"]
        if not nested:
            self.serial += 1
            for earlier in [earlier for earlier, statement in self._running.items() if statement.again]:
                del self._running[earlier]
        seen, bindings = self._bindings
        self._bindings = ("", None)
        if self._plans and sql.lstrip()[:4].upper() not in _KEEPS_PLANS:
            self._plans.clear()
        if event["readonly"] and not self._running:
            self._open_reads.add(key)
            return
        frame = sys._getframe(1).f_back  # of the event: the Python code that steps the statement
        known = bindings if seen == sql.strip() else None
        self._running.pop(key, None)
        self._running[key] = _Running(sql, event["readonly"], id(frame), known)
        # An event for each row would cost more than most rows.
        self._watch(_ENDS | apsw.SQLITE_TRACE_ROW if "returning" in sql.lower() else _ENDS)

    def _ended(self, key: int, steps: int) -> None:
        # Init and a Transaction for each database is as far as it gets when it was compiled for another schema.
        if steps > 1 + len(self._connection.db_names()):
            self._open_reads.discard(key)
            self._running.pop(key, None)
        elif (statement := self._running.get(key)) is not None:
            statement.again, statement.unused = True, None

    def _unused(self, statement: _Running) -> frozenset[str]:
        self._busy = True
        try:
            self._forget_old_plans()
            if self._depends_on_bindings(statement):
                return self._explain(statement)
            if statement.sql not in self._plans:
                self._plans[statement.sql] = self._explain(statement)
            return self._plans[statement.sql]
        except (apsw.Error, UnicodeError):
            pass
        finally:
            self._busy = False
        return frozenset()

    def _explain(self, statement: _Running) -> frozenset[str]:
        # Variables without their values are a BindingsError, and then everything is needed.
        # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
        explained = self._connection.execute(f"EXPLAIN {statement.sql}", statement.bindings, can_cache=False)
        return unused_functions(explained)

    def _forget_old_plans(self) -> None:
        """Forget plans when the schema is another than theirs, or something else that the compiler looks at."""
        connection = self._connection
        names = connection.db_names()
        # Changes with every commit, and costs little to ask; the schema may have changed with it.
        commits = [connection.data_version(name) for name in names if name != "temp"]
        others = [connection.config(option, -1) for option in _CONFIG], connection.authorizer, names
        if (commits, others) == self._seen and self._plans:
            return
        self._seen = commits, others
        quoted = [apsw.format_sql_value(name) for name in names]
        schemas = [connection.execute(f"PRAGMA {name}.schema_version").get for name in quoted]
        if (schemas, others) != self._state or len(self._plans) > _MOST_PLANS or not self._plans:
            self._plans.clear()
            self._state = schemas, others
            find = "SELECT 1 FROM {}.sqlite_schema WHERE name = 'sqlite_stat4'"
            self._has_samples = any(connection.execute(find.format(name)).get for name in quoted)

    def _depends_on_bindings(self, statement: _Running) -> bool:
        """Whether the planner may look at bound values: for patterns, and with the samples of ANALYZE (STAT4)."""
        if statement.bindings is None:
            return False
        sql = statement.sql.lower()
        return self._has_samples or "like" in sql or "glob" in sql
