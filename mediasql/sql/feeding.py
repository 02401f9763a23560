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

from .tokens import Token, group, split, text_of, tokenize


class Schema(Protocol):
    """What feeding needs to know of a database."""

    def columns(self, schema: str | None, table: str) -> list[str]:
        """Names of the ordinary columns, in order; generated and hidden ones are not among them."""

    def definitions(self, schema: str | None, table: str) -> list[str]:
        """The CREATE statements of the table and its indexes, the table's first; empty when there is none."""


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
        return f"{_quote(self.schema)}.{_quote(self.table)}" if self.schema else _quote(self.table)


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
    more = _returned(sql, tokens) + _upserted(sql, tokens, end, f"{target.sql} AS {_quote(own)}", _quote(own))
    return _with_generated(target, schema, columns, text_of(sql, tokens[at:end]), more)


def _upserted(sql: str, tokens: list[Token], at: int, table: str, own: str) -> str:
    """What ON CONFLICT (columns) DO UPDATE computes for the rows that are in the way, each behind a comma."""
    found = []
    while at < _clause(tokens, at, "RETURNING"):
        end = _end_of_source(tokens, at + 1)
        if tokens[at + 2].text == "(" and (setting := _clause(tokens[:end], at, "SET")) < end:
            keys = [part[0].name for part in split(group(tokens, at + 2)[0], 1)]
            where = _clause(tokens[:end], setting, "WHERE")
            values = [value for value in _assigned(sql, tokens[setting + 1 : where]).values() if "(" in value]
            if where < end:
                condition = text_of(sql, tokens[where + 1 : end])
                values = [
                    f"CASE WHEN {condition} THEN {value} END" for value in values or ["1"] if "(" in condition + value
                ]
            same = " AND ".join(f"{own}.{_quote(key)} IS excluded.{_quote(key)}" for key in keys)
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
    setting = _clause(tokens, target.behind, "SET")
    table = text_of(sql, tokens[start:setting])
    end = _clause(tokens, setting, "RETURNING")
    source, where = _clause(tokens, setting, "FROM"), _clause(tokens, setting, "WHERE")
    assigned = _assigned(sql, tokens[setting + 1 : min(source, where, end)])
    columns = schema.columns(target.schema, target.table)
    own = _quote(tokens[setting - 1].name)  # the alias, or the table
    values = [assigned.get(column.lower(), f"{own}.{_quote(column)}") for column in columns]
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
    end = _clause(tokens, verb, "RETURNING")
    return f"SELECT *{_returned(sql, tokens)} FROM {text_of(sql, tokens[verb + 2 : end])}"


def _create(sql: str, tokens: list[Token], verb: int, schema: Schema) -> str | None:
    """CREATE TABLE … AS select; CREATE INDEX … ON table (…) [WHERE …]"""
    kind = next(token for token in tokens[verb + 1 :] if not token.is_word("TEMP", "TEMPORARY", "UNIQUE"))
    if kind.is_word("TABLE"):
        at = _clause(tokens, verb, "AS")
        return text_of(sql, tokens[at + 1 :]) or None
    if not kind.is_word("INDEX"):
        return None
    on = _clause(tokens, verb, "ON")
    name = next(token for token in tokens[verb + 2 :] if not token.is_word("INDEX", "IF", "NOT", "EXISTS"))
    schema_name = name.name if tokens[tokens.index(name) + 1].text == "." else None
    target = _target(tokens, on + 1)
    inside, behind = group(tokens, target.behind)
    keys = ", ".join(_without_order(sql, part) for part in split(inside, inside[0].depth))
    table = _Target(schema_name, target.table, 0).sql
    return f"SELECT {keys} FROM {table} {text_of(sql, tokens[behind:])}"


def _without_order(sql: str, key: list[Token]) -> str:
    while key and key[-1].is_word("ASC", "DESC"):
        key = key[:-1]
    return text_of(sql, key)


_VERBS: dict[str, Callable[[str, list[Token], int, Schema], str | None]] = {
    "INSERT": _insert,
    "REPLACE": _insert,
    "UPDATE": _update,
    "DELETE": _delete,
    "CREATE": _create,
}


def _target(tokens: list[Token], at: int) -> _Target:
    if tokens[at + 1].text == ".":
        return _Target(tokens[at].name, tokens[at + 2].name, at + 3)
    return _Target(None, tokens[at].name, at + 1)


def _clause(tokens: list[Token], start: int, word: str) -> int:
    """The index of a clause's keyword outside of parentheses, or that of the end."""
    return next(
        (at for at in range(start, len(tokens)) if tokens[at].depth == 0 and tokens[at].is_word(word)), len(tokens)
    )


def _returned(sql: str, tokens: list[Token]) -> str:
    """What RETURNING computes from the columns of a row, each behind a comma."""
    listed = tokens[_clause(tokens, 0, "RETURNING") + 1 :]
    return "".join(f", {text_of(sql, part)}" for part in split(listed, 0) if _is_of_the_row(part))


def _is_of_the_row(expression: list[Token]) -> bool:
    """Whether it computes something, and of nothing that a SELECT without the table itself might lack."""
    names = {token.name.lower() for token in expression}
    selects = any(token.is_word("SELECT") for token in expression)
    return "(" in names and not selects and not names & {".", "rowid", "oid", "_rowid_"}


def _with_generated(target: _Target, schema: Schema, columns: list[str], source: str, more: str) -> str:
    """The rows of `source`, named as the table's columns, with what is computed for each of them, and `more`."""
    definitions = schema.definitions(target.schema, target.table)
    generated = _generated(definitions[0]) if definitions else {}
    missing = [column for column in schema.columns(target.schema, target.table) if not _among(column, columns)]
    names = ", ".join(map(_quote, columns))
    absent = "".join(f", NULL AS {_quote(column)}" for column in missing)
    steps = [f"mediasql_0({names}) AS ({source})", f"mediasql_1 AS (SELECT *{absent} FROM mediasql_0)"]
    waiting = dict(generated)
    while waiting:
        ready = {
            name: expression
            for name, expression in waiting.items()
            if not any(_among(column, waiting) for column in _columns_in(expression))
        } or waiting
        computed = ", ".join(f"{expression} AS {_quote(name)}" for name, expression in ready.items())
        steps.append(f"mediasql_{len(steps)} AS (SELECT *, {computed} FROM mediasql_{len(steps) - 1})")
        waiting = {name: expression for name, expression in waiting.items() if name not in ready}
    checks = [check for definition in definitions[:1] for check in _checks(definition)]
    keys = [key for definition in definitions[1:] for key in _index_expressions(definition)]
    used = "".join(f", {expression}" for expression in (*checks, *keys))
    return f"WITH {', '.join(steps)} SELECT *{used}{more} FROM mediasql_{len(steps) - 1} AS excluded"


def _generated(definition: str) -> dict[str, str]:
    """Names and expressions, in their parentheses, of the generated columns of a CREATE TABLE."""
    tokens = tokenize(definition)
    opening = next((at for at, token in enumerate(tokens) if token.text == "("), len(tokens))
    found = {}
    inside, _ = group(tokens, opening)
    for part in split(inside, 1):
        for at, token in enumerate(part[:-1]):
            if token.depth == 1 and token.is_word("AS") and part[at + 1].text == "(":
                _, behind = group(part, at + 1)
                found[part[0].name] = text_of(definition, part[at + 1 : behind])
    return found


def _checks(definition: str) -> list[str]:
    """The conditions of CHECK constraints of a CREATE TABLE, in their parentheses; those that call something."""
    tokens = tokenize(definition)
    found = []
    for at, token in enumerate(tokens[:-1]):
        if token.depth == 1 and token.is_word("CHECK") and tokens[at + 1].text == "(":
            inside, behind = group(tokens, at + 1)
            if any(inner.text == "(" for inner in inside):
                found.append(text_of(definition, tokens[at + 1 : behind]))
    return found


def _columns_in(expression: str) -> list[str]:
    """Names in an expression that are not those of functions."""
    tokens = tokenize(expression)
    following = [*(token.text for token in tokens[1:]), ""]
    return [
        token.name
        for token, behind in zip(tokens, following, strict=True)
        if token.kind in ("word", "quoted") and behind != "("
    ]


def _index_expressions(definition: str) -> list[str]:
    """Expressions among the keys of a CREATE INDEX; plain columns need no computing."""
    tokens = tokenize(definition)
    on = _clause(tokens, 0, "ON")
    inside, _ = group(tokens, _target(tokens, on + 1).behind)
    keys = [_without_order(definition, part) for part in split(inside, 1)]
    return [key for key in keys if "(" in key]


def _among(name: str, names: list[str] | dict[str, str]) -> bool:
    return name.lower() in (other.lower() for other in names)


def _quote(name: str | None) -> str:
    return '"' + (name or "").replace('"', '""') + '"'
