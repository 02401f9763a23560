"""The loadable extension from its start to its end: environments, loading, threads, interruption, closing and exit."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

import mediasql
from mediasql.sql.loadable import build, loading
from tests.servers.http import HttpServer
from tests.sql.conftest import Web
from tests.sql.hosts import HostError, environment, program, shell

pytestmark = pytest.mark.usefixtures("loadable")


# --- mediasql.load ---------------------------------------------------------------------------------------------------


def test_loading_twice_changes_nothing() -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection, timeout=7)
    mediasql.load(connection)
    assert connection.execute("SELECT media_config('timeout')").fetchone() == (7.0,)
    with pytest.raises(mediasql.ConfigError, match="attached to this connection already"):
        mediasql.load(connection, timeout=8)
    with pytest.raises(mediasql.ConfigError, match="no option 'timeouts'"):
        mediasql.load(sqlite3.connect(":memory:"), timeouts=8)
    connection.close()


def test_the_environment_configures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "12.5")
    assert shell(":memory:", ["SELECT media_config('timeout')"]) == [[("12.5",)]]
    with pytest.raises(HostError, match="MEDIASQL_TIMEOUT: 'soon' is not valid; a positive number"):
        shell(":memory:", ["SELECT 1"], MEDIASQL_TIMEOUT="soon")
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "soon")
    with pytest.raises(mediasql.ConfigError, match="MEDIASQL_TIMEOUT"):
        mediasql.load(sqlite3.connect(":memory:"))


def test_a_policy_holds_there(web: Web) -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection, profile="hosted")
    with pytest.raises(sqlite3.OperationalError, match="hosted"):
        connection.execute("SELECT width(?)", (web.url(1),)).fetchall()
    assert connection.execute("SELECT kind FROM media_errors").fetchall() == [("refused",)]
    assert web.asked() == {}
    connection.close()


def test_load_takes_connections_of_apsw_too() -> None:
    connection = apsw.Connection(":memory:")
    mediasql.load(connection, timeout=3)
    assert connection.execute("SELECT media_config('timeout')").get == 3.0
    with pytest.raises(mediasql.ConfigError, match=r"not a builtins\.str"):
        mediasql.load("photos.db")


def test_connections_that_cannot_be_used() -> None:
    closed = sqlite3.connect(":memory:")
    closed.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        mediasql.load(closed)
    elsewhere = sqlite3.connect(":memory:")
    with ThreadPoolExecutor(1) as pool, pytest.raises(sqlite3.ProgrammingError, match="thread"):
        pool.submit(mediasql.load, elsewhere).result()


def test_loading_extensions_stays_forbidden() -> None:
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection)
    with pytest.raises(sqlite3.OperationalError, match="not authorized"):
        connection.execute("SELECT load_extension(?)", (mediasql.loadable_path(),))
    connection.close()


def test_two_libraries_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    theirs = sqlite3.connect(path)
    theirs.execute("CREATE TABLE t(x)")
    mediasql.load(theirs)
    with pytest.raises(mediasql.ConfigError, match=r"a\.db is open in this process through the extension"):
        mediasql.connect(path)
    ours = apsw.Connection(str(path))
    with pytest.raises(mediasql.ConfigError, match="another SQLite library"):
        mediasql.register(ours)
    theirs.close()
    mediasql.register(ours)
    again = sqlite3.connect(path)
    with pytest.raises(mediasql.ConfigError, match=r"a\.db is open in this process through APSW"):
        mediasql.load(again)
    ours.close()
    mediasql.load(again)
    again.close()


def test_a_library_that_was_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loading, "HERE", tmp_path)
    with pytest.raises(mediasql.MissingExtra, match=r"C compiler.*-m mediasql\.sql\.loadable\.build"):
        mediasql.loadable_path()
    with pytest.raises(mediasql.MissingExtra):
        mediasql.load(sqlite3.connect(":memory:"))


def test_the_path_for_shells() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mediasql", "loadable-path"], capture_output=True, text=True, check=True
    )
    assert done.stdout == mediasql.loadable_path() + "\n"


# --- environments ----------------------------------------------------------------------------------------------------


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


def test_variables_of_another_python_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "apsw.py").write_text("raise ImportError('the wrong one')")
    rows = shell(":memory:", ["SELECT media_version()"], PYTHONHOME="/nowhere", PYTHONPATH=str(tmp_path))
    assert rows == [[(mediasql.__version__,)]]


def test_a_library_of_another_version(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(build.HERE, sources)
    text = (sources / "extension.c").read_text()
    (sources / "extension.c").write_text(text.replace("#define PROTOCOL 1", "#define PROTOCOL 99"))
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
    source = tmp_path / "host.c"
    source.write_text(
        """
        #include <stdio.h>
        #include <string.h>
        #include <dlfcn.h>
        typedef struct sqlite3 sqlite3;
        int Py_IsInitialized(void) { return 1; }
        const char *Py_GetVersion(void) { return "3.9.2 (main)"; }
        int main(int argc, char **argv) {
          void *library = dlopen("libsqlite3.so.0", RTLD_NOW);
          int (*open)(const char *, sqlite3 **) = dlsym(library, "sqlite3_open");
          int (*enable)(sqlite3 *, int) = dlsym(library, "sqlite3_enable_load_extension");
          int (*load)(sqlite3 *, const char *, const char *, char **) = dlsym(library, "sqlite3_load_extension");
          sqlite3 *db; char *error = NULL;
          open(":memory:", &db); enable(db, 1);
          int code = load(db, argv[1], NULL, &error);
          printf("%d %s\\n", code, error ? error : "");
          return argc - 2;
        }
        """
    )
    host = tmp_path / "host"
    subprocess.run([*build.compiler(), "-rdynamic", "-w", "-o", str(host), str(source), "-ldl"], check=True)
    out = program(str(host), mediasql.loadable_path(), text="")
    assert out.startswith("1 ")
    assert "this process has Python 3.9.2" in out
    assert "3.11 or later is needed" in out


def test_building_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(build.BuildError, match="no C compiler"):
        build.build(tmp_path / build.NAME)
    assert list(tmp_path.iterdir()) == []


# --- threads, interruption, the end ----------------------------------------------------------------------------------


def test_a_thread_for_each_connection(web: Web) -> None:
    def ask(number: int) -> list[tuple[int, int]]:
        connection = sqlite3.connect(":memory:")
        mediasql.load(connection)
        rows = connection.execute(
            "SELECT value, width(? || value || '.jpg') FROM json_each('[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]')",
            (f"{web.server.url}/p",),
        ).fetchall()
        connection.close()
        return rows

    with ThreadPoolExecutor(8) as pool:
        for rows in pool.map(ask, range(24)):
            assert rows == [(number, 100 + number) for number in range(10)]


def test_threads_of_a_host_without_python(tmp_path: Path, web: Web) -> None:
    source = tmp_path / "host.c"
    source.write_text(
        r"""
        #include <pthread.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <dlfcn.h>
        typedef struct sqlite3 sqlite3;
        static char **arguments;
        static int (*open)(const char *, sqlite3 **), (*close)(sqlite3 *), (*enable)(sqlite3 *, int);
        static int (*load)(sqlite3 *, const char *, const char *, char **);
        static int (*exec)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
        static int row(void *sum, int count, char **values, char **names) {
          (void)count; (void)names; *(int *)sum += atoi(values[0]); return 0;
        }
        static void *work(void *given) {
          long sum = 0;
          for (int times = 0; times < 3; times++) {
            sqlite3 *db; char *error = NULL; int found = 0;
            open(":memory:", &db); enable(db, 1);
            if (load(db, arguments[1], NULL, &error) || exec(db, arguments[2], row, &found, &error)) puts(error);
            if (close(db)) puts("busy");
            sum += found;
          }
          return (void *)sum;
        }
        int main(int argc, char **argv) {
          arguments = argv;
          void *library = dlopen("libsqlite3.so.0", RTLD_NOW);
          open = dlsym(library, "sqlite3_open"); close = dlsym(library, "sqlite3_close");
          enable = dlsym(library, "sqlite3_enable_load_extension"); load = dlsym(library, "sqlite3_load_extension");
          exec = dlsym(library, "sqlite3_exec");
          pthread_t threads[8]; long total = 0; void *sum;
          for (int at = 0; at < 8; at++) pthread_create(&threads[at], NULL, work, NULL);
          for (int at = 0; at < 8; at++) { pthread_join(threads[at], &sum); total += (long)sum; }
          printf("%ld\n", total);
          return argc - 3;
        }
        """
    )
    host = tmp_path / "host"
    subprocess.run([*build.compiler(), "-w", "-o", str(host), str(source), "-ldl", "-lpthread"], check=True)
    statement = f"SELECT width('{web.url(1)}') + width('{web.url(2)}')"
    assert program(str(host), mediasql.loadable_path(), statement, text="") == f"{8 * 3 * 203}\n"


@pytest.mark.parametrize("how", ["interrupt", "progress handler"])
def test_a_query_that_waits_can_be_interrupted(http_server: HttpServer, how: str) -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(connection)
    ended: list[float] = []

    def end() -> None:
        ended.append(time.monotonic())
        connection.interrupt()

    limit = time.monotonic() + 0.3
    timer = threading.Timer(0.3, end)
    if how == "interrupt":
        timer.start()
    else:
        connection.set_progress_handler(lambda: time.monotonic() > limit, 1000)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute("SELECT width(?)", (f"{http_server.url}/hang/p1.jpg",)).fetchall()
    took = time.monotonic() - (ended[0] if ended else limit)
    assert took < 1.5
    connection.set_progress_handler(None, 1000)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()


def test_ctrl_c_in_the_shell(http_server: HttpServer) -> None:
    http_server.reset()
    command = ["sqlite3", "-cmd", f".load {mediasql.loadable_path()}", ":memory:"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert child.stdin is not None
    child.stdin.write(f"SELECT width('{http_server.url}/hang/p1.jpg');\n")
    child.stdin.flush()
    asked = time.monotonic()
    while not http_server.requests() and time.monotonic() < asked + 20:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=20)
    assert "interrupted" in err.lower()
    assert child.returncode in (0, 1), "the shell ends a script there, by itself"


def test_a_connection_that_nobody_closes(web: Web) -> None:
    """It is closed by the garbage collector, or when Python ends."""
    code = (
        "import sqlite3, mediasql\n"
        "for _ in range(3):\n"
        "    connection = sqlite3.connect(':memory:'); mediasql.load(connection)\n"
        f"    rows = connection.execute('SELECT width(?)', ({web.url(1)!r},))\n"
        "    connection.cycle = rows\n"
        "print(rows.fetchall(), flush=True)\n"
    ).replace("    connection.cycle = rows\n", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("[(101,)]\n", "", 0)


def test_a_program_that_ends_while_a_query_waits(tmp_path: Path, http_server: HttpServer) -> None:
    source = tmp_path / "host.c"
    source.write_text(
        r"""
        #include <pthread.h>
        #include <stdio.h>
        #include <dlfcn.h>
        typedef struct sqlite3 sqlite3;
        static char **arguments;
        static void *work(void *library) {
          int (*open)(const char *, sqlite3 **) = dlsym(library, "sqlite3_open");
          int (*enable)(sqlite3 *, int) = dlsym(library, "sqlite3_enable_load_extension");
          int (*load)(sqlite3 *, const char *, const char *, char **) = dlsym(library, "sqlite3_load_extension");
          int (*exec)(sqlite3 *, const char *, void *, void *, char **) = dlsym(library, "sqlite3_exec");
          sqlite3 *db; char *error = NULL;
          open(":memory:", &db); enable(db, 1);
          if (load(db, arguments[1], NULL, &error) || exec(db, arguments[2], NULL, NULL, &error)) puts(error);
          return NULL;
        }
        int main(int argc, char **argv) {
          pthread_t thread;
          arguments = argv;
          pthread_create(&thread, NULL, work, dlopen("libsqlite3.so.0", RTLD_NOW));
          getchar();
          return argc + 4;
        }
        """
    )
    host = tmp_path / "host"
    subprocess.run([*build.compiler(), "-w", "-o", str(host), str(source), "-ldl", "-lpthread"], check=True)
    http_server.reset()
    child = subprocess.Popen(
        [str(host), mediasql.loadable_path(), f"SELECT width('{http_server.url}/slow/20000/p1.jpg')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    asked = time.monotonic()
    while not http_server.requests() and child.poll() is None and time.monotonic() < asked + 3:
        time.sleep(0.05)
    assert child.communicate("\n", timeout=15) == ("", "")
    assert child.returncode == 7


def test_a_host_that_forks(web: Web) -> None:
    """The parent has asked the web before, so that threads of Python run which the children do not have."""
    perl = r"""
        use DBI;
        sub ask {
            my $d = DBI->connect("dbi:SQLite:dbname=:memory:", "", "", {RaiseError => 1});
            $d->sqlite_enable_load_extension(1);
            $d->do("SELECT load_extension(?)", undef, $ARGV[0]);
            my ($width) = $d->selectrow_array("SELECT width(?)", undef, $_[0]);
            $d->disconnect;
            return $width;
        }
        print ask("$ARGV[1]/p1.jpg"), "\n";
        $| = 1;
        for my $number (2 .. 4) {
            my $child = fork;
            if (!$child) { alarm 20; print ask("$ARGV[1]/p$number.jpg"), "\n"; exit 0 }
            waitpid $child, 0;
            print "status $?\n" if $?;
        }
        print ask("$ARGV[1]/p5.jpg"), "\n";
    """
    out = program("perl", "-e", perl, mediasql.loadable_path(), web.server.url, text="")
    assert out.split() == ["101", "102", "103", "104", "105"]


@pytest.mark.parametrize(("value", "fetches"), [("?", False), ("own(?)", True)])
def test_a_loop_that_inserts_while_it_reads(web: Web, value: str, fetches: bool) -> None:
    """In a host without Python: a function of the host's, called by the write, might be what reads on."""
    perl = r"""
        use DBI;
        my ($extension, $base, $value) = @ARGV;
        my $d = DBI->connect("dbi:SQLite:dbname=:memory:", "", "", {RaiseError => 1});
        $d->sqlite_enable_load_extension(1);
        $d->do("SELECT load_extension(?)", undef, $extension);
        $d->sqlite_create_function("own", 1, sub { $_[0] });
        $d->do("CREATE TABLE t(image, w AS (width(image)))");
        my $read = $d->prepare("SELECT value FROM json_each('[1, 2, 3]')");
        $read->execute;
        while (my ($number) = $read->fetchrow_array) {
            $d->do("INSERT INTO t(image) VALUES ($value)", undef, "$base/p$number.jpg");
        }
        print $d->selectrow_array("SELECT count(*) FROM t");
    """
    assert program("perl", "-e", perl, mediasql.loadable_path(), web.server.url, value, text="") == "3"
    assert bool(web.asked()) is fetches


def test_what_one_program_asked_the_next_one_knows(web: Web) -> None:
    """The cache is written when a connection is closed, since nothing tells Python that a program ends."""
    for _ in range(2):
        assert shell(":memory:", [f"SELECT width('{web.url(1)}')"]) == [[("101",)]]
    assert web.asked() == {"/p1.jpg": 1}
