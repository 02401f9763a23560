"""What the package says of itself: all that it imports is declared, where it is needed, and its version stands once."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from setuptools.config.pyprojecttoml import read_configuration

import mediasql

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Modules that are imported only where their extra is installed.
EXTRAS = {
    "mediasql/plugins/datasette/": "datasette",
    "mediasql/plugins/sqlalchemy.py": "sqlalchemy",
    "mediasql/plugins/sqlite_utils.py": "sqlite-utils",
    "mediasql/storage/providers/azure.py": "azure",
}
# Needed without an import: fsspec makes filesystems by name, and a notebook is who imports its plugin.
BY_NAME = {"s3fs", "gcsfs", "adlfs", "ipython"}
# Several distributions have modules in these; of the prefixes that fit a module, the longest tells which it is of.
NAMESPACES = {
    "google.auth": "google-auth",
    "google.oauth2": "google-auth",
    "azure.core": "azure-core",
    "azure.identity": "azure-identity",
    "azure.storage.blob": "azure-storage-blob",
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\s\[<>=!~;]", requirement, maxsplit=1)[0]) for requirement in requirements}


INSTALLED = packages_distributions()
CORE = names(PROJECT["project"]["dependencies"])
DECLARED = {
    extra: names(PROJECT["project"]["optional-dependencies"][extra]) for extra in (*EXTRAS.values(), "notebook")
}


def imports(source: str) -> Iterator[str]:
    """Absolute names of the modules that a source imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def distribution(module: str) -> str | None:
    """The distribution that a module is of; None for one of Python or of ours."""
    top = module.partition(".")[0]
    if top == "mediasql" or top in sys.stdlib_module_names:
        return None
    known = max((prefix for prefix in NAMESPACES if f"{module}.".startswith(f"{prefix}.")), key=len, default=None)
    if known is not None:
        return NAMESPACES[known]
    (found,) = {normal(name) for name in INSTALLED[top]}
    return found


def used(source: str) -> set[str]:
    return {found for module in imports(source) if (found := distribution(module)) is not None}


SOURCES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "mediasql").rglob("*.py"))}


@pytest.mark.parametrize("path", SOURCES)
def test_all_that_is_imported_is_declared(path: str) -> None:
    extra = next((name for prefix, name in EXTRAS.items() if path.startswith(prefix)), None)
    allowed = CORE | (DECLARED[extra] if extra else set())
    assert used(SOURCES[path]) <= allowed


def test_all_that_is_declared_is_needed() -> None:
    needed = {name for source in SOURCES.values() for name in used(source)} | BY_NAME
    assert CORE | set().union(*DECLARED.values()) <= needed


def test_undeclared_imports_would_be_found() -> None:
    source = "def f():\n    from yaml.nodes import Node\n    import google.oauth2.service_account, os.path\n"
    assert list(imports(source)) == ["yaml.nodes.Node", "google.oauth2.service_account", "os.path"]
    assert used(source) == {"pyyaml", "google-auth"}
    assert used("from google import auth\nfrom . import errors\nfrom mediasql import errors\n") == {"google-auth"}


def test_the_version_is_written_once() -> None:
    assert "version" not in PROJECT["project"]
    assert read_configuration(ROOT / "pyproject.toml")["project"]["version"] == mediasql.__version__
    written = [path for path, source in SOURCES.items() if f'"{mediasql.__version__}"' in source]
    assert written == ["mediasql/__init__.py"]
