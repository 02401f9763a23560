"""Globs over object keys: `*`, `**`, `?`, `[...]`, `[!...]`, `{a,b}`.

As in shells, `*`, `?` and sets stop at '/'. `**` crosses it anywhere, not only between slashes, so that
`s3://bucket/**.mp4` means every MP4 of the bucket; where a directory begins, `**/` also stands for no directory at
all. A glob that ends in '/' stands for all that is below what it matches.

What does not close stands for itself ('[', '{'), and so does a brace without a comma. A name that is the glob letter
by letter matches too: `photo[1].jpg` finds the file of that name, beside `photo1.jpg`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(r"\*{2,}/?|[*?{},]|\[(!?+)(\]?+[^\]]*+)\]|.", re.DOTALL)
_FIXED = {"*": "[^/]*", "?": "[^/]", "**": ".*", "**/": r"(?:.*/|(?<![^/]))"}


@dataclass(frozen=True, slots=True)
class Pattern:
    """What to list for a glob, and which of it to keep.

    root       the directory that names are relative to: up to the last '/' before the first wildcard
    prefix     the longest text that every match starts with
    recursive  whether matches may lie in directories below `root`
    regex      what a whole path must match; None keeps everything
    """

    root: str
    prefix: str
    recursive: bool
    regex: re.Pattern[str] | None

    def keeps(self, path: str) -> bool:
        return self.regex is None or self.regex.fullmatch(path) is not None


def is_glob(path: str) -> bool:
    """Whether `path` has a wildcard."""
    return _prefix(path) != path


def below(path: str) -> Pattern:
    """The Pattern of everything that starts with `path`, whatever is in it."""
    return Pattern(root=path, prefix=path, recursive=True, regex=None)


def compile_pattern(path: str) -> Pattern:
    """The Pattern of a glob; a path without a wildcard stands for everything below it."""
    prefix = _prefix(path)
    if prefix == path:
        return below(path)
    rest = path[len(prefix) :]
    more = ".*" if path.endswith("/") else ""
    return Pattern(
        root=prefix[: prefix.rfind("/") + 1],
        prefix=prefix,
        recursive="/" in rest or "**" in rest,
        regex=re.compile(f"(?:{translate(path)}|{re.escape(path)}){more}", re.DOTALL),
    )


def translate(glob: str) -> str:
    """A regular expression for `glob`, to be matched in full."""
    return "".join(regex for _, regex in _translated(glob))


def _prefix(glob: str) -> str:
    """What comes before the first wildcard."""
    return glob[: next((at for at, regex in _translated(glob) if regex != re.escape(glob[at])), len(glob))]


def _translated(glob: str) -> Iterator[tuple[int, str]]:
    """The parts of a glob: where each starts, and its regular expression."""
    tokens = list(_TOKEN.finditer(glob))
    braces = _braces([token[0] for token in tokens])
    for index, token in enumerate(tokens):
        text = token[0]
        if text.startswith("**"):
            regex = _FIXED["**/" if text.endswith("/") else "**"]
        elif text[0] == "[" and len(text) > 1:
            regex = _character_set(token[2], negated=bool(token[1]))
        else:
            regex = _FIXED.get(text) or braces.get(index) or re.escape(text)
        yield token.start(), regex


def _braces(tokens: list[str]) -> dict[int, str]:
    """The regular expressions of the braces and commas that make alternatives, by their index."""
    found: dict[int, str] = {}
    opened: list[list[int]] = []  # of each brace that is open: its own index, and those of its commas
    for index, text in enumerate(tokens):
        if text == "{":
            opened.append([index])
        elif text == "," and opened:
            opened[-1].append(index)
        elif text == "}" and opened:
            opening, *commas = opened.pop()
            if commas:
                found |= {opening: "(?:", index: ")", **dict.fromkeys(commas, "|")}
    return found


def _character_set(body: str, *, negated: bool) -> str:
    """A set as in fnmatch: a range that runs backwards is empty."""
    members = []
    at = 0
    while at < len(body):
        if body[at + 1 : at + 2] == "-" and at + 2 < len(body):
            if body[at] <= body[at + 2]:
                members.append(f"{re.escape(body[at])}-{re.escape(body[at + 2])}")
            at += 3
        else:
            members.append(re.escape(body[at]))
            at += 1
    if negated:
        return f"[^/{''.join(members)}]"
    return f"(?!/)[{''.join(members)}]" if members else "(?!)"
