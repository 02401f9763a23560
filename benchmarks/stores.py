"""S3 with signatures, and large listings, against what people write without mediasql."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.baselines import files, limit
from benchmarks.child import Clock, peak_mb
from benchmarks.list_server import KEYS, SECONDS
from benchmarks.runs import Bench, Result, summary
from tests.servers.process import python_module, running

OBJECTS = 2000
THREADS = 64
REGION = "us-east-1"


def options(endpoint: str, authority: str | None = None) -> dict[str, Any]:
    """Of s3fs and of mediasql, for keys that any server takes."""
    return {
        "endpoint_url": endpoint,
        "key": "AKIDEXAMPLE",
        "secret": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "client_kwargs": {"region_name": REGION, "verify": authority},
        "config_kwargs": {"s3": {"addressing_style": "path"}},
    }


def sizes(folder: str, count: int) -> dict[str, tuple[Any, Any]]:
    return {name: (truth["width"], truth["height"]) for name, truth in files(folder, "images", count)}


def signed(folder: str, base: str, endpoint: str, place: str, count: int, authority: str) -> Result:
    """Plain SQL over objects of a bucket, each request signed."""
    import s3fs  # noqa: F401  (the rival has imported it before its time starts, too)

    import mediasql

    expected = {place + name: size for name, size in sizes(folder, count).items()}
    connection = mediasql.connect(storage_options={"s3": options(endpoint, authority)})
    connection.execute("CREATE TABLE files(url)")
    connection.executemany("INSERT INTO files VALUES (?)", [(url,) for url in expected])
    clock = Clock()
    with clock.running():
        rows = connection.execute("SELECT url, width(url), height(url) FROM files").fetchall()
    return clock.result(wrong=sum(expected[url] != tuple(size) for url, *size in rows))


def s3fs_threads(folder: str, base: str, endpoint: str, place: str, count: int, authority: str) -> Result:
    """s3fs, 64 threads, and Pillow, which reads of the open file what it needs."""
    import s3fs
    from PIL import Image

    expected = sizes(folder, count)
    filesystem = s3fs.S3FileSystem(**options(endpoint, authority))

    def size(name: str) -> tuple[Any, Any]:
        with filesystem.open(place + name) as file, Image.open(file) as image:
            return image.size

    clock = Clock()
    with clock.running(), ThreadPoolExecutor(THREADS) as pool:
        found = dict(zip(expected, pool.map(size, expected), strict=True))
    return clock.result(wrong=sum(expected[name] != found[name] for name in expected))


def unsigned(folder: str, base: str, endpoint: str, place: str, count: int, authority: str) -> Result:
    """The limit: aiohttp with the same plan, and no signatures."""
    return limit(folder, base, "images", count)


def store(bench: Bench) -> list[Result]:
    """Objects that nobody has read yet, over TLS, in a bucket whose key begins with what the server waits."""
    rows = []
    for latency in bench.sizes["latency"]:
        base = bench.base(latency, "https")
        endpoint = bench.server.tls_url
        place = base.replace(endpoint + "/", "s3://") + "/"
        arguments = {"base": base, "endpoint": endpoint, "place": place, "authority": str(bench.authority)}
        slow = min(OBJECTS, bench.sizes["slow"]["images"])
        many = min(OBJECTS, *bench.sizes["images"])
        counts: dict[Callable[..., Result], int] = {signed: many, unsigned: many, s3fs_threads: slow}
        results: dict[Callable[..., Result], list[Result]] = {function: [] for function in counts}
        for _ in range(bench.repeat):
            for function, count in counts.items():
                bench.say(f"S3, https, {latency:g} ms: {function.__name__}, {count} objects")
                results[function].append(bench.run(function, count=count, **arguments))
        group = [
            {"case": function.__name__, "scheme": "https", "ms": latency, **summary(runs, counts[function])}
            for function, runs in results.items()
        ]
        rates = [row["per_second"] for row in group]
        rows += [
            row | {"x_limit": row["per_second"] / rates[1], "x_threads": row["per_second"] / rates[-1]} for row in group
        ]
    return rows


def listed(folder: str, endpoint: str) -> Result:
    """All names of a bucket in SQL."""
    import s3fs  # noqa: F401

    import mediasql

    connection = mediasql.connect(storage_options={"s3": options(endpoint)}, readahead="off")
    clock, first = Clock(), 0.0
    names, before = [], peak_mb()
    with clock.running():
        began = time.perf_counter()
        for (name,) in connection.execute("SELECT name FROM media('s3://many/**')"):
            first = first or time.perf_counter() - began
            names.append(name)
    return clock.result(wrong=int(sorted(names) != KEYS), first=first, growth=peak_mb() - before)


def boto3_pages(folder: str, endpoint: str) -> Result:
    """The paginator of boto3."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    )
    clock, first = Clock(), 0.0
    names, before = [], peak_mb()
    with clock.running():
        began = time.perf_counter()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="many"):
            first = first or time.perf_counter() - began
            names += [found["Key"] for found in page["Contents"]]
    return clock.result(wrong=int(sorted(names) != KEYS), first=first, growth=peak_mb() - before)


def listing(bench: Bench) -> list[Result]:
    """A bucket of 100,000 keys in 100 prefixes, at 50 ms a page."""
    contenders = (listed, boto3_pages)
    results: dict[str, list[Result]] = {function.__name__: [] for function in contenders}
    with running(python_module("benchmarks.list_server")) as server:
        for _ in range(bench.repeat):
            for function in contenders:
                bench.say(f"listing {len(KEYS):,} keys, {1000 * SECONDS:g} ms a page: {function.__name__}")
                results[function.__name__].append(bench.run(function, endpoint=f"http://127.0.0.1:{server.port}"))
    rows = [
        {
            "case": name,
            "ms": 1000 * SECONDS,
            "first": statistics.median(run["first"] for run in runs),
            "growth": max(run["growth"] for run in runs),
            **summary(runs, len(KEYS)),
        }
        for name, runs in results.items()
    ]
    return [row | {"x_boto3": row["per_second"] / rows[-1]["per_second"]} for row in rows]


PARTS: dict[str, Callable[[Bench], list[Result]]] = {"store": store, "listing": listing}
