"""Computed columns: generated columns of SQLite, added to tables that exist already.

SQLite's ALTER TABLE adds VIRTUAL columns only. A STORED one is kept in the row as an ordinary column is, so an ordinary
column is added and filled, and then its definition in the schema is changed, by the second procedure that
https://www.sqlite.org/lang_altertable.html (section 7) gives. Nothing else of the table is touched: its rows stay where
they are, with their rowids, indexes, triggers, statistics and what refers to them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import apsw

from ..errors import UsageError
from ..progress import bar
from .definitions import quote
from .failures import Failures
from .liveness import called_functions
from .registry import functions
from .schema import TableName, find_table, switched, transaction, without_triggers
from .session import Session
from .trust import check_trust

ROW = "_mediasql_row"  # an SQL function: _mediasql_row() begins a row's value, _mediasql_row(x) gives x and ends it
_TYPES: dict[type | None, str] = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


@dataclass(frozen=True, slots=True)
class Added:
    """What `add_computed_column` did. `values` is the number of rows computed, `errors` of those that failed."""

    values: int
    errors: int

    def __str__(self) -> str:
        values = f"{self.values} column value{'' if self.values == 1 else 's'}"
        return f"Added {values} with {self.errors} error{'' if self.errors == 1 else 's'}"


def add_computed_column(
    session: Session, table: str, name: str, expression: str, *, stored: bool = True, type: str | None = None
) -> Added:
    """Add the column `name` with the value of `expression` to `table` ('images', or 'schema.images').

    stored   True: computed now, and for each row when it is written; readable without mediasql.
             False: computed when read
    type     declared type; by default that of the function which the expression calls

    Everything else of the table stays as it is, and so does everything when it fails or is interrupted half-way (of a
    transaction that is open, SQLite then keeps nothing).
    Triggers are not fired. Raises UsageError for a table that does not exist and an expression that cannot be stored;
    MediaError when a value cannot be had for the moment; apsw.Error for what SQLite refuses, such as BusyError while
    another connection has the database locked.
    """
    connection = session.connection
    found = find_table(connection.execute, table)
    _check_expression(session, found, name, expression, stored)
    declared = _declared_type(session, expression, found.strict) if type is None else type
    column = _Column(connection, found, name, expression, declared)
    if not stored:
        connection.execute(f"ALTER TABLE {column.of} ADD COLUMN {column.definition('VIRTUAL')}")
        return Added(0, 0)
    with transaction(connection):
        ordinary, generated = column.define()
        column.write(ordinary)
        with without_triggers(connection, found.name):
            added = _compute(session, column)
        column.write(generated)
    return added


class _Column:
    """The column to add, and where."""

    def __init__(
        self, connection: apsw.Connection, table: TableName, name: str, expression: str, declared: str
    ) -> None:
        self._connection = connection
        self._schema = quote(table.schema)
        self._table = table.name
        self._plain = f"{quote(name)} {declared}".rstrip()
        self.name = quote(name)
        self.expression = f"{expression}\n" if "--" in expression else expression  # a comment ends with its line
        self.of = table.sql

    def definition(self, kind: str) -> str:
        return f"{self._plain} GENERATED ALWAYS AS ({self.expression}) {kind}"

    def define(self) -> tuple[str, str]:
        """CREATE TABLE with the column as an ordinary one, and with the STORED one.

        SQLite itself finds the place of a column, in front of the table's constraints, and checks the expression.
        """
        before = self._read()
        added = self.definition("VIRTUAL")
        self._connection.execute(f"ALTER TABLE {self.of} ADD COLUMN {added}")
        after = self._read()
        at = after.rfind(added, 0, len(after) - _same_ending(before, after) + len(added))
        if at < 0 or len(after) - len(before) > len(added) + 2:
            raise UsageError(f"SQLite keeps the new column in a form that is not understood: {after}")
        begins, ends = after[:at], after[at + len(added) :]
        return begins + self._plain + ends, begins + self.definition("STORED") + ends

    def _read(self) -> str:
        return str(
            self._connection.execute(
                f"SELECT sql FROM {self._schema}.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE",
                (self._table,),
            ).get
        )

    def write(self, sql: str) -> None:
        """Make `sql` the table's definition, for this connection and all others."""
        with switched(self._connection, DEFENSIVE=0, WRITABLE_SCHEMA=1):
            self._connection.execute(
                f"UPDATE {self._schema}.sqlite_schema SET sql = ? WHERE type = 'table' AND name = ? COLLATE NOCASE",
                (sql, self._table),
            )
            version = self._connection.execute(f"PRAGMA {self._schema}.schema_version").get
            self._connection.execute(f"PRAGMA {self._schema}.schema_version = {version % 0x7FFFFFFF + 1}")


def _compute(session: Session, column: _Column) -> Added:
    """Fill the column, with a bar on a terminal."""
    connection = session.connection
    total = connection.execute(f"SELECT count(*) FROM {column.of}").get
    counter = _Counter(session.failures)
    with bar(session.config.progress, total, "computing", "row") as shown:

        def row(*value: Any) -> Any:
            if not value:
                return counter.begin()
            counter.end()
            shown.update()
            return value[-1]

        session.row = row
        try:
            connection.execute(f"UPDATE {column.of} SET {column.name} = {ROW}({ROW}(), ({column.expression}))")
        finally:
            session.row = None
    return Added(counter.rows, counter.errors)


class _Counter:
    """Values that were computed, and those of them for which something failed."""

    def __init__(self, failures: Failures) -> None:
        self.rows = 0
        self.errors = 0
        self._failures = failures
        self._seen = 0

    def begin(self) -> None:
        self._seen = self._failures.total

    def end(self) -> None:
        self.rows += 1
        self.errors += self._failures.total > self._seen


def _check_expression(session: Session, table: TableName, name: str, expression: str, stored: bool) -> None:
    sql = f"EXPLAIN SELECT ({expression}\n) FROM {table.sql}"
    explained = session.connection.execute(sql, can_cache=False)  # SQLite does not notice when EXPLAIN is out of date
    known, all_called = functions(), called_functions(explained)
    check_trust(session, all_called & {*known, *session.functions})
    if not stored:
        return
    for called in all_called:
        if called in known and known[called].perishable:
            raise UsageError(
                f"{called} gives a value that expires, which a stored column would keep; add {name} with stored=False "
                "(in SQL 0, in sqlite-utils --virtual), so that each query computes it afresh"
            )


def _declared_type(session: Session, expression: str, strict: bool) -> str:
    """The type that fits an expression of one call; for any other none, or ANY where a STRICT table demands one."""
    anything = "ANY" if strict else ""
    match = re.fullmatch(r"\s*(\w+)\s*\([^()]*\)\s*", expression)
    known = {**functions(), **session.functions}.get(match[1].lower()) if match else None
    return _TYPES.get(known.returns, anything) if known is not None else anything


def _same_ending(one: str, other: str) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return length
