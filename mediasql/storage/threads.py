"""Threads for what blocks: each kind of file system has its own, so that one that hangs holds up no other.

They are daemons. Nobody can stop what hangs in one, and Python must not wait for it when it ends; and unlike those of
`concurrent.futures` they can still be used by what runs at exit.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from . import forking

P = ParamSpec("P")
T = TypeVar("T")

MOST = 64  # of one kind
# What the names of our threads begin with.
PREFIX = "mediasql-"

_lock = forking.lock()
_kinds: dict[str, Threads] = {}


def start(work: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread that runs `work`. Raises RuntimeError where none can be started, as when Python ends."""
    if sys.is_finalizing():  # before Python 3.12 that would wait for ever
        raise RuntimeError("no thread can be started: Python is ending")
    thread = threading.Thread(target=work, name=PREFIX + name, daemon=True)
    thread.start()
    return thread


class Threads(ThreadPoolExecutor):
    """An executor of daemon threads, which are started as they are needed. asyncio insists on a ThreadPoolExecutor as
    the executor of a loop; those of that class itself are joined when Python ends."""

    def __init__(self, kind: str, most: int = MOST) -> None:
        super().__init__(most)
        self._kind = kind
        self._most = most
        self._tasks: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started = 0
        self._starting = threading.Lock()
        self._running: set[Future[Any]] = set()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            self._running.add(future)
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)
            finally:
                self._running.discard(future)

        self._tasks.put(run)
        if not self._idle.acquire(blocking=False):
            self._start()
        return future

    def _start(self) -> None:
        with self._starting:
            if self._started == self._most:
                return
            try:
                start(self._work, f"{self._kind}-{self._started + 1}")
            except RuntimeError:  # no more threads are to be had; those that are there will come to it
                if not self._started:
                    raise
            else:
                self._started += 1

    def _work(self) -> None:
        while True:
            self._tasks.get()()
            self._idle.release()

    def wait(self, seconds: float | None) -> None:
        """Return when the work that runs now has ended; after so many seconds if that is not None."""
        concurrent.futures.wait(list(self._running), seconds)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the threads end with the process."""


def of(kind: str, most: int = MOST) -> Threads:
    """The threads of a kind, such as the protocol of a file system."""
    with _lock:
        if kind not in _kinds:
            _kinds[kind] = Threads(kind, most)
        return _kinds[kind]


async def run(kind: str, work: Callable[..., T], *arguments: object) -> T:
    """The result of `work` in a thread of that kind."""
    return await asyncio.get_running_loop().run_in_executor(of(kind), work, *arguments)


def _forget() -> None:
    """In a forked child the threads do not exist."""
    _kinds.clear()


forking.at_fork(in_child=_forget)
