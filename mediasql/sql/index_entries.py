"""Compares the entries of an index with the values that the rows of the table have now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from .definitions import quote
from .liveness import called_functions
from .media_indexes import MediaIndex
from .schema import TableName
from .session import Session


class Entries:
    """The entries of one index of `table`; the columns `key` identify a row.

    values  SQL expressions to evaluate for each row: whether the index covers the row, and the keys of its entry

    Entries are looked up by conditions that SQLite evaluates from the index alone, without calling functions. An index
    that cannot be read so is taken to be out of date.
    """

    def __init__(self, session: Session, table: TableName, index: MediaIndex, key: tuple[str, ...]) -> None:
        self.index = index
        where = f"({index.where})" if index.where else "1"
        self.values = [f"{where} IS TRUE", *(f"({part})" for part in index.keys)]
        self._cursor = session.statement.cursor
        conditions = [*(f"({part}) IS ?" for part in index.keys), *(f"{name} = ?" for name in key), where]
        indexed = f"FROM {table.sql} INDEXED BY {quote(index.name)} WHERE"
        self._find = f"SELECT 1 {indexed} {' AND '.join(conditions)}"
        self._count_entries = f"SELECT count(*) {indexed} {where}"
        self._count_rows = f"SELECT count(*) FROM {table.scan} WHERE {where}"
        covered = f"SELECT {', '.join(key)} {indexed} {where}"
        self._readable = self._calls_nothing(self._find, len(index.keys) + len(key)) and self._calls_nothing(covered)
        self._outdated = not self._readable
        # A condition cannot find the entry of a row that a partial index no longer covers, so all are read.
        self._covered = set(self._rows(covered)) if index.where and self._readable else set()

    def _calls_nothing(self, sql: str, parameters: int = 0) -> bool:
        try:
            explained = self._cursor().execute(f"EXPLAIN {sql}", (None,) * parameters, can_cache=False)
            return not called_functions(explained) & self.index.called
        except apsw.SQLError:  # no query solution
            return False

    def _rows(self, sql: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._cursor().execute(sql, tuple(bindings)))

    def agree(self, key: tuple[Any, ...], values: list[Any]) -> bool:
        """Return whether the index has the entry that `values` describe for the row `key`, or rightly has none."""
        if not self._readable:
            return True
        covered, *keys = values
        found = bool(self._rows(self._find, (*keys, *key))) if covered else key in self._covered
        self._outdated = self._outdated or found != bool(covered)
        return found == bool(covered)

    def outdated(self, *, count: bool) -> bool:
        """Return whether the index is out of date, as far as the rows show that were compared.

        `count` also counts the entries: a DELETE leaves the entry of a row that a partial index no longer covers.
        """
        return self._outdated or (count and self._rows(self._count_entries) != self._rows(self._count_rows))
