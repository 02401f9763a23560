"""Servers that bear little: what a new user tries first, and one that counts connections."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.child import Clock
from benchmarks.runs import Bench, Result
from tests.servers.process import free_port

PICTURES = 200
ALLOWED, SECONDS = (
    10,
    0.01,
)  # connections at a time to `/few/`, and what it takes for each answer; see tests.servers.nginx


def scan(folder: str, urls: list[str], readahead: str) -> Result:
    """How long the widths of some pictures take, and how many have none."""
    import mediasql

    connection = mediasql.connect(readahead=readahead)
    connection.execute("CREATE TABLE files(url)")
    connection.executemany("INSERT INTO files VALUES (?)", [(url,) for url in urls])
    clock = Clock()
    with clock.running():
        found = connection.execute("SELECT count(width(url)) FROM files").get
    return clock.result(wrong=len(urls) - found)


@contextmanager
def python_server(folder: Path) -> Iterator[str]:
    """`python -m http.server` on these files: HTTP/1.0, no ranges, a backlog of 5."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                time.sleep(0.05)
        yield url
    finally:
        server.terminate()
        server.wait()


def small(bench: Bench) -> list[Result]:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(PICTURES):
            Image.new("RGB", (10 + number, 10)).save(folder / f"{number}.png")
        with python_server(folder) as url:
            urls = [f"{url}/{number}.png" for number in range(PICTURES)]
            rows.append(compared(bench, "http.server", urls))
    names = sorted(os.listdir(bench.corpus.folder / "images"))[:PICTURES]
    row = compared(bench, "nginx, 10 connections", [f"{bench.server.url}/few/bench/images/{name}" for name in names])
    bound = len(names) * SECONDS / ALLOWED
    return [*rows, row | {"x_bound": bound / row["seconds"]}]


def compared(bench: Bench, case: str, urls: list[str]) -> dict[str, Any]:
    runs: dict[str, list[Result]] = {"on": [], "off": []}
    for _ in range(bench.repeat):
        for readahead, results in runs.items():
            bench.say(f"{case}: read-ahead {readahead}")
            results.append(bench.run(scan, urls=urls, readahead=readahead))
    seconds = {key: statistics.median(result["seconds"] for result in results) for key, results in runs.items()}
    failed = max(result["wrong"] for result in runs["on"])
    return {
        "case": case,
        "files": len(urls),
        "seconds": seconds["on"],
        "per_second": len(urls) / seconds["on"],
        "x_off": seconds["on"] / seconds["off"],
        "failed": failed,
        "correct": failed == 0,
    }


PARTS: dict[str, Callable[[Bench], list[Result]]] = {"small": small}
