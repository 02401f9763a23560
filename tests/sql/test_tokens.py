"""Tokens of SQL: nothing is lost, and what is quoted stays whole."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.sql.tokens import group, split, text_of, tokenize

PIECES = [
    "SELECT",
    "a",
    '"a ""b"',
    "[c]]",
    "`d`",
    "'it''s'",
    "x'00'",
    "--x\n",
    "/* , */",
    "(",
    ")",
    ",",
    "?1",
    ":n",
    "1e-3",
]


def texts(sql: str) -> list[str]:
    return [token.text for token in tokenize(sql)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("a--b\nc/*d*/e", ["a", "c", "e"]),
        ("'a''b' \"c\"\"d\" `e``f` [g'h]", ["'a''b'", '"c""d"', "`e``f`", "[g'h]"]),
        ("? ?12 :a @b $c", ["?", "?12", ":a", "@b", "$c"]),
        ("1 1.5e-3 .5 0x1F x'ab'", ["1", "1.5e-3", ".5", "0x1F", "x'ab'"]),
        ("'never closed", ["'never closed"]),
        ("/* never closed", []),
        ("größe.\N{SNOWMAN}", ["größe", ".", "\N{SNOWMAN}"]),
        ("", []),
    ],
)
def test_tokens(sql: str, expected: list[str]) -> None:
    assert texts(sql) == expected


@pytest.mark.parametrize(("sql", "name"), [('"a""b"', 'a"b'), ("`a``b`", "a`b"), ("[a b]", "a b"), ("a", "a")])
def test_names(sql: str, name: str) -> None:
    assert tokenize(sql)[0].name == name


def test_a_quoted_keyword_is_no_keyword() -> None:
    assert [token.is_word("FROM") for token in tokenize("from \"from\" 'from' FROM")] == [True, False, False, True]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=5)), max_size=12))
def test_any_text_is_tokenized(pieces: list[str]) -> None:
    sql = " ".join(pieces)
    tokens = tokenize(sql)
    assert all(sql[token.start : token.end] == token.text for token in tokens)
    assert all(one.end <= other.start for one, other in pairwise(tokens))
    if tokens:
        assert text_of(sql, tokens) in sql


def test_groups_and_lists() -> None:
    sql = "f(a, g(b, c), 'd,e') x"
    tokens = tokenize(sql)
    inside, behind = group(tokens, 1)
    assert [text_of(sql, part) for part in split(inside, 1)] == ["a", "g(b, c)", "'d,e'"]
    assert tokens[behind].text == "x"
    assert group(tokenize("(a"), 0)[1] == 2
