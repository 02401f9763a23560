"""Refreshing what a table keeps of media: STORED columns, and indexes on VIRTUAL columns and on expressions.

The database does not tell of which version of an object a value is. So each row is computed once more, for which the
stores are asked what changed, and compared with what is kept. Rows that differ are written again, with their ordinary
columns as they are: SQLite then computes all that is generated, and finds the entries of STORED columns by what these
were. An entry that came from an object itself cannot be found when that changed, so such an index is built anew.
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
    """What `refresh_computed_columns` did.

    checked  objects that the rows of the table refer to
    changed  those of another version than was known, or whose values were not those in the database
    errors   those that could not be asked for now; their rows are as they were
    rows     how many were written again
    indexes  names of those that were built anew
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
    """Bring the STORED columns and the indexes of `table` ('images', or 'schema.images') up to date with their media.

    Stores are asked about each object, many at a time; then rows are written again, and indexes built anew, where
    something differs, in one transaction. What is missing or damaged by now becomes NULL. An object that could not be
    asked for (it failed for the moment, or access was refused) is counted as an error, and its rows stay as they are.
    Triggers are not fired, foreign keys are not looked at. BLOBs do not change by themselves, and are passed over.

    Raises UsageError for a table that does not exist; TransientError when an index is out of date and cannot be built,
    since the value of a row is not to be had for the moment; apsw.Error for what SQLite refuses, such as
    ConstraintError where a new value breaks a constraint. Then everything is as it was.
    """
    connection = session.connection
    kept = _Kept(session, find_table(session.statement.cursor().execute, table))
    if not kept.columns and not kept.indexes:
        return Refreshed()
    with revalidating(session) as objects:
        rows, indexes = kept.compare(objects)
        written = 0
        if rows or indexes:
            with transaction(connection):
                for index in indexes:  # first: before SQLite 3.53, an entry that is not found is an error
                    kept.rebuild(index)
                written = kept.write(rows)
    return Refreshed(
        len(objects.checked),
        len(objects.changed - objects.failed),
        len(objects.failed),
        written,
        tuple(index.name for index in indexes),
    )


class _Part(Protocol):
    """Something that is kept for each row. `values` are SQL of what it should be, or whether it is."""

    values: list[str]

    def agree(self, key: Key, values: list[Any]) -> bool:
        """Whether it is what `values` say for the row `key`."""


class _Column:
    """A STORED column, compared with what it should be. Its affinity applies, as when it is written."""

    def __init__(self, name: str, expression: str) -> None:
        self.values = [f"{quote(name)} IS +{expression} COLLATE BINARY"]

    def agree(self, key: Key, values: list[Any]) -> bool:
        return bool(values[0])


class _Kept:
    """What a table keeps of media: `columns`, STORED, with their expressions, and `indexes`."""

    def __init__(self, session: Session, table: TableName) -> None:
        self._session = session
        self._table = table
        columns = self._run(
            "SELECT name, hidden, pk FROM pragma_table_xinfo(?, ?) ORDER BY pk", (table.name, table.schema)
        )
        self._key = self._key_columns(columns)
        self._ordinary = [name for name, hidden, _ in columns if hidden == 0]
        sql = f"SELECT sql FROM {quote(table.schema)}.sqlite_schema WHERE type = 'table' AND name = ?"
        self._expressions = generated_columns(self._run(sql, (table.name,))[0][0])
        functions = stale_functions(session)
        # What expires is another each time, whatever the object is.
        perishable = {name for name, function in functions.items() if function.perishable}
        self.columns: dict[str, str] = {}
        for name in (name for name, hidden, _ in columns if hidden == 3):
            if name not in self._expressions:
                raise UsageError(f"the definition of column {name} of {table.name} is not understood")
            called = calls_of(session, self._expressions[name], table) & functions.keys()
            if called and not called & perishable:
                self.columns[name] = self._expressions[name]
        found = media_indexes(session, table.schema, table.name)
        self.indexes = [index for index in found if not index.called & perishable]
        parts = [*self._expressions.values()]
        parts += [part for index in self.indexes for part in (*index.keys, index.where) if part is not None]
        self._read = self._ordinary_among({name for part in parts for name in names_in(part)})

    def _run(self, sql: str, bindings: Iterable[Any] = ()) -> list[Any]:
        return list(self._session.statement.cursor().execute(sql, tuple(bindings)))

    def _key_columns(self, columns: list[Any]) -> tuple[str, ...]:
        if self._table.primary_key is not None:
            return tuple(quote(name) for name, _, pk in columns if pk)
        names = {name.lower() for name, _, _ in columns}
        for alias in ("rowid", "_rowid_", "oid"):
            if alias not in names:
                return (alias,)
        raise UsageError(f"rows of {self._table.name} cannot be told apart: it has columns rowid, _rowid_ and oid")

    def _ordinary_among(self, names: set[str]) -> list[str]:
        """Ordinary columns that have one of these names, quoted."""
        lower = {name.lower() for name in names}
        return [quote(name) for name in self._ordinary if name.lower() in lower]

    def compare(self, objects: Revalidation) -> tuple[list[Key], list[MediaIndex]]:
        """Rows and indexes that differ from the media now. With a bar on a terminal."""
        columns = [_Column(name, expression) for name, expression in self.columns.items()]
        indexes = [Entries(self._session, self._table, index, self._key) for index in self.indexes]
        parts: list[_Part] = [*columns, *indexes]
        selected = [*self._key, *(f"{ROW}(), {value}" for part in parts for value in part.values)]
        # BLOBs do not change by themselves.
        kinds = " OR ".join(f"typeof({name}) IN ('text', 'integer', 'real')" for name in self._read)
        source = f"FROM {self._table.scan} WHERE {kinds or 1}"  # an index knows what values were
        stale: list[Key] = []
        cursor = self._session.statement.cursor()
        total = self._run(f"SELECT count(*) {source}")[0][0]
        with bar(self._session.config.progress, total, "checking", "row") as shown:
            try:
                for row in cursor.execute(f"SELECT {', '.join(selected)} {source}"):
                    shown.update()
                    complete, asked = objects.end_row()
                    if not complete:
                        continue
                    key = row[: len(self._key)]
                    values = zip(row[len(key) + 1 :: 2], asked, strict=True)
                    if _differ(columns, key, values, objects):
                        stale.append(key)
                    _differ(indexes, key, values, objects)
            finally:
                cursor.close(True)
        complete = not objects.failed
        return stale, [entries.index for entries in indexes if entries.differ(count=complete)]

    def rebuild(self, index: MediaIndex) -> None:
        """Build an index anew. Raises TransientError when that needs a value that is not to be had for the moment."""
        try:
            self._run(f"REINDEX {index.sql}")
        except TransientError as error:
            raise error.again(
                f"index {index.name} is out of date, and cannot be built anew for now: {error}"
            ) from error

    def write(self, keys: list[Key]) -> int:
        """Write rows again, but for those whose media fail for the moment. How many were written."""
        if not keys:
            return 0
        with (
            without_triggers(self._session.connection, self._table.name),
            switched(self._session.connection, ENABLE_FKEY=0),
        ):
            written = sum(self._write_some(keys[at : at + _TOGETHER]) for at in range(0, len(keys), _TOGETHER))
        if not all(self._ordinary_among(self._names_behind(expression)) for expression in self.columns.values()):
            # SQLite does not know that an UPDATE changes what is computed from no other column.
            self._run(f"REINDEX {self._table.sql}")
        return written

    def _write_some(self, keys: list[Key]) -> int:
        try:
            return self._write(keys)
        except TransientError:
            return sum(self._write_some([key]) for key in keys) if len(keys) > 1 else 0

    def _write(self, keys: list[Key]) -> int:
        # Of generated columns, SQLite finds the indexes to update by the columns that are SET.
        setting = ", ".join(f"{name} = {name}" for name in self._read or [quote(self._ordinary[0])])
        one = f"({', '.join('?' * len(self._key))})"
        where = f"({', '.join(self._key)}) IN (VALUES {', '.join([one] * len(keys))})"
        sql = f"UPDATE OR ABORT {self._table.sql} SET {setting} WHERE {where}"
        self._run(sql, (value for key in keys for value in key))
        return len(keys)

    def _names_behind(self, expression: str) -> set[str]:
        """Lower-case names in an expression, and in those of the generated columns that it names."""
        names: set[str] = set()
        waiting = [expression]
        while waiting:
            new = {name.lower() for name in names_in(waiting.pop())} - names
            names |= new
            waiting += [other for name, other in self._expressions.items() if name.lower() in new]
        return names


def _differ(
    parts: Iterable[_Part],
    key: Key,
    values: Iterator[tuple[Any, set[str]]],
    objects: Revalidation,
) -> bool:
    """Whether something that is kept for a row differs; `values` are what it should be, and the URLs behind each."""
    different = False
    for part in parts:
        given = list(islice(values, len(part.values)))
        if not part.agree(key, [value for value, _ in given]):
            objects.differs(set().union(*(urls for _, urls in given)))
            different = True
    return different
