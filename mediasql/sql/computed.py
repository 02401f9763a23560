"""Computed columns: generated columns of SQLite, added to tables that exist already.

SQLite's ALTER TABLE adds VIRTUAL columns only. A STORED one needs the table to be made anew, by the procedure that
https://www.sqlite.org/lang_altertable.html (section 7) gives, in one transaction.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_type_hints

from ..errors import UsageError
from ..progress import bar
from .liveness import called_functions
from .registry import functions
from .session import Failures, Session

ROW_BEGINS = "_mediasql_row_begins"  # an SQL function that counts the rows of a copy
_TYPES = {int: "INTEGER", float: "REAL", str: "TEXT", bytes: "BLOB"}


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

    Rows, rowids, indexes, triggers, views and foreign keys stay as they are, and so does everything when it fails or is
    interrupted half-way. Raises UsageError for a table that does not exist, an expression that cannot be stored, or a
    transaction that is open with foreign keys enforced; MediaError when a value cannot be had for the moment.
    """
    connection = session.connection
    schema, table = _find(connection, table)
    _check_expression(connection, schema, table, name, expression, stored)
    declared = _declared_type(expression) if type is None else type
    definition = f"{_quote(name)} {declared} GENERATED ALWAYS AS ({expression}) VIRTUAL".replace("  ", " ")
    if not stored:
        connection.execute(f"ALTER TABLE {_quote(schema)}.{_quote(table)} ADD COLUMN {definition}")
        return Added(0, 0)
    with _rebuilding(connection):
        return _rebuild(session, schema, table, definition)


def _rebuild(session: Session, schema: str, table: str, definition: str) -> Added:
    connection = session.connection
    where, old, new = _quote(schema), f"{_quote(schema)}.{_quote(table)}", f"{table}_mediasql_new"
    before = _sql_of(connection, schema, table)
    # SQLite itself finds the place of a column, in front of the table's constraints, and checks the expression.
    connection.execute(f"ALTER TABLE {old} ADD COLUMN {definition}")
    body = _with_stored(before, _sql_of(connection, schema, table), definition)
    kept = connection.execute(
        f"SELECT sql FROM {where}.sqlite_schema WHERE tbl_name = ?1 COLLATE NOCASE AND type IN ('index', 'trigger') "
        "AND sql IS NOT NULL "
        "UNION ALL SELECT 'CREATE TEMP' || substr(sql, 7) FROM temp.sqlite_schema "
        "WHERE tbl_name = ?1 COLLATE NOCASE AND type = 'trigger' AND ?2 <> 'temp'",
        (table, schema),
    ).fetchall()
    sequence = _sequence(connection, where, table)
    connection.execute(f"CREATE TABLE {where}.{_quote(new)} {body}")
    columns = _columns_to_copy(connection, schema, table)
    added = _copy(session, f"{where}.{_quote(new)}", old, columns)
    connection.execute(f"DROP TABLE {old}")
    connection.execute(f"ALTER TABLE {where}.{_quote(new)} RENAME TO {_quote(table)}")
    for (sql,) in kept:
        connection.execute(_in_schema(sql, where) if not sql.startswith("CREATE TEMP") else sql)
    if sequence is not None:
        connection.execute(f"UPDATE {where}.sqlite_sequence SET seq = ? WHERE name = ?", (sequence, table))
    return added


def _copy(session: Session, new: str, old: str, columns: list[str]) -> Added:
    """Copy all rows, which computes the stored columns, with a bar on a terminal."""
    connection, failures = session.connection, session.failures
    total = connection.execute(f"SELECT count(*) FROM {old}").get
    counter = _Counter(failures)
    with bar(session.config.progress, total, "computing", "row") as shown:
        session.row_begins = lambda: counter.row_begins(shown.update)
        names = ", ".join(columns)
        try:
            connection.execute(f"INSERT INTO {new}({names}) SELECT {names} FROM {old} WHERE {ROW_BEGINS}()")
        finally:
            session.row_begins = bool
    return Added(counter.rows, counter.errors + counter.failed())


class _Counter:
    """Rows that were copied, and those of them in which something failed."""

    def __init__(self, failures: Failures) -> None:
        self.rows = 0
        self.errors = 0
        self._failures = failures
        self._seen = failures.total

    def row_begins(self, report: Callable[[], Any]) -> bool:
        self.errors += self.failed()
        self.rows += 1
        self._seen = self._failures.total
        report()
        return True

    def failed(self) -> bool:
        return self._failures.total > self._seen


@contextmanager
def _rebuilding(connection: Any) -> Iterator[None]:
    """One transaction in which dropping a table neither cascades nor rewrites the schema of others."""
    enforced = connection.execute("PRAGMA foreign_keys").get
    if enforced and connection.in_transaction:
        raise UsageError(
            "a transaction is open and foreign keys are enforced; dropping the old table would delete what refers "
            "to it. Commit first, or PRAGMA foreign_keys = OFF before the transaction"
        )
    legacy = connection.execute("PRAGMA legacy_alter_table").get
    try:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA legacy_alter_table = ON")
        with connection:
            yield
    finally:
        if not legacy:
            connection.execute("PRAGMA legacy_alter_table = OFF")
        if enforced:
            connection.execute("PRAGMA foreign_keys = ON")


def _find(connection: Any, table: str) -> tuple[str, str]:
    """Schema and name of a table, which may be given as 'schema.table'. Raises UsageError when there is none."""
    schema, dot, name = table.rpartition(".")
    for candidate, searched in ((table, None), (name, schema)) if dot else ((table, None),):
        rows = connection.execute(
            "SELECT schema, name, type FROM pragma_table_list WHERE name = ? COLLATE NOCASE", (candidate,)
        ).fetchall()
        for found_schema, found, kind in sorted(
            rows, key=lambda row: ("temp", "main").index(row[0]) if row[0] in ("temp", "main") else 2
        ):
            if searched is not None and found_schema.lower() != searched.lower():
                continue
            if kind != "table":
                raise UsageError(f"{table} is a {kind}; a computed column needs a table")
            return found_schema, found
    raise UsageError(f"there is no table {table}")


def _check_expression(connection: Any, schema: str, table: str, name: str, expression: str, stored: bool) -> None:
    explained = connection.execute(f"EXPLAIN SELECT ({expression}) FROM {_quote(schema)}.{_quote(table)}")
    if not stored:
        return
    known = functions()
    for called in called_functions(explained):
        if called in known and known[called].perishable:
            raise UsageError(
                f"{called} gives a value that expires, which a stored column would keep; add {name} with stored=False "
                "(0 in SQL), so that each query computes it afresh"
            )


def _declared_type(expression: str) -> str:
    """The type that fits an expression of one call, '' for any other."""
    match = re.fullmatch(r"\s*(\w+)\s*\(.*\)\s*", expression, re.DOTALL)
    known = functions().get(match[1].lower()) if match else None
    if known is None:
        return ""
    returned = str(get_type_hints(known.call).get("return", ""))
    return next((name for kind, name in _TYPES.items() if kind.__name__ in returned), "")


def _sql_of(connection: Any, schema: str, table: str) -> str:
    sql = connection.execute(
        f"SELECT sql FROM {_quote(schema)}.sqlite_schema WHERE type = 'table' AND name = ? COLLATE NOCASE",
        (table,),
    ).get
    return str(sql)


_NAME = r'(?:"(?:[^"]|"")*"|\[[^\]]*\]|`(?:[^`]|``)*`|\'(?:[^\']|\'\')*\'|[^\s("\[`\']+)'
_HEAD = re.compile(rf"CREATE\s+TABLE\s+(?:{_NAME}\s*\.\s*)?{_NAME}\s*", re.IGNORECASE)


def _with_stored(before: str, after: str, definition: str) -> str:
    """All that follows the name in CREATE TABLE, with the column that ALTER TABLE put there made STORED."""
    added = after.rfind(definition, 0, len(after) - _same_ending(before, after) + len(definition))
    if added < 0:
        raise UsageError(f"SQLite keeps the new column in a form that is not understood: {after}")
    stored = definition.removesuffix("VIRTUAL") + "STORED"
    sql = after[:added] + stored + after[added + len(definition) :]
    head = _HEAD.match(sql)
    if head is None:
        raise UsageError(f"the table's definition is not understood: {sql}")
    return sql[head.end() :]


def _same_ending(one: str, other: str) -> int:
    length = 0
    while length < min(len(one), len(other)) and one[-1 - length] == other[-1 - length]:
        length += 1
    return length


def _columns_to_copy(connection: Any, schema: str, table: str) -> list[str]:
    """The ordinary columns; and the rowid, where no column stands for it."""
    rows = connection.execute("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, ?)", (table, schema)).fetchall()
    columns = [_quote(name) for name, _, _, hidden in rows if hidden == 0]
    without_rowid = connection.execute(
        "SELECT wr FROM pragma_table_list WHERE schema = ? AND name = ?", (schema, table)
    ).get
    keys = [row for row in rows if row[2]]
    names = {row[0].lower() for row in rows}
    rowid = next((alias for alias in ("rowid", "_rowid_", "oid") if alias not in names), None)
    if without_rowid or rowid is None or (len(keys) == 1 and keys[0][1].upper() == "INTEGER"):
        return columns
    return [rowid, *columns]


def _sequence(connection: Any, where: str, table: str) -> int | None:
    """The largest rowid ever used, of a table with AUTOINCREMENT."""
    if not connection.execute(f"SELECT 1 FROM {where}.sqlite_schema WHERE name = 'sqlite_sequence'").get:
        return None
    found = connection.execute(f"SELECT seq FROM {where}.sqlite_sequence WHERE name = ?", (table,)).get
    return None if found is None else int(found)


def _in_schema(sql: str, where: str) -> str:
    """A CREATE INDEX or CREATE TRIGGER as SQLite keeps it, made to name the schema that it belongs to."""
    kind = re.compile(rf"(CREATE\s+(?:UNIQUE\s+)?(?:INDEX|TRIGGER)\s+)({_NAME})", re.IGNORECASE)
    return kind.sub(lambda match: f"{match[1]}{where}.{match[2]}", sql, count=1)


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
