"""Many connections in one program and many programs: nothing is left behind, and all of them end in peace.

MEDIASQL_TEST_LONG=1 does as many as were asked for; otherwise what takes some seconds.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mediasql
from mediasql.sql.loadable import binding
from tests.sql.conftest import Web, picture
from tests.sql.hosts import environment

pytestmark = pytest.mark.usefixtures("loadable")

LONG = bool(os.environ.get("MEDIASQL_TEST_LONG"))
SETTLED, CYCLES = (200, 1000) if LONG else (100, 300)
PROGRAMS = 200 if LONG else 16
MOST_GROWTH = 1024  # KB, of some 50 MB

QUESTION = "SELECT width(?), width(?), (SELECT sum(width) FROM media(?)), (SELECT count(*) FROM media_errors)"
ANSWER = "100 101 600 0"
WRONG = "SELECT * FROM media"

# Each prints, after each cycle, what was answered, resident KB and open files.
MODULE = f"""
import os, sqlite3, sys, mediasql
extension, web, folder, count = sys.argv[1:]
for number in range(int(count)):
    connection = sqlite3.connect(":memory:")
    mediasql.load(connection)
    places = f"{{folder}}/0.jpg", f"{{web}}/p1.jpg?{{number % 20}}", f"{{folder}}/*.jpg"
    answer = connection.execute("{QUESTION}", places).fetchone()
    try:
        connection.execute("{WRONG}").fetchall()
    except sqlite3.OperationalError as error:
        assert "needs its pattern" in str(error)
    connection.close()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
    print(*answer, resident, len(os.listdir("/proc/self/fd")))
"""
PERL = rf"""
use strict; use warnings; use DBI; use POSIX;
my ($extension, $web, $folder, $count) = @ARGV;
for my $number (0 .. $count - 1) {{
    my $db = DBI->connect("dbi:SQLite:dbname=:memory:", "", "", {{RaiseError => 1, PrintError => 0}});
    $db->sqlite_enable_load_extension(1);
    $db->do("SELECT load_extension(?)", undef, $extension);
    my @places = ("$folder/0.jpg", "$web/p1.jpg?" . $number % 20, "$folder/*.jpg");
    my @answer = $db->selectrow_array("{QUESTION}", undef, @places);
    eval {{ $db->selectall_arrayref("{WRONG}") }};
    die $@ unless $@ =~ /needs its pattern/;
    $db->disconnect;
    open my $file, "<", "/proc/self/statm";
    my $resident = (split " ", <$file>)[1] * POSIX::sysconf(POSIX::_SC_PAGESIZE) / 1024;
    close $file;
    opendir my $files, "/proc/self/fd";
    print "@answer $resident ", scalar(my @names = readdir $files), "\n";
}}
"""


@pytest.mark.parametrize("command", [(sys.executable, "-c", MODULE), ("perl", "-e", PERL)], ids=["module", "perl"])
def test_load_query_and_close_again_and_again(command: tuple[str, ...], tmp_path: Path, web: Web) -> None:
    for number in range(6):
        (tmp_path / f"{number}.jpg").write_bytes(picture(100, 50))
    arguments = [*command, mediasql.loadable_path(), web.server.url, str(tmp_path), str(CYCLES)]
    asked_each_time = environment(MEDIASQL_MAX_AGE="0")
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=900, env=asked_each_time)
    assert (done.stderr, done.returncode) == ("", 0)
    answers, resident, files = zip(*(line.rsplit(" ", 2) for line in done.stdout.splitlines()), strict=True)
    assert set(answers) == {ANSWER}
    assert sum(web.asked().values()) >= len(answers) == CYCLES
    opened = [int(count) for count in files[SETTLED - 1 :]]
    assert min(opened[-50:]) == min(opened[:50]), opened  # none is kept; one may be open for the moment
    sizes = [int(size) for size in resident]
    print(f"resident: {sizes[SETTLED - 1]} KB after {SETTLED} cycles, {sizes[-1]} KB after {CYCLES}")
    assert sizes[-1] - sizes[SETTLED - 1] < MOST_GROWTH, sizes[:: CYCLES // 20]


def test_a_closed_connection_leaves_nothing(tmp_path: Path, web: Web) -> None:
    def cycle() -> None:
        connection = sqlite3.connect(tmp_path / "a.db")
        mediasql.load(connection)
        assert connection.execute("SELECT width(?)", (web.url(1),)).fetchone() == (101,)
        connection.close()

    cycle()
    gc.collect()
    threads = threading.active_count()
    for _ in range(5):
        cycle()
    gc.collect()
    assert not binding.connections()
    assert threading.active_count() <= threads


def test_programs_end_cleanly(web: Web) -> None:
    def run(number: int) -> tuple[int, str, str]:
        statement = f"SELECT width('{web.url(1)}?{number}'), (SELECT count(*) FROM media('{web.url(2)}'))"
        command = ["sqlite3", ":memory:", "-cmd", f".load {mediasql.loadable_path()}", statement]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment())
        return done.returncode, done.stdout, done.stderr

    with ThreadPoolExecutor(2) as pool:
        assert set(pool.map(run, range(PROGRAMS))) == {(0, "101|1\n", "")}
