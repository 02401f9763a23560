"""Tables of the registry as SQLite virtual tables, with the methods that APSW calls.

A column is computed when SQLite reads it, so a query pays for the columns that it names. Conditions on pushed columns
and LIMIT reach the table as hints; SQLite checks every row again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import apsw

from ..errors import MediaError, UsageError
from ..lifetime import leak
from .call import convert, sql_value
from .failures import shown
from .registry import Condition, Table
from .scout import Noted
from .session import Session

_OPERATORS = {
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: "=",
    apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
    apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
    apsw.SQLITE_INDEX_CONSTRAINT_GT: ">",
    apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
    apsw.SQLITE_INDEX_CONSTRAINT_GLOB: "GLOB",
    apsw.SQLITE_INDEX_CONSTRAINT_LIKE: "LIKE",
}
_LIMITS = (apsw.SQLITE_INDEX_CONSTRAINT_LIMIT, apsw.SQLITE_INDEX_CONSTRAINT_OFFSET)
_MANY_ROWS = 1_000_000
_FEW_ROWS = 100


class Module:
    """What CREATE VIRTUAL TABLE and a table-valued call connect to."""

    def __init__(self, table: Table, session: Session) -> None:
        self._table = table
        self._session = session

    def Connect(
        self, connection: Any, module: str, database: str, name: str, *arguments: Any
    ) -> tuple[str, VirtualTable]:
        if len(arguments) > len(self._table.parameters):
            raise UsageError(f"{name}: {self._table.signature} takes {len(self._table.parameters)} arguments")
        given = [_literal(name, str(argument)) for argument in arguments]
        if self._session.config.trust_schema:
            self._session.connection.vtab_config(apsw.SQLITE_VTAB_INNOCUOUS)
        return self._table.schema, VirtualTable(self._table, self._session, given)

    Create = Connect


def _literal(name: str, text: str) -> Any:
    """An argument of CREATE VIRTUAL TABLE, which SQLite passes as it was written."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(text[0] * 2, text[0])
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise UsageError(f"{name}: the argument {text} needs quotes: '{text}'") from None


class VirtualTable:
    """One connected table. `given` are its arguments where CREATE VIRTUAL TABLE fixed them."""

    def __init__(self, table: Table, session: Session, given: list[Any]) -> None:
        self._table = table
        self._session = session
        self._given = given

    def BestIndexObject(self, info: Any) -> bool:
        """Choose what Filter is given: arguments, conditions on pushed columns, the limit; told in idxStr as JSON."""
        columns, parameters = self._table.columns, self._table.parameters
        chosen: list[tuple[str, str]] = []
        others = False
        missing = set(range(len(self._given), len(parameters)))
        for at in range(info.nConstraint):
            operator = info.get_aConstraint_op(at)
            if operator in _LIMITS:
                continue
            column = info.get_aConstraint_iColumn(at)
            hidden = column - len(columns)
            if hidden >= 0:
                if operator != apsw.SQLITE_INDEX_CONSTRAINT_EQ:
                    others = True
                elif not info.get_aConstraint_usable(at):
                    return False
                elif hidden in missing:
                    missing.discard(hidden)
                    chosen.append((parameters[hidden].name, "argument"))
                    info.set_aConstraintUsage_argvIndex(at, len(chosen))
                    info.set_aConstraintUsage_omit(at, True)
            elif column >= 0 and columns[column].pushed and operator in _OPERATORS and _usable(info, at):
                word = _OPERATORS[operator]
                if word == "=" and info.get_aConstraintUsage_in(at):
                    info.set_aConstraintUsage_in(at, True)
                    word = "IN"
                chosen.append((columns[column].name, word))
                info.set_aConstraintUsage_argvIndex(at, len(chosen))
                others = True
            else:
                others = True
        narrowed = any(word in ("=", "IN") for _, word in chosen)
        if not others and not info.nOrderBy:
            for at in range(info.nConstraint):
                if info.get_aConstraint_op(at) in _LIMITS and info.get_aConstraint_usable(at):
                    chosen.append(("", "limit"))
                    info.set_aConstraintUsage_argvIndex(at, len(chosen))
        # sqlite3_vtab_distinct is not asked: no table sorts its rows or knows of equal ones before they are read, and
        # that the URLs of a listing differ would save DISTINCT and GROUP BY 4 % of the fastest listing there is.
        info.idxStr = json.dumps(chosen)
        # Without its arguments a table cannot be read; SQLite will find the plan that supplies them, if there is one.
        info.estimatedRows = _FEW_ROWS if narrowed or not parameters else _MANY_ROWS
        info.estimatedCost = float(info.estimatedRows) * (1e6 if missing else 1.0)
        return True

    def Open(self) -> Cursor:
        return Cursor(self._table, self._session, self._given)

    # There is no Disconnect, for that may be when Python can run no method any more.
    def Destroy(self) -> None:
        pass


def _usable(info: Any, at: int) -> bool:
    return bool(info.get_aConstraint_usable(at)) and info.get_aConstraint_collation(at) == "BINARY"


class Cursor:
    """One scan."""

    def __init__(self, table: Table, session: Session, given: list[Any]) -> None:
        self._table = table
        self._session = session
        self._given = given
        self._rows: Iterator[Any] = iter(())
        self._row: Any = None
        self._number = 0
        self._arguments: list[Any] = []

    def Filter(self, number: int, plan: str | None, values: Any) -> None:
        arguments = dict(zip((p.name for p in self._table.parameters), self._given, strict=False))
        conditions, limit = [], 0
        for (column, word), value in zip(json.loads(plan or "[]"), values, strict=True):
            if word == "argument":
                arguments[column] = value
            elif word == "limit":
                limit += value if isinstance(value, int) and value > 0 else 0
            else:
                conditions.append(Condition(column, word, value))
        self._arguments = [arguments.get(p.name) for p in self._table.parameters]
        self._number = 0
        self._rows = self._start(arguments, conditions, limit)
        self.Next()

    def _start(self, arguments: dict[str, Any], conditions: list[Condition], limit: int) -> Iterator[Any]:
        table = self._table
        for parameter in table.parameters:
            if parameter.name not in arguments:
                raise UsageError(f"{table.name} needs its {parameter.name}: SELECT … FROM {table.signature}")
        if None in arguments.values():
            return iter(())
        try:
            values = [convert(self._session, p, arguments[p.name]) for p in table.parameters]
        except MediaError as error:
            self._failed(error)
            return iter(())
        hints = {"conditions": conditions, "limit": limit} if table.wants_conditions else {}
        return table.rows(self._session, *values, **hints)

    def Next(self) -> None:
        self._number += 1
        try:
            self._row = next(self._rows, None)
        except Noted:
            self._row = None
        except MediaError as error:
            self._row = None
            self._failed(error)
        else:
            if self._row is None and self._table.about_media:
                self._session.mended(self._table.name, tuple(self._arguments))

    def _failed(self, error: MediaError) -> None:
        """A table about one file has no rows when that cannot be read; a listing that breaks off must not pass for one
        that ended."""
        if self._table.about_media:
            self._session.failed(self._table.name, tuple(self._arguments), error)
        else:
            self._session.refused(self._table.name, tuple(self._arguments), error)
            raise error.again(f"{self._table.name}({shown(tuple(self._arguments))}): {error}") from error

    def Eof(self) -> bool:
        return self._row is None

    def Rowid(self) -> int:
        """The same for the same row of any scan: for OR, SQLite scans more than once and tells rows apart by this."""
        row = [column.get(self._row) for column in self._table.columns if column.pushed] or self._number
        digest = hashlib.blake2b(repr((self._arguments, row)).encode(errors="surrogatepass"), digest_size=8)
        return int.from_bytes(digest.digest()) >> 1

    def Column(self, number: int) -> Any:
        if number < 0:
            return self.Rowid()
        if number >= len(self._table.columns):
            return self._arguments[number - len(self._table.columns)]
        column = self._table.columns[number]
        try:
            value = column.get(self._row)
        except Noted:
            return None
        except MediaError as error:
            self._session.failed(f"{self._table.name}.{column.name}", (self._row.url,), error)
            return None
        if column.opens:
            self._session.mended(f"{self._table.name}.{column.name}", (self._row.url,))
        return sql_value(value)

    def Close(self, is_finalizing: Callable[[], bool] = sys.is_finalizing, leak: Callable[[Any], None] = leak) -> None:
        if is_finalizing():  # what is under way cannot be ended properly any more, nor need be
            leak(self)
            return
        close = getattr(self._rows, "close", None)
        if close is not None:
            close()
