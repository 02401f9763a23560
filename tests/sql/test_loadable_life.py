"""The loadable extension while it runs: threads, interruption, forks, and the end of connections and programs."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Web
from tests.sql.hosts import c_program, environment, program, shell
from tests.waiting import eventually, meanwhile, soon

pytestmark = pytest.mark.usefixtures("loadable")


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
    host = c_program(
        tmp_path,
        r"""
        #include <pthread.h>
        static char **arguments;
        static int row(void *sum, int count, char **values, char **names) { *(int *)sum += atoi(values[0]); return 0; }
        static void *work(void *given) {
          long sum = 0;
          for (int times = 0; times < 3; times++) {
            char *error = NULL; int found = 0;
            sqlite3 *db = loaded(arguments[1]);
            if (exec(db, arguments[2], row, &found, &error)) puts(error);
            if (sqlite_close(db)) puts("busy");
            sum += found;
          }
          return (void *)sum;
        }
        int main(int argc, char **argv) {
          pthread_t threads[8]; long total = 0; void *sum;
          arguments = argv;
          find_sqlite();
          for (int at = 0; at < 8; at++) pthread_create(&threads[at], NULL, work, NULL);
          for (int at = 0; at < 8; at++) { pthread_join(threads[at], &sum); total += (long)sum; }
          printf("%ld\n", total);
          return argc - 3;
        }
        """,
    )
    statement = f"SELECT width('{web.url(1)}') + width('{web.url(2)}')"
    assert program(host, mediasql.loadable_path(), statement, text="") == f"{8 * 3 * 203}\n"


@pytest.mark.parametrize("how", ["interrupt", "progress handler"])
def test_a_query_that_waits_can_be_interrupted(http_server: HttpServer, how: str) -> None:
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    mediasql.load(connection, timeout=600)
    http_server.reset()
    ended = threading.Event()
    if how == "progress handler":
        connection.set_progress_handler(ended.is_set, 1000)

    def end() -> None:
        eventually(http_server.requests)
        ended.set()
        if how == "interrupt":
            connection.interrupt()

    with soon(), meanwhile(end), pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute("SELECT width(?)", (f"{http_server.url}/hang/p1.jpg",)).fetchall()
    connection.set_progress_handler(None, 1000)
    assert connection.execute("SELECT 1").fetchall() == [(1,)]
    connection.close()


@pytest.mark.parametrize("how", ["connection.interrupt()", "ended.append(1)"])
def test_a_newer_sqlite_tells_that_it_is_interrupted(http_server: HttpServer, how: str) -> None:
    """From 3.41 on; the progress handler of the program is asked as before."""
    code = f"""
import sys, threading, apsw
from tests.servers.http import HttpServer
from tests.waiting import eventually, meanwhile, soon
assert apsw.SQLITE_VERSION_NUMBER >= 3041000
connection = apsw.Connection(":memory:")
connection.enable_load_extension(True)
connection.load_extension(sys.argv[1])
ended = []
connection.set_progress_handler(lambda: bool(ended), 1000)
server = HttpServer(int(sys.argv[2]), {{}})
try:
    with soon(), meanwhile(lambda: eventually(server.requests) and {how}):
        connection.execute("SELECT width(?)", (server.url + "/hang/p1.jpg",)).fetchall()
except apsw.InterruptError:
    print("interrupted")
ended.clear()
assert connection.execute("SELECT url_name('a/b')").fetchall() == [("b",)]
"""
    http_server.reset()
    command = (sys.executable, "-c", code, mediasql.loadable_path(), str(http_server.port))
    assert program(*command, text="", MEDIASQL_TIMEOUT="600") == "interrupted\n"


@pytest.mark.parametrize(
    "statement",
    ["SELECT width(?)", "SELECT name FROM media(?)", "SELECT name FROM json_each('[1]'), media(?) ORDER BY width(url)"],
)
def test_ctrl_c_in_python(http_server: HttpServer, statement: str) -> None:
    """SQLite's error must not hide it from a program that handles errors."""
    code = """
import os, signal, sqlite3, sys, mediasql
from tests.servers.http import HttpServer
from tests.waiting import eventually, meanwhile, soon
connection = sqlite3.connect(":memory:", check_same_thread=False)
mediasql.load(connection, timeout=600)
server = HttpServer(int(sys.argv[2]), {})
for end in (lambda: os.kill(os.getpid(), signal.SIGINT), connection.interrupt):
    server.reset()
    try:
        try:
            with soon(), meanwhile(lambda: eventually(server.requests) and end()):
                connection.execute(sys.argv[1], (server.url + "/hang/p1.jpg/",)).fetchall()
        except sqlite3.OperationalError as error:
            print(error)
    except KeyboardInterrupt:
        print("Ctrl-C")
    print(connection.execute("SELECT url_name('a/b')").fetchone())
"""
    out = program(sys.executable, "-c", code, statement, str(http_server.port), text="")
    assert out.splitlines() == ["Ctrl-C", "('b',)", "interrupted", "('b',)"]


def test_ctrl_c_in_the_shell(http_server: HttpServer) -> None:
    http_server.reset()
    command = ["sqlite3", "-cmd", f".load {mediasql.loadable_path()}", ":memory:"]
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert child.stdin is not None
    child.stdin.write(f"SELECT width('{http_server.url}/hang/p1.jpg');\n")
    child.stdin.flush()
    eventually(http_server.requests)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=120)
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("[(101,)]\n", "", 0)


def test_a_program_that_ends_while_a_query_waits(tmp_path: Path, http_server: HttpServer) -> None:
    host = c_program(
        tmp_path,
        r"""
        #include <pthread.h>
        static char **arguments;
        static void *work(void *given) {
          char *error = NULL;
          if (exec(loaded(arguments[1]), arguments[2], NULL, NULL, &error)) puts(error);
          return NULL;
        }
        int main(int argc, char **argv) {
          pthread_t thread;
          arguments = argv;
          find_sqlite();
          pthread_create(&thread, NULL, work, NULL);
          getchar();
          return argc + 4;
        }
        """,
    )
    http_server.reset()
    child = subprocess.Popen(
        [host, mediasql.loadable_path(), f"SELECT width('{http_server.url}/hang/p1.jpg')"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(MEDIASQL_TIMEOUT="600"),
    )
    eventually(lambda: http_server.requests() or child.poll() is not None)
    assert child.communicate("\n", timeout=120) == ("", "")
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
            if (!$child) { alarm 120; print ask("$ARGV[1]/p$number.jpg"), "\n"; exit 0 }
            waitpid $child, 0;
            print "status $?\n" if $?;
        }
        print ask("$ARGV[1]/p5.jpg"), "\n";
    """
    out = program("perl", "-e", perl, mediasql.loadable_path(), web.server.url, text="")
    assert out.split() == ["101", "102", "103", "104", "105"]


@pytest.mark.parametrize(("value", "fetches"), [("?", False), ("own(?)", False)])
def test_a_loop_that_inserts_while_it_reads(web: Web, value: str, fetches: bool) -> None:
    """In a host without Python: what calls is known, even where the write calls a function of the host's."""
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
