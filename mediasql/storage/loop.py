"""The event loop that all fetching runs on: one daemon thread a process, started when first needed."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError
from typing import Any, TypeVar

T = TypeVar("T")

# How often a waiting thread looks whether its query was interrupted, in seconds.
_POLL = 0.05

_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def get() -> asyncio.AbstractEventLoop:
    """The loop, started in its thread if it is not running yet."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="mediasql-loop", daemon=True).start()
        return _loop


def run(coroutine: Coroutine[Any, Any, T], check: Callable[[], None] = lambda: None) -> T:
    """The result of `coroutine`, run on the loop while this thread waits.

    `check` is called every 50 ms and may raise to give up (an interrupted query); that, like Ctrl-C, cancels the
    coroutine. Must not be called from the loop's own thread.
    """
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


def _forget() -> None:
    """In a forked child the thread does not exist; the next call starts another."""
    global _loop, _lock
    _loop, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
