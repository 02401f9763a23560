"""Finds tables of a connection, and changes them in one transaction without firing triggers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw

from ..errors import UsageError
from .definitions import quote


@dataclass(frozen=True, slots=True)
class TableName:
    """The exact name of a table. `primary_key` is the name of the index that a WITHOUT ROWID table is stored in."""

    schema: str
    name: str
    strict: bool = False
    primary_key: str | None = None

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def scan(self) -> str:
        """Return the table for a FROM clause that scans its rows, and never reads values from an index."""
        # SQLite ignores NOT INDEXED for WITHOUT ROWID tables.
        how = "NOT INDEXED" if self.primary_key is None else f"INDEXED BY {quote(self.primary_key)}"
        return f"{self.sql} {how}"


def find_table(execute: Callable[..., Any], table: str) -> TableName:
    """Return the table that is given as 'table' or 'schema.table'. Raises UsageError when there is none."""
    found = execute(
        f"{_TABLES} WHERE name = ?1 COLLATE NOCASE OR schema || '.' || name = ?1 COLLATE NOCASE "
        # A dot may be part of a name.
        f"ORDER BY name <> ?1 COLLATE NOCASE, {_ORDER}",
        (table,),
    ).fetchall()
    if not found:
        raise UsageError(f"there is no table {table}")
    if (kind := found[0][4]) != "table":
        raise UsageError(f"{table} is a {kind}; a computed column needs a table")
    return _table(execute, *found[0])


def named_table(execute: Callable[..., Any], schema: str | None, name: str) -> TableName | None:
    """Return the table of this name, in `schema` or where SQLite finds it first; None when there is none."""
    found = execute(
        f"{_TABLES} WHERE name = ?1 COLLATE NOCASE AND coalesce(schema = ?2 COLLATE NOCASE, 1) ORDER BY {_ORDER}",
        (name, schema),
    ).fetchall()
    return _table(execute, *found[0]) if found and found[0][4] == "table" else None


_TABLES = "SELECT schema, name, strict, wr, type FROM pragma_table_list"
_ORDER = "schema <> 'temp', schema <> 'main'"  # as SQLite looks for a name: in temp, in main, in the attached ones


def _table(
    execute: Callable[..., Any], schema: str, name: str, strict: int, without_rowid: int, kind: str
) -> TableName:
    key = "SELECT name FROM pragma_index_list(?, ?) WHERE origin = 'pk'"
    index = execute(key, (name, schema)).fetchall()[0][0] if without_rowid else None
    return TableName(schema, name, bool(strict), index)


@contextmanager
def transaction(connection: Any) -> Iterator[None]:
    """Run the block as one transaction, or as a nested one where a transaction is open already.

    (APSW's own, `with connection`, fails after an interrupted write: SQLite has rolled back everything then, including
    the outer transaction.)
    """
    connection.execute("SAVEPOINT mediasql_columns")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO mediasql_columns; RELEASE mediasql_columns")
        raise
    connection.execute("RELEASE mediasql_columns")


@contextmanager
def switched(connection: Any, **switches: int) -> Iterator[None]:
    """Set SQLITE_DBCONFIG_… switches of the connection to these values for the block."""
    options = {getattr(apsw, f"SQLITE_DBCONFIG_{name}"): value for name, value in switches.items()}
    before = {option: connection.config(option, -1) for option in options}
    try:
        for option, value in options.items():
            connection.config(option, value)
        yield
    finally:
        for option, value in reversed(before.items()):
            connection.config(option, value)


@contextmanager
def without_triggers(connection: Any, table: str) -> Iterator[None]:
    """Disable triggers for the block. SQLite cannot disable those in temp, so they are dropped and created again."""
    temporary = connection.execute(
        "SELECT name, sql FROM temp.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE", (table,)
    ).fetchall()
    for name, _ in temporary:
        connection.execute(f"DROP TRIGGER temp.{quote(str(name))}")
    with switched(connection, ENABLE_TRIGGER=0):
        yield
    for _, sql in temporary:
        connection.execute(str(sql).replace("CREATE", "CREATE TEMP", 1))  # SQLite keeps it without TEMP
