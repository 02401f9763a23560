"""`show`: the result of SQL as a table that a notebook draws, with its media."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import apsw.ext

from ...connection import session_of
from ...errors import UsageError
from ...sql.session import Session
from .cells import Cell, declared_kind, escape, kind_of, plain
from .previews import Previews, blobs

ROWS = 50
_WIDEST = 60  # characters of a column as text
_MOST_BLOBS = 32 * 1024 * 1024  # bytes of BLOBs held until they are drawn
_STEPS = 50_000  # of SQLite's virtual machine, between moments at which Ctrl-C is heard
_COUNT_FOR = 0.3  # seconds in which the rows that are not shown may be counted

Bindings = Sequence[Any] | Mapping[str, Any] | None


@dataclass(slots=True)
class _Table:
    """Rows of one statement. `more` counts those that were not read; None: there are some."""

    columns: tuple[tuple[str, str | None], ...]
    rows: list[list[Cell]]
    more: int | None
    reasons: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What SQL gave, to be displayed: `repr` is a table of text, `_repr_html_` one with pictures and players."""

    _columns: tuple[str, ...]
    _rows: tuple[tuple[Cell, ...], ...]
    _notes: tuple[str, ...]

    def __repr__(self) -> str:
        if not self._columns:
            return "\n".join(self._notes)
        table = [[_fitted(name) for name in self._columns]]
        table += [[_fitted(cell.text) for cell in row] for row in self._rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(self._columns))]
        lines = [
            "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        lines.insert(1, "  ".join("─" * width for width in widths))
        return "\n".join([*lines, *self._notes])

    def _repr_html_(self) -> str:
        notes = "".join(f'<div style="opacity:.75;font-size:smaller">{escape(note)}</div>' for note in self._notes)
        if not self._columns:
            return f"<div>{notes}</div>"
        style = 'style="text-align:left;vertical-align:top;max-width:30em;overflow-wrap:anywhere"'
        head = "".join(f"<th {style}>{escape(plain(name))}</th>" for name in self._columns)
        body = "".join(
            "<tr>" + "".join(f"<td {style}>{cell.html}</td>" for cell in row) + "</tr>" for row in self._rows
        )
        return (
            f'<div style="overflow-x:auto"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
            f"{notes}</div>"
        )


def _fitted(text: str) -> str:
    text = plain(text)
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def show(
    connection: apsw.Connection,
    sql: str,
    bindings: Bindings | Callable[[tuple[str | None, ...]], Bindings] = None,
    *,
    rows: int = ROWS,
) -> Shown:
    """Run statements, and give the rows of the last one that has any; see `MediaConnection.show`.

    bindings   may also be a function, which is told the names that a statement binds
    """
    if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
        raise UsageError(f"show: rows is {rows!r}; a whole number of 1 or more is needed")
    session = session_of(connection)
    failed, transient, changes = session.failures.total, session.failures.transient, connection.total_changes()
    table: _Table | None = None
    with _heard(connection), session.transients.shown_otherwise():
        for statement, columns, given, readonly in _statements(connection, sql, bindings):
            if columns:
                table = _read(session, connection, statement, columns, given, rows, readonly)
            else:
                connection.execute(statement, given)
    failed, transient = session.failures.total - failed, session.failures.transient - transient
    notes = _notes(table, rows, failed, transient, connection.total_changes() - changes)
    if table is None:
        return Shown((), (), notes)
    return Shown(tuple(name for name, _ in table.columns), tuple(map(tuple, table.rows)), notes)


def _statements(
    connection: apsw.Connection, sql: str, bindings: Any
) -> Iterator[tuple[str, tuple[tuple[str, str | None], ...], Any, bool]]:
    """Each statement, its columns with their declared types, its bindings, and whether it only reads.

    Each is prepared when those before it were run. Positional bindings are given out in order.
    """
    rest: str | None = sql
    taken = 0
    while rest and rest.strip():
        info = apsw.ext.query_info(connection, rest)
        rest = info.query_remaining
        if not info.has_vdbe:
            continue
        given = bindings(info.bindings_names) if callable(bindings) else bindings
        if given is not None and not isinstance(given, Mapping):
            given = tuple(given)
            if info.bindings_count and len(given) < taken + info.bindings_count:
                raise UsageError(f"show: {taken + info.bindings_count} bindings are needed, {len(given)} were given")
            if not (rest and rest.strip()) and len(given) > taken + info.bindings_count:
                raise UsageError(f"show: {taken + info.bindings_count} bindings are needed, {len(given)} were given")
            given, taken = given[taken : taken + info.bindings_count], taken + info.bindings_count
        yield info.first_query, info.description, given if info.bindings_count else None, info.is_readonly


def _read(
    session: Session, connection: apsw.Connection, sql: str, columns: Any, bindings: Any, most: int, readonly: bool
) -> _Table:
    """The first rows of a statement, with their media drawn. No more rows than are shown are held, nor their BLOBs."""
    kinds = [declared_kind(type) for _, type in columns]
    previews, policy = Previews(session), session.store.policy
    found: list[list[Cell]] = []
    waiting: list[Cell] = []
    is_more = False
    cursor = connection.execute(sql, bindings)
    try:
        for row in cursor:
            if len(found) == most:
                is_more = True
                break
            cells = [Cell(value, kind_of(kind, value, policy)) for kind, value in zip(kinds, row, strict=True)]
            found.append(cells)
            waiting += cells
            if blobs(cells) and blobs(waiting) > _MOST_BLOBS:
                previews.draw(waiting)
                waiting = []
    finally:
        cursor.close(True)
    previews.draw(waiting)
    for cell in waiting:
        if isinstance(cell.value, bytes):
            cell.value = None
    more = _count(session, connection, sql, bindings) if is_more and readonly else None
    return _Table(
        columns, found, max(more - most, 1) if more is not None else None if is_more else 0, previews.failures
    )


def _count(session: Session, connection: apsw.Connection, sql: str, bindings: Any) -> int | None:
    """How many rows there are, where counting them calls nothing but SQLite's own functions and takes no time."""
    query = f"SELECT count(*) FROM ({sql.strip().rstrip(';')}\n)"
    cursor = session.statement.cursor()
    late = _Late(time.monotonic() + _COUNT_FOR)
    connection.set_progress_handler(late, _STEPS, id=late)
    try:
        with session.statement.unwatched():
            own = {name for (name,) in cursor.execute("SELECT name FROM pragma_function_list WHERE builtin")}
            for _, opcode, *_, p4, _, _ in cursor.execute(f"EXPLAIN {query}", bindings):
                called = str(p4).partition("(")[0].lower()
                if opcode.startswith("V") and opcode != "Variable" and opcode != "Vacuum":
                    return None
                if opcode in ("Function", "PureFunc", "AggStep", "AggStep1") and called not in own:
                    return None
            (count,) = cursor.execute(query, bindings).fetchall()[0]
            return int(count)
    except (apsw.SQLError, apsw.InterruptError):
        return None
    finally:
        connection.set_progress_handler(None, id=late)
        cursor.close(True)


@dataclass(frozen=True, eq=False)
class _Late:
    limit: float

    def __call__(self) -> bool:
        return time.monotonic() > self.limit


@contextmanager
def _heard(connection: apsw.Connection) -> Iterator[None]:
    """Let Ctrl-C end a statement in here, too, that SQLite works on without calling us."""
    handler = _Late(float("inf"))
    connection.set_progress_handler(handler, _STEPS, id=handler)
    try:
        yield
    finally:
        connection.set_progress_handler(None, id=handler)


def _notes(table: _Table | None, rows: int, failed: int, transient: int, changed: int) -> tuple[str, ...]:
    notes = []
    if table is None:
        notes.append(f"{changed} row{'' if changed == 1 else 's'} changed" if changed else "Done")
    elif table.more is None:
        notes.append(f"The first {len(table.rows)} rows; there are more: rows={4 * rows} shows more of them")
    elif table.more:
        notes.append(f"The first {len(table.rows)} rows; {table.more:,} more are not shown: rows={4 * rows} shows more")
    elif not table.rows:
        notes.append("No rows")
    if failed:
        what = "1 value failed and is" if failed == 1 else f"{failed} values failed and are"
        notes.append(f"{what} NULL; to see why: SELECT * FROM media_errors")
    if transient:
        what = "That value" if failed == 1 else f"{transient} of these values"
        notes.append(f"{what} could not be read for the moment, so rows may be missing; the same statement asks again")
    if table is not None and table.reasons:
        what = "1 cell says" if table.reasons == 1 else f"{table.reasons} cells say"
        notes.append(f"{what} why there is nothing to see or hear")
    return tuple(notes)
