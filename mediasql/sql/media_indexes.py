"""Indexes whose entries come from media: those on VIRTUAL columns and on expressions that read objects.

SQLite takes a deterministic function at its word. It computes an entry when the row is written, and computes it again
to find the entry when the row is changed or deleted; where the object changed in between, it looks in the wrong place.
(A STORED column is safe to index, since the row holds what its value was.)
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import apsw

from ..warning import warn
from .definitions import index_definition, names_in, quote
from .liveness import called_functions
from .registry import Function, functions
from .schema import TableName, named_table
from .session import Session


def stale_functions(session: Session) -> dict[str, Function]:
    """Functions of a connection whose values may be others later, by lower-case name."""
    known = {**functions(), **session.functions}
    return {name.lower(): function for name, function in known.items() if function.goes_stale}


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """An index with entries that come from media.

    keys       SQL of what it holds, over the columns of the table
    where      condition of a partial index
    media      those of both that read media, by themselves or through a VIRTUAL column
    called     functions by which they do
    constraint whether it is that of a UNIQUE constraint, which has no name of its own
    """

    table: TableName
    name: str
    keys: tuple[str, ...]
    where: str | None
    media: tuple[str, ...]
    called: frozenset[str]
    constraint: bool

    @property
    def sql(self) -> str:
        return f"{quote(self.table.schema)}.{quote(self.name)}"

    def warning(self, perishable: Collection[str]) -> str:
        """What to tell of it; `perishable` are functions whose values expire, which no column should keep."""
        shown = "the UNIQUE constraint" if self.constraint else f"index {self.name}"
        columns = ", ".join(map(_plain, self.media))
        called = ", ".join(f"{name}()" for name in sorted(self.called))
        name, schema = self.table.name, self.table.schema
        table = _text(name if schema == "main" else f"{schema}.{name}")
        remedy = (
            f"Index a STORED column instead, as add_computed_column({table}, …, stored=True) makes; or call "
            f"refresh_computed_columns({table}) when objects have changed."
        )
        return (
            f"{shown} on {name} has entries that come from media: {columns}, through {called}. When an object changes, "
            "its entry is out of date: queries miss the row, PRAGMA integrity_check fails, and before SQLite 3.53 so "
            "do UPDATE and DELETE ('database disk image is malformed'). "
            f"{'Do without it.' if self.called <= set(perishable) else remedy}"
        )


def _plain(key: str) -> str:
    """A key as it is shown: the name of a column without its quotes."""
    names = names_in(key)
    return names[0] if len(names) == 1 and quote(names[0]) == key else key


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def media_indexes(session: Session, schema: str, table: str | None = None) -> list[MediaIndex]:
    """The indexes of `table`, or of all tables of `schema`, whose entries come from media."""
    mentions = re.compile(rf"\b(?:{'|'.join(map(re.escape, stale_functions(session)))})\b", re.IGNORECASE).search
    execute = session.statement.cursor().execute
    found = []
    for name, of, sql, table_sql in execute(
        f"SELECT i.name, t.name, i.sql, t.sql FROM {quote(schema)}.sqlite_schema AS i "
        f"JOIN {quote(schema)}.sqlite_schema AS t ON t.type = 'table' AND t.name = i.tbl_name COLLATE NOCASE "
        "WHERE i.type = 'index' AND (?1 IS NULL OR t.name = ?1 COLLATE NOCASE)",
        (table,),
    ).fetchall():
        if mentions(f"{sql or ''} {table_sql}") and (of_table := named_table(execute, schema, of)) is not None:
            keys, where = _parts(execute, schema, name, sql)
            found.append(described(session, of_table, name, keys, where, constraint=sql is None))
    return [index for index in found if index is not None]


def _parts(execute: Any, schema: str, name: str, sql: str | None) -> tuple[tuple[str, ...], str | None]:
    if sql is not None:
        index = index_definition(sql)
        return index.keys, index.where
    columns = "SELECT name FROM pragma_index_xinfo(?1, ?2) WHERE key AND name IS NOT NULL ORDER BY seqno"
    return tuple(quote(row[0]) for row in execute(columns, (name, schema))), None


def described(
    session: Session,
    table: TableName,
    name: str,
    keys: tuple[str, ...],
    where: str | None,
    *,
    constraint: bool = False,
) -> MediaIndex | None:
    """The index with these parts, be it there or about to be made; None where none of them reads media."""
    stale = stale_functions(session).keys()
    media, called = [], set()
    for part in (*keys, where):
        if part is not None and (found := calls_of(session, f"({part})", table) & stale):
            media.append(part if part is not where else f"WHERE {part}")
            called |= found
    return MediaIndex(table, name, keys, where, tuple(media), frozenset(called), constraint) if media else None


def calls_of(session: Session, expression: str, table: TableName) -> set[str]:
    """Lower-case names of the functions by which `expression` is computed for a row of a table."""
    # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
    explained = session.statement.cursor().execute(f"EXPLAIN SELECT {expression} FROM {table.scan}", can_cache=False)
    return called_functions(explained)


_SPACE = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"
_CREATE_INDEX = re.compile(rf"{_SPACE}*CREATE{_SPACE}+(?:UNIQUE{_SPACE}+)?INDEX\b", re.IGNORECASE | re.DOTALL)


class IndexWarnings:
    """Tells of each index with entries from media once, when it is made or at the next write of such a table.

    Nothing is hooked: SQLite calls our functions when it fills an index, and for each row that is written to a table
    that has them in VIRTUAL columns. `Statements` looks at each such statement once anyway.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._told: set[tuple[str, str]] = set()

    def created(self, sql: str) -> None:
        """A statement is under way; it may be a CREATE INDEX."""
        if not _CREATE_INDEX.match(sql):
            return
        with suppress(IndexError, StopIteration, apsw.Error):
            index = index_definition(sql)
            table = named_table(self._session.statement.cursor().execute, index.schema, index.table)
            if table is not None:
                self._tell(described(self._session, table, index.name, index.keys, index.where))

    def schema_changed(self) -> None:
        """There may be indexes that were not there, or not looked at."""
        for schema in self._session.connection.db_names():
            with suppress(IndexError, StopIteration, apsw.Error):
                for index in media_indexes(self._session, schema):
                    self._tell(index)

    def _tell(self, index: MediaIndex | None) -> None:
        if index is None or (key := (index.table.schema.lower(), index.name.lower())) in self._told:
            return
        self._told.add(key)
        perishable = [name for name, function in stale_functions(self._session).items() if function.perishable]
        warn(index.warning(perishable))
