"""Compiles the loadable extension: `python -m mediasql.sql.loadable.build`.

It needs a C compiler, and no headers of Python or SQLite. `pip install` does the same where there is a compiler. To be
imported without the package around it, by setup.py.
"""

from __future__ import annotations

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = ("extension.c", "routines.c", "start.c", "tables.c", "values.c")
HEADERS = ("extension.h", "python.h")
_ROUTINES = "../api_routines.py"  # which gives the text of routines.h
# SQLite appends it to a name without one, and derives the entry point from the letters before it.
NAME = "mediasql.dylib" if sys.platform == "darwin" else "mediasql.so"
_FLAGS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra")


_ERROR = re.compile(r"\berror\b|undefined|cannot find")  # of compilers and of linkers
_MOST_LINES = 20  # of what a compiler says, from its first error on
_ONLY_POSIX = "mediasql's loadable extension is for Linux and macOS"


class BuildError(Exception):
    """The library cannot be compiled here; the message says why, and what to do about it."""


def build(path: Path = HERE / NAME) -> Path:
    """Compile the library to `path`, for the Python that runs this. Raises BuildError."""
    if os.name != "posix":
        raise BuildError(_ONLY_POSIX)
    command, header, folder = compiler(), _header(), path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".build-", dir=folder, ignore_cleanup_errors=True) as workshop:
            made = Path(workshop, path.name)
            Path(workshop, "routines.h").write_text(header)
            _compile(command, made)
            made.chmod(0o755)
            os.replace(made, path)  # whoever has the old one loaded keeps it
    except OSError as error:
        raise BuildError(
            f"{path} cannot be written: {error.strerror or error}; build it as a user who can write there"
        ) from None
    return path


def _header() -> str:
    """The text of routines.h. Raises BuildError."""
    try:
        text: str = runpy.run_path(str(HERE / _ROUTINES))["c_header"]()
    except OSError as error:
        raise BuildError(f"a source is missing, install mediasql anew: {error}") from None
    return text


def _compile(compiler: list[str], made: Path) -> None:
    """Compile the sources to `made`, with routines.h beside it. Raises BuildError."""
    command = [*compiler, *_FLAGS, f"-I{made.parent}", *_known(), "-o", str(made)]
    command += [str(HERE / name) for name in SOURCES]
    command += ["-ldl", "-lpthread"] if sys.platform.startswith("linux") else []
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
        )
    except OSError as error:
        raise BuildError(f"the C compiler {shlex.quote(command[0])} cannot be run: {error.strerror or error}") from None
    if done.returncode or not made.exists():
        lines = done.stdout.strip().splitlines() or ["It says nothing."]
        lines = lines[next((at for at, line in enumerate(lines) if _ERROR.search(line)), 0) :]  # behind all warnings
        more = [f"… and {len(lines) - _MOST_LINES} more lines"] if len(lines) > _MOST_LINES else []
        failed = f"failed with status {done.returncode}" if done.returncode else "made no library"
        told = "\n".join([*lines[:_MOST_LINES], *more])
        raise BuildError(f"the C compiler {failed}:\n{told}\nThe command was: {shlex.join(command)}")


def compiler() -> list[str]:
    """The command of the C compiler, CC if that is set. Raises BuildError where there is none."""
    named = os.environ.get("CC", "")
    for candidate in (named, "cc", "gcc", "clang"):
        try:
            words = shlex.split(candidate)
        except ValueError as error:
            raise BuildError(f"the variable CC ({named}) is no command: {error}") from None
        if words and shutil.which(words[0]):
            return words
    instead = f", and CC names {shlex.quote(named)}, which is not there either" if named else ""
    raise BuildError(f"there is no C compiler (cc, gcc or clang){instead}; install one (Debian: apt install gcc)")


def how_to_build(path: Path = HERE / NAME) -> str:
    """What to do where there is no library at `path`: what is in the way now, and the command that builds it."""
    if os.name != "posix":
        return _ONLY_POSIX
    hindrances = []
    try:
        compiler()
    except BuildError as error:
        hindrances.append(str(error))
    if not os.access(path.parent, os.W_OK):
        hindrances.append(f"this user cannot write to {path.parent}")
    command = shlex.join([sys.executable or "python3", "-m", "mediasql.sql.loadable.build"])
    return "; ".join([*hindrances, f"{'then' if hindrances else 'to build it,'} run: {command}"])


def is_current(path: Path = HERE / NAME) -> bool:
    """Whether the library is there, and not older than its sources."""
    newest = max((HERE / name).stat().st_mtime for name in (*SOURCES, *HEADERS, _ROUTINES, Path(__file__).name))
    return path.exists() and path.stat().st_mtime >= newest


def _known() -> list[str]:
    """What a program without Python has to know of this one."""
    known = {
        "PROGRAM": sys.executable,
        "LIBRARY": _library(),
        "STDLIB": sysconfig.get_path("stdlib"),
        "VERSION": f"{sys.version_info[0]}.{sys.version_info[1]}",
    }
    return [f'-DMEDIASQL_{name}="{_escaped(value)}"' for name, value in known.items()]


def _library() -> str:
    """The shared library of this Python; where there is none, the name under which it may be installed."""
    get = sysconfig.get_config_var
    names = [name for name in (get("INSTSONAME"), get("LDLIBRARY")) if name and not name.endswith(".a")]
    names.append(f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0")
    folders = [get("LIBDIR"), os.path.join(sys.base_prefix, "lib"), get("LIBPL")]
    if get("MULTIARCH"):
        folders.append(f"/usr/lib/{get('MULTIARCH')}")
    places = [os.path.join(folder, name) for folder in folders if folder for name in names]
    return next((place for place in places if os.path.exists(place)), os.path.join(sys.base_prefix, "lib", names[-1]))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


if __name__ == "__main__":
    try:
        print(build())
    except BuildError as error:
        sys.exit(str(error))
