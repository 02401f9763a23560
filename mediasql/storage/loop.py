"""The event loop that all fetching runs on: one daemon thread a process, started when first needed."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, TimeoutError
from contextlib import suppress
from typing import Any, TypeVar

from ..lifetime import leak
from . import forking, garbage, threads

T = TypeVar("T")

_DECODERS = 2 * (os.cpu_count() or 1)
_WORKERS = os.cpu_count() or 1
_LONGEST_DECODING = 5.0  # seconds that the end of Python waits for what cannot be given up

_lock = forking.lock()
_loop: asyncio.AbstractEventLoop | None = None
_decoding: set[asyncio.Task[Any]] = set()


def get() -> asyncio.AbstractEventLoop:
    """The loop, started in its thread if it is not running yet."""
    global _loop
    garbage.postpone()
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            # It looks up the names of hosts there; file systems have threads of their own.
            _loop.set_default_executor(threads.of("names"))
            threads.start(_loop.run_forever, "loop")
        return _loop


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
                return future.result(garbage.POLL)
            except TimeoutError:
                # A TimeoutError of the coroutine itself is its answer; one of the wait means: not yet.
                if future.done():
                    return future.result()
                garbage.postpone()
                check()
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # it holds its exception, which holds this frame


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run `coroutine`, and wait unless this is the loop's own thread, where the garbage collector may call from.

    Where it is `garbage.stuck` it is not waited for; the coroutine runs when it goes on. When Python ends, the loop's
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
    while here is not loop and not garbage.stuck():
        try:
            return future.result(garbage.POLL)
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
    global _loop
    leak(_loop)  # which was running
    _decoding.clear()
    _loop = None


forking.at_fork(in_child=_forget)
