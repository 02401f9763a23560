"""`python -m benchmarks`: the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import __doc__ as about
from benchmarks import cold, loadable, report, rivals, signing, small, stores, warm
from benchmarks.corpus import SMALL, Recipe, corpus
from benchmarks.runs import Bench, serving

PARTS = {**cold.PARTS, **small.PARTS, **stores.PARTS, **warm.PARTS, **loadable.PARTS, **signing.PARTS}
ALSO = rivals.PARTS  # in an environment that `make rivals` makes


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m benchmarks", description=about)
    add = found.add_argument
    add(
        "--only",
        nargs="+",
        choices=PARTS | ALSO,
        default=list(PARTS),
        metavar="PART",
        help=f"of {', '.join(PARTS)}; or rivals",
    )
    add("--files", nargs="+", type=int, default=[2000, 5000], help="images of a cold scan (2000 5000)")
    add("--videos", nargs="+", type=int, default=[300], help="(300)")
    add("--audio", nargs="+", type=int, default=[100], help="(100)")
    add("--latency", nargs="+", type=float, default=[0, 30], help="milliseconds that the server waits (0 30)")
    add("--scheme", nargs="+", choices=("https", "http"), default=["https", "http"], help="of cold scans (https http)")
    add("--slow", type=int, default=200, help="most images for slow contenders; a quarter of it for video, audio (200)")
    add("--repeat", type=int, default=3, help="runs of each figure, of which the median counts (3)")
    add("--rows", type=int, default=1_000_000, help="rows of warm scans (1000000)")
    add("--distinct", type=int, default=100_000, help="different URLs in them (100000)")
    add(
        "--memory",
        nargs="+",
        type=int,
        default=[10_000, 1_000_000],
        help="rows at which memory is read (10000 1000000)",
    )
    add("--statements", type=int, default=100_000, help="statements without media (100000)")
    add("--presigned", type=int, default=20_000, help="URLs that are presigned (20000)")
    add("--small", action="store_true", help="a small corpus, made in a second; to try the benchmarks themselves")
    add("--json", type=Path, metavar="FILE", help="write all figures there, too")
    return found


def run(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure what the arguments say."""
    options = parser().parse_args(arguments)
    recipe = SMALL if options.small else Recipe()
    slow = {"images": options.slow, "videos": max(1, options.slow // 4), "audio": max(1, options.slow // 4)}
    sizes = {
        "latency": options.latency,
        "scheme": options.scheme,
        "images": sorted({min(count, recipe.images) for count in options.files}),
        "videos": sorted({min(count, recipe.videos) for count in options.videos}),
        "audio": sorted({min(count, recipe.audio) for count in options.audio}),
        "slow": slow,
        **{name: getattr(options, name) for name in ("rows", "distinct", "memory", "statements", "presigned")},
    }
    found: dict[str, Any] = {
        "environment": report.environment(),
        "repeat": options.repeat,
        "sizes": sizes,
        "load": {},
        "parts": {},
    }
    started = time.monotonic()
    say(f"corpus in {corpus(recipe).folder.relative_to(Path(__file__).parents[1])}")
    with serving(corpus(recipe)) as (server, authority):
        bench = Bench(server, corpus(recipe), options.repeat, sizes, say, authority)
        for part in options.only:
            found["load"][part] = round(os.getloadavg()[0], 2)
            found["parts"][part] = (PARTS | ALSO)[part](bench)
    found["seconds"] = round(time.monotonic() - started, 1)
    found["targets"] = report.judged(found["parts"])
    print(report.text(found))
    print(f"\n{json.dumps(found)}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return found


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    found = run()
    rows = [row for part in found["parts"].values() for row in part]
    sys.exit(any(not row["correct"] for row in rows))
