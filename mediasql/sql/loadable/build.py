"""Compiles the loadable extension: `python -m mediasql.sql.loadable.build`.

It needs a C compiler, and no headers of Python or SQLite. `pip install` does the same where there is a compiler. To be
imported without the package around it, by setup.py.
"""

from __future__ import annotations

import os
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


class BuildError(Exception):
    """The library cannot be compiled here."""


def build(path: Path = HERE / NAME) -> Path:
    """Compile the library to `path`, for the Python that runs this. Raises BuildError."""
    folder = path.parent
    folder.mkdir(parents=True, exist_ok=True)
    if os.name != "posix":
        raise BuildError("mediasql's loadable extension is for Linux and macOS")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=folder) as workshop:
        made = os.path.join(workshop, path.name)
        Path(workshop, "routines.h").write_text(runpy.run_path(str(HERE / _ROUTINES))["c_header"]())
        sources = [str(HERE / name) for name in SOURCES]
        command = [*compiler(), *_FLAGS, f"-I{workshop}", *_known(), "-o", made, *sources]
        command += ["-ldl", "-lpthread"] if sys.platform.startswith("linux") else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{shlex.join(command)} failed:\n{done.stderr}")
        os.chmod(made, 0o755)
        os.replace(made, path)  # whoever has the old one loaded keeps it
    return path


def compiler() -> list[str]:
    """The command of the C compiler, CC if that is set. Raises BuildError where there is none."""
    for candidate in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        words = shlex.split(candidate)
        if words and shutil.which(words[0]):
            return words
    raise BuildError("there is no C compiler (cc, gcc, clang, or what CC names)")


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
