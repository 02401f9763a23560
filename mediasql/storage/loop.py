"""The event loop that all fetching runs on: one daemon thread a process, started when first needed."""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from typing import Any, TypeVar

from ..lifetime import leak
from . import forking, threads

T = TypeVar("T")

# How often a waiting thread looks whether its query was interrupted, in seconds.
_POLL = 0.05
_DECODERS = 2 * (os.cpu_count() or 1)
_WORKERS = os.cpu_count() or 1
_LONGEST_DECODING = 5.0  # seconds that the end of Python waits for what cannot be given up
# A collection keeps the GIL, however long it takes, so that others see one under way when it begins and ends at most,
# unless it waits; or runs Python, which may wait for the GIL itself, on a busy machine for more than a second.
_LOOKS = 100  # one every _POLL, at which somebody sees the same collection

_lock = forking.lock()
_loop: asyncio.AbstractEventLoop | None = None
_decoding: set[asyncio.Task[Any]] = set()
_collecting = float("inf")  # a time.monotonic(): since when one of our threads collects garbage
_seen = (0.0, 0.0, 0)  # the collection that somebody who waits saw: when it began, the last look, and their number


def get() -> asyncio.AbstractEventLoop:
    """The loop, started in its thread if it is not running yet."""
    global _loop
    with _lock:
        if _loop is None:
            if _note not in gc.callbacks:
                gc.callbacks.append(_note)
            _loop = asyncio.new_event_loop()
            # It looks up the names of hosts there; file systems have threads of their own.
            _loop.set_default_executor(threads.of("names"))
            threads.start(_loop.run_forever, "loop")
        return _loop


def _note(phase: str, info: dict[str, int]) -> None:
    global _collecting
    if phase == "stop":
        _collecting = float("inf")
    elif threading.current_thread().name.startswith(threads.PREFIX):
        _collecting = time.monotonic()


def stuck() -> bool:
    """Whether one of our threads seems to wait for the caller, who therefore must not wait for it.

    Python collects garbage on whichever thread allocates. When that is one of ours, and a cursor is among the garbage,
    it waits for the cursor's connection, whose mutex SQLite holds while a statement waits in one of our functions.
    """
    global _seen
    now, began = time.monotonic(), _collecting
    if began > now:
        return False
    before, looked, looks = _seen
    if before != began:
        _seen = began, now, 1
    elif now - looked > 0.9 * _POLL:  # several threads may wait
        _seen = began, now, looks + 1
    return _seen[2] > _LOOKS


def run(coroutine: Coroutine[Any, Any, T], check: Callable[[], None] = lambda: None) -> T:
    """The result of `coroutine`, run on the loop while this thread waits.

    `check` is called every 50 ms and may raise to give up (an interrupted query); that, like Ctrl-C, cancels the
    coroutine. Must not be called from the loop's own thread. Raises RuntimeError when Python ends, as the loop does.
    """
    if sys.is_finalizing():
        coroutine.close()
        check()
        raise RuntimeError("Python is ending, and fetches nothing any more")
    future = asyncio.run_coroutine_threadsafe(coroutine, get())
    try:
        while True:
            try:
                return future.result(_POLL)
            except TimeoutError:
                # A TimeoutError of the coroutine itself is its answer; one of the wait means: not yet.
                if future.done():
                    return future.result()
                check()
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # it holds its exception, which holds this frame


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run `coroutine`, and wait unless this is the loop's own thread, where the garbage collector may call from.

    Where the loop is `stuck` it is not waited for; the coroutine runs when it goes on. When Python ends, the loop's
    thread does not, and nothing is done.
    """
    if sys.is_finalizing():
        return coroutine.close()
    loop = get()
    future: Future[None] = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    while here is not loop and not stuck():
        try:
            return future.result(_POLL)
        except TimeoutError:
            if future.done():
                return future.result()
    return None


def close_with(owner: object, resource: Any) -> None:
    """Close `resource`, whose `close` is a coroutine function of the loop, when `owner` is collected or Python ends."""
    weakref.finalize(owner, _close, resource, os.getpid())


def _close(resource: Any, process: int) -> None:
    if not resource.closed and os.getpid() == process:  # what a forked child inherits is its parent's to close
        finish(resource.close())


async def in_decoder(work: Callable[[], T]) -> T:
    """The result of `work`, which decodes, in a thread; to be awaited on any loop.

    Decoding reads as it goes, and must not wait for reads among the threads that make them.
    """
    here = asyncio.get_running_loop()
    task = asyncio.current_task(here)
    assert task is not None
    _decoding.add(task)
    try:
        return await here.run_in_executor(decoders(), work)
    finally:
        _decoding.discard(task)


def decoders() -> threads.Threads:
    """Return the threads that decode."""
    return threads.of("decode", _DECODERS)


async def in_worker(work: Callable[[], T]) -> T:
    """The result of `work`, a function of the application, in a thread; as many run at a time as there are cores.

    They are kept apart from decoding, since they may take long, and may query and so wait for decoding themselves.
    """
    return await asyncio.get_running_loop().run_in_executor(threads.of("function", _WORKERS), work)


def _before_python_ends() -> None:
    """What runs in other threads while a process ends may crash. Decoding, which may wait for a server, is given up;
    functions of the application are waited for."""
    for task in list(_decoding):
        with suppress(RuntimeError):  # that loop is closed
            task.get_loop().call_soon_threadsafe(task.cancel)
    decoders().wait(_LONGEST_DECODING)
    threads.of("function", _WORKERS).wait(None)


atexit.register(_before_python_ends)


def _forget() -> None:
    """In a forked child the threads do not exist; the next call starts others."""
    global _loop, _collecting
    leak(_loop)  # which was running
    _decoding.clear()
    _loop, _collecting = None, float("inf")


forking.at_fork(in_child=_forget)
