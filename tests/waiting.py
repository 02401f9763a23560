"""Wait for what another thread, process or server does, however busy the machine is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LONG = 60.0  # seconds; more than anything here takes on a machine that is busy, and less than what hangs


def eventually(look: Callable[[], T], seconds: float = LONG) -> T:
    """Return the first true value that `look` gives; fail when there is none within so many seconds.

    The bound is there so that a test which fails ends. It is no property of what is tested.
    """
    deadline = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {look}"
        time.sleep(0.01)
    return found


@contextmanager
def soon(seconds: float = LONG) -> Iterator[None]:
    """Fail when the block takes longer: it waited for something that hangs, for more than twice as long."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@contextmanager
def meanwhile(work: Callable[[], object]) -> Iterator[None]:
    """Run `work` in a thread beside the block, and raise here what it raised."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
        if failed:
            raise failed[0]
