"""Indexes with entries that come from media: on VIRTUAL columns and on expressions that read objects.

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
    """Return the functions of a connection whose values go stale, by lower-case name."""
    known = {**functions(), **session.functions}
    return {name.lower(): function for name, function in known.items() if function.goes_stale}


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """An index with entries that come from media.

    keys        columns and expressions in SQL
    where       condition of a partial index
    media       the keys and the condition that read media, directly or through a VIRTUAL column
    called      lower-case names of the functions that read them
    constraint  whether it belongs to a UNIQUE constraint, so that its name means nothing to the user
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
        """Return the text of the warning. Values of `perishable` functions expire, so no column should store them."""
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
    """Return a key for display: the name of a column without quotes."""
    names = names_in(key)
    return names[0] if len(names) == 1 and quote(names[0]) == key else key


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def media_indexes(session: Session, schema: str, table: str | None = None) -> list[MediaIndex]:
    """Return the indexes of `table`, or of all tables of `schema`, with entries that come from media."""
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
    """Return the index with these parts, which need not exist yet; None when none of them reads media."""
    stale = stale_functions(session).keys()
    media, called = [], set()
    for part in (*keys, where):
        if part is not None and (found := calls_of(session, f"({part})", table) & stale):
            media.append(part if part is not where else f"WHERE {part}")
            called |= found
    return MediaIndex(table, name, keys, where, tuple(media), frozenset(called), constraint) if media else None


def calls_of(session: Session, expression: str, table: TableName) -> set[str]:
    """Return the lower-case names of the functions that `expression` calls for a row of a table."""
    # SQLite does not see that an EXPLAIN is of an earlier schema, so it must not come from APSW's cache.
    explained = session.statement.cursor().execute(f"EXPLAIN SELECT {expression} FROM {table.scan}", can_cache=False)
    return called_functions(explained)


_SPACE = r"(?:\s|--[^\n]*\n|/\*.*?\*/)"
_CREATE_INDEX = re.compile(rf"{_SPACE}*CREATE{_SPACE}+(?:UNIQUE{_SPACE}+)?INDEX\b", re.IGNORECASE | re.DOTALL)


class IndexWarnings:
    """Warns once of each index with entries that come from media: when it is created, or at the next write of a row.

    This needs no hook or tracer. SQLite calls our functions when it fills an index, and when it writes a row of a table
    with such VIRTUAL columns or indexes. `Statements` analyses each of these statements once in any case.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._warned: set[tuple[str, str]] = set()

    def created(self, sql: str) -> None:
        """Warn if the statement that is running creates such an index."""
        if not _CREATE_INDEX.match(sql):
            return
        with suppress(IndexError, StopIteration, apsw.Error):
            index = index_definition(sql)
            table = named_table(self._session.statement.cursor().execute, index.schema, index.table)
            if table is not None:
                self._warn(described(self._session, table, index.name, index.keys, index.where))

    def schema_changed(self) -> None:
        """Warn of such indexes in all databases."""
        for schema in self._session.connection.db_names():
            with suppress(IndexError, StopIteration, apsw.Error):
                for index in media_indexes(self._session, schema):
                    self._warn(index)

    def _warn(self, index: MediaIndex | None) -> None:
        if index is None or (key := (index.table.schema.lower(), index.name.lower())) in self._warned:
            return
        self._warned.add(key)
        perishable = [name for name, function in stale_functions(self._session).items() if function.perishable]
        warn(index.warning(perishable))
