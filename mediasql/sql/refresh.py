"""Refreshes the values of media that a table stores: STORED columns, and indexes on VIRTUAL columns and expressions.

The database does not record the version of the object that a value comes from. So each row is evaluated again, while
the stores are asked which objects changed, and the results are compared with what is stored. Rows that differ are
updated with their ordinary columns unchanged: SQLite then evaluates all generated columns, and it finds the index
entries of STORED columns by the old values in the row. It cannot find an entry that was computed from the object itself
once that has changed, so such an index is rebuilt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from ..errors import TransientError, UsageError
from ..progress import bar
from .computed import ROW
from .definitions import generated_columns, names_in, quote
from .index_entries import Entries
from .media_indexes import MediaIndex, calls_of, media_indexes, stale_functions
from .revalidation import Revalidation, revalidating
from .schema import TableName, find_table, switched, transaction, without_triggers
from .session import Session

Key = tuple[Any, ...]  # a rowid, or the values of a PRIMARY KEY
_TOGETHER = 500  # rows that are written by one statement


@dataclass(frozen=True, slots=True)
class Refreshed:
    """The result of `refresh_computed_columns`.

    checked  number of objects that the rows of the table refer to
    changed  number of those with another version than was known, or with values other than the database had
    errors   number of those that could not be checked; their rows are unchanged
    rows     number of rows that were updated
    indexes  names of the indexes that were rebuilt
    """

    checked: int = 0
    changed: int = 0
    errors: int = 0
    rows: int = 0
    indexes: tuple[str, ...] = ()

    def __str__(self) -> str:
        objects = f"{self.checked} object{'' if self.checked == 1 else 's'}"
        return f"Checked {objects}: {self.changed} changed, {self.errors} error{'' if self.errors == 1 else 's'}"


def refresh_computed_columns(session: Session, table: str) -> Refreshed:
    """Update the STORED columns and the indexes of `table` ('images', or 'schema.images') for objects that changed.

    All objects are checked at their stores, many at a time. Then the rows whose values differ are updated and outdated
    indexes are rebuilt, in one transaction. Values of missing and damaged objects become NULL. An object that cannot be
    checked (a transient failure, or access is refused) counts as an error, and its rows are not updated. Triggers do
    not fire and foreign keys are not checked. Rows with BLOBs only are skipped, since a BLOB has no other version.

    Raises UsageError for a table that does not exist; TransientError when an index is outdated and cannot be rebuilt,
    because the value of a row cannot be computed at the moment; apsw.Error when SQLite refuses the update, such as
    ConstraintError when a new value violates a constraint. Nothing has changed then.
    """
    connection = session.connection
    columns = _StoredValues(session, find_table(session.statement.cursor().execute, table))
    if not columns.expressions and not columns.indexes:
        return Refreshed()
    with revalidating(session) as objects:
        rows, indexes = columns.compare(objects)
        written = 0
        if rows or indexes:
            with transaction(connection):
                for index in indexes:  # first: before SQLite 3.53, an UPDATE fails when it does not find an entry
                    columns.rebuild(index)
                written = columns.update(rows)
    return Refreshed(
        len(objects.checked),
        len(objects.changed - objects.failed),
        len(objects.failed),
        written,
        tuple(index.name for index in indexes),
    )


class _Part(Protocol):
    """Something that the database stores for each row. `values` are the SQL expressions to compare it with."""

    values: list[str]

    def agree(self, key: Key, values: list[Any]) -> bool:
        """Return whether it agrees with the results of the expressions for the row `key`."""


class _Column:
    """A STORED column. The comparison applies the affinity of the column, as an UPDATE does."""

    def __init__(self, name: str, expression: str) -> None:
        self.values = [f"{quote(name)} IS +{expression} COLLATE BINARY"]

    def agree(self, key: Key, values: list[Any]) -> bool:
        return bool(values[0])


class _StoredValues:
    """The values of media that a table stores.

    expressions  those of its STORED columns that read objects, by column
    indexes      indexes with entries that come from objects
    """

    def __init__(self, session: Session, table: TableName) -> None:
        self._session = session
        self._table = table
        columns = self._run(
            "SELECT name, hidden, pk FROM pragma_table_xinfo(?, ?) ORDER BY pk", (table.name, table.schema)
        )
        self._key = self._key_columns(columns)
        self._ordinary = [name for name, hidden, _ in columns if hidden == 0]
        sql = f"SELECT sql FROM {quote(table.schema)}.sqlite_schema WHERE type = 'table' AND name = ?"
        self._generated = generated_columns(self._run(sql, (table.name,))[0][0])
        functions = stale_functions(session)
        # Values that expire differ each time, whether the object changed or not.
        perishable = {name for name, function in functions.items() if function.perishable}
        self.expressions: dict[str, str] = {}
        for name in (name for name, hidden, _ in columns if hidden == 3):
            if name not in self._generated:
                raise UsageError(f"mediasql cannot parse the definition of column {name} of {table.name}")
            called = calls_of(session, self._generated[name], table) & functions.keys()
            if called and not called & perishable:
                self.expressions[name] = self._generated[name]
        found = media_indexes(session, table.schema, table.name)
        self.indexes = [index for index in found if not index.called & perishable]
        parts = [*self._generated.values()]
        parts += [part for index in self.indexes for part in (*index.keys, index.where) if part is not None]
        self._inputs = self._ordinary_among({name for part in parts for name in names_in(part)})

    def _run(self, sql: str, bindings: Iterable[Any] = ()) -> list[Any]:
        return list(self._session.statement.cursor().execute(sql, tuple(bindings)))

    def _key_columns(self, columns: list[Any]) -> tuple[str, ...]:
        if self._table.primary_key is not None:
            return tuple(quote(name) for name, _, pk in columns if pk)
        names = {name.lower() for name, _, _ in columns}
        for alias in ("rowid", "_rowid_", "oid"):
            if alias not in names:
                return (alias,)
        raise UsageError(f"the rowid of {self._table.name} has no name: there are columns rowid, _rowid_ and oid")

    def _ordinary_among(self, names: set[str]) -> list[str]:
        """Return the ordinary columns with one of these names, quoted."""
        lower = {name.lower() for name in names}
        return [quote(name) for name in self._ordinary if name.lower() in lower]

    def compare(self, objects: Revalidation) -> tuple[list[Key], list[MediaIndex]]:
        """Return the rows and the indexes that are out of date. Shows a progress bar on a terminal."""
        columns = [_Column(name, expression) for name, expression in self.expressions.items()]
        indexes = [Entries(self._session, self._table, index, self._key) for index in self.indexes]
        parts: list[_Part] = [*columns, *indexes]
        selected = [*self._key, *(f"{ROW}(), {value}" for part in parts for value in part.values)]
        # A BLOB has no other version.
        kinds = " OR ".join(f"typeof({name}) IN ('text', 'integer', 'real')" for name in self._inputs)
        source = f"FROM {self._table.scan} WHERE {kinds or 1}"  # an index would return old values
        outdated: list[Key] = []
        cursor = self._session.statement.cursor()
        total = self._run(f"SELECT count(*) {source}")[0][0]
        with bar(self._session.config.progress, total, "checking", "row") as shown:
            try:
                for row in cursor.execute(f"SELECT {', '.join(selected)} {source}"):
                    shown.update()
                    complete, urls = objects.end_row()
                    if not complete:
                        continue
                    key = row[: len(self._key)]
                    values = zip(row[len(key) + 1 :: 2], urls, strict=True)
                    if _differ(columns, key, values, objects):
                        outdated.append(key)
                    _differ(indexes, key, values, objects)
            finally:
                cursor.close(True)
        complete = not objects.failed
        return outdated, [entries.index for entries in indexes if entries.outdated(count=complete)]

    def rebuild(self, index: MediaIndex) -> None:
        """Rebuild an index. Raises TransientError when that needs a value that cannot be computed at the moment."""
        try:
            self._run(f"REINDEX {index.sql}")
        except TransientError as error:
            raise error.again(
                f"index {index.name} is out of date and cannot be rebuilt at the moment: {error}"
            ) from error

    def update(self, keys: list[Key]) -> int:
        """Update rows, except those with a transient failure. Return the number of rows that were updated."""
        if not keys:
            return 0
        with (
            without_triggers(self._session.connection, self._table.name),
            switched(self._session.connection, ENABLE_FKEY=0),
        ):
            updated = sum(self._update_group(keys[at : at + _TOGETHER]) for at in range(0, len(keys), _TOGETHER))
        if not all(self._ordinary_among(self._names_behind(expression)) for expression in self.expressions.values()):
            # SQLite does not update the indexes of a generated column that is computed from no other column.
            self._run(f"REINDEX {self._table.sql}")
        return updated

    def _update_group(self, keys: list[Key]) -> int:
        try:
            return self._update(keys)
        except TransientError:
            return sum(self._update_group([key]) for key in keys) if len(keys) > 1 else 0

    def _update(self, keys: list[Key]) -> int:
        # SQLite updates the indexes of those generated columns only that are computed from columns in SET.
        setting = ", ".join(f"{name} = {name}" for name in self._inputs or [quote(self._ordinary[0])])
        one = f"({', '.join('?' * len(self._key))})"
        where = f"({', '.join(self._key)}) IN (VALUES {', '.join([one] * len(keys))})"
        sql = f"UPDATE OR ABORT {self._table.sql} SET {setting} WHERE {where}"
        self._run(sql, (value for key in keys for value in key))
        return len(keys)

    def _names_behind(self, expression: str) -> set[str]:
        """Return the lower-case names in an expression and in those of the generated columns that it refers to."""
        names: set[str] = set()
        waiting = [expression]
        while waiting:
            new = {name.lower() for name in names_in(waiting.pop())} - names
            names |= new
            waiting += [other for name, other in self._generated.items() if name.lower() in new]
        return names


def _differ(
    parts: Iterable[_Part],
    key: Key,
    values: Iterator[tuple[Any, set[str]]],
    objects: Revalidation,
) -> bool:
    """Return whether a part of a row differs. `values` are the results of expressions, with the URLs behind each."""
    different = False
    for part in parts:
        given = list(islice(values, len(part.values)))
        if not part.agree(key, [value for value, _ in given]):
            objects.differs(set().union(*(urls for _, urls in given)))
            different = True
    return different
