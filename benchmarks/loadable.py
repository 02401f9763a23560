"""mediasql in the SQLite of others: how soon the sqlite3 shell answers, and what a call and a first scan cost there."""

from __future__ import annotations

import json
import os
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.baselines import same
from benchmarks.child import Clock
from benchmarks.cold import PLAIN
from benchmarks.corpus import FUNCTIONS, TINY, Corpus
from benchmarks.runs import Bench, Result, foreign, summary
from benchmarks.warm import NUMBERS, WIDTH

BINDINGS = ("APSW", "extension")


def opened(binding: str) -> Any:
    """A connection in memory with mediasql."""
    import mediasql

    if binding == "APSW":
        return mediasql.connect()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    mediasql.load(connection)
    return connection


def first_answer(url: str) -> Result:
    """Seconds of the shell from its start to its end, with one question to a server and nothing cached."""
    import mediasql

    with tempfile.TemporaryDirectory() as cache:
        environment = {name: value for name, value in os.environ.items() if not foreign(name)}
        command = ["sqlite3", ":memory:", "-cmd", f".load {mediasql.loadable_path()}", f"SELECT width('{url}')"]
        started = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment | {"MEDIASQL_CACHE_DIR": cache}
        )
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "wrong": int((done.stdout, done.stderr) != (f"{WIDTH}\n", ""))}


def shell(bench: Bench) -> list[Result]:
    """Of the whole process, for the shell keeps what it prints until it ends."""
    bench.say("the sqlite3 shell's first answer")
    url = f"{bench.base(0)}/{TINY}"
    runs = [first_answer(url) for _ in range(5 * bench.repeat)]
    seconds = [run["seconds"] for run in runs]
    correct = not any(run["wrong"] for run in runs)
    spread = [min(seconds), max(seconds)]
    return [{"case": "shell", "seconds": statistics.median(seconds), "spread": spread, "correct": correct}]


def calls(folder: str, base: str, binding: str, rows: int, distinct: int) -> Result:
    """Seconds of a scan whose answers are all known, and of one that calls nothing."""
    connection = opened(binding)
    url, make = (
        f"{base}/{TINY}?",
        f"CREATE TABLE {{}} AS {NUMBERS} SELECT ?1 || (i % ?3) AS url, {WIDTH} AS native FROM n",
    )
    for table, size in (("seen", distinct), ("t", rows)):
        connection.execute(make.format(table), (url, size, distinct))
    totals = [connection.execute("SELECT sum(width(url)) FROM seen").fetchone()[0] - WIDTH * distinct]
    times = []
    for sql in ("SELECT sum(native) FROM t", "SELECT sum(width(url)) FROM t"):
        with (clock := Clock()).running():
            totals.append(connection.execute(sql).fetchone()[0] - WIDTH * rows)
        times.append(clock.seconds)
    return clock.result(wrong=sum(map(bool, totals)), plain=times[0])


def warm(bench: Bench) -> list[Result]:
    rows, distinct = bench.sizes["rows"], min(bench.sizes["distinct"], 10_000)
    found = []
    for binding in BINDINGS:
        bench.say(f"warm calls through {binding}: {rows} rows, {distinct} URLs")
        runs = [
            bench.run(calls, base=bench.base(0), binding=binding, rows=rows, distinct=distinct)
            for _ in range(bench.repeat)
        ]
        each = statistics.median(run["seconds"] - run["plain"] for run in runs) / rows * 1e9
        correct = all(run["wrong"] == 0 for run in runs)
        found.append({"case": f"warm call, {binding}", "files": rows, "ns_per_row": each, "correct": correct})
    return found


def scan(folder: str, base: str, binding: str, count: int) -> Result:
    """Width and height of files that nobody has read yet."""
    import aiohttp  # noqa: F401  (as in the other scans, what is imported at need is there before the time starts)

    truth = {f"{base}/{name}": answers for name, answers in Corpus(Path(folder)).truth["images"][:count]}
    connection = opened(binding)
    connection.execute("CREATE TABLE files AS SELECT value AS url FROM json_each(?)", (json.dumps(list(truth)),))
    clock = Clock()
    with clock.running():
        rows = connection.execute(PLAIN["images"]).fetchall()
    expected = [[answers.get(name) for name in FUNCTIONS["images"]] for answers in truth.values()]
    right = sum(all(map(same, row, known)) for row, known in zip(rows, expected, strict=False))
    return clock.result(wrong=max(len(rows), len(expected)) - right)


def cold(bench: Bench) -> list[Result]:
    """Both bindings in turn."""
    found = []
    count = min(bench.sizes["images"])
    for latency in filter(None, bench.sizes["latency"]):
        results: dict[str, list[Result]] = {binding: [] for binding in BINDINGS}
        for _ in range(bench.repeat):
            for binding, runs in results.items():
                bench.say(f"first scan through {binding}, {latency:g} ms: {count} files")
                runs.append(bench.run(scan, base=bench.base(latency), binding=binding, count=count))
        group = [
            {"case": f"first scan, {binding}", "ms": latency, **summary(runs, count)}
            for binding, runs in results.items()
        ]
        found += [row | {"x_apsw": row["seconds"] / group[0]["seconds"]} for row in group]
    return found


def loadable(bench: Bench) -> list[Result]:
    from mediasql.sql.loadable import build

    if not build.is_current():
        build.build()
    return [*shell(bench), *warm(bench), *cold(bench)]


PARTS: dict[str, Callable[[Bench], list[Result]]] = {"loadable": loadable}
