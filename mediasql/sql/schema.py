"""Tables of a connection: finding one, and changing it in one transaction without anything else taking part."""

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
    """A table, as SQLite knows it. `primary_key` is the index of that of a WITHOUT ROWID table."""

    schema: str
    name: str
    strict: bool = False
    primary_key: str | None = None

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"

    @property
    def scan(self) -> str:
        """The table in a FROM where its rows are to be read, not the entries of an index."""
        # NOT INDEXED does not keep SQLite from the indexes of a WITHOUT ROWID table.
        how = "NOT INDEXED" if self.primary_key is None else f"INDEXED BY {quote(self.primary_key)}"
        return f"{self.sql} {how}"


def find_table(execute: Callable[..., Any], table: str) -> TableName:
    """The table that is given as 'table' or 'schema.table'. Raises UsageError where there is none."""
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
    """The table of that name, in `schema` or where SQLite finds it; None where there is none."""
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
    """All or nothing, be it in a transaction that is open already. (APSW's own, `with connection`, stumbles over an
    interrupted write: SQLite then has rolled everything back itself, the outer transaction too.)"""
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
    """SQLITE_DBCONFIG_… switches of the connection have these values meanwhile."""
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
    """Triggers rest meanwhile: those of temp, which SQLite cannot switch off, are dropped and made again."""
    temporary = connection.execute(
        "SELECT name, sql FROM temp.sqlite_schema WHERE type = 'trigger' AND tbl_name = ? COLLATE NOCASE", (table,)
    ).fetchall()
    for name, _ in temporary:
        connection.execute(f"DROP TRIGGER temp.{quote(str(name))}")
    with switched(connection, ENABLE_TRIGGER=0):
        yield
    for _, sql in temporary:
        connection.execute(str(sql).replace("CREATE", "CREATE TEMP", 1))  # SQLite keeps it without TEMP
