"""Load on one cache from threads of several processes: a program for the tests, and to measure with.

    python -m tests.storage.cache_load FOLDER --processes 4 --threads 64 --objects 2000 --seconds 60

Each read is checked byte for byte. What a process fetches it writes down, so that the parent can tell what was fetched
while it was there; and how much is on disk is looked at all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import mmap
import os
import random
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import apsw

from mediasql.storage import loop
from mediasql.storage.cache.blocks import Blocks
from mediasql.storage.cache.identity import Identity
from mediasql.storage.providers.base import Chunk, ObjectInfo
from tests.storage.objects import identity, in_catalog, whole

COUNTS = "counts"
PAGE = 4096  # of which the end of a file may occupy a whole one
NOISE = random.Random(0).randbytes(1 << 20)


def size_of(number: int) -> int:
    """4 KB to 300 KB, 150 KB on average."""
    return 4096 + zlib.crc32(b"%d" % number) % 300_000


@lru_cache(maxsize=200)
def content(number: int) -> bytes:
    """Bytes of an object, of which none is like another at any offset that is a whole block."""
    place = (number * 7919) % (len(NOISE) - 400_000)
    data = bytearray(NOISE[place : place + size_of(number)])
    for at in range(0, len(data) - 16, 4096):
        data[at : at + 16] = b"%08d%08d" % (number, at)
    return bytes(data)


class Counted(Blocks):
    """Tells the parent how many bytes it began to write in all, and how many of them everybody knows of."""

    def __init__(self, folder: Path, capacity: int, warn: Any, number: int) -> None:
        super().__init__(folder, capacity, warn)
        self.place = number % 64 * 16
        self.begun = self.ended = 0
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / COUNTS).open("ab") as file:
            file.truncate(64 * 16)
        with (folder / COUNTS).open("r+b") as file:
            self.shared = mmap.mmap(file.fileno(), 64 * 16)

    def count(self, begun: int, ended: int) -> None:
        self.begun += begun
        self.ended += ended
        self.shared[self.place : self.place + 16] = struct.pack("<qq", self.begun, self.ended)

    async def keep(
        self, identity: Identity, chunk: Chunk, oldest: float, whole: bool, give: Callable[[], None]
    ) -> bool:
        size = len(chunk.data)
        self.count(size, 0)

        def given() -> None:
            self.count(0, size)
            give()

        return await super().keep(identity, chunk, oldest, whole, given)


def counts(folder: Path) -> tuple[int, int]:
    """Bytes that all processes began to write, and those that everybody knows of."""
    try:
        found = struct.unpack("<128q", (folder / COUNTS).read_bytes())
    except (FileNotFoundError, struct.error):  # the first process is about to make it
        return 0, 0
    return sum(found[::2]), sum(found[1::2])


class Worker:
    """One process of the load."""

    def __init__(self, folder: Path, capacity: int, objects: int, seed: int) -> None:
        self.warnings: list[str] = []
        self.blocks = Counted(folder, capacity, self.warnings.append, seed)
        self.objects = objects
        self.random = random.Random(seed)
        self.fetches = 0
        self.fetched = 0
        self.wrong = 0
        self.errors: list[str] = []
        self.reads = 0

    async def fetch(self, number: int, start: int, stop: int, unless: ObjectInfo | None = None) -> Chunk:
        self.fetches += 1
        await asyncio.sleep(0.005)
        data = content(number)[start:stop]
        self.fetched += len(data)
        info = ObjectInfo(size_of(number), "2026-11-24T10:00:00Z", f"{number:x}", "image/jpeg")
        return Chunk(data, start, info)

    def run(self, until: float) -> None:
        chosen = random.Random(self.random.random())
        while time.monotonic() < until:
            number = min(int(chosen.expovariate(1 / (self.objects / 4))), self.objects - 1)
            size = size_of(number)
            start = chosen.choice((0, chosen.randrange(size)))
            stop = chosen.choice((size, start + 1000, start + 70_000))
            try:
                chunk = loop.run(self.blocks.read(identity(str(number)), self.reader(number), start, stop))
                if chunk.data != content(number)[start:stop]:
                    self.wrong += 1
                    print(json.dumps({"wrong": [number, start, stop]}), flush=True)
            except Exception as error:
                self.errors.append(repr(error))
                print(json.dumps({"error": repr(error)}), flush=True)
            self.reads += 1

    def reader(self, number: int) -> Any:
        async def read(start: int, stop: int, unless: ObjectInfo | None = None) -> Chunk:
            return await self.fetch(number, start, stop, unless)

        return read

    def report(self) -> dict[str, Any]:
        return {
            "reads": self.reads,
            "fetches": self.fetches,
            "fetched": self.fetched,
            "wrong": self.wrong,
            "errors": self.errors[:5],
            "warnings": self.warnings,
        }


def disk_usage(folder: Path) -> tuple[int, int]:
    """Bytes that the files of the cache occupy, and how many files there are."""
    total = count = 0
    for directory, _, names in os.walk(folder / "bytes-v1" / "files"):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(directory, name)).st_blocks * 512
                count += 1
    return total, count


def work(options: argparse.Namespace) -> None:
    worker = Worker(options.folder, options.capacity, options.objects, options.seed)
    until = time.monotonic() + options.seconds
    threads = [threading.Thread(target=worker.run, args=(until,)) for _ in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    worker.blocks.close()
    print(json.dumps(worker.report()), flush=True)


def kill(folder: Path, kills: int, processes: int = 4, threads: int = 64, objects: int = 2000) -> dict[str, Any]:
    """Kill processes of the load at random moments, and start others in their place; what came of it.

    opened  seconds until the next process has its first object
    leaked  files that nothing knows, after one cleaning
    """
    capacity = sum(map(size_of, range(objects))) // 4
    chosen = random.Random(1)
    seeds = itertools.count(1)
    said: list[str] = []

    def another() -> subprocess.Popen[str]:
        return start(folder, next(seeds), threads=threads, objects=objects, seconds=3600, capacity=capacity)

    running = [another() for _ in range(processes)]
    for number in range(kills):
        time.sleep(chosen.uniform(0, 2.4 / processes))
        index = chosen.randrange(processes)
        victims = running if number == kills - 1 else [running[index]]
        for victim in victims:
            victim.kill()
            said += victim.communicate()[0].splitlines()
        if number < kills - 1:
            running[index] = another()
    begun = time.perf_counter()
    last = Worker(folder, capacity, objects, 0)
    loop.run(last.blocks.read(identity("0"), last.reader(0), 0, 10))
    opened = time.perf_counter() - begun
    last.blocks.clean()
    known = {file for (file,) in in_catalog(folder, "SELECT file FROM objects")}
    there = {f"{path.parent.name}/{path.name}" for path in last.blocks.files.root.glob("*/*") if path.name != "lock"}
    held = last.blocks.stats().held
    ((counted,),) = in_catalog(folder, "SELECT total(held) FROM objects")
    for number in range(objects):
        data = loop.run(whole(last.blocks, identity(str(number)), last.reader(number)))
        if data != content(number):
            said.append(f"wrong in the end: {number}")
    last.blocks.close()
    return {
        "kills": kills,
        "opened": opened,
        "known": len(known),
        "leaked": sorted(there - known),
        "lost": sorted(known - there),
        "held": held,
        "counted": counted,
        "capacity": capacity,
        "said": said,
    }


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--capacity", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--seed", type=int, default=-1)
    return parser


def start(folder: Path, seed: int, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.storage.cache_load", str(folder), "--seed", str(seed)]
    command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def load(
    folder: Path, processes: int, threads: int, objects: int, seconds: float, share: float = 0.25
) -> dict[str, Any]:
    """Run the load with room for a `share` of the data; what came of it. Figures are bytes, but for counts.

    fetched  from the store
    held     in the end
    evicted  in between
    most     on the disk at any time
    excess   on the disk that neither the capacity nor what was being written explains, at any time
    """
    data = sum(map(size_of, range(objects)))
    capacity = int(data * share)
    Blocks(folder, capacity, print).stats()
    catalogue = apsw.Connection(os.fspath(folder / "bytes-v1" / "catalog.db"))
    catalogue.set_busy_timeout(10_000)
    catalogue.execute(
        "CREATE TABLE IF NOT EXISTS evicted(bytes); CREATE TRIGGER IF NOT EXISTS evicting AFTER DELETE ON objects "
        "BEGIN INSERT INTO evicted VALUES (old.held); END"
    )
    running = [
        start(folder, seed, threads=threads, objects=objects, seconds=seconds, capacity=capacity)
        for seed in range(processes)
    ]
    most, excess = 0, -capacity
    try:
        while any(process.poll() is None for process in running):
            # While the files are looked at one by one, others come and go: all that was being written at any time
            # of that may be among them.
            _, ended = counts(folder)
            used, files = disk_usage(folder)
            begun, _ = counts(folder)
            most = max(most, used)
            excess = max(excess, used - files * PAGE - capacity - (begun - ended))
            time.sleep(0.05)
    except BaseException:
        for process in running:
            process.kill()
        raise
    reports = [json.loads((process.communicate()[0] or "{}").splitlines()[-1]) for process in running]
    return {
        "data": data,
        "capacity": capacity,
        "most": most,
        "excess": excess,
        "left": disk_usage(folder)[0],
        "reads": sum(report["reads"] for report in reports),
        "fetches": sum(report["fetches"] for report in reports),
        "fetched": sum(report["fetched"] for report in reports),
        "held": catalogue.execute("SELECT held FROM totals").get,
        "evicted": catalogue.execute("SELECT total(bytes) FROM evicted").get,
        "wrong": sum(report["wrong"] for report in reports),
        "errors": [error for report in reports for error in report["errors"] + report["warnings"]],
    }


if __name__ == "__main__":
    given = arguments().parse_args()
    if given.seed >= 0:
        work(given)
    elif given.kills:
        print(json.dumps(kill(given.folder, given.kills, given.processes, given.threads, given.objects), indent=1))
    else:
        print(
            json.dumps(
                load(given.folder, given.processes, given.threads, given.objects, given.seconds, given.share), indent=1
            )
        )
