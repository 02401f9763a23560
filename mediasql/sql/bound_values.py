"""The values that are bound to a statement, found in its text as SQLite expands it: no other call gives them."""

from __future__ import annotations

import re

from .tokens import Token, tokenize

# As sqlite3_expanded_sql writes values, but for floats, of which it rounds the last digits.
_LITERAL = re.compile(r"NULL|-?\d+(?![\d.e])|'(?:[^']|'')*'|x'[0-9a-f]*'|zeroblob\(\d+\)")
_FLOAT = re.compile(r"-?\d+\.\d+(?:e[+-]\d+)?")


def bound_literals(sql: str, expanded: str, count: int) -> list[str] | None:
    """Return the literals that stand in `expanded` for the parameters of `sql`, in the order of their numbers.

    count   of parameters, by the highest number; of those that `sql` leaves out the literal is NULL

    They are exact where the query planner may look at them. None where they cannot be told for certain: floats that it
    may look at, and an expanded text that is not that of `sql`.
    """
    found = ["NULL"] * count
    numbers: dict[str, int] = {}
    highest = at = there = 0
    tokens = tokenize(sql)
    # What INSERT and UPDATE assign is in front of these.
    planned = next((token.start for token in tokens if token.is_word("SELECT", "FROM", "WHERE", "LIMIT")), len(sql))
    for token in tokens:
        if token.kind != "parameter":
            continue
        between = sql[at : token.start]
        begin = there + len(between)
        literal = _LITERAL.match(expanded, begin)
        if literal is None and token.start < planned:
            literal = _FLOAT.match(expanded, begin)
        number = _number(token, numbers, highest)
        if not expanded.startswith(between, there) or literal is None or not 0 < number <= count:
            return None
        found[number - 1] = literal[0]
        highest = max(highest, number)
        at, there = token.end, literal.end()
    return found if sql[at:] == expanded[there:] else None


def _number(token: Token, numbers: dict[str, int], highest: int) -> int:
    """Return the number of a parameter: what is behind its `?`, that of its name, or one more than the highest."""
    if token.text[0] == "?":
        return int(token.text[1:] or highest + 1)
    return numbers.setdefault(token.text, highest + 1)
