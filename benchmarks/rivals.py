"""mediasql and its rivals on the same pictures: width and height of each, over TLS, in one run."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks import baselines, cold, rival_programs, stores
from benchmarks.cold import PLAIN, Shape
from benchmarks.runs import ROOT, Bench, Function, Result, summary

PYTHON = ROOT / ".rivals/bin/python"
SLOW = frozenset({"DuckDB, httpfs", "s3fs, threads, Pillow", "threads, download"})


def contenders(bench: Bench, latency: float) -> dict[str, Callable[[int], Result]]:
    """What each makes of so many pictures."""
    base, endpoint = bench.base(latency, "https"), bench.server.tls_url
    places = {"base": base, "endpoint": endpoint, "place": base.replace(f"{endpoint}/", "s3://") + "/"}

    def on_web(function: Function, **arguments: object) -> Callable[[int], Result]:
        return lambda count: bench.run(function, base=base, kind="images", count=count, **arguments)

    def in_s3(function: Function) -> Callable[[int], Result]:
        return lambda count: bench.run(function, count=count, authority=str(bench.authority), **places)

    def theirs(function: Function) -> Callable[[int], Result]:
        def run(count: int) -> Result:
            names = [(name, *size) for name, size in stores.sizes(str(bench.corpus.folder), count).items()]
            return bench.run(function, python=PYTHON, names=names, **places)

        return run

    return {
        "mediasql": on_web(cold.scan, shape=vars(Shape(PLAIN["images"])), config={}),
        "mediasql, S3": in_s3(stores.signed),
        "obstore, Pillow": theirs(rival_programs.obstore),
        "Daft, S3": theirs(rival_programs.daft),
        "DataChain, Pillow": theirs(rival_programs.datachain),
        "DuckDB, httpfs": theirs(rival_programs.duckdb),
        "s3fs, threads, Pillow": in_s3(stores.s3fs_threads),
        "threads, download": on_web(baselines.download),
    }


def rivals(bench: Bench) -> list[Result]:
    """Each in turn."""
    if not PYTHON.exists():
        raise FileNotFoundError(f"{PYTHON} is not there: `make rivals` makes it, and measures")
    rows = []
    most = min(stores.OBJECTS, *bench.sizes["images"])
    for latency in bench.sizes["latency"]:
        taking_part = contenders(bench, latency)
        counts = {name: min(most, bench.sizes["slow"]["images"]) if name in SLOW else most for name in taking_part}
        results: dict[str, list[Result]] = {name: [] for name in taking_part}
        for _ in range(bench.repeat):
            for name, run in taking_part.items():
                bench.say(f"rivals, https, {latency:g} ms: {name}, {counts[name]} pictures")
                results[name].append(run(counts[name]))
        group = [
            {"case": name, "scheme": "https", "ms": latency, **summary(runs, counts[name])}
            for name, runs in results.items()
        ]
        rows += [row | {"x_mediasql": row["per_second"] / group[0]["per_second"]} for row in group]
    return rows


PARTS: dict[str, Callable[[Bench], list[Result]]] = {"rivals": rivals}
