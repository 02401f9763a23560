"""Forks: from any thread, at any moment, and what a child finds."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import mediasql
from mediasql.storage import forking
from mediasql.storage.cache.database import Database

ROOT = Path(__file__).parents[2]
HANGS = 120  # seconds after which a program is taken to hang, however busy the machine is


def exit_code(work: Callable[[], object]) -> int:
    """What a forked child, which runs `work`, ends with: 1 where that raises, 14 where it hangs."""
    child = os.fork()
    if not child:
        signal.alarm(HANGS)
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    return abs(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning:__main__", "-c", code, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANGS,
    )


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    found = Database(tmp_path / "x.db", "CREATE TABLE t(a)", 1, print)
    found.write(lambda connection: connection.execute("INSERT INTO t VALUES (1)"))
    yield found
    found.close()


def test_one_module_owns_forking() -> None:
    package = Path(mediasql.__file__).parent
    callers = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias)
        and "register_at_fork" in (getattr(node, "attr", ""), getattr(node, "id", ""), getattr(node, "name", ""))
    ]
    assert set(callers) == {"storage/forking.py"}


def test_hooks_run_in_the_order_of_the_floors_and_one_that_fails_stops_no_other() -> None:
    code = """
import os, sys
from mediasql.storage import forking
ran, failed = [], []
sys.unraisablehook = lambda raised: failed.append(str(raised.exc_value))
def fails(name):
    ran.append(name)
    raise ValueError(name)
forking.at_fork(before=lambda: ran.append("before lower"), in_child=lambda: fails("child lower"))
forking.at_fork(before=lambda: fails("before upper"), in_child=lambda: ran.append("child upper"))
child = os.fork()
print(f"{'parent' if child else 'child'} {ran} {failed}\\n", end="", flush=True)  # in one piece
if child:
    os.waitpid(child, 0)
else:
    os._exit(0)
"""
    out = python(code)
    assert out.stderr == ""
    before = ["before upper", "before lower"]
    assert sorted(out.stdout.splitlines()) == [
        f"child {[*before, 'child lower', 'child upper']} {['before upper', 'child lower']}",
        f"parent {before} ['before upper']",
    ]


def test_a_fork_waits_for_who_holds_a_lock() -> None:
    lock, held, value = forking.lock(), threading.Event(), ["before"]
    forks = threading.Event()
    forking_thread_waits = threading.Event()

    def hold() -> None:
        with lock:
            value[0] = "half"
            held.set()
            forking_thread_waits.wait(HANGS)
            value[0] = "done"

    def seen() -> None:
        with lock:
            assert value == ["done"]

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(HANGS)
    forker = threading.Thread(target=lambda: [codes.append(exit_code(seen)), forks.set()])
    codes: list[int] = []
    forker.start()
    assert not forks.wait(0.3)
    forking_thread_waits.set()
    forker.join(HANGS)
    thread.join(HANGS)
    assert codes == [0]
    assert lock.acquire(blocking=False), "the parent gives it back"


@pytest.mark.parametrize("first", [0, 1])
def test_two_locks_in_any_order_are_no_deadlock(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "LONGEST_WAIT", HANGS)
    locks = forking.lock(), forking.lock()
    one, two = locks[first], locks[1 - first]
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with one:
            held.set()
            time.sleep(0.3)  # so that the fork has the other one by now
            with two:
                done.set()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(HANGS)
    began = time.monotonic()
    assert exit_code(lambda: [lock.acquire() for lock in locks]) == 0
    assert time.monotonic() - began < forking.LONGEST_WAIT
    assert done.is_set()
    thread.join(HANGS)


def test_who_holds_a_lock_may_fork() -> None:
    lock = forking.lock()
    with lock:

        def work() -> None:
            with lock:
                pass
            lock.release()
            thread = threading.Thread(target=lock.acquire)
            thread.start()
            thread.join(HANGS)
            assert not thread.is_alive()

        assert exit_code(work) == 0
        other = threading.Thread(target=lambda: taken.append(lock.acquire(blocking=False)))
        taken: list[bool] = []
        other.start()
        other.join(HANGS)
        assert taken == [False], "it is still held here"


def test_who_never_gives_a_lock_back_holds_up_no_fork(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk may hang. The child finds the lock open, and leaves the database alone that its parent is using."""
    monkeypatch.setattr(forking, "LONGEST_WAIT", 0.3)
    lock, working, go_on = forking.lock(), threading.Event(), threading.Event()
    results: list[object] = []

    def hang(connection: object) -> str:
        with lock:
            working.set()
            go_on.wait(HANGS)
        return "written"

    thread = threading.Thread(target=lambda: results.append(database.write(hang)))
    thread.start()
    working.wait(HANGS)
    troubles: list[str] = []

    def work() -> None:
        with lock:
            pass
        for each in (database, Database(database.path, "CREATE TABLE t(a)", 1, troubles.append)):
            assert each.read("SELECT a FROM t") == []
            assert each.unusable
        assert "forked" in troubles[0]
        other = Database(tmp_path / "other.db", "CREATE TABLE t(a)", 1, troubles.append)
        assert other.write(lambda connection: connection.execute("INSERT INTO t VALUES (2) RETURNING a").get) == 2

    assert exit_code(work) == 0
    go_on.set()
    thread.join(HANGS)
    assert results == ["written"]
    assert database.read("SELECT a FROM t") == [(1,)]


def test_a_fork_in_the_middle_of_a_look(database: Database) -> None:
    """As the handler of a signal makes one. The parent reads on, and the child finds its own way."""

    def work(connection: object) -> int:
        return exit_code(lambda: database.read("SELECT a FROM t"))

    assert database.look(work, 99) == 0
    assert database.read("SELECT a FROM t") == [(1,)]


def test_forks_and_uses_of_the_cache_at_the_same_time(tmp_path: Path) -> None:
    code = """
import os, signal, sys, threading
from pathlib import Path
from mediasql.storage.cache.database import Database
folder, troubles = Path(sys.argv[1]), []
databases = [Database(folder / f"{name}.db", "CREATE TABLE t(a)", 1, troubles.append) for name in range(3)]
sys.unraisablehook = lambda raised: troubles.append(repr(raised.exc_value))
FORKS = 15
forking, statuses = threading.Event(), []
def read_and_write(database):
    written = 0
    while not forking.is_set():
        database.write(lambda connection: (connection.execute("INSERT INTO t VALUES (1)"), database.read("SELECT 1")))
        written += 1
        assert database.read("SELECT max(rowid) FROM t") == [(written,)], "one of our threads writes each"
def fork():
    for _ in range(FORKS):
        child = os.fork()
        if not child:
            signal.alarm(60)
            read = all(database.read("SELECT count(*) FROM (SELECT * FROM t LIMIT 2)") for database in databases)
            os._exit(0 if read and databases[0].write(lambda connection: True) else 3)
        statuses.append(os.waitpid(child, 0)[1])
users = [threading.Thread(target=read_and_write, args=(database,)) for database in databases]
forkers = [threading.Thread(target=fork) for _ in range(4)]
for thread in [*users, *forkers]:
    thread.start()
for thread in forkers:
    thread.join()
forking.set()
for thread in users:
    thread.join()
sound = [database.read("PRAGMA integrity_check") for database in databases]
print(len(statuses), set(statuses), troubles, sound)
"""
    out = python(code, os.fspath(tmp_path))
    assert (out.stdout, out.stderr) == ("60 {0} [] [[('ok',)], [('ok',)], [('ok',)]]\n", "")


def test_pools_of_processes_in_a_pool_of_threads(tmp_path: Path) -> None:
    code = """
import multiprocessing, sys
from concurrent.futures import ThreadPoolExecutor
import mediasql
urls = sys.argv[1:]
def widths(number):
    con = mediasql.connect()
    try:
        return con.execute("SELECT sum(width(value)) FROM json_each(json_array(?, ?, ?))", urls).get + number
    finally:
        con.close()
def many(number):
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(widths, range(4))
expected = widths(0)
with ThreadPoolExecutor(3) as threads:
    found = list(threads.map(many, range(6)))
print(found == [[expected + number for number in range(4)]] * 6, expected)
"""
    paths = [tmp_path / f"{number}.bmp" for number in range(3)]
    for number, path in enumerate(paths):
        path.write_bytes(bitmap(10 + number))
    out = python(code, *map(os.fspath, paths))
    assert (out.stdout, out.stderr) == ("True 33\n", "")


def bitmap(width: int) -> bytes:
    """The header of a BMP, which is all that its width needs."""
    header = width.to_bytes(4, "little") + (5).to_bytes(4, "little") + b"\1\0\x18\0" + bytes(24)
    return b"BM" + (54).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little") + b"\x28\0\0\0" + header


def test_where_processes_do_not_fork() -> None:
    """Windows has neither os.fork nor os.register_at_fork."""
    code = """
import os
del os.fork, os.register_at_fork
import mediasql
from mediasql.storage import forking
with forking.lock():
    print(mediasql.connect().execute("SELECT url_name('a/b.png')").get)
"""
    out = python(code)
    assert (out.stdout, out.stderr) == ("b.png\n", "")
