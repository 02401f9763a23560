"""Globs over object keys: `*`, `**`, `?`, `[...]`, `{a,b}`.

As in shells, `*` and `?` stop at '/'. `**` crosses it anywhere, not only between slashes, so that
`s3://bucket/**.mp4` means every MP4 of the bucket; `**/` also matches no directory at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAGIC = re.compile(r"[*?\[{]")


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
    return _MAGIC.search(path) is not None


def compile_pattern(path: str) -> Pattern:
    """The Pattern of a glob; a path without a wildcard stands for everything below it."""
    magic = _MAGIC.search(path)
    if magic is None:
        return Pattern(root=path, prefix=path, recursive=True, regex=None)
    prefix = path[: magic.start()]
    rest = path[magic.start() :]
    return Pattern(
        root=prefix[: prefix.rfind("/") + 1],
        prefix=prefix,
        recursive="/" in rest or "**" in rest,
        regex=re.compile(translate(path), re.DOTALL),
    )


def translate(glob: str) -> str:
    """A regular expression for `glob`. An unclosed '[' or '{' stands for itself."""
    out: list[str] = []
    closers: list[int] = []  # where the '}' of the braces that are open stand
    at = 0
    while at < len(glob):
        char = glob[at]
        if glob.startswith("**/", at):
            out.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            out.append(".*")
            at += 2
        elif char == "*":
            out.append("[^/]*")
            at += 1
        elif char == "?":
            out.append("[^/]")
            at += 1
        elif char == "[" and (end := glob.find("]", at + (3 if glob.startswith("[!", at) else 2))) != -1:
            out.append(_character_set(glob[at + 1 : end]))
            at = end + 1
        elif char == "{" and (end := _closing_brace(glob, at)) != -1:
            out.append("(?:")
            closers.append(end)
            at += 1
        elif closers and at == closers[-1]:
            out.append(")")
            closers.pop()
            at += 1
        elif closers and char == ",":
            out.append("|")
            at += 1
        else:
            out.append(re.escape(char))
            at += 1
    return "".join(out)


def _closing_brace(glob: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(glob)):
        depth += {"{": 1, "}": -1}.get(glob[at], 0)
        if depth == 0:
            return at
    return -1


def _character_set(body: str) -> str:
    negated = body.startswith("!")
    members = re.sub(r"([\\\[\]^&~|])", r"\\\1", body[negated:])
    if re.search(r"(.)-(.)", members, re.DOTALL) and any(a > b for a, b in re.findall(r"(.)-(.)", members, re.DOTALL)):
        members = members.replace("-", r"\-")  # a backward range stands for its characters
    return f"[^/{members}]" if negated else f"(?!/)[{members}]"
