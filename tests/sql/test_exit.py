"""The end of Python: status 0, nothing on standard error, and no waiting, whatever is open and whoever holds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import pytest

from tests.servers.http import HttpServer
from tests.waiting import LONG

ROOT = Path(__file__).parents[2]

# Connections of each kind, with tables that were read, and queries that nobody finished.
OPEN = """
import atexit, gc, sys, threading
import apsw, mediasql
folder = sys.argv[1]
def f(*arguments): pass
class Held:
    def __init__(self): self.held = globals()
    def __call__(self, *arguments): pass
def half(connection, sql, *bindings):
    rows = connection.execute(sql, bindings)
    assert next(iter(rows))
    return rows
read = mediasql.connect()
assert read.execute("SELECT count(*) FROM media_errors").fetchall() == [(0,)]
listing = half(mediasql.connect(), "SELECT name, width FROM media(?)", f"{folder}/*")
registered = apsw.Connection(":memory:")
mediasql.register(registered)
registered.execute(f"CREATE VIRTUAL TABLE pictures USING media('{folder}/*')")
created = half(registered, "SELECT p.name, q.name FROM pictures p, pictures q ORDER BY q.name || p.name DESC")
called = half(mediasql.connect(), "SELECT width(value) FROM json_each('[null, null]')")
elsewhere = []
def use():
    connection = mediasql.connect()
    elsewhere.append(half(connection, "SELECT * FROM media_streams(?), media(?)", f"{folder}/a.mp4", f"{folder}/*"))
def close():
    read.execute("SELECT count(*) FROM media_cache").fetchall()
    closed.close()
closed = mediasql.connect()
closed.execute("SELECT count(*) FROM media(?)", (f"{folder}/*",)).fetchall()
for work in (use, close):
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
busy, begun = mediasql.connect(), threading.Event()
def go_on():
    while True:
        for row in busy.execute("SELECT name FROM media(?)", (f"{folder}/*",)):
            begun.set()
threading.Thread(target=go_on, daemon=True).start()
begun.wait()
"""

LOADED = """
import sqlite3
loaded = sqlite3.connect(":memory:", check_same_thread=False)
mediasql.load(loaded)
of_host = half(loaded, "SELECT name, width FROM media(?)", f"{folder}/*")
"""

HOLDERS = {
    "nobody": "",
    "excepthook": "sys.excepthook = f",
    "displayhook": "sys.displayhook = f",
    "unraisablehook": "sys.unraisablehook = f",
    "threading.excepthook": "threading.excepthook = f",
    "logging": """
import logging
class Handler(logging.Handler):
    def emit(self, record): f()
logging.getLogger().addHandler(Handler())""",
    "warnings": "import warnings; warnings.showwarning = f",
    "a signal": "import signal; signal.signal(signal.SIGTERM, lambda *_, held=read: None)",
    "atexit": "atexit.register(Held())",
    "sys": "sys.held = globals()",
    "an audit hook": "sys.addaudithook(Held())",
    "a hook of fork": "import os; os.register_at_fork(after_in_child=Held())",
    "a codec": "import codecs; codecs.register(Held())",
    "a hook of apsw": "apsw.connection_hooks.append(Held())",
    "a trace function": "sys.settrace(f)",
    "a callback of gc": "gc.callbacks.append(Held())",
    "a cycle that is not collected": "gc.disable(); sys.excepthook = f",
    "nobody can free": "import ctypes; ctypes.pythonapi.Py_IncRef(ctypes.py_object(globals()))",
}


def python(code: str, *arguments: str) -> tuple[str, str, int]:
    """What a script prints, and ends with. That it ends within LONG says that it does not hang."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=LONG, check=False
    )
    return done.stdout, done.stderr, done.returncode


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pictures")
    with av.open(made / "a.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 16
        container.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        container.mux(stream.encode(None))
    for name in "bcd":
        (made / f"{name}.png").write_bytes(b"not a picture")
    return made


@pytest.mark.parametrize("holder", HOLDERS)
def test_whatever_holds_the_globals_of_a_script(folder: Path, holder: str) -> None:
    assert python(OPEN + HOLDERS[holder], os.fspath(folder)) == ("", "", 0)


@pytest.mark.parametrize(
    "holder", ["nobody", "excepthook", "a signal", "an audit hook", "a cycle that is not collected"]
)
def test_the_same_in_the_sqlite3_module(loadable: str, folder: Path, holder: str) -> None:
    assert python(OPEN + LOADED + HOLDERS[holder], os.fspath(folder)) == ("", "", 0)


@pytest.mark.parametrize("module", ["mediasql", "sqlite3"])
def test_connections_are_of_use_in_exit_handlers(loadable: str, folder: Path, module: str) -> None:
    """Also in those that were registered before mediasql was imported, as that of logging is."""
    code = """
import atexit, logging, sys
class IntoTable(logging.Handler):
    def emit(self, record): lines.append(record.getMessage())
    def flush(self):
        con.executemany("INSERT INTO log SELECT ?, frame_count(?)", [(line, folder + "/a.mp4") for line in lines])
        con.commit() if hasattr(con, "commit") else None
        print(con.execute("SELECT * FROM log").fetchall())
lines = []
atexit.register(lambda: print(con.execute("SELECT length(thumbnail(?, 8, 8)) > 0", (folder + "/a.mp4",)).fetchall()))
logging.getLogger().addHandler(IntoTable())
import mediasql
folder = sys.argv[1]
if sys.argv[2] == "sqlite3":
    import sqlite3
    con = sqlite3.connect(":memory:")
    mediasql.load(con)
else:
    con = mediasql.connect()
con.execute("CREATE TABLE log(line, frames)")
con.execute("SELECT count(*) FROM media_errors").fetchall()
logging.error("something")
atexit.register(lambda: print(con.execute("SELECT count(*) FROM media(?)", (folder + "/*",)).fetchall()))
"""
    found = python(code, os.fspath(folder), module)
    assert found == ("[(4,)]\n[(1,)]\n[('something', 1)]\n", "", 0)


@pytest.mark.parametrize(
    "use",
    [
        "close()",
        "execute(\"SELECT width('{url}/a.png')\").get",
        "execute(\"SELECT count(*) FROM media('{url}/')\").get",
        "execute(\"SELECT length(content('{url}/a.png'))\").get",
        'execute("SELECT count(*) FROM media_cache").get',
        'execute("SELECT count(*) FROM media_errors").get',
        "execute(\"SELECT presigned_url('s3://bucket/a.png')\").get",
    ],
)
@pytest.mark.parametrize("holder", ["held", "sys.held"])
def test_what_is_done_while_modules_go_does_not_wait(http_server: HttpServer, holder: str, use: str) -> None:
    """The threads that fetch and write have ended by then."""
    code = f"""
import os, sys, mediasql
con = mediasql.connect(timeout=600)
assert con.execute("SELECT width(?)", ('{http_server.url}/none.png',)).get is None
class AtTheEnd:
    def __del__(self, con=con, write=os.write, is_finalizing=sys.is_finalizing):
        assert is_finalizing()
        try:
            con.{use.replace("{url}", http_server.url)}
        except Exception:
            pass
        write(1, b"done")
{holder} = AtTheEnd()
"""
    assert python(code) == ("done", "", 0)


def test_a_decoder_that_waits_for_a_server_is_not_waited_for(
    http_server: HttpServer, tmp_path: Path, folder: Path
) -> None:
    code = """
import sys, threading, time, mediasql
con = mediasql.connect(timeout=600, cache_size=0)
def query(): con.execute("SELECT frame_count(?)", (sys.argv[1],)).fetchall()
threading.Thread(target=query, daemon=True).start()
def decoding(): return [thread for thread in threading.enumerate() if "decode" in thread.name]
while not decoding():
    time.sleep(0.01)
"""
    with av.open(tmp_path / "long.avi", "w") as container:
        stream = container.add_stream("rawvideo", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "rgb24"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame(320, 240, "rgb24")))
    http_server.put("", "long.avi", (tmp_path / "long.avi").read_bytes())
    assert python(code, f"{http_server.url}/stalls/100000/long.avi") == ("", "", 0)


def test_a_function_of_the_application_is_waited_for() -> None:
    code = """
import sys, threading, time, mediasql
con = mediasql.connect()
begun = threading.Event()
@con.media_function
def slow(data: bytes) -> int:
    begun.set()
    time.sleep(0.3)
    sys.stdout.write("done\\n")
    return 1
threading.Thread(target=lambda: con.execute("SELECT slow(x'00')").fetchall(), daemon=True).start()
begun.wait()
"""
    assert python(code) == ("done\n", "", 0)


@pytest.mark.parametrize("half", [False, True])
def test_sqlalchemy(folder: Path, half: bool) -> None:
    """Its pool rolls back what was left open."""
    code = f"""
import sys, sqlalchemy as sa
engine = sa.create_engine("mediasql://")
connection = engine.connect()
connection.execute(sa.text("CREATE TABLE t(a)"))
connection.execute(sa.text("INSERT INTO t VALUES (1)"))
rows = connection.execute(sa.text("SELECT name FROM media(:folder)"), {{"folder": sys.argv[1] + "/*"}})
print(rows.fetchone() if {half} else len(rows.fetchall()))
sys.excepthook = lambda *_: None
"""
    assert python(code, os.fspath(folder)) == ("('a.mp4',)\n" if half else "4\n", "", 0)
