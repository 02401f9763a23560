"""First scans over files that nobody has read yet: against the baselines, in every shape of statement, with LIMIT."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import apsw

from benchmarks import baselines
from benchmarks.baselines import same
from benchmarks.child import Clock
from benchmarks.corpus import FUNCTIONS, Corpus
from benchmarks.runs import Bench, Function, Result, summary

PLAIN = {kind: f"SELECT {', '.join(f'{f}(url)' for f in names)} FROM files" for kind, names in FUNCTIONS.items()}


@dataclass(frozen=True)
class Shape:
    """A statement over `files(id, url, label)`; `result` reads what it wrote, `before` makes what it needs."""

    sql: str
    before: str = ""
    result: str = ""


VIRTUAL = """CREATE TABLE computed(id INTEGER PRIMARY KEY, url, width INT AS (width(url)), height INT AS (height(url)));
             INSERT INTO computed(id, url) SELECT id, url FROM files"""
SHAPES = {
    "plain": Shape(PLAIN["images"]),
    "ORDER BY": Shape("SELECT id FROM files ORDER BY width(url) * height(url) DESC, id"),
    "aggregate": Shape("SELECT count(*), sum(width(url)), max(height(url)) FROM files"),
    "join": Shape("SELECT labels.name, width(url) FROM files JOIN labels ON labels.id = files.label"),
    "GROUP BY": Shape("SELECT width(url) > height(url), count(*) FROM files GROUP BY 1"),
    "WHERE": Shape("SELECT id FROM files WHERE width(url) > height(url)"),
    "window": Shape("SELECT id, rank() OVER (PARTITION BY label ORDER BY width(url)) FROM files ORDER BY id"),
    "VIRTUAL": Shape("SELECT width, height FROM computed", VIRTUAL),
    "INSERT": Shape(
        "INSERT INTO sizes SELECT id, width(url), height(url) FROM files",
        "CREATE TABLE sizes(id INTEGER PRIMARY KEY, width, height)",
        "SELECT * FROM sizes",
    ),
    "CREATE AS": Shape(
        "CREATE TABLE sizes AS SELECT id, width(url) AS width, height(url) AS height FROM files",
        result="SELECT * FROM sizes",
    ),
    "UPDATE": Shape(
        "UPDATE files SET width = width(url)",
        "ALTER TABLE files ADD COLUMN width INT",
        "SELECT id, width FROM files",
    ),
}
LIMITED = {
    "LIMIT 10": Shape("SELECT width(url), height(url) FROM files LIMIT 10"),
    "WHERE, LIMIT 10": Shape("SELECT id FROM files WHERE width(url) > height(url) LIMIT 10"),
    "rare, LIMIT 10": Shape("SELECT id FROM files WHERE width(url) > 1.7 * height(url) LIMIT 10"),
}


def options(**wanted: Any) -> dict[str, Any] | None:
    """The arguments for `connect`; None when this version has no such option."""
    from mediasql import Config

    return wanted if set(wanted) <= {option.name for option in fields(Config)} else None


def prepare(connection: apsw.Connection, urls: list[str], shape: Shape) -> None:
    connection.execute(
        """CREATE TABLE files(id INTEGER PRIMARY KEY, url TEXT, label INT);
           CREATE TABLE labels(id INTEGER PRIMARY KEY, name TEXT);
           WITH n(i) AS (VALUES (0) UNION ALL SELECT i + 1 FROM n WHERE i < 9)
           INSERT INTO labels SELECT i, 'label ' || i FROM n;
        """
    ).fetchall()
    rows = ((index, url, index % 10) for index, url in enumerate(urls))
    connection.executemany("INSERT INTO files VALUES (?, ?, ?)", rows)
    connection.execute(shape.before).fetchall()


def scan(folder: str, base: str, kind: str, count: int, shape: dict[str, str], config: dict[str, Any]) -> Result:
    """One statement on a fresh connection. The same statement on answers that are known tells what is right."""
    import aiohttp  # noqa: F401  (every measured program has imported what it needs before its time starts)

    import mediasql

    statement = Shape(**shape)
    truth = {f"{base}/{name}": answers for name, answers in Corpus(Path(folder)).truth[kind][:count]}
    connection = mediasql.connect(":memory:", **config)
    prepare(connection, list(truth), statement)
    clock = Clock()
    with clock.running():
        rows = connection.execute(statement.sql).fetchall()
    if statement.result:
        rows = connection.execute(statement.result).fetchall()

    oracle = apsw.Connection(":memory:")
    needed: set[str] = set()

    def answer(name: str, url: str) -> Any:
        needed.add(url)
        return truth[url].get(name)

    for name in FUNCTIONS[kind]:
        oracle.create_scalar_function(name, partial(answer, name), 1, deterministic=True)
    prepare(oracle, list(truth), statement)
    needed.clear()  # SQLite has evaluated virtual columns, and thrown the values away
    expected = oracle.execute(statement.sql).fetchall()
    least = len(needed)
    if statement.result:
        expected = oracle.execute(statement.result).fetchall()
    right = sum(all(map(same, row, known)) for row, known in zip(rows, expected, strict=False))
    return clock.result(wrong=max(len(rows), len(expected)) - right, needed=least)


@dataclass(frozen=True)
class Contender:
    """What takes part in a comparison. `slow` ones get fewer files, as the option --slow says."""

    name: str
    function: Function
    slow: bool = False
    config: dict[str, Any] | None = None
    scheme: str | None = None  # where it is not that of the others

    def arguments(self, kind: str) -> dict[str, Any]:
        if self.config is None:
            return {}
        return {"shape": vars(Shape(PLAIN[kind])), "config": self.config}


def contenders(scheme: str) -> list[Contender]:
    ahead = options(readahead="on") is not None
    found = [
        Contender("mediasql", scan, not ahead, {}),
        Contender("mediasql, serial", scan, True, options(readahead="off")),
        Contender("mediasql, economy", scan, False, options(readahead="economy")),
    ]
    return [
        *(contender for contender in found if contender.config is not None),
        *([Contender("mediasql, HTTP/2", scan, not ahead, {}, "http2")] if scheme == "https" else []),
        Contender("aiohttp, same plan (limit)", baselines.limit),
        Contender("threads, download", baselines.download, True),
    ]


def against_baselines(bench: Bench, kind: str) -> list[Result]:
    """Each contender over files of one kind, in turn, at each latency."""
    rows = []
    cases = [(scheme, latency) for scheme in bench.sizes["scheme"] for latency in bench.sizes["latency"]]
    for scheme, latency in cases:
        for count in bench.sizes[kind]:
            taking_part = contenders(scheme)
            files = {c.name: min(count, bench.sizes["slow"][kind]) if c.slow else count for c in taking_part}
            results: dict[str, list[Result]] = {contender.name: [] for contender in taking_part}
            for _ in range(bench.repeat):
                for contender in taking_part:
                    bench.say(f"{kind}, {scheme}, {latency:g} ms: {contender.name}, {files[contender.name]} files")
                    results[contender.name].append(
                        bench.run(
                            contender.function,
                            base=bench.base(latency, contender.scheme or scheme),
                            kind=kind,
                            count=files[contender.name],
                            **contender.arguments(kind),
                        )
                    )
            group = [
                {"case": name, "scheme": scheme, "ms": latency, "of": count, **summary(runs, files[name])}
                for name, runs in results.items()
            ]
            ours = {row["case"]: row["per_second"] for row in group}
            for row in group:
                row["x_limit"] = row["per_second"] / ours["aiohttp, same plan (limit)"]
                row["x_download"] = row["per_second"] / ours["threads, download"]
            rows += group
    return rows


def measured(bench: Bench, shapes: dict[str, Shape], latency: float, count: int) -> dict[str, list[Result]]:
    results: dict[str, list[Result]] = {name: [] for name in shapes}
    for _ in range(bench.repeat):
        for name, shape in shapes.items():
            bench.say(f"{name}, {latency:g} ms: {count} files")
            results[name].append(
                bench.run(scan, base=bench.base(latency), kind="images", count=count, shape=vars(shape), config={})
            )
    return results


def statements(bench: Bench) -> list[Result]:
    """The shapes in which people ask, against the plain one."""
    rows = []
    count = max(bench.sizes["images"][:1])
    if options(readahead="on") is None:
        count = min(count, bench.sizes["slow"]["images"])
    for latency in filter(None, bench.sizes["latency"]):
        results = measured(bench, SHAPES, latency, count)
        group = [{"case": name, "ms": latency, **summary(runs, count)} for name, runs in results.items()]
        rows += [row | {"x_plain": row["per_second"] / group[0]["per_second"]} for row in group]
    return rows


def limited(bench: Bench) -> list[Result]:
    """How many files a LIMIT touches, by the server's log, and how many are necessary."""
    rows = []
    for latency in filter(None, bench.sizes["latency"]):
        for name, runs in measured(bench, LIMITED, latency, max(bench.sizes["images"])).items():
            worst = max(runs, key=lambda result: result["touched"])
            rows.append(
                {
                    "case": name,
                    "ms": latency,
                    **{key: summary(runs, 1)[key] for key in ("seconds", "spread", "correct")},
                    **{key: worst[key] for key in ("touched", "needed", "requests")},
                    "over": worst["touched"] - 2 * worst["needed"] - 16,
                }
            )
    return rows


PARTS: dict[str, Callable[[Bench], list[Result]]] = {
    **{kind: partial(against_baselines, kind=kind) for kind in FUNCTIONS},
    "shapes": statements,
    "limit": limited,
}
