"""The SELECT that feeds a write: what it reads, and what it computes for the rows that it writes.

A write cannot be run ahead, since it writes. A SELECT with the same calls can: that of INSERT … SELECT, the rows that
an UPDATE or DELETE meets, the rows of an index, each with the generated columns and CHECKs that will be computed for
them, with what RETURNING computes of their columns, and DO UPDATE where another row is in the way. What triggers do is
not among it. It serves read-ahead only. Where it is wrong, or there is none, the write fetches what it needs by itself:
slower, with the same result. (sqlglot would parse more, at 0.4 s of import and at the cost of another dialect's idea of
SQLite; the parts that matter are found by their keywords.)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .definitions import IndexDefinition, checks, generated_columns, index_definition, names_in, quote
from .tokens import Token, clause, group, split, text_of, tokenize


class Schema(Protocol):
    """What feeding needs to know of a database."""

    def columns(self, schema: str | None, table: str) -> list[str]:
        """Names of the ordinary columns, in order; generated and hidden ones are not among them."""

    def definitions(self, schema: str | None, table: str) -> list[str]:
        """The CREATE statements of the table and its indexes, the table's first; empty when there is none."""

    def index(self, schema: str | None, name: str) -> str | None:
        """Return the CREATE statement of an index; None for that of a constraint, and if it does not exist."""

    def scan(self, schema: str | None, table: str) -> str | None:
        """Return the table for a FROM clause that scans its rows, not an index; None for one that does not exist."""


@dataclass(frozen=True, slots=True)
class Feeding:
    """A SELECT, and how many of the write's positional bindings it takes."""

    sql: str
    bindings: int


@dataclass(frozen=True, slots=True)
class _Target:
    schema: str | None
    table: str
    behind: int  # index of the token behind it

    @property
    def sql(self) -> str:
        return f"{quote(self.schema)}.{quote(self.table)}" if self.schema else quote(self.table)


def feeding(sql: str, schema: Schema) -> Feeding | None:
    """The SELECT that makes the calls which the write `sql` will make; None when none is known."""
    sql = _numbered(sql)
    tokens = [token for token in tokenize(sql) if token.text != ";"]
    verb = next((at for at, token in enumerate(tokens) if token.depth == 0 and token.is_word(*_VERBS)), None)
    if verb is None:
        return None
    with_clause = sql[tokens[0].start : tokens[verb].start] if verb else ""
    try:
        select = _VERBS[tokens[verb].text.upper()](sql, tokens, verb, schema)
    except (IndexError, StopIteration):
        return None  # not a statement as they are usually written
    if select is None:
        return None
    if with_clause and select.startswith("WITH "):
        select = f"{with_clause.rstrip()}, {select[5:]}"
    else:
        select = with_clause + select
    numbers = [int(token.text[1:]) for token in tokenize(select) if re.fullmatch(r"\?\d+", token.text)]
    return Feeding(select, max(numbers, default=0))


def _numbered(sql: str) -> str:
    """`sql` with each `?` given the number that SQLite would, so that parts of it keep their bindings."""
    parts, at, last = [], 0, 0
    for token in tokenize(sql):
        if token.kind == "parameter" and token.text[0] == "?":
            last = int(token.text[1:]) if len(token.text) > 1 else last + 1
            parts += [sql[at : token.start], f"?{last}"]
            at = token.end
        elif token.kind == "parameter":
            return sql  # names keep theirs, and mixing both is not usual
    return "".join(parts) + sql[at:]


def _insert(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """[WITH …] INSERT [OR …] INTO table [AS alias] [(columns)] source [ON CONFLICT …] [RETURNING …]"""
    into = next(at for at in range(verb, len(tokens)) if tokens[at].is_word("INTO"))
    target = _target(tokens, into + 1)
    at, own = target.behind, target.table
    if tokens[at].is_word("AS"):
        at, own = at + 2, tokens[at + 1].name
    columns = schema.columns(target.schema, target.table)
    if tokens[at].text == "(":
        listed, at = group(tokens, at)
        columns = [part[0].name for part in split(listed, listed[0].depth)]
    if tokens[at].is_word("DEFAULT"):
        return None
    end = _end_of_source(tokens, at)
    more = _returned(sql, tokens) + _upserted(sql, tokens, end, f"{target.sql} AS {quote(own)}", quote(own))
    return _with_generated(target, schema, columns, text_of(sql, tokens[at:end]), more)


def _upserted(sql: str, tokens: list[Token], at: int, table: str, own: str) -> str:
    """What ON CONFLICT (columns) DO UPDATE computes for the rows that are in the way, each behind a comma."""
    found = []
    while at < clause(tokens, at, "RETURNING"):
        end = _end_of_source(tokens, at + 1)
        if tokens[at + 2].text == "(" and (setting := clause(tokens[:end], at, "SET")) < end:
            keys = [part[0].name for part in split(group(tokens, at + 2)[0], 1)]
            where = clause(tokens[:end], setting, "WHERE")
            values = [value for value in _assigned(sql, tokens[setting + 1 : where]).values() if "(" in value]
            if where < end:
                condition = text_of(sql, tokens[where + 1 : end])
                values = [
                    f"CASE WHEN {condition} THEN {value} END" for value in values or ["1"] if "(" in condition + value
                ]
            same = " AND ".join(f"{own}.{quote(key)} IS excluded.{quote(key)}" for key in keys)
            found += [f", (SELECT {value} FROM {table} WHERE {same})" for value in values]
        at = end
    return "".join(found)


def _end_of_source(tokens: list[Token], at: int) -> int:
    """The index of the next ON CONFLICT or RETURNING."""
    for end in range(at, len(tokens)):
        conflict = tokens[end].is_word("ON") and end + 1 < len(tokens) and tokens[end + 1].is_word("CONFLICT")
        if tokens[end].depth == 0 and (conflict or tokens[end].is_word("RETURNING")):
            return end
    return len(tokens)


def _update(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """[WITH …] UPDATE [OR …] table [AS alias] SET a = …, (b, c) = … [FROM …] [WHERE …] [RETURNING …]"""
    start = verb + 1 + 2 * tokens[verb + 1].is_word("OR")
    target = _target(tokens, start)
    setting = clause(tokens, target.behind, "SET")
    table = text_of(sql, tokens[start:setting])
    end = clause(tokens, setting, "RETURNING")
    source, where = clause(tokens, setting, "FROM"), clause(tokens, setting, "WHERE")
    assigned = _assigned(sql, tokens[setting + 1 : min(source, where, end)])
    columns = schema.columns(target.schema, target.table)
    own = quote(tokens[setting - 1].name)  # the alias, or the table
    values = [assigned.get(column.lower(), f"{own}.{quote(column)}") for column in columns]
    tables = f"{table}, {text_of(sql, tokens[source + 1 : min(where, end)])}" if source < len(tokens) else table
    selected = f"SELECT {', '.join(values)} FROM {tables} {text_of(sql, tokens[where:end])}"
    return _with_generated(target, schema, columns, selected, _returned(sql, tokens))


def _assigned(sql: str, tokens: list[Token]) -> dict[str, str]:
    """The expressions of a = …, (b, c) = …, by lower-case column."""
    assigned: dict[str, str] = {}
    for part in split(tokens, 0):
        equals = next(at for at, token in enumerate(part) if token.text == "=" and token.depth == 0)
        if equals == 1:
            assigned[part[0].name.lower()] = text_of(sql, part[equals + 1 :])
        else:
            assigned.update(_row_of(sql, part, equals))
    return assigned


def _row_of(sql: str, part: list[Token], equals: int) -> dict[str, str]:
    """What `(b, c) = (…)` assigns. A subquery of many columns has no place in a SELECT's, but can be compared."""
    names = [name[0].name.lower() for name in split(group(part, 0)[0], 1)]
    inside, _ = group(part, equals + 1)
    if inside[0].is_word("SELECT", "VALUES", "WITH"):
        row = ", ".join("NULL" for _ in names)
        return dict.fromkeys(names, "NULL") | {names[0]: f"(({row}) IS {text_of(sql, part[equals + 1 :])})"}
    return {name: text_of(sql, value) for name, value in zip(names, split(inside, 1), strict=False)}


def _delete(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """[WITH …] DELETE FROM table [AS alias] [WHERE …] [RETURNING …]: indexes need the values that are removed."""
    end = clause(tokens, verb, "RETURNING")
    return f"SELECT *{_returned(sql, tokens)} FROM {text_of(sql, tokens[verb + 2 : end])}"


def _create(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """CREATE TABLE … AS select; CREATE INDEX … ON table (…) [WHERE …]"""
    kind = next(token for token in tokens[verb + 1 :] if not token.is_word("TEMP", "TEMPORARY", "UNIQUE"))
    if kind.is_word("TABLE"):
        at = clause(tokens, verb, "AS")
        return text_of(sql, tokens[at + 1 :]) or None
    return _keys(index_definition(sql), None, schema) if kind.is_word("INDEX") else None


def _reindex(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """REINDEX of one index; REINDEX of a table or a collation is not supported."""
    target = _target([*tokens, *tokens[-1:]], verb + 1)  # which looks at one token more
    definition = schema.index(target.schema, target.table)
    return _keys(index_definition(definition), target.schema, schema) if definition else None


def _keys(index: IndexDefinition, of: str | None, schema: Schema) -> str | None:
    """Return a SELECT of the keys of an index. `of` is the database where the definition names none."""
    table = schema.scan(index.schema or of, index.table)
    where = f" WHERE {index.where}" if index.where else ""
    return f"SELECT {', '.join(index.keys)} FROM {table}{where}" if table else None


_VERBS: dict[str, Callable[[str, list[Token], int, Schema], str | None]] = {
    "INSERT": _insert,
    "REPLACE": _insert,
    "UPDATE": _update,
    "DELETE": _delete,
    "CREATE": _create,
    "REINDEX": _reindex,
}


def _target(tokens: list[Token], at: int) -> _Target:
    if tokens[at + 1].text == ".":
        return _Target(tokens[at].name, tokens[at + 2].name, at + 3)
    return _Target(None, tokens[at].name, at + 1)


def _returned(sql: str, tokens: list[Token]) -> str:
    """What RETURNING computes from the columns of a row, each behind a comma."""
    listed = tokens[clause(tokens, 0, "RETURNING") + 1 :]
    return "".join(f", {text_of(sql, part)}" for part in split(listed, 0) if _is_of_the_row(part))


def _is_of_the_row(expression: list[Token]) -> bool:
    """Whether it computes something, and of nothing that a SELECT without the table itself might lack."""
    names = {token.name.lower() for token in expression}
    selects = any(token.is_word("SELECT") for token in expression)
    return "(" in names and not selects and not names & {".", "rowid", "oid", "_rowid_"}


def _with_generated(target: _Target, schema: Schema, columns: list[str], source: str, more: str) -> str:
    """The rows of `source`, named as the table's columns, with what is computed for each of them, and `more`."""
    definitions = schema.definitions(target.schema, target.table)
    generated = generated_columns(definitions[0]) if definitions else {}
    missing = [column for column in schema.columns(target.schema, target.table) if not _among(column, columns)]
    names = ", ".join(map(quote, columns))
    absent = "".join(f", NULL AS {quote(column)}" for column in missing)
    steps = [f"mediasql_0({names}) AS ({source})", f"mediasql_1 AS (SELECT *{absent} FROM mediasql_0)"]
    waiting = dict(generated)
    while waiting:
        ready = {
            name: expression
            for name, expression in waiting.items()
            if not any(_among(column, waiting) for column in names_in(expression))
        } or waiting
        computed = ", ".join(f"{expression} AS {quote(name)}" for name, expression in ready.items())
        steps.append(f"mediasql_{len(steps)} AS (SELECT *, {computed} FROM mediasql_{len(steps) - 1})")
        waiting = {name: expression for name, expression in waiting.items() if name not in ready}
    conditions = [check for definition in definitions[:1] for check in checks(definition)]
    # Plain columns need no computing.
    keys = [key for definition in definitions[1:] for key in index_definition(definition).keys if "(" in key]
    used = "".join(f", {expression}" for expression in (*conditions, *keys))
    return f"WITH {', '.join(steps)} SELECT *{used}{more} FROM mediasql_{len(steps) - 1} AS excluded"


def _among(name: str, names: list[str] | dict[str, str]) -> bool:
    return name.lower() in (other.lower() for other in names)
