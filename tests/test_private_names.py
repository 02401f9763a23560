"""Tests, benchmarks and examples use public names: ruff's SLF001 sees attributes, and this test what that does not see.

Those are names that are imported, and names given as text to `setattr` and the like.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for folder in ("tests", "benchmarks", "sql_examples") for path in (ROOT / folder).rglob("*.py"))

WITHOUT_A_PUBLIC_NAME = {"_sqlite3"}  # the library behind the module sqlite3


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in WITHOUT_A_PUBLIC_NAME


def private_names(code: str) -> Iterator[tuple[int, str]]:
    """The private names that code takes from elsewhere, with their lines."""
    for node in ast.walk(ast.parse(code)):
        match node:
            case ast.ImportFrom(module=module, names=names):
                found = [*(module or "").split("."), *(alias.name for alias in names)]
            case ast.Import(names=names):
                found = [part for alias in names for part in alias.name.split(".")]
            case ast.Call(
                func=ast.Attribute(attr="setattr" | "delattr" | "object") | ast.Name(id="getattr" | "setattr"),
                args=[_, ast.Constant(value=str(name)), *_],
            ):
                found = [name]
            case ast.Call(func=ast.Attribute(attr="setattr" | "patch"), args=[ast.Constant(value=str(path)), *_]):
                found = path.split(".")
            case _:
                found = []
        yield from ((node.lineno, name) for name in found if is_private(name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_private_name_is_used(path: Path) -> None:
    assert list(private_names(path.read_text())) == []


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("from mediasql.sql.statements import _CONFIG", "_CONFIG"),
        ("from mediasql._x import y", "_x"),
        ("import google.cloud._helpers", "_helpers"),
        ("monkeypatch.setattr(database, '_WAIT', 1)", "_WAIT"),
        ("monkeypatch.setattr('mediasql.sql.c_api._found', [])", "_found"),
        ("mock.patch.object(store, '_cached')", "_cached"),
        ("getattr(store, '_cached')", "_cached"),
    ],
)
def test_what_is_a_private_name(code: str, name: str) -> None:
    assert list(private_names(code)) == [(1, name)]
