"""Which Python the loadable extension finds, and what it says where there is none for it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mediasql
from mediasql.sql.loadable import build
from tests.sql.hosts import HostError, c_program, program, shell

pytestmark = pytest.mark.usefixtures("loadable")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The shared library by itself, as in an environment that lost its package."""
    made = tmp_path / "deep/in/an/environment" / build.NAME
    made.parent.mkdir(parents=True)
    shutil.copy(build.HERE / build.NAME, made)
    return made


def load_alone(library: Path, **more: str) -> str:
    with pytest.raises(HostError) as caught:
        program("sqlite3", "-bail", "-cmd", f".load {library}", ":memory:", text="SELECT 1;", **more)
    return str(caught.value)


def test_no_python_where_it_was() -> None:
    library = build.HERE / build.NAME
    assert "no Python at /gone/bin/python" in load_alone(library, MEDIASQL_PYTHON="/gone/bin/python")


def test_an_environment_without_mediasql(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text(f"home = {os.path.dirname(os.path.realpath(sys.executable))}\n")
    assert "no Python at" in load_alone(copy)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(os.path.realpath(sys.executable))
    message = load_alone(copy)
    assert "where mediasql cannot be imported (No module named 'mediasql')" in message
    assert "pip install mediasql" in message


def test_a_python_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the library was built in an environment for building wheels: it looks around itself, then in PATH."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = tmp_path / "prefix/lib" / version / "site-packages/mediasql/sql/loadable" / build.NAME
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/gone/bin/python")
        build.build(library)
    commands = tmp_path / "commands"
    commands.mkdir()
    (commands / "sqlite3").symlink_to(shutil.which("sqlite3") or "")
    script = tmp_path / "scripts" / version  # that would choose a Python, as pyenv's do
    script.parent.mkdir()
    script.write_text("#!/bin/sh\nexit 1\n")
    script.chmod(0o755)
    path = f"{script.parent}:{commands}"
    message = load_alone(library, PATH=path)
    assert "there is no Python at /gone/bin/python, where this library was built" in message
    for place in (commands, tmp_path / "prefix/bin"):
        place.mkdir(exist_ok=True)
        (place / version).symlink_to(os.path.realpath(os.path.join(sys.base_prefix, "bin/python3")))
        assert "where mediasql cannot be imported" in load_alone(library, PATH=path)
        (place / version).unlink()


def test_the_standard_library_comes_first(copy: Path) -> None:
    """What lies beside the package may have names of Python's own modules."""
    (copy.parents[3] / "zipfile.py").write_text("raise ImportError('the wrong one')")
    (copy.parents[3] / "mediasql").symlink_to(Path(mediasql.__file__).parent)
    out = program("sqlite3", "-cmd", f".load {copy}", ":memory:", text="SELECT url_name('a/b');")
    assert out == "b\n"


def test_modules_of_another_python_are_not_found(tmp_path: Path) -> None:
    (tmp_path / "apsw.py").write_text("raise ImportError('the wrong one')")
    rows = shell(":memory:", ["SELECT media_version()"], PYTHONPATH=str(tmp_path))
    assert rows == [[(mediasql.__version__,)]]


@pytest.mark.parametrize(
    "variable",
    [
        "PYTHONHASHSEED=abc",
        "PYTHONHOME=/nowhere",
        "PYTHONINTMAXSTRDIGITS=3",
        "PYTHONIOENCODING=nope",
        "PYTHONMALLOC=bogus",
        "PYTHONPLATLIBDIR=nowhere",
        "PYTHONTRACEMALLOC=x",
        "PYTHONUTF8=7",
    ],
)
def test_variables_of_another_python_do_not_matter(variable: str) -> None:
    """Each of them ends a Python that heeds it."""
    name, _, value = variable.partition("=")
    assert shell(":memory:", ["SELECT media_version()"], **{name: value}) == [[(mediasql.__version__,)]]


@pytest.mark.parametrize("wanted", ["C", "C.UTF-8"])
def test_the_program_keeps_its_locale(tmp_path: Path, wanted: str) -> None:
    source = """
        #include <locale.h>
        int main(int argc, char **argv) {
          find_sqlite();
          setlocale(LC_ALL, argv[2]);
          puts(setlocale(LC_ALL, NULL));
          loaded(argv[1]);
          puts(setlocale(LC_ALL, NULL));
          return 0;
        }
    """
    host = c_program(tmp_path, source)
    before, after = program(host, mediasql.loadable_path(), wanted, text="", LC_ALL="C.UTF-8").splitlines()
    assert before == after == wanted


def test_a_library_of_another_version(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(build.HERE, sources)
    shutil.copy(build.HERE.parent / "api_routines.py", tmp_path)
    text = (sources / "extension.c").read_text()
    (sources / "extension.c").write_text(re.sub("(#define PROTOCOL) .*", r"\1 99", text))
    monkeypatch.setattr(build, "HERE", sources)
    other = build.build(copy)
    monkeypatch.undo()
    code = (
        "import sqlite3; from mediasql.sql.loadable import loading;"
        f"loading._load_through_library(sqlite3.connect(':memory:'), {str(other)!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "belongs to another version of mediasql" in done.stderr


def test_another_python_than_this_process_has(tmp_path: Path) -> None:
    """A program that has some other Python in it: here one that says so, and has nothing else of it."""
    source = """
        int Py_IsInitialized(void) { return 1; }
        const char *Py_GetVersion(void) { return "3.9.2 (main)"; }
        int main(int argc, char **argv) {
          find_sqlite();
          loaded(argv[1]);
          return argc - 2;
        }
    """
    out = program(c_program(tmp_path, source, "-rdynamic"), mediasql.loadable_path(), text="")
    assert "this process has Python 3.9.2" in out
    assert "3.11 or later is needed" in out


def test_the_compiler_has_nothing_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CC", " ".join([*build.compiler(), "-Werror"]))
    assert build.build(tmp_path / build.NAME).exists()
