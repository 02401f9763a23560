"""The entries of an index, compared with what they should be."""

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
    """The entries of one index of `table`, whose rows are told apart by the columns `key`.

    values  SQL of what there should be for a row: whether it is in the index at all, and the keys

    They are looked up by conditions that SQLite answers from the index alone. Where some version of it would not, the
    index is taken to be out of date.
    """

    def __init__(self, session: Session, table: TableName, index: MediaIndex, key: tuple[str, ...]) -> None:
        self.index = index
        where = f"({index.where})" if index.where else "1"
        self.values = [f"{where} IS TRUE", *(f"({part})" for part in index.keys)]
        self._cursor = session.statement.cursor
        tests = [*(f"({part}) IS ?" for part in index.keys), *(f"{name} = ?" for name in key), where]
        indexed = f"FROM {table.sql} INDEXED BY {quote(index.name)} WHERE"
        self._find = f"SELECT 1 {indexed} {' AND '.join(tests)}"
        self._count = f"SELECT count(*) {indexed} {where}"
        self._count_rows = f"SELECT count(*) FROM {table.scan} WHERE {where}"
        all_of_it = f"SELECT {', '.join(key)} {indexed} {where}"
        self._readable = self._needs_no_media(self._find, len(index.keys) + len(key)) and self._needs_no_media(
            all_of_it
        )
        self._differs = not self._readable
        # A row that should not be in a partial index cannot be looked up there.
        self._partial = set(self._rows(all_of_it)) if index.where and self._readable else set()

    def _needs_no_media(self, sql: str, parameters: int = 0) -> bool:
        try:
            explained = self._cursor().execute(f"EXPLAIN {sql}", (None,) * parameters, can_cache=False)
            return not called_functions(explained) & self.index.called
        except apsw.SQLError:  # no query solution
            return False

    def _rows(self, sql: str, bindings: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        return list(self._cursor().execute(sql, tuple(bindings)))

    def agree(self, key: tuple[Any, ...], values: list[Any]) -> bool:
        """Whether the index has for the row `key` what `values` say."""
        if not self._readable:
            return True  # nobody knows
        belongs, *keys = values
        there = bool(self._rows(self._find, (*keys, *key))) if belongs else key in self._partial
        self._differs = self._differs or there != bool(belongs)
        return there == bool(belongs)

    def differ(self, *, count: bool) -> bool:
        """Whether the index is out of date, as far as the rows tell that were asked about; or also, if `count`, since
        it has others: a DELETE leaves the entry of a row that would not be in a partial index any more."""
        return self._differs or (count and self._rows(self._count) != self._rows(self._count_rows))
