"""`pip install` from a source distribution, with a C compiler and without: what `mediasql loadable-path` then says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import mediasql
from tests.sql.hosts import environment, program

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, made of what belongs to the package."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "mediasql", folder / "mediasql", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    make = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, str(folder)], cwd=folder, capture_output=True, check=True)
    (made,) = folder.glob("*.tar.gz")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """A virtual environment that finds the dependencies here, and no mediasql yet."""
    made = tmp_path / "fresh"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    (site,) = made.glob("lib/python3*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return made


def install(fresh: Path, source: Path, **more: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(fresh / "bin/python"), "install", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", str(source)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def loadable_path(fresh: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(fresh / "bin/mediasql"), "loadable-path"], capture_output=True, text=True, check=False, env=environment()
    )


def answers(path: str) -> bool:
    out = program("sqlite3", "-cmd", f".load {path}", ":memory:", text="SELECT media_version(), width(NULL) IS NULL;")
    return out == f"{mediasql.__version__}|1\n"


def test_with_a_compiler(fresh: Path, source: Path) -> None:
    install(fresh, source)
    found = loadable_path(fresh)
    assert found.stderr == ""
    path = found.stdout.strip()
    assert Path(path).is_relative_to(fresh)
    assert answers(path)


def test_without_a_compiler(fresh: Path, source: Path, tmp_path: Path) -> None:
    install(fresh, source, PATH=str(tmp_path), CC="/nowhere/cc")
    found = loadable_path(fresh)
    assert found.returncode == 1
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    told, _, command = found.stderr.strip().rpartition(" run: ")
    assert "was not built when mediasql was installed" in told
    assert command.startswith(str(fresh)), found.stderr
    subprocess.run(command, shell=True, check=True, capture_output=True, cwd=tmp_path)
    assert answers(loadable_path(fresh).stdout.strip())
