from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mediasql.storage.pattern import below, compile_pattern, is_glob
from tests.waiting import soon


@pytest.mark.parametrize(
    ("glob", "matches", "others"),
    [
        ("d/*.jpg", ["d/a.jpg", "d/.jpg"], ["d/e/a.jpg", "d/a.JPG", "a.jpg", "d/a.jpg/b"]),
        ("**.mp4", ["a.mp4", "d/a.mp4", "d/e/.mp4"], ["a.mp4/b", "mp4"]),
        ("d/**.mp4", ["d/a.mp4", "d/e/a.mp4"], ["a.mp4", "da.mp4"]),
        ("**/a", ["a", "d/a", "d/e/a"], ["ba", "d/ba"]),
        ("d/**/a", ["d/a", "d/e/a", "d/e/f/a"], ["da", "d/ea", "a"]),
        ("d**/a", ["d/a", "de/a", "d/e/a"], ["da", "a"]),
        ("**", ["", "a", "d/e/a"], []),
        ("d/?", ["d/a", "d/é", "d/\n"], ["d/", "d/ab", "d//"]),
        ("[ab]c", ["ac", "bc"], ["cc", "c", "[ab]d"]),
        ("[!ab]c", ["cc", "!c", "-c"], ["ac", "bc", "/c"]),
        ("[a-c]", ["a", "b", "c"], ["d", "-"]),
        ("[-a]", ["-", "a"], ["b"]),
        ("[!-a]", ["b", "0"], ["-", "a", "/"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[+-9]x", ["+x", "5x"], ["/x"]),
        ("[^a]", ["^", "a"], ["b"]),
        ("[\\d]", ["\\", "d"], ["1"]),
        ("[[:&&~~||--]", ["[", "&", "~", "|"], ["a"]),
        ("{a,b}c", ["ac", "bc"], ["abc", "c", "{a,c"]),
        ("{a,b{c,d}}", ["a", "bc", "bd"], ["b", "c"]),
        ("{,x}a", ["a", "xa"], ["ya"]),
        ("d/{a,e/b}", ["d/a", "d/e/b"], ["d/e/a"]),
        ("*.{jpg,jp[!g]}", ["a.jpg", "a.jp2"], ["a.png"]),
        ("{[,],b}", [",", "b"], ["[", "]"]),
        ("d*/", ["d/a", "de/a", "d/e/a"], ["d", "da", "e/a"]),
        ("photo[1].jpg", ["photo1.jpg", "photo[1].jpg"], ["photo[2].jpg", "photo.jpg"]),
        ("{a,b}", ["a", "b", "{a,b}"], ["{a"]),
    ],
)
def test_globs_match(glob: str, matches: list[str], others: list[str]) -> None:
    pattern = compile_pattern(glob)
    assert is_glob(glob)
    assert [text for text in matches if not pattern.keeps(text)] == []
    assert [text for text in others if pattern.keeps(text)] == []


@pytest.mark.parametrize("text", ["", "a.jpg", "a[b", "a{b", "{x}", "{12-ab}.jpg", "a,b", "]}", "[]", "[!]", "a{b,c"])
def test_what_does_not_close_is_text(text: str) -> None:
    assert not is_glob(text)
    assert compile_pattern(text) == below(text)
    assert compile_pattern(f"{text}*").keeps(f"{text}1")


# A matcher of another make: braces are expanded, then characters are matched one by one.
ALPHABET = "ab/*?[]!{},-^"


def expanded(glob: str) -> Iterator[str]:
    parts = split(glob)
    opened: list[list[int]] = []
    for index, part in enumerate(parts):
        if part == "{":
            opened.append([index])
        elif part == "," and opened:
            opened[-1].append(index)
        elif part == "}" and opened:
            stops = [*opened.pop(), index]
            if len(stops) > 2:
                for first, second in pairwise(stops):
                    middle = "".join(parts[first + 1 : second])
                    yield from expanded("".join(parts[: stops[0]]) + middle + "".join(parts[index + 1 :]))
                return
    yield glob


def split(glob: str) -> list[str]:
    parts = []
    while glob:
        end = 1
        if glob[0] == "[":
            first = 3 if glob.startswith("[!") else 2
            end = glob.find("]", first) + 1 or 1
        parts.append(glob[:end])
        glob = glob[end:]
    return parts


def matches(glob: str, path: str) -> bool:
    parts = split(glob)

    @cache
    def from_here(at: int, here: int) -> bool:
        if at == len(parts):
            return here == len(path)
        part = parts[at]
        if part == "*" and parts[at + 1 : at + 2] == ["*"]:
            after = at
            while parts[after : after + 1] == ["*"]:
                after += 1
            if parts[after : after + 1] == ["/"]:
                none = (here == 0 or path[here - 1] == "/") and from_here(after + 1, here)
                return none or any(
                    path[stop - 1] == "/" and from_here(after + 1, stop) for stop in range(here + 1, len(path) + 1)
                )
            return any(from_here(after, stop) for stop in range(here, len(path) + 1))
        if part == "*":
            stop = here
            while not from_here(at + 1, stop):
                if stop == len(path) or path[stop] == "/":
                    return False
                stop += 1
            return True
        if here == len(path):
            return False
        if part == "?" or len(part) > 1:
            fits = path[here] != "/" and (part == "?" or fnmatch.fnmatchcase(path[here], part))
        else:
            fits = path[here] == part
        return fits and from_here(at + 1, here + 1)

    return from_here(0, 0)


globs = st.text(ALPHABET, max_size=12)
paths = st.text("ab/-[]{},!", max_size=8)


@given(globs, paths)
@example("a{b,[c}]", "ab")
@example("[!-a]", "/")
@example("***/a", "a")
def test_matching_is_that_of_another_matcher(glob: str, path: str) -> None:
    # Brace expansion may bring new braces and sets about, which shells read again and we do not.
    if glob == path or not is_glob(glob) or glob.endswith("/") or re.search(r"\{[^}]*\[|\[[^]]*\{", glob):
        return
    if len(list(expanded(glob))) > 1 and ("[" in glob or "**" in glob or "{*" in glob or "*{" in glob or ",*" in glob):
        return
    expected = any(matches(one, path) for one in expanded(glob))
    assert compile_pattern(glob).keeps(path) == expected


@given(globs, paths)
def test_no_match_lies_outside_of_what_is_listed(glob: str, path: str) -> None:
    pattern = compile_pattern(glob)
    assert pattern.prefix.startswith(pattern.root)
    assert pattern.root == "" or pattern.root.endswith("/") or not is_glob(glob)
    if is_glob(glob) and pattern.keeps(path):
        assert path.startswith(pattern.prefix)
        assert pattern.recursive or "/" not in path[len(pattern.prefix) :]


@given(globs)
def test_a_glob_finds_the_name_that_it_is(glob: str) -> None:
    assert compile_pattern(glob).keeps(glob)


def test_the_prefix_is_as_long_as_it_can_be() -> None:
    assert compile_pattern("a/b[c/d*").prefix == "a/b[c/d"
    pattern = compile_pattern("photos/2026-*.jpg")
    assert (pattern.root, pattern.prefix, pattern.recursive) == ("photos/", "photos/2026-", False)
    assert compile_pattern("photos/**.jpg").recursive
    assert compile_pattern("*/a.jpg").recursive
    assert compile_pattern("photos/") == below("photos/")


def test_many_wildcards_take_no_time() -> None:
    with soon():
        assert not compile_pattern("*" * 500 + "b").keeps("a" * 2000)
        assert not compile_pattern("{a," * 200 + "}" * 200).keeps("b" * 1000)
