"""The names that the package exports: all of them there, documented, and no others."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import mediasql
from tests import readme


def test_exported_names_are_those_of_the_reference() -> None:
    assert set(mediasql.__all__) - {"__version__"} == readme.reference("names").keys(), "run `make readme`"
    assert mediasql.__all__ == sorted(mediasql.__all__)


@pytest.mark.parametrize("name", sorted(readme.reference("names")))
def test_exported_names_are_documented(name: str) -> None:
    assert getattr(mediasql, name).__doc__, "of its own: a class has no other"


def test_all_errors_are_exported_and_drawn() -> None:
    kinds = {
        name
        for name, value in vars(mediasql.errors).items()
        if inspect.isclass(value) and issubclass(value, mediasql.MediaError | mediasql.MediaWarning)
    }
    assert kinds <= set(mediasql.__all__)
    tree = mediasql.errors.__doc__ or ""
    for name in kinds:
        assert f"{name} " in tree or f"{name}\n" in tree, name
        parent = getattr(mediasql, name).__base__.__name__
        assert parent in ("Exception", "UserWarning") or tree.index(parent) < tree.index(f" {name} "), name


def test_the_import_is_light() -> None:
    heavy = "{'aiohttp', 'av', 'PIL', 's3fs', 'gcsfs', 'apsw', 'fsspec'}"
    script = f"import sys, mediasql; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
