"""Scans of many files: what they keep in memory, and how they are given up."""

from __future__ import annotations

import io
import signal
import subprocess
import sys

from PIL import Image

import mediasql
from tests.servers.http import HttpServer
from tests.servers.nginx import NginxServer
from tests.sql.conftest import Web
from tests.sql.test_ahead import resident
from tests.waiting import eventually, soon

FIRST, LAST = 1000, 4000
MOST_PER_ROW = 4000  # bytes; an answer takes about 1 KB, what was read for it 32 KB


def test_memory_stays_flat(nginx_server: NginxServer) -> None:
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "BMP")  # a small file, and more of it than a header
    nginx_server.put("scan", "p.bmp", file.getvalue() + b"\0" * 32_000)
    con = mediasql.connect()
    con.execute(
        "CREATE TABLE t AS WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?2) SELECT ?1 || i AS url FROM n",
        (f"{nginx_server.url}/scan/p.bmp?", LAST),
    ).fetchall()
    before = wrong = 0
    for row, (width,) in enumerate(con.execute("SELECT width(url) FROM t"), 1):
        wrong += width != 16
        if row == FIRST:
            before = resident()
    assert not wrong
    assert resident() - before < (LAST - FIRST) * MOST_PER_ROW
    con.close()


SCRIPT = """
import sys, mediasql
hanging, good = sys.argv[1:]
con = mediasql.connect(timeout=600)
con.execute("CREATE TABLE t AS SELECT value AS url FROM json_each(?)", (hanging,)).fetchall()
try:
    con.execute("SELECT sum(width(url)) FROM t").fetchall()
except BaseException as error:
    print(type(error).__name__, flush=True)
print(con.execute("SELECT width(?)", (good,)).get, con.execute("SELECT count(*) FROM t").get, flush=True)
con.close()
"""


def test_ctrl_c_in_the_middle_of_a_fetch(web: Web, http_server: HttpServer) -> None:
    hanging = ", ".join(f'"{web.url(number, "hang/")}"' for number in range(10))
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, f"[{hanging}]", web.url(3)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        try:
            eventually(lambda: len(http_server.requests()) == 4 or child.poll() is not None)
            child.send_signal(signal.SIGINT)
            with soon():
                assert child.stdout.readline() == b"KeyboardInterrupt\n"
            assert child.stdout.readline() == b"103 10\n"
            assert child.wait(120) == 0
            assert child.stderr is not None
            assert child.stderr.read() == b""
        finally:
            child.kill()
