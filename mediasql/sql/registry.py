"""`@function` and `@table`: how a plain typed def becomes an SQL name.

Arity, argument kinds and result types come from the annotations; the summary and the runnable example from the
docstring. Whatever binds SQLite (APSW, a loadable extension) reads this registry and nothing else.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .. import discovery
from .media import Media
from .session import Session

F = TypeVar("F", bound=Callable[..., Any])

_FUNCTIONS: dict[str, Function] = {}
_TABLES: dict[str, Table] = {}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument. `kind` is Media, str, int, or object for any SQL value."""

    name: str
    kind: type
    optional: bool


@dataclass(frozen=True, slots=True)
class Function:
    """A scalar SQL function.

    deterministic  its answer does not change within a statement, so generated columns and indexes may use it
    directonly     may be called from statements only, never from a schema: it changes or gives away something
    perishable     its value expires: fit for VIRTUAL columns, not to be stored
    remembered     its values are small, and as good as the answer that they come from: kept for the next call
    reads_media    may fetch; its value is NULL where a write does not need it
    goes_stale     its value can change later, when the object changes, so that stored and indexed values go stale
    ahead          what it does may be done before its row comes, and for nothing: it fetches at most
    field          the field of MediaInfo or ObjectInfo that is its value, which can be had for many media at a time
    returns        int, float, str or bytes where its values, NULL aside, are of that one type
    """

    name: str
    call: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    deterministic: bool
    directonly: bool
    perishable: bool
    remembered: bool
    reads_media: bool
    wants_session: bool
    doc: str
    field: str | None = None
    returns: type | None = None
    ahead: bool = True
    goes_stale: bool = True

    @property
    def arities(self) -> range:
        required = sum(not parameter.optional for parameter in self.parameters)
        return range(required, len(self.parameters) + 1)

    @property
    def signature(self) -> str:
        shown = [f"[{p.name}]" if p.optional else p.name for p in self.parameters]
        return f"{self.name}({', '.join(shown)})"

    @property
    def family(self) -> str:
        return self.call.__module__.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: `get` takes the row that the table yielded and gives the value.

    opens   reading it opens the object that the row's `url` names, and NULL stands for what failed
    pushed  comparisons on it (see Condition) are given to the table to list less
    """

    name: str
    type: str
    doc: str
    get: Callable[[Any], Any]
    opens: bool = False
    pushed: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on a pushed column, which SQLite checks again for each row.

    `operator` is '=', 'IN', '<', '<=', '>', '>=', 'GLOB' or 'LIKE'.
    """

    column: str
    operator: str
    value: Any


@dataclass(frozen=True, slots=True)
class Table:
    """A table-valued function, also for CREATE VIRTUAL TABLE. Its parameters are hidden columns."""

    name: str
    rows: Callable[..., Iterator[Any]]
    columns: tuple[Column, ...]
    parameters: tuple[Parameter, ...]
    wants_conditions: bool
    doc: str

    @property
    def signature(self) -> str:
        return f"{self.name}({', '.join(p.name for p in self.parameters)})" if self.parameters else self.name

    @property
    def about_media(self) -> bool:
        """Whether it tells about one file, and has no rows for one that cannot be read."""
        return any(parameter.kind is Media for parameter in self.parameters)

    @property
    def schema(self) -> str:
        columns = [f'"{column.name}" {column.type}' for column in self.columns]
        columns += [f'"{parameter.name}" HIDDEN' for parameter in self.parameters]
        return f"CREATE TABLE x({', '.join(columns)})"


def function(
    *,
    deterministic: bool = True,
    directonly: bool = False,
    perishable: bool = False,
    remembered: bool = True,
    field: str | None = None,
    ahead: bool | None = None,
    from_url: bool = False,
) -> Callable[[F], F]:
    """Register the def below as an SQL function of its name; `from_url` says that its value comes from the URL alone.

    A parameter annotated `Media` takes a URL or a BLOB, `str` text, `int` a whole number, `object` any value; a
    default makes it optional in SQL. One annotated `Session` is not an SQL argument. NULL in any gives NULL.
    """

    def register(call: F) -> F:
        parameters, wants = _parameters(call)
        reads_media = any(parameter.kind is Media for parameter in parameters)
        _FUNCTIONS[call.__name__] = Function(
            name=call.__name__,
            call=call,
            parameters=parameters,
            deterministic=deterministic,
            directonly=directonly,
            perishable=perishable,
            remembered=remembered and deterministic and not perishable and reads_media,
            field=field,
            ahead=not directonly if ahead is None else ahead,
            reads_media=reads_media,
            goes_stale=reads_media and not from_url,
            wants_session="session" in wants,
            doc=inspect.getdoc(call) or "",
            returns=returned(get_type_hints(call).get("return")),
        )
        return call

    return register


def returned(annotation: Any) -> type | None:
    """The SQL type among Python's that an annotation of a result stands for, if it is one."""
    union = get_origin(annotation) in (Union, UnionType)
    kinds = [kind for kind in (get_args(annotation) if union else [annotation]) if kind is not NoneType]
    return kinds[0] if len(kinds) == 1 and kinds[0] in (int, float, str, bytes) else None


def table(*columns: Column) -> Callable[[F], F]:
    """Register the generator below as an SQL table of its name; it is called with a Session first.

    Its other parameters are the table's arguments; `conditions` and `limit`, where it has them, tell what it may skip.
    """

    def register(rows: F) -> F:
        parameters, wants = _parameters(rows)
        _TABLES[rows.__name__] = Table(
            name=rows.__name__,
            rows=rows,
            columns=columns,
            parameters=parameters,
            wants_conditions="conditions" in wants,
            doc=inspect.getdoc(rows) or "",
        )
        return rows

    return register


_NOT_SQL = ("session", "conditions", "limit")


def _parameters(call: Callable[..., Any]) -> tuple[tuple[Parameter, ...], set[str]]:
    hints = get_type_hints(call)
    found = inspect.signature(call).parameters.values()
    wants = {parameter.name for parameter in found if parameter.name in _NOT_SQL}
    return tuple(
        Parameter(parameter.name, hints[parameter.name], parameter.default is not parameter.empty)
        for parameter in found
        if parameter.name not in _NOT_SQL
    ), wants


def functions() -> dict[str, Function]:
    """All SQL functions by name, built in and from other packages."""
    discovery.load_all()
    return dict(sorted(_FUNCTIONS.items()))


def tables() -> dict[str, Table]:
    """All tables by name, built in and from other packages."""
    discovery.load_all()
    return dict(sorted(_TABLES.items()))


_EXAMPLE = re.compile(r"^sql> (.*(?:\n\.\.\.> .*)*)\n((?:(?!sql> ).+\n?)*)", re.MULTILINE)


def examples(doc: str) -> list[tuple[str, str]]:
    """The `sql>` examples of a docstring, with the output that stands under each."""
    return [(sql.replace("\n...> ", "\n"), output.rstrip("\n")) for sql, output in _EXAMPLE.findall(doc)]


def summary(doc: str) -> str:
    """What a docstring says, without its examples."""
    return doc.partition("sql> ")[0].strip()


__all__ = ["Column", "Condition", "Function", "Media", "Session", "Table", "function", "table"]
