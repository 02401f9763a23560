"""Parts of CREATE TABLE and CREATE INDEX statements, as sqlite_schema stores them."""

from __future__ import annotations

from dataclasses import dataclass

from .tokens import Token, clause, group, split, text_of, tokenize


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """A CREATE INDEX statement. `keys` are columns or expressions in SQL, `where` is that of a partial index."""

    schema: str | None
    name: str
    table: str
    keys: tuple[str, ...]
    where: str | None


def index_definition(sql: str) -> IndexDefinition:
    """Return the parts of a CREATE INDEX statement. Raises IndexError or StopIteration for other statements."""
    tokens = tokenize(sql)
    named = next(at for at, token in enumerate(tokens) if token.is_word("INDEX")) + 1
    if tokens[named].is_word("IF"):  # NOT EXISTS
        named += 3
    qualified = tokens[named + 1].text == "."
    on = clause(tokens, named, "ON")
    inside, behind = group(tokens, on + 2)
    where = clause(tokens, behind, "WHERE")
    return IndexDefinition(
        _name(tokens[named]) if qualified else None,
        _name(tokens[named + 2 if qualified else named]),
        _name(tokens[on + 1]),
        tuple(_key(sql, part) for part in split(inside, 1)),
        text_of(sql, [token for token in tokens[where + 1 :] if token.text != ";"]) or None,
    )


def _key(sql: str, key: list[Token]) -> str:
    """Return the SQL of a key without ASC or DESC. SQLite takes a string for the name of a column there."""
    while key[-1].is_word("ASC", "DESC"):
        key = key[:-1]
    if key[0].kind == "string":
        return quote(_name(key[0])) + sql[key[0].end : key[-1].end]
    return text_of(sql, key)


def generated_columns(definition: str) -> dict[str, str]:
    """Return the expressions, in their parentheses, of the generated columns of a CREATE TABLE, by column."""
    tokens = tokenize(definition)
    opening = next((at for at, token in enumerate(tokens) if token.text == "("), len(tokens))
    found = {}
    inside, _ = group(tokens, opening)
    for part in split(inside, 1):
        for at, token in enumerate(part[:-1]):
            if token.depth == 1 and token.is_word("AS") and part[at + 1].text == "(":
                _, behind = group(part, at + 1)
                found[_name(part[0])] = text_of(definition, part[at + 1 : behind])
    return found


def checks(definition: str) -> list[str]:
    """Return those conditions of CHECK constraints of a CREATE TABLE, in their parentheses, that call a function."""
    tokens = tokenize(definition)
    found = []
    for at, token in enumerate(tokens[:-1]):
        if token.depth == 1 and token.is_word("CHECK") and tokens[at + 1].text == "(":
            inside, behind = group(tokens, at + 1)
            if any(inner.text == "(" for inner in inside):
                found.append(text_of(definition, tokens[at + 1 : behind]))
    return found


def names_in(expression: str) -> list[str]:
    """Return the names in an expression that are not names of functions: columns, tables and keywords."""
    tokens = tokenize(expression)
    following = [*(token.text for token in tokens[1:]), ""]
    return [
        token.name
        for token, behind in zip(tokens, following, strict=True)
        if token.kind in ("word", "quoted") and behind != "("
    ]


def quote(name: str) -> str:
    """Return `name` as a quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def _name(token: Token) -> str:
    """Return the name that a token stands for in a place where SQLite takes a string for a name as well."""
    return token.text[1:-1].replace("''", "'") if token.kind == "string" else token.name
