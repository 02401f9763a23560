"""`python -m benchmarks.child MODULE FUNCTION` calls it with the JSON on standard input, and prints what it returns."""

from __future__ import annotations

import contextlib
import importlib
import json
import resource
import sys
import time
from collections.abc import Iterator
from typing import Any


class Clock:
    """Seconds, and processor seconds of this process, of the block that `running` surrounds."""

    seconds = cpu = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        started, used = time.perf_counter(), time.process_time()
        yield
        self.seconds, self.cpu = time.perf_counter() - started, time.process_time() - used

    def result(self, **more: Any) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu": self.cpu, "peak_mb": peak_mb(), **more}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    function = getattr(importlib.import_module(sys.argv[1]), sys.argv[2])
    print(json.dumps(function(**json.load(sys.stdin))))
