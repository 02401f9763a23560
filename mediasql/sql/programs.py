"""The programs that SQLite compiles the statements of a connection to, as EXPLAIN lists them, and for how long.

The program of a statement under way cannot be read, so its text is compiled once more. What came out is used again for
the same text as long as all is the same that the compiler looks at: the schema, settings of the connection, PRAGMAs.
The query planner looks at more, but it decides only about programs that search or scan a table: that of `INSERT INTO t
VALUES (?)` is the same whatever is bound, and whatever ANALYZE found.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import apsw

from .bound_values import bound_literals
from .c_api import Running
from .liveness import called_functions, unused_functions

if TYPE_CHECKING:
    from .statements import Statements

_MOST = 1000
_SETTINGS = (
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER,
    apsw.SQLITE_DBCONFIG_ENABLE_FKEY,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW,
)
# With one of these a program begins to look for rows, in the table or index that the planner chose.
_SEARCHES = frozenset({"Rewind", "Last", "SeekGE", "SeekGT", "SeekLE", "SeekLT", "SeekRowid", "VFilter"})


class Program(NamedTuple):
    """What is known of a program.

    called     lower-case names of the functions that it calls
    unused     those of them whose results it does not use
    pragmas    of which it may depend, with their values when it was compiled
    """

    called: frozenset[str]
    unused: frozenset[str]
    pragmas: tuple[tuple[str, Any], ...] = ()


UNKNOWN = Program(called=frozenset(), unused=frozenset())


class _Schemas(NamedTuple):
    """What the schemas of a connection have that makes programs depend on more than on them.

    triggers          REPLACE runs those on DELETE where `PRAGMA recursive_triggers` is on
    statistics        of ANALYZE, which decide about plans, and samples, for which bound values do
    partial_indexes   are used where bound values imply their condition
    """

    triggers: bool
    statistics: bool
    partial_indexes: bool


class Programs:
    """The programs of the statements of one connection."""

    def __init__(self, statements: Statements) -> None:
        self._statements = statements
        self._known: dict[str, Program] = {}
        self._state: Any = None
        self._changed_since_a_write = False
        self._names: list[str] = []
        self._versions: list[str] = []
        self._schemas = _Schemas(False, False, False)

    def of(self, statement: Running) -> Program:
        """Return the program of a statement under way; UNKNOWN where SQLite does not tell it."""
        api = self._statements.api
        assert api is not None
        try:
            self._forget_old()
            watch = None if statement.readonly else self._statements.watch
            if watch is not None and self._changed_since_a_write:
                self._changed_since_a_write = False
                watch.schema_changed()
            sql = api.text(statement)
            known = self._known.get(sql)
            if known is not None and not (known.pragmas and self._changed(known.pragmas)):
                return known
            if watch is not None:
                watch.created(sql)
            parameters = api.parameters(statement)
            rows = self._explain(sql, (None,) * parameters)
            searches = any(row[1] in _SEARCHES for row in rows)
            program = _program(rows, self._pragmas(searches))
            if searches and parameters and self._looks_at_bindings(sql):
                values = self._bound(statement, sql, parameters)
                program = UNKNOWN if values is None else _program(self._explain(sql, values))
            elif not (searches and self._schemas.statistics):
                self._known[sql] = program
            return program
        except (apsw.Error, UnicodeError):
            return UNKNOWN

    def unused(self, sql: str, bindings: Any) -> frozenset[str]:
        """Return the functions whose results `sql` does not use, with such bindings. Raises apsw.Error."""
        return _program(self._explain(sql, bindings)).unused

    def _explain(self, sql: str, bindings: Any = None) -> list[tuple[Any, ...]]:
        # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
        return list(self._statements.cursor().execute(f"EXPLAIN {sql}", bindings, can_cache=False))

    def _pragma(self, name: str) -> Any:
        return self._statements.cursor().execute(f"PRAGMA {name}").get

    def _pragmas(self, searches: bool) -> tuple[tuple[str, Any], ...]:
        """Return those that may make another program of what was compiled just now, one that uses more."""
        names = ["recursive_triggers"] if self._schemas.triggers else []
        if searches:
            names += ["automatic_index", "reverse_unordered_selects"]
        ignores_checks = self._pragma("ignore_check_constraints")
        return (
            *((name, self._pragma(name)) for name in names),
            *([("ignore_check_constraints", ignores_checks)] if ignores_checks else []),
        )

    def _changed(self, pragmas: tuple[tuple[str, Any], ...]) -> bool:
        return any(self._pragma(name) != value for name, value in pragmas)

    def _looks_at_bindings(self, sql: str) -> bool:
        """Whether the planner may look at bound values: for patterns, samples of ANALYZE and partial indexes."""
        return any(self._schemas[1:]) or "like" in sql.lower() or "glob" in sql.lower()

    def _bound(self, statement: Running, sql: str, parameters: int) -> tuple[Any, ...] | None:
        """Return what is bound to the parameters. A literal in its place can make another plan than a bound value."""
        assert self._statements.api is not None
        expanded = self._statements.api.expanded(statement)
        literals = None if expanded is None else bound_literals(sql, expanded, parameters)
        if literals is None:
            return None
        values = self._statements.cursor().execute(f"SELECT {', '.join(literals)}", can_cache=False).fetchone()
        return cast("tuple[Any, ...] | None", values)

    def _forget_old(self) -> None:
        """Forget all programs when the schema is another than theirs, or a setting that the compiler looks at."""
        connection, execute = self._statements.connection, self._statements.cursor().execute
        names = connection.db_names()
        if names != self._names:
            self._names = names
            self._versions = [f"PRAGMA {apsw.format_sql_value(name)}.schema_version" for name in names]
        config = connection.config
        state = (
            [execute(version).get for version in self._versions],
            [config(setting, -1) for setting in _SETTINGS],
            connection.authorizer,
            names,
        )
        if state != self._state or len(self._known) > _MOST:
            self._changed_since_a_write |= bool(state != self._state)
            self._known.clear()
            self._schemas = self._look_at(names)
            self._state = state

    def _look_at(self, names: Iterable[str]) -> _Schemas:
        execute = self._statements.cursor().execute

        def has(condition: str) -> bool:
            find = f"SELECT 1 FROM {{}}.sqlite_schema WHERE {condition} LIMIT 1"
            return any(execute(find.format(apsw.format_sql_value(name))).get for name in names)

        return _Schemas(
            triggers=has("type = 'trigger'"),
            statistics=has("name IN ('sqlite_stat1', 'sqlite_stat4')"),
            partial_indexes=has("type = 'index' AND instr(lower(sql), 'where')"),
        )


def _program(explained: list[tuple[Any, ...]], pragmas: tuple[tuple[str, Any], ...] = ()) -> Program:
    if not explained:  # a comment, which is what SQLite gives for the text of a statement inside of another one
        return UNKNOWN
    return Program(frozenset(called_functions(explained)), unused_functions(explained), pragmas)
