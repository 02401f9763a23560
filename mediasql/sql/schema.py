"""Tables of a connection: finding one, and changing it in one transaction without anything else taking part."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw

from ..errors import UsageError
from .definitions import quote


@dataclass(frozen=True, slots=True)
class TableName:
    """A table, as SQLite knows it."""

    schema: str
    name: str
    strict: bool
    without_rowid: bool

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


def find_table(connection: Any, table: str) -> TableName:
    """The table that is given as 'table' or 'schema.table'. Raises UsageError where there is none."""
    found = connection.execute(
        "SELECT schema, name, strict, wr, type FROM pragma_table_list WHERE name = ?1 COLLATE NOCASE "
        "OR schema || '.' || name = ?1 COLLATE NOCASE "
        # As SQLite looks for it: in temp, in main, in the attached ones. A dot may be part of a name.
        "ORDER BY name <> ?1 COLLATE NOCASE, schema <> 'temp', schema <> 'main'",
        (table,),
    ).fetchone()
    if found is None:
        raise UsageError(f"there is no table {table}")
    schema, name, strict, without_rowid, kind = found
    if kind != "table":
        raise UsageError(f"{table} is a {kind}; a computed column needs a table")
    return TableName(schema, name, bool(strict), bool(without_rowid))


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
