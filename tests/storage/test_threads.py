"""Threads for what blocks, and what hangs in them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
from fsspec.spec import AbstractFileSystem

import mediasql
from mediasql.storage.threads import Threads
from tests.servers.http import HttpServer
from tests.sql.conftest import picture
from tests.waiting import soon


class _Hanging(AbstractFileSystem):
    protocol = "hangs"
    released = threading.Event()

    def info(self, path: str, **kwargs: Any) -> Any:
        self.released.wait(600)
        raise FileNotFoundError(path)


def hanging() -> list[str]:
    fsspec.register_implementation("hangs", _Hanging, clobber=True)
    return [f"hangs://x/{n}.jpg" for n in range(70)]


def test_a_file_system_that_hangs_holds_up_no_other(http_server: HttpServer, tmp_path: Path) -> None:
    good = tmp_path / "good.jpg"
    good.write_bytes(picture(8, 8))
    http_server.put("", "good.jpg", picture(8, 8))
    here = f"{http_server.url}/good.jpg"
    others = [str(good), here, here.replace("127.0.0.1", "localhost")]
    con = mediasql.connect(timeout=4)
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, u)")
    con.executemany("INSERT INTO t(u) VALUES (?)", [(url,) for url in [*hanging(), *others]])
    with soon():
        assert con.execute("SELECT u FROM t WHERE width(u) = 8").fetchall() == [(url,) for url in others]
    con.close()
    _Hanging.released.set()


def test_python_does_not_wait_for_what_hangs() -> None:
    program = (
        "import mediasql, tests.storage.test_threads as t; con = mediasql.connect(timeout=0.3);"
        "print(con.execute('SELECT width(?)', t.hanging()[:1]).get)"
    )
    environment = {**os.environ, "MEDIASQL_CACHE_SIZE": "0"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.stderr) == ("None\n", "")


def test_threads_are_started_as_they_are_needed_and_used_again() -> None:
    def started(kind: str) -> int:
        return sum(thread.name.startswith(f"mediasql-{kind}-") for thread in threading.enumerate())

    threads = Threads("many", 64)
    for _ in range(64):
        assert threads.submit(divmod, 7, 2).result(60) == (3, 1)
        time.sleep(0.002)  # it may answer before it says that it is free
    assert 1 <= started("many") < 20
    threads = Threads("few", 2)
    meeting = threading.Barrier(3, timeout=60)
    both = [threads.submit(meeting.wait) for _ in range(2)]
    later = threads.submit(lambda: 1 // 0)
    meeting.wait()
    assert sorted(future.result(60) for future in both) in ([0, 1], [0, 2], [1, 2])
    assert isinstance(later.exception(60), ZeroDivisionError)
    assert started("few") == 2
