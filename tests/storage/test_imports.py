"""Packages that are imported when they are needed, by whichever thread needs them first."""

from __future__ import annotations

import ast
import itertools
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mediasql
from mediasql.storage import imports
from tests.waiting import LONG, meanwhile

PACKAGE = Path(mediasql.__file__).parent
HEAVY = {"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "multidict", "requests"}
HEAVY |= {"s3fs", "yarl"}

SLOW = """
import threading
from tests.storage import test_imports
test_imports.under_way.append(__name__)
test_imports.begun.set()
test_imports.go_on.wait(60)
assert test_imports.under_way == [__name__]
test_imports.under_way.remove(__name__)
"""
numbers = itertools.count()
under_way: list[str] = []
begun, go_on = threading.Event(), threading.Event()


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Names of modules whose import ends when `go_on` is set, and fails where another one is under way."""
    names = [f"slow_{next(numbers)}" for _ in range(3)]  # no two tests import the same
    for name in names:
        (tmp_path / f"{name}.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    begun.clear()
    go_on.clear()
    yield names
    for name in names:
        sys.modules.pop(name, None)
    under_way.clear()


def test_all_imports_within_functions_take_their_turn() -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        if "plugins" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                wrong += [f"{path.name}: {name}" for name in alone(node, frozenset())]
    assert wrong == []


def alone(node: ast.AST, names: frozenset[str]) -> Iterator[str]:
    """The heavy modules that are imported below `node` without `with importing(…):` of that name."""
    if isinstance(node, ast.With):
        for item in node.items:
            call = item.context_expr
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "importing":
                names |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    if isinstance(node, ast.Import):
        found = [(alias.name,) for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        found = [(node.module or "", f"{node.module}.{alias.name}") for alias in node.names]
    else:
        found = []
    for candidates in found:
        if candidates[0].partition(".")[0] in HEAVY and names.isdisjoint(candidates):
            yield candidates[0]
    for child in ast.iter_child_nodes(node):
        yield from alone(child, names)


def test_one_import_at_a_time(slow: list[str]) -> None:
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            imports.module(name)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in slow]
    for thread in threads:
        thread.start()
    assert begun.wait(LONG)
    go_on.set()
    for thread in threads:
        thread.join(LONG)
    assert failed == []
    assert set(slow) <= sys.modules.keys()


def test_what_is_there_already_waits_for_nobody(slow: list[str]) -> None:
    imports.module("json")

    def other() -> None:
        assert begun.wait(LONG)
        with imports.importing("json"):
            import json  # noqa: F401
        go_on.set()

    with meanwhile(other):
        imports.module(slow[0])


def test_an_import_that_fails_may_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError):
        imports.module("made_later")
    (tmp_path / "made_later.py").write_text("there = True")
    assert imports.module("made_later").there
    sys.modules.pop("made_later")


def test_a_process_does_not_fork_in_the_middle_of_an_import(slow: list[str]) -> None:
    """The child would wait for the thread that imports, which it does not have."""
    thread = threading.Thread(target=imports.module, args=(slow[0],))
    thread.start()
    assert begun.wait(LONG)
    timer = threading.Timer(0.2, go_on.set)
    timer.start()
    child = os.fork()
    if not child:
        os._exit(0 if slow[0] in sys.modules and imports.module(slow[0]) and not under_way else 1)
    thread.join(LONG)
    timer.join(LONG)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
