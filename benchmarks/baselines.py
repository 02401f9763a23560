"""What mediasql is measured against: the limit of its means, and what people write without it.

Each reads the header of every file and returns how many answers were wrong.
"""

from __future__ import annotations

import asyncio
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.child import Clock
from benchmarks.corpus import FUNCTIONS, Corpus, Truth, ask

CONCURRENCY = 256
KB = 1024
# The reading plan of mediasql, as facts and tests have it, told again so that the limit owes it nothing.
FIRST = {"jpg": 32 * KB, "mp4": 64 * KB, "mp3": 64 * KB, "flac": 16 * KB, "wav": 16 * KB}
PEEK, GROWTH, LARGEST, JUMP = 64, 4, 1024 * KB, 64 * KB


def files(folder: str, kind: str, count: int) -> list[tuple[str, Truth]]:
    return Corpus(Path(folder)).truth[kind][:count]


def same(value: Any, truth: Any) -> bool:
    """Equal, up to the last digits of a float."""
    if isinstance(value, float) and isinstance(truth, float):
        return math.isclose(value, truth, rel_tol=1e-5, abs_tol=1e-6)
    return bool(value == truth)


def wrong(kind: str, expected: list[tuple[str, Truth]], answers: dict[str, Truth]) -> int:
    return sum(
        not all(same(answers.get(name, {}).get(key), truth.get(key)) for key in FUNCTIONS[kind])
        for name, truth in expected
    )


def limit(folder: str, base: str, kind: str, count: int) -> dict[str, Any]:
    """aiohttp with 256 ranged reads at once, the header parsers of mediasql, and nothing else."""
    import aiohttp
    from yarl import URL

    from mediasql import discovery
    from mediasql.media.headers import recognise

    discovery.load_all()
    expected = files(folder, kind, count)
    answers: dict[str, Truth] = {}

    async def scan() -> None:
        connector = aiohttp.TCPConnector(limit=CONCURRENCY)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def get(name: str, start: int, stop: int) -> tuple[bytes, int]:
                headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{stop - 1}"}
                async with session.get(URL(f"{base}/{name}", encoded=True), headers=headers) as response:
                    return await response.read(), int(response.headers["Content-Range"].rpartition("/")[2])

            async def read(name: str) -> None:
                head, size = await get(name, 0, FIRST[name.rpartition(".")[2]])
                found = recognise(head)
                assert found is not None, name
                steps = found.parse(head, size, False)
                at, data = 0, head  # what is known: one piece, from `at` on
                try:
                    start, stop = next(steps)
                    while True:
                        stop = min(stop, size)
                        if not at <= start <= stop <= at + len(data):
                            at, data = await more(name, start, stop, at, data, size)
                        start, stop = steps.send(data[start - at : stop - at])
                except StopIteration as done:
                    answers[name] = {key: getattr(done.value, key) for key in FUNCTIONS[kind]}

            async def more(name: str, start: int, stop: int, at: int, data: bytes, size: int) -> tuple[int, bytes]:
                """The piece that holds `start` to `stop`: what is known made longer, or another."""
                end = at + len(data)
                peeks = stop - start <= PEEK
                if peeks and start - end <= JUMP and at == 0:
                    begin, finish = end, max(stop, end + min(end * (GROWTH - 1), LARGEST))
                else:
                    begin = end if at <= start <= end else start
                    finish = max(stop, begin + JUMP) if peeks else stop
                got, _ = await get(name, begin, min(finish, size))
                return (at, data + got) if begin == end else (begin, got)

            waiting = iter(expected)

            async def work() -> None:
                for name, _ in waiting:
                    await read(name)

            await asyncio.gather(*(work() for _ in range(min(CONCURRENCY, len(expected)))))

    clock = Clock()
    with clock.running():
        asyncio.run(scan())
    return clock.result(wrong=wrong(kind, expected, answers))


THREADS = {"images": 64, "videos": 16, "audio": 16}


def download(folder: str, base: str, kind: str, count: int) -> dict[str, Any]:
    """requests in a pool of threads, whole files, Pillow or PyAV: what people write."""
    import requests

    expected = files(folder, kind, count)
    own = threading.local()

    def read(name: str) -> Truth:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        response = own.session.get(f"{base}/{name}")
        response.raise_for_status()
        return ask(response.content)

    clock = Clock()
    names = [name for name, _ in expected]
    with clock.running(), ThreadPoolExecutor(THREADS[kind]) as pool:
        answers = dict(zip(names, pool.map(read, names), strict=True))
    return clock.result(wrong=wrong(kind, expected, answers))
