"""What is known already, statements without media, memory over long scans, and how soon an interrupt returns."""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw

from benchmarks.child import Clock
from benchmarks.cold import options
from benchmarks.corpus import TINY, Corpus
from benchmarks.runs import Bench, Result, summary

WIDTH = 16  # of the tiny picture
NUMBERS = "WITH RECURSIVE n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < ?2 - 1)"
READS = {
    "native column": "SELECT sum(native) FROM t",
    "STORED column": "SELECT sum(stored) FROM t",
    "VIRTUAL column": "SELECT sum(virtual) FROM t",
    "function": "SELECT sum(width(url)) FROM t",
    "constant function": "SELECT sum(constant(url)) FROM t",
}


def constant(*arguments: apsw.SQLiteValue) -> int:
    return WIDTH


def known(folder: str, base: str, rows: int, distinct: int, repeat: int) -> Result:
    """Seconds of each of READS over `rows` rows with `distinct` URLs, all of them asked for before."""
    import mediasql

    connection = mediasql.connect()
    connection.create_scalar_function("constant", constant, 1, deterministic=True)
    url = f"{base}/{TINY}?"
    connection.execute(
        f"""CREATE TABLE seen AS {NUMBERS} SELECT ?1 || i AS url FROM n;
            CREATE TABLE t(id INTEGER PRIMARY KEY, url TEXT, native INT,
                           stored INT AS (width(url)) STORED, virtual INT AS (width(url)))""",
        (url, distinct),
    ).fetchall()
    wrong = int(connection.execute("SELECT sum(width(url)) FROM seen").get != WIDTH * distinct)
    clock = Clock()
    with clock.running():
        connection.execute(
            f"{NUMBERS} INSERT INTO t(url, native) SELECT ?1 || (i % ?3), {WIDTH} FROM n", (url, rows, distinct)
        )
    times: dict[str, list[float]] = {name: [] for name in READS}
    for _ in range(repeat):
        for name, sql in READS.items():
            with (reading := Clock()).running():
                wrong += connection.execute(sql).get != WIDTH * rows
            times[name].append(reading.seconds)
    return clock.result(wrong=wrong, times=times)


def warm(bench: Bench) -> list[Result]:
    """One process that holds all answers."""
    count, distinct = bench.sizes["rows"], bench.sizes["distinct"]
    bench.say(f"warm: {count} rows, {distinct} URLs")
    result = bench.run(known, base=bench.base(0), rows=count, distinct=distinct, repeat=bench.repeat)
    each = {name: statistics.median(times) / count * 1e9 for name, times in result["times"].items()}
    each["INSERT with STORED"] = result["seconds"] / count * 1e9
    return [
        {
            "case": name,
            "files": count,
            "ns_per_row": value,
            "ns_over_constant": value - each["constant function"],
            "x_native": value / each["native column"],
            "correct": result["wrong"] == 0,
        }
        for name, value in each.items()
    ]


def first_scan(folder: str, base: str, rows: int) -> Result:
    """The first scan of a process, over `rows` URLs that another one may have asked for."""
    import mediasql

    connection = mediasql.connect()
    connection.execute(
        f"CREATE TABLE t AS {NUMBERS} SELECT ?1 || i AS url FROM n", (f"{base}/{TINY}?", rows)
    ).fetchall()
    clock = Clock()
    with clock.running():
        total = connection.execute("SELECT sum(width(url)) FROM t").get
    connection.close()
    return clock.result(wrong=int(total != WIDTH * rows))


def second_process(bench: Bench) -> list[Result]:
    """A process that finds the answers of an earlier one on disk; nothing where answers are not kept."""
    if options(cache_dir="") is None:
        return [{"case": "answers are not kept on disk by this version", "correct": True}]
    count = bench.sizes["distinct"]
    runs: list[Result] = []
    with tempfile.TemporaryDirectory() as cache:
        bench.say(f"second process: {count} files, first by the one that fetches them")
        first = bench.run(first_scan, cache, base=bench.base(0), rows=count)
        for _ in range(bench.repeat):
            bench.say(f"second process: {count} files")
            runs.append(bench.run(first_scan, cache, base=bench.base(0), rows=count))
    return [
        {"case": name, "ns_per_row": summary(results, count)["seconds"] / count * 1e9, **summary(results, count)}
        for name, results in (("fetching", [first]), ("second process", runs))
    ]


def resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def long_scan(folder: str, base: str, marks: list[int]) -> Result:
    """Resident megabytes at so many rows of one scan over a table on disk, of files never seen before."""
    import mediasql

    with tempfile.TemporaryDirectory() as place:
        connection = mediasql.connect(Path(place) / "files.db")
        connection.execute("PRAGMA journal_mode = off").fetchall()
        connection.execute(
            f"CREATE TABLE t AS {NUMBERS} SELECT ?1 || i AS url FROM n", (f"{base}/{TINY}?", max(marks))
        ).fetchall()
        before, wrong, resident = resident_mb(), 0, {}
        clock = Clock()
        with clock.running():
            for row, (width,) in enumerate(connection.execute("SELECT width(url) FROM t"), 1):
                wrong += width != WIDTH
                if row in marks:
                    resident[row] = resident_mb()
        connection.close()
    return clock.result(wrong=wrong, before=before, resident=resident)


def memory(bench: Bench) -> list[Result]:
    marks = bench.sizes["memory"]
    bench.say(f"memory: {max(marks)} files, once")
    result = bench.run(long_scan, base=bench.base(0), marks=marks)
    shared = {"correct": result["wrong"] == 0, "per_second": max(marks) / result["seconds"]}
    first = result["resident"][str(min(marks))]
    return [{"case": "before", "mb": result["before"], **shared}] + [
        {"case": f"at {int(mark):,} rows", "mb": value, "growth": value - first, **shared}
        for mark, value in result["resident"].items()
    ]


def tiny_statements(folder: str, count: int) -> Result:
    """Seconds of `count` statements without media, on a connection with mediasql and on one without, in turn."""
    import mediasql

    connections = {"apsw": apsw.Connection(":memory:"), "mediasql": mediasql.connect()}
    for connection in connections.values():
        connection.execute("CREATE TABLE t(x)")
    pieces, wrong = 40, 0
    times: dict[str, dict[str, list[float]]] = {"SELECT": {}, "INSERT": {}}
    for piece, (kind, (name, connection)) in itertools.product(
        range(pieces), itertools.product(times, connections.items())
    ):
        execute = connection.execute
        numbers = range(piece, piece + count // pieces)
        connection.execute("BEGIN")
        with (clock := Clock()).running():
            if kind == "SELECT":
                for number in numbers:
                    wrong += execute("SELECT ?", (number,)).fetchall() != [(number,)]
            else:
                for number in numbers:
                    execute("INSERT INTO t VALUES (?)", (number,))
        connection.execute("DELETE FROM t")
        connection.execute("COMMIT")
        times[kind].setdefault(name, []).append(clock.seconds)
    return {"times": times, "wrong": wrong}


def without_media(bench: Bench) -> list[Result]:
    """What mediasql costs statements that have nothing to do with it. Medians of pieces run in turn."""
    count, rows = bench.sizes["statements"], []
    bench.say(f"{count} statements without media")
    runs = [bench.run(tiny_statements, count=count) for _ in range(bench.repeat)]
    for kind in ("SELECT", "INSERT"):
        pairs = [(run["times"][kind]["mediasql"], run["times"][kind]["apsw"]) for run in runs]
        ours, plain = (statistics.median(list(itertools.chain(*part))) for part in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for pair in pairs for mine, theirs in zip(*pair, strict=True))
        each = len(pairs[0][0]) / count * 1e9
        values = {"ns_per_row": ours * each, "ns_plain": plain * each, "percent_slower": (ratio - 1) * 100}
        rows.append({"case": kind, "files": count, **values, "correct": all(run["wrong"] == 0 for run in runs)})
    return rows


def interrupted(folder: str, base: str, how: str, delay: float) -> Result:
    """Seconds from an interrupt in mid-fetch until the statement returns; then the connection is used again."""
    import aiohttp  # noqa: F401

    import mediasql

    connection = mediasql.connect()
    slow = base.replace("/bench", "/lat/20/bench")
    connection.execute(
        f"CREATE TABLE t AS {NUMBERS} SELECT ?1 || i AS url FROM n", (f"{slow}/{TINY}?", 1000)
    ).fetchall()
    sent: list[float] = []

    def interrupt() -> None:
        sent.append(time.perf_counter())
        if how == "SIGINT":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            connection.interrupt()

    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it for what runs in the background
    clock, outcome = Clock(), "nothing was raised"
    timer = threading.Timer(delay, interrupt)
    timer.start()
    with clock.running():
        try:
            connection.execute("SELECT sum(width(url)) FROM t").fetchall()
        except (KeyboardInterrupt, apsw.InterruptError) as error:
            outcome = type(error).__name__
        clock_end = time.perf_counter()
    name, truth = Corpus(Path(folder)).truth["images"][0]
    usable = connection.execute("SELECT width(?)", (f"{base}/{name}",)).get == truth["width"]
    result = clock.result(outcome=outcome, wrong=int(not usable or "Interrupt" not in outcome))
    return result | {"seconds": clock_end - sent[0]}


def interrupt(bench: Bench) -> list[Result]:
    rows = []
    for how in ("interrupt()", "SIGINT"):
        bench.say(f"interrupt by {how}")
        runs = [bench.run(interrupted, base=bench.base(0), how=how, delay=0.5) for _ in range(bench.repeat)]
        kept = {key: summary(runs, 1)[key] for key in ("seconds", "spread", "correct")}
        rows.append({"case": how, "raised": ", ".join(sorted({run["outcome"] for run in runs})), **kept})
    return rows


PARTS: dict[str, Callable[[Bench], list[Result]]] = {
    "warm": warm,
    "second": second_process,
    "memory": memory,
    "statements": without_media,
    "interrupt": interrupt,
}
