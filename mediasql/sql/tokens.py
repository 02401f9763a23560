"""SQL as a list of tokens: enough to find the parts of a statement, without understanding its expressions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# https://www.sqlite.org/lang_keywords.html, /lang_comment.html and /lang_expr.html#varparam; what is unclosed runs to
# the end, as in SQLite's own tokenizer.
_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<string>[xX]?'(?:[^']|'')*(?:'|\Z))
    |(?P<quoted>"(?:[^"]|"")*(?:"|\Z)|`(?:[^`]|``)*(?:`|\Z)|\[[^\]]*(?:\]|\Z))
    |(?P<parameter>\?\d*|[:@$#]\w+)
    |(?P<number>\.?\d(?:[\w.]|(?<=[eE])[+-])*)
    |(?P<word>[^\W\d][\w$]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token. `depth` counts the parentheses around it; those themselves lie outside."""

    kind: str
    text: str
    start: int
    depth: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    def is_word(self, *words: str) -> bool:
        """Whether it is one of these unquoted words, in any case."""
        return self.kind == "word" and self.text.upper() in words

    @property
    def name(self) -> str:
        """The name that a word or a quoted identifier stands for."""
        if self.kind != "quoted":
            return self.text
        quote = self.text[0]
        return self.text[1:-1] if quote == "[" else self.text[1:-1].replace(quote * 2, quote)


def tokenize(sql: str) -> list[Token]:
    """All tokens but white space and comments."""
    return list(_tokens(sql))


def _tokens(sql: str) -> Iterator[Token]:
    depth = 0
    for match in _TOKEN.finditer(sql):
        kind, text = str(match.lastgroup), match[0]
        if kind == "space":
            continue
        if text == ")":
            depth -= 1
        yield Token(kind, text, match.start(), depth)
        if text == "(":
            depth += 1


def split(tokens: list[Token], depth: int) -> list[list[Token]]:
    """Parts of a list that commas at `depth` separate."""
    parts: list[list[Token]] = [[]]
    for token in tokens:
        if token.text == "," and token.depth == depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return [part for part in parts if part]


def group(tokens: list[Token], opening: int) -> tuple[list[Token], int]:
    """The tokens inside the parentheses that open at index `opening`, and the index behind them."""
    depth = tokens[opening].depth
    for at in range(opening + 1, len(tokens)):
        if tokens[at].text == ")" and tokens[at].depth == depth:
            return tokens[opening + 1 : at], at + 1
    return tokens[opening + 1 :], len(tokens)


def clause(tokens: list[Token], start: int, word: str) -> int:
    """Return the index of a clause's keyword outside of parentheses, or the number of tokens without one."""
    return next(
        (at for at in range(start, len(tokens)) if tokens[at].depth == 0 and tokens[at].is_word(word)), len(tokens)
    )


def text_of(sql: str, tokens: list[Token]) -> str:
    """The text that a run of tokens covers."""
    return sql[tokens[0].start : tokens[-1].end] if tokens else ""
