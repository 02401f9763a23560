"""Values read off a statement's expanded text are those that were bound, or none are given."""

from __future__ import annotations

from typing import Any

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.sql.bound_values import bound_literals

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    st.binary(max_size=9),
    st.integers(0, 9).map(apsw.zeroblob),
)
# Statements, how many values they take, and which of these stand in them.
SELECTS: list[tuple[str, int, list[int]]] = [
    ("SELECT ?, 'a ? in text' || ?", 2, [0, 1]),
    ("SELECT ?2, ?1 -- what is ?3 here?\n, ?", 3, [0, 1, 2]),
    ("SELECT :one, ?, @two, :one, $three /* ? */", 4, [0, 1, 2, 3]),
    ('SELECT ?4, "?" FROM (SELECT 1 AS "?")', 4, [3]),
    ("SELECT 1, 'é'", 0, []),
    ("SELECT ? WHERE ? IS NOT 5 OR 1", 2, [0, 1]),
]


def expanded(sql: str, values: list[Any], setup: str = "") -> str:
    found: list[str] = []

    def look(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        found.append(cursor.expanded_sql)
        return True

    cursor = apsw.Connection(":memory:").cursor()
    cursor.execute(setup)
    cursor.exec_trace = look
    cursor.execute(sql, values)
    return found[0]


@given(st.sampled_from(SELECTS), st.lists(VALUES, min_size=4, max_size=4))
def test_they_are_what_was_bound(select: tuple[str, int, list[int]], given: list[Any]) -> None:
    sql, count, used = select
    literals = bound_literals(sql, expanded(sql, given[:count]), count)
    assert literals is not None
    assert len(literals) == count
    found = [apsw.Connection(":memory:").execute(f"SELECT {literal}").get for literal in literals]
    plain = [bytes(value.length()) if isinstance(value, apsw.zeroblob) else value for value in given]
    assert found == [plain[at] if at in used else None for at in range(count)]


@pytest.mark.parametrize("value", [1.5, -2e300, 0.1 + 0.2, 1e20])
def test_floats_that_the_planner_may_look_at_are_not_told_since_sqlite_rounds_them(value: float) -> None:
    for sql in ("SELECT ?", "WITH one AS (SELECT 1) SELECT 1 WHERE ? > 0"):
        assert bound_literals(sql, expanded(sql, [value]), 1) is None


@pytest.mark.parametrize("value", [1.5, -2e300, 0.1 + 0.2, 1e20, -0.0, 5e-324])
def test_floats_that_are_assigned(value: float) -> None:
    insert, update = "INSERT INTO t VALUES (?, ?)", "UPDATE t SET a = ? WHERE b = ?"
    for sql in (insert, update):
        literals = bound_literals(sql, expanded(sql, [value, "b"], "CREATE TABLE t(a, b)"), 2)
        assert literals is not None
        assert (float(literals[0]), literals[1]) == (pytest.approx(value, rel=1e-14, abs=0), "'b'")
    assert bound_literals(update, expanded(update, [1, value], "CREATE TABLE t(a, b)"), 2) is None


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT ?", "-- SELECT ?"),
        ("SELECT ?", "SELECT 1, 2"),
        ("SELECT ?, 1", "SELECT 5"),
        ("SELECT ?", "SELECT "),
        ("SELECT ?9", "SELECT 9"),
    ],
)
def test_a_text_of_another_statement(sql: str, text: str) -> None:
    assert bound_literals(sql, text, 1) is None
