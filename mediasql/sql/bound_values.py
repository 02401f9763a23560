"""The values that are bound to a statement, found in its text as SQLite expands it: no other call gives them."""

from __future__ import annotations

import re

from .tokens import Token, tokenize

# As sqlite3_expanded_sql writes values, but for floats, of which it rounds the last digits.
_LITERAL = re.compile(r"NULL|-?\d+(?![\d.e])|'(?:[^']|'')*'|x'[0-9a-f]*'|zeroblob\(\d+\)")


def bound_literals(sql: str, expanded: str, count: int) -> list[str] | None:
    """Return the literals that stand in `expanded` for the parameters of `sql`, in the order of their numbers.

    count   of parameters, by the highest number; of those that `sql` leaves out the literal is NULL

    None where they cannot be told for certain: floats, and an expanded text that is not that of `sql`.
    """
    found = ["NULL"] * count
    numbers: dict[str, int] = {}
    highest = at = there = 0
    for token in tokenize(sql):
        if token.kind != "parameter":
            continue
        between = sql[at : token.start]
        literal = _LITERAL.match(expanded, there + len(between))
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
