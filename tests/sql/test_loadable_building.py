"""Building the loadable extension where something is in the way: what is said of it, and that it is the true cause."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import mediasql
from mediasql.sql.loadable import build, loading
from tests.storage.objects import in_child


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target").mkdir()
    return tmp_path / "target" / build.NAME


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Makes a script the C compiler, in a folder with a space in its name."""

    def make(script: str) -> Path:
        path = tmp_path / "C compilers" / "fake cc"
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)
        monkeypatch.setenv("CC", shlex.quote(str(path)))
        return path

    return make


def refusal(path: Path) -> str:
    """Why the library cannot be built at `path`, where nothing of it is left then."""
    before = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    with pytest.raises(build.BuildError) as caught:
        build.build(path)
    assert (sorted(path.parent.iterdir()) if path.parent.is_dir() else []) == before
    return str(caught.value)


def test_without_a_compiler(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(target.parent))
    monkeypatch.delenv("CC", raising=False)
    wanted = "there is no C compiler (cc, gcc or clang)"
    assert refusal(target) == f"{wanted}; install one (Debian: apt install gcc)"
    monkeypatch.setenv("CC", "/no where/cc -O")
    assert refusal(target).startswith(f"{wanted}, and CC names '/no where/cc -O', which is not there either; install")


def test_a_variable_that_is_no_command(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc 'of nobody")
    assert refusal(target) == "the variable CC (cc 'of nobody) is no command: No closing quotation"


def test_a_compiler_that_fails(target: Path, compiler: Callable[[str], Path]) -> None:
    path = compiler("#!/bin/sh\nfor i in $(seq 30); do echo said $i; done\necho the end >&2\nexit 3\n")
    told = refusal(target)
    first, *lines, command = told.splitlines()
    assert first == "the C compiler failed with status 3:"
    assert lines == [*(f"said {number}" for number in range(1, 21)), "… and 11 more lines"]
    assert "no C compiler" not in told
    # The command can be given to a shell as it is shown, whatever spaces are in its paths.
    words = shlex.split(command.removeprefix("The command was: "))
    assert words[0] == str(path)
    assert words[-1] == "-lpthread" or sys.platform == "darwin"
    assert str(build.HERE / "extension.c") in words


def test_an_error_behind_warnings_is_shown(target: Path, compiler: Callable[[str], Path]) -> None:
    for error in ("a.c:1:1: fatal error: no memory", "ld: a.o: undefined reference to f"):
        compiler(f"#!/bin/sh\nfor i in $(seq 30); do echo warning: result_error $i; done\necho '{error}'\nexit 1\n")
        assert refusal(target).splitlines()[1] == error


def test_a_compiler_that_fails_without_a_word(target: Path, compiler: Callable[[str], Path]) -> None:
    compiler("#!/bin/sh\nexit 1\n")
    assert refusal(target).splitlines()[:2] == ["the C compiler failed with status 1:", "It says nothing."]


def test_a_compiler_whose_words_are_not_utf_8(target: Path, compiler: Callable[[str], Path]) -> None:
    compiler("#!/bin/sh\nprintf 'caf\\351\\n'\nexit 1\n")
    assert refusal(target).splitlines()[1] == "caf\ufffd"


def test_a_compiler_that_makes_nothing(target: Path, compiler: Callable[[str], Path]) -> None:
    compiler("#!/bin/sh\nexit 0\n")
    assert refusal(target).startswith("the C compiler made no library:\nIt says nothing.\n")


def test_a_compiler_that_cannot_be_run(target: Path, compiler: Callable[[str], Path]) -> None:
    path = compiler("#!/no/such/shell\n")
    assert refusal(target) == f"the C compiler '{path}' cannot be run: {os.strerror(errno.ENOENT)}"


def test_a_real_compiler_and_sources_that_are_wrong(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = tmp_path / "package" / "loadable"
    shutil.copytree(build.HERE, sources, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    shutil.copy(build.HERE.parent / "api_routines.py", sources.parent)
    monkeypatch.setattr(build, "HERE", sources)
    build.build(target)
    target.unlink()
    (sources / "values.c").write_text("this is no C")
    told = refusal(target)
    assert told.startswith("the C compiler failed with status 1:\n")
    assert f"{sources / 'values.c'}:1:" in told
    (sources.parent / "api_routines.py").unlink()
    assert refusal(target).startswith("a source is missing, install mediasql anew: ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC], ids=os.strerror)
@pytest.mark.parametrize("function", ["mkdir", "replace"])
def test_a_folder_that_cannot_be_written_to(function: str, number: int, target: Path) -> None:
    def fails(*paths: Any, **options: Any) -> None:
        raise OSError(number, os.strerror(number), *map(os.fspath, paths[:1]))

    with mock.patch.object(os, function, fails):
        told = refusal(target)
    assert told == f"{target} cannot be written: {os.strerror(number)}; build it as a user who can write there"


def test_a_folder_of_another_user() -> None:
    folder = Path(tempfile.mkdtemp())  # pytest's own cannot be looked into by others
    folder.chmod(0o555)
    target = folder / build.NAME

    def work() -> None:
        if os.geteuid() == 0:  # whom no mode keeps from anything
            os.setuid(65534)
        assert os.strerror(errno.EACCES) in refusal(target)
        assert f"this user cannot write to {folder}; then run: " in build.how_to_build(target)

    try:
        assert os.waitpid(in_child(work), 0)[1] == 0
    finally:
        folder.rmdir()


def test_the_program_shows_no_traceback(tmp_path: Path) -> None:
    environment = {**os.environ, "CC": "no-such-compiler", "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "mediasql.sql.loadable.build"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("there is no C compiler")
    assert len(done.stderr.splitlines()) == 1


def test_what_to_do_about_a_library_that_is_not_there(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "HERE", target.parent)
    monkeypatch.setattr(sys, "executable", "/my env/bin/python")
    with pytest.raises(mediasql.MissingExtra) as caught:
        mediasql.loadable_path()
    told = "the loadable extension was not built when mediasql was installed: "
    command = "run: '/my env/bin/python' -m mediasql.sql.loadable.build"
    assert str(caught.value) == f"{told}to build it, {command}"
    monkeypatch.setenv("PATH", str(target.parent))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(mediasql.MissingExtra) as caught:
        mediasql.loadable_path()
    compiler = "there is no C compiler (cc, gcc or clang); install one (Debian: apt install gcc)"
    assert str(caught.value) == f"{told}{compiler}; then {command}"
