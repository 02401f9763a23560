"""Two SQLite libraries in one process, and extensions: an application uses them in whatever order it likes.

What the dynamic linker binds depends on what was loaded before, globally or not. So each order runs in a process of its
own: a fork of one that has imported what is common to all, and no SQLite but APSW's.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import mediasql
from mediasql.sql.api_routines import ROUTINES
from mediasql.sql.loadable import build
from tests import example_media

# An extension as people write them: the variable in which it keeps SQLite's table has the name that sqlite3ext.h gives
# it, and everybody sees it.
EXTENSION = """
void (**sqlite3_api)(void);
static void result(void *context, int count, void **values) {
  ((void (*)(void *, int))sqlite3_api[RESULT])(context, ((int (*)(void))sqlite3_api[NUMBER])());
}
int sqlite3_theirs_init(void *database, char **error, void (**api)(void)) {
  sqlite3_api = api;
  return ((int (*)(void *, const char *, int, int, void *, void *, void *, void *))api[CREATE])(
      database, "of_version", 0, 1, 0, result, 0, 0);
}
"""

STEPS = """
import ctypes, os, sys
sys.path.insert(0, sys.argv[1])
import apsw, pandas, mediasql.connection, mediasql.sql.loadable.binding
from mediasql.sql.registry import functions, tables
functions(), tables()
assert "_sqlite3" not in sys.modules
picture, theirs = sys.argv[2:4]
used = []

def connect():
    con = mediasql.connect()
    used.append(lambda: con.execute("SELECT width(?)", (picture,)).get == 640)

def sqlite3():
    import sqlite3
    con = sqlite3.connect(":memory:")
    con.create_function("twice", 1, lambda value: 2 * value)
    used.append(lambda: con.execute("SELECT twice(21)").fetchone() == (42,))
    used.append(lambda: len(con.execute("SELECT * FROM pragma_module_list").fetchall()) > 1)
    if con.execute("SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_stmt'").fetchone():
        used.append(lambda: len(con.execute("SELECT sql FROM sqlite_stmt").fetchall()) > 0)

def frames():
    import sqlite3
    con = sqlite3.connect(":memory:")
    used.append(lambda: pandas.read_sql("SELECT 6 * 7 AS x", con).x[0] == 42)

def load():
    import sqlite3
    con = sqlite3.connect(":memory:")
    mediasql.load(con)
    used.append(lambda: con.execute("SELECT width(?)", (picture,)).fetchone() == (640,))

def another():
    con = apsw.Connection(":memory:")
    used.append(lambda: con.execute("SELECT sqlite_version()").get == apsw.sqlite_lib_version())

def library():
    loaded, _ = opened(ctypes.RTLD_GLOBAL)
    used.append(lambda: rows(loaded, "SELECT 6 * 7") == [b"42"])

def extension():
    loaded, database = opened(ctypes.RTLD_LOCAL)
    loaded.sqlite3_enable_load_extension(database, 1)
    assert loaded.sqlite3_load_extension(database, theirs.encode(), None, None) == 0
    used.append(lambda: rows(loaded, "SELECT of_version()", database) == [b"%d" % loaded.sqlite3_libversion_number()])

def opened(mode):
    loaded, database = ctypes.CDLL("libsqlite3.so.0", mode), ctypes.c_void_p()
    assert loaded.sqlite3_open(b":memory:", ctypes.byref(database)) == 0
    return loaded, database

def rows(loaded, sql, database=None):
    found = []
    texts = ctypes.POINTER(ctypes.c_char_p)
    give = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, texts, texts)
    each = give(lambda _, count, values, names: found.append(values[0]) or 0)
    assert loaded.sqlite3_exec(database or opened(ctypes.RTLD_LOCAL)[1], sql.encode(), each, None, None) == 0
    return found

failed = []
for order in sys.stdin.read().splitlines():
    sys.stdout.flush()
    if (child := os.fork()) == 0:
        for name in order.split():
            globals()[name]()
            for query in used:
                assert query(), order
        assert not any("sqlite_extra" in line for line in open("/proc/self/maps"))
        sys.exit()
    if (status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) != 0:
        failed.append(f"{order}: {status}")
print(failed)
"""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extension")
    (folder / "theirs.c").write_text(EXTENSION)
    slots = ("RESULT", "result_int"), ("NUMBER", "libversion_number"), ("CREATE", "create_function_v2")
    options = [f"-D{name}={ROUTINES[function].slot}" for name, function in slots]
    command = [*build.compiler(), *options, "-w", "-shared", "-fPIC", "-o", str(folder / "theirs.so")]
    subprocess.run([*command, str(folder / "theirs.c")], check=True)
    return folder / "theirs"


ALL = ("connect", "sqlite3", "frames", "load", "another", "library", "extension")


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    example_media.write(folder)
    return folder / "photo.jpg"


@pytest.mark.usefixtures("loadable")
def test_any_order(theirs: Path, picture: Path) -> None:
    """Each two one after the other, and then all others."""
    orders = []
    for two in itertools.permutations(ALL, 2):
        others = [name for name in ALL if name not in two]
        orders.append(" ".join((*two, *others)))
    arguments = [str(Path(mediasql.__file__).parents[1]), str(picture), str(theirs)]
    done = subprocess.run(
        [sys.executable, "-c", STEPS, *arguments], input="\n".join(orders), capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stderr
