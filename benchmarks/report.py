"""What was run, on what, with what result: as a table, as JSON, and held against the targets."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import apsw

Row = dict[str, Any]
Parts = dict[str, list[Row]]

PACKAGES = ("mediasql", "aiohttp", "apsw", "pillow", "av", "requests", "uvloop")
# Key of a row -> heading and format, in the order of the columns. What is not here is in the JSON only.
COLUMNS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "case": ("", str),
    "scheme": ("", str),
    "ms": ("ms", "{:g}".format),
    "files": ("files", "{:,}".format),
    "seconds": ("seconds", "{:.3g}".format),
    "spread": ("min-max", lambda pair: f"{pair[0]:.3g}-{pair[1]:.3g}"),
    "per_second": ("per s", "{:,.0f}".format),
    "x_limit": ("x limit", "{:.2f}".format),
    "x_download": ("x download", "{:.1f}".format),
    "x_threads": ("x s3fs", "{:.1f}".format),
    "x_mediasql": ("x mediasql", "{:.3f}".format),
    "x_boto3": ("x boto3", "{:.1f}".format),
    "first": ("first row", "{:.3g}".format),
    "growth": ("MB more", "{:.0f}".format),
    "x_off": ("x off", "{:.2f}".format),
    "x_bound": ("x bound", "{:.2f}".format),
    "failed": ("failed", str),
    "x_apsw": ("x APSW", "{:.2f}".format),
    "x_botocore": ("x botocore", "{:.1f}".format),
    "x_plain": ("x plain", "{:.2f}".format),
    "requests_per_file": ("req/file", "{:.2f}".format),
    "kb_per_file": ("KB/file", "{:,.1f}".format),
    "cpu_us_per_file": ("CPU us/file", "{:,.0f}".format),
    "touched": ("touched", str),
    "needed": ("needed", str),
    "ns_per_row": ("ns", "{:,.0f}".format),
    "ns_plain": ("ns without", "{:,.0f}".format),
    "ns_over_constant": ("ns over constant", "{:,.0f}".format),
    "x_native": ("x native", "{:.1f}".format),
    "percent_slower": ("% slower", "{:.1f}".format),
    "mb": ("MB resident", "{:,.0f}".format),
    "raised": ("raised", str),
    "correct": ("correct", lambda correct: "yes" if correct else "NO"),
}


def environment() -> Row:
    describe = ["git", "describe", "--always", "--dirty"]
    commit = ""
    if shutil.which("git"):
        done = subprocess.run(describe, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
        commit = done.stdout.strip()
    return {
        "commit": commit or None,
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "cores": os.cpu_count(),
        "machine": f"{platform.system()} {platform.machine()}",
        "load": [round(value, 2) for value in os.getloadavg()],
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
    }


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def table(rows: list[Row]) -> str:
    keys = [key for key in COLUMNS if any(row.get(key) is not None for row in rows)]
    cells = [[COLUMNS[key][0] for key in keys]]
    cells += [["" if row.get(key) is None else COLUMNS[key][1](row[key]) for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join(
            cell.rjust(width) if at else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


@dataclass(frozen=True)
class Target:
    """What a part must reach: `value` of every row of the `part` that `applies`, at least or at most `bound`."""

    text: str
    part: str
    applies: Callable[[Row], bool]
    value: str
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, rows: Iterable[Row]) -> Row | None:
        """The worst row against the bound; None when none applies."""
        values = [row[self.value] for row in rows if self.applies(row) and row.get(self.value) is not None]
        if not values:
            return None
        worst = min(values) if self.at_least is not None else max(values)
        met = worst >= self.at_least if self.at_least is not None else worst <= (self.at_most or 0)
        return {
            "target": self.text,
            "bound": self.at_most if self.at_least is None else self.at_least,
            "is": worst,
            "met": met,
        }


def distant(case: str) -> Callable[[Row], bool]:
    return lambda row: row["case"] == case and 30 <= row["ms"] <= 100


def case(*names: str) -> Callable[[Row], bool]:
    return lambda row: row["case"] in names


def every(row: Row) -> bool:
    return True


def predicate(row: Row) -> bool:
    return "," in row["case"]


def over(scheme: str, case: str, *, least_ms: float = 30, most_ms: float = 100) -> Callable[[Row], bool]:
    return lambda row: row["case"] == case and row["scheme"] == scheme and least_ms <= row["ms"] <= most_ms


OURS, ECONOMY = distant("mediasql"), distant("mediasql, economy")
TLS, HTTP = over("https", "mediasql"), over("http", "mediasql")
SIGNED, LISTED = over("https", "signed"), case("listed")
TEN = case("nginx, 10 connections")
FAR = over("http", "mediasql", least_ms=100, most_ms=1000)
FAR_STORE = over("https", "signed", least_ms=100, most_ms=1000)
HOST_CALL, HOST_SCAN = case("warm call, extension"), distant("first scan, extension")
TARGETS = [
    Target("images, TLS: of bare aiohttp, at least", "images", TLS, "x_limit", at_least=1.2),
    Target("images, HTTP: of bare aiohttp, at least", "images", HTTP, "x_limit", at_least=1.0),
    Target("images, far: of bare aiohttp, at least", "images", FAR, "x_limit", at_least=0.9),
    Target("images, TLS: CPU us per file, at most", "images", TLS, "cpu_us_per_file", at_most=250),
    Target("images, economy: of bare aiohttp, at least", "images", ECONOMY, "x_limit", at_least=0.9),
    Target("videos: of bare aiohttp, at least", "videos", OURS, "x_limit", at_least=0.9),
    Target("audio: of bare aiohttp, at least", "audio", OURS, "x_limit", at_least=0.85),
    Target("S3, signed, TLS: times s3fs, 64 threads and Pillow, at least", "store", SIGNED, "x_threads", at_least=10),
    Target("S3, far: of bare aiohttp, at least", "store", FAR_STORE, "x_limit", at_least=0.9),
    Target("listing 100,000 keys: times boto3, at least", "listing", LISTED, "x_boto3", at_least=6),
    Target("listing 100,000 keys: seconds to the first row, at most", "listing", LISTED, "first", at_most=0.3),
    Target("small servers: files without a value, at most", "small", every, "failed", at_most=0),
    Target("small server: against read-ahead off, at most", "small", case("http.server"), "x_off", at_most=1.0),
    Target("ten connections: of what they allow, at least", "small", TEN, "x_bound", at_least=0.5),
    Target("images: times thread-pool download, at least", "images", OURS, "x_download", at_least=7),
    Target("images: requests per file, at most", "images", OURS, "requests_per_file", at_most=1.20),
    Target("images: KB per file, at most", "images", OURS, "kb_per_file", at_most=60),
    Target("images, economy: requests per file, at most", "images", ECONOMY, "requests_per_file", at_most=1.40),
    Target("images, economy: KB per file, at most", "images", ECONOMY, "kb_per_file", at_most=28),
    Target("videos: times thread-pool download, at least", "videos", OURS, "x_download", at_least=15),
    Target("videos: requests per file, at most", "videos", OURS, "requests_per_file", at_most=1.8),
    Target("videos: KB per file, at most", "videos", OURS, "kb_per_file", at_most=110),
    Target("shapes: of the plain one, at least", "shapes", every, "x_plain", at_least=0.85),
    Target("LIMIT 10: files touched, at most", "limit", case("LIMIT 10"), "touched", at_most=10),
    Target("LIMIT 10 and a predicate: touched over 2 x needed + 16, at most", "limit", predicate, "over", at_most=0),
    Target("warm: ns of a call over a constant, at most", "warm", case("function"), "ns_over_constant", at_most=1000),
    Target("warm: STORED against native, at most", "warm", case("STORED column"), "x_native", at_most=1.5),
    Target("second process: ns per row, at most", "second", case("second process"), "ns_per_row", at_most=2000),
    Target("memory: MB over that at the first mark, at most", "memory", every, "growth", at_most=100),
    Target("without media: % slower, at most", "statements", every, "percent_slower", at_most=3),
    Target("interrupt: seconds, at most", "interrupt", every, "seconds", at_most=0.2),
    Target("signing for S3: URLs a second, at least", "signing", case("S3"), "per_second", at_least=20_000),
    Target("signing for Azure: URLs a second, at least", "signing", case("Azure"), "per_second", at_least=10_000),
    Target("shell: seconds to the first answer, at most", "loadable", case("shell"), "seconds", at_most=0.6),
    Target("extension: ns of a warm call, at most", "loadable", HOST_CALL, "ns_per_row", at_most=5000),
    Target("extension: first scan against APSW, at most", "loadable", HOST_SCAN, "x_apsw", at_most=1.3),
]  # fmt: skip


def judged(parts: Parts) -> list[Row]:
    found = (target.judge(parts.get(target.part, [])) for target in TARGETS)
    return [row for row in found if row is not None]


def text(report: Row) -> str:
    about = report["environment"]
    versions = ", ".join(f"{name} {found}" for name, found in about["packages"].items())
    lines = [
        f"{about['machine']}, {about['cores']} cores, load {about['load'][0]:g}; commit {about['commit']}",
        f"Python {about['python']}, SQLite {about['sqlite']}, {versions}",
        f"medians of {report['repeat']}; sizes: "
        + ", ".join(f"{key} {value}" for key, value in report["sizes"].items()),
    ]
    for name, rows in report["parts"].items():
        lines += ["", f"{name}  (load {report['load'][name]:g})", table(rows)]
    if report["targets"]:
        lines += ["", "targets"]
        lines += [
            f"{'met ' if row['met'] else 'MISS'} {row['target']} {row['bound']:g}: {row['is']:.3g}"
            for row in report["targets"]
        ]
    return "\n".join(lines)
