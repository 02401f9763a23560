"""What happens in the middle of a scan, over each transport: forks, interrupts, Ctrl-C, the end of Python."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sql.conftest import Web
from tests.waiting import eventually, soon

ROOT = Path(__file__).parents[2]
COUNT = 10
BEGIN = """
import json, os, signal, sys, threading, time, mediasql
transport, urls = sys.argv[1], sys.argv[2]
first, rest = json.loads(urls)[0], json.loads(urls)[1:]
con = mediasql.connect(transport=transport, cache_size=0, timeout=600)
con.execute("CREATE TABLE t(u)")
con.executemany("INSERT INTO t VALUES (?)", [(url,) for url in json.loads(urls)])
rows = con.execute("SELECT width(u) FROM t")
assert next(rows) == (100,)
expected = [(100 + number,) for number in range(1, len(rest) + 1)]
"""
FORK = """
child = os.fork()
if not child:
    signal.alarm(100)
    again = con.execute("SELECT width(u) FROM t WHERE rowid > 1").fetchall()
    os._exit(0 if again == expected else 3)
assert rows.fetchall() == expected
assert os.waitpid(child, 0)[1] == 0
"""
INTERRUPT = """
timer = threading.Timer(0.1, con.interrupt)
timer.start()
try:
    rows.fetchall()
except Exception as error:
    print(type(error).__name__)
timer.join()
assert con.execute("SELECT width(?)", (first,)).get == 100
"""
LEAVE = "print('left')"
LEAVE_WHILE_A_THREAD_READS = """
threading.Thread(target=rows.fetchall, daemon=True).start()
time.sleep(0.2)
print('left')
"""


def run(web: Web, transport: str, program: str, through: str) -> subprocess.CompletedProcess[str]:
    urls = json.dumps([web.url(0), *(web.url(number, through) for number in range(1, COUNT))])
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + program, transport, urls]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("transport", ["curl", "aiohttp"])
@pytest.mark.parametrize(
    ("program", "through", "said"),
    [
        pytest.param(FORK, "slow/300/", "", id="fork"),
        pytest.param(INTERRUPT, "hang/", "InterruptError\n", id="interrupt"),
        pytest.param(LEAVE, "hang/", "left\n", id="the end of Python"),
        pytest.param(LEAVE_WHILE_A_THREAD_READS, "hang/", "left\n", id="the end of Python, in a thread"),
    ],
)
def test_in_the_middle_of_a_scan(web: Web, transport: str, program: str, through: str, said: str) -> None:
    done = run(web, transport, program, through)
    assert (done.stdout, done.stderr, done.returncode) == (said, "", 0)


@pytest.mark.parametrize("transport", ["curl", "aiohttp"])
def test_ctrl_c(web: Web, transport: str) -> None:
    program = """
try:
    print("begun", flush=True)
    rows.fetchall()
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
print(con.execute("SELECT width(?)", (first,)).get)
"""
    urls = json.dumps([web.url(0), *(web.url(number, "hang/") for number in range(1, COUNT))])
    command = [sys.executable, "-c", BEGIN + program, transport, urls]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "begun\n"
            eventually(lambda: len(web.server.requests()) > 1 or child.poll() is not None)
            child.send_signal(signal.SIGINT)
            with soon():
                assert child.stdout.readline() == "KeyboardInterrupt\n"
            assert child.stdout.readline() == "100\n"
            assert child.wait(120) == 0
            assert child.stderr is not None
            assert child.stderr.read() == ""
        finally:
            child.kill()
