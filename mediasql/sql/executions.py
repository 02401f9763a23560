"""Which executions of an APSW connection may be run ahead, and as what."""

from __future__ import annotations

import time
from collections.abc import Hashable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import apsw

from .c_api import Running
from .computed import ROW
from .definitions import quote
from .feeding import feeding
from .liveness import called_functions
from .registry import functions
from .schema import named_table
from .scout import Execution
from .tokens import tokenize

_DETERMINISTIC = 0x800  # SQLITE_DETERMINISTIC, in pragma_function_list's flags


class Executions:
    """The statements under way on one connection, as the scout needs them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._harmless: dict[str, bool] = {}

    def under_way(self) -> list[tuple[int, Running]]:
        """Running statements with what tells one execution from another, the last prepared first."""
        return [(statement.execution, statement) for statement in self._session.statement.running()]

    def execution(self, identity: int, statement: Running) -> Execution | None:
        """The execution as the scout will run it; None for one that should not be."""
        sql = self._session.statement.text(statement)
        if sql is None:
            return None
        try:
            with self._session.statement.unwatched():
                if not statement.readonly:
                    fed = feeding(sql, self)
                    sql = fed.sql if fed else None
                if sql is None or (sql := self._harmless_form(sql)) is None:
                    return None
        except (apsw.Error, UnicodeError):
            return None
        ignored = frozenset() if statement.readonly else self._session.statement.unused(statement)
        execution = Execution(identity, sql, time.monotonic(), ignored=ignored)
        if not statement.readonly and not execution.bounded:
            execution.least = self._session.config.concurrency  # it runs to its end
        return execution

    def repeated(self, identity: Hashable, sql: str, bindings: Any, started: float) -> Execution | None:
        """The executions that `executemany` makes of `sql`, with bindings such as these; None where it should not."""
        tokens = tokenize(sql.rstrip().rstrip(";"))
        by_name = any(token.kind == "parameter" and token.text[0] != "?" for token in tokens)
        if not tokens or any(token.text == ";" for token in tokens) or by_name != isinstance(bindings, dict):
            return None
        ignored: frozenset[str] = frozenset()
        takes = None
        try:
            with self._session.statement.unwatched():
                if not tokens[0].is_word("SELECT", "VALUES"):
                    ignored = self._session.statement.unused_by(sql, bindings)
                    fed = feeding(sql, self)
                    if fed is None:
                        return None
                    sql, takes = fed.sql, None if by_name else fed.bindings
                execution = Execution(identity, sql, started, takes, ignored)
                harmless = self._harmless_form(sql, execution.taken(bindings))
                return None if harmless is None else replace(execution, sql=harmless)
        except (apsw.Error, UnicodeError):
            return None

    def _explain(self, sql: str, bindings: Any) -> list[tuple[Any, ...]]:
        # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
        cursor = self._session.statement.cursor()
        return list(cursor.execute(f"EXPLAIN {sql}", bindings, can_cache=False))

    def _harmless_form(self, sql: str, bindings: Any = None) -> str | None:
        """`sql` in a form that can be run once more without being noticed; None when there is none.

        Aggregates of the application are counted instead: they need not be called for the calls in their arguments.
        """
        noticed = self._noticed(sql, bindings)
        if not noticed:
            return sql
        if not all(self._is_aggregate_of_one(name) for name in noticed):
            return None
        tokens, parts, at = tokenize(sql), [], 0
        for token, following in pairwise(tokens):
            if following.text == "(" and token.kind in ("word", "quoted") and token.name.lower() in noticed:
                parts += [sql[at : token.start], "count"]
                at = token.end
        counted = "".join(parts) + sql[at:]
        return None if self._noticed(counted, bindings) else counted

    def _noticed(self, sql: str, bindings: Any) -> set[str]:
        """The functions of the application that are not pure, which would notice that `sql` is run once more."""
        ours = {**functions(), **self._session.functions}
        called = called_functions(self._explain(sql, bindings)) - {ROW}  # while scouting that counts nothing
        return {name for name in called if not (ours[name].ahead if name in ours else self._is_pure(name))}

    def _is_pure(self, name: str) -> bool:
        if name not in self._harmless:
            rows = self._listed("builtin OR flags & ?", _DETERMINISTIC, name)
            self._harmless[name] = bool(rows) and all(row[0] for row in rows)
        return self._harmless[name]

    def _is_aggregate_of_one(self, name: str) -> bool:
        rows = self._listed("type IN ('a', 'w') AND narg <= ?", 1, name)
        return bool(rows) and all(row[0] for row in rows)

    def _listed(self, expression: str, *bindings: Any) -> list[tuple[Any, ...]]:
        sql = f"SELECT {expression} FROM pragma_function_list WHERE name = ?"
        return list(self._session.statement.cursor().execute(sql, bindings))

    def columns(self, schema: str | None, table: str) -> list[str]:
        """See `feeding.Schema`."""
        if not self._has(schema):
            return []
        rows = self._session.statement.cursor().execute(
            "SELECT name FROM pragma_table_xinfo(?1, ?2) WHERE hidden = 0", (table, schema)
        )
        return [row[0] for row in rows]

    def definitions(self, schema: str | None, table: str) -> list[str]:
        """See `feeding.Schema`."""
        condition = "tbl_name = ? COLLATE NOCASE AND type IN ('table', 'index') ORDER BY type DESC"
        return self._statements(schema, condition, table)

    def index(self, schema: str | None, name: str) -> str | None:
        """See `feeding.Schema`."""
        return next(iter(self._statements(schema, "name = ? COLLATE NOCASE AND type = 'index'", name)), None)

    def scan(self, schema: str | None, table: str) -> str | None:
        """See `feeding.Schema`."""
        found = named_table(self._session.statement.cursor().execute, schema, table)
        return None if found is None else found.scan

    def _statements(self, schema: str | None, condition: str, name: str) -> list[str]:
        """Return the CREATE statements that meet a condition on `name`, from the first schema with any."""
        if not self._has(schema):
            return []
        execute = self._session.statement.cursor().execute
        for where in [schema] if schema else ["temp", "main", *self._session.connection.db_names()[2:]]:
            sql = f"SELECT sql FROM {quote(where)}.sqlite_schema WHERE sql IS NOT NULL AND {condition}"
            if rows := execute(sql, (name,)).fetchall():
                return [row[0] for row in rows]
        return []

    def _has(self, schema: str | None) -> bool:
        """Whether a database of that name is attached; without one, SQLite looks through all."""
        if schema is None:
            return True
        return schema.lower() in (name.lower() for name in self._session.connection.db_names())
