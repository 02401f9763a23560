"""Which executions of an APSW connection may be run ahead, and as what."""

from __future__ import annotations

import time
from typing import Any

import apsw

from .c_api import Running
from .computed import ROW
from .feeding import feeding
from .liveness import called_functions
from .registry import functions
from .scout import Execution

_DETERMINISTIC = 0x800  # SQLITE_DETERMINISTIC, in pragma_function_list's flags


class Executions:
    """The statements under way on one connection, as the scout needs them."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._harmless: dict[str, bool] = {}

    def under_way(self) -> list[tuple[tuple[int, int], Running]]:
        """Running statements with what tells one execution from another, the last prepared first."""
        running = self._session.statement.running()
        return [((statement.pointer, statement.run), statement) for statement in running]

    def execution(self, identity: tuple[int, int], statement: Running) -> Execution | None:
        """The execution as the scout will run it; None for one that should not be."""
        sql = self._session.statement.text(statement)
        if sql is None:
            return None
        try:
            with self._session.statement.unwatched():
                if not statement.readonly:
                    fed = feeding(sql, self)
                    sql = fed.sql if fed else None
                if sql is None or not self._is_harmless(sql):
                    return None
        except (apsw.Error, UnicodeError):
            return None
        ignored = frozenset() if statement.readonly else self._session.statement.unused(statement)
        return Execution(identity, sql, time.monotonic(), ignored)

    def _is_harmless(self, sql: str) -> bool:
        """Whether running `sql` once more can be noticed: by a function of the application that is not pure."""
        execute = self._session.statement.cursor().execute
        ours = {**functions(), **self._session.functions}
        for name in called_functions(execute(f"EXPLAIN {sql}")):
            if name == ROW:  # while scouting it counts nothing
                continue
            if name in ours:
                if ours[name].directonly:
                    return False
            elif name not in self._harmless:
                rows = execute(
                    "SELECT builtin OR flags & ? FROM pragma_function_list WHERE name = ?", (_DETERMINISTIC, name)
                ).fetchall()
                self._harmless[name] = bool(rows) and all(row[0] for row in rows)
            if not self._harmless.get(name, True):
                return False
        return True

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
        if not self._has(schema):
            return []
        execute = self._session.statement.cursor().execute
        for name in [schema] if schema else ["temp", "main", *self._session.connection.db_names()[2:]]:
            quoted = '"' + name.replace('"', '""') + '"'
            rows = execute(
                f"SELECT sql FROM {quoted}.sqlite_schema WHERE tbl_name = ? COLLATE NOCASE AND sql IS NOT NULL "
                "AND type IN ('table', 'index') ORDER BY type DESC",
                (table,),
            ).fetchall()
            if rows:
                return [row[0] for row in rows]
        return []

    def _has(self, schema: str | None) -> bool:
        """Whether a database of that name is attached; without one, SQLite looks through all."""
        if schema is None:
            return True
        return schema.lower() in (name.lower() for name in self._session.connection.db_names())
