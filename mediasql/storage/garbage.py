"""Who collects Python's garbage while statements may wait for threads of ours: a thread that nobody waits for.

Python collects on whichever thread allocates. A cursor among the garbage waits for its connection, whose mutex SQLite
holds while a statement waits in one of our functions: if the one who collects is the one who is waited for, both wait
for ever. So Python's own collections are put off, for as long as something is under way, and a thread collects instead.
"""

from __future__ import annotations

import atexit
import gc
import threading
import time

from . import forking, threads

POLL = 0.05  # seconds between looks of whoever waits
_IDLE = 1.0  # seconds without `postpone` after which Python collects by itself again
_GROWTH = 0.25  # of the oldest generation, after which all are collected
_NAME = "garbage"
# A collection keeps the GIL, however long it takes, so that others see one under way when it begins and ends at most,
# unless it waits; or runs Python, which may wait for the GIL itself, on a busy machine for more than a second.
_LOOKS = 100  # one every POLL, at which somebody sees the same collection

_lock = forking.lock()
_until = 0.0  # a time.monotonic(): until when Python's own collections are put off
_paused = False  # it was us who switched them off
_ending = False
_collecting = float("inf")  # a time.monotonic(): since when one of our threads collects garbage
_seen = (0.0, 0.0, 0)  # the collection that somebody who waits saw: when it began, the last look, and their number


def postpone() -> None:
    """Have garbage collected elsewhere for the next second.

    Called by whoever gives work to a thread of ours, or waits for it, and by such threads when they go on.
    """
    global _until
    _until = time.monotonic() + _IDLE
    if not _paused:
        _pause()


def _pause() -> None:
    global _paused
    with _lock:
        if _paused or _ending:
            return
        if _note not in gc.callbacks:
            gc.callbacks.append(_note)
        if not gc.isenabled():  # the application collects when it wants to
            return
        try:
            threads.start(_collect_meanwhile, _NAME)
        except RuntimeError:
            return
        gc.disable()
        _paused = True


def _resume() -> None:
    global _paused
    with _lock:
        if _paused:
            _paused = False
            gc.enable()


def _collect_meanwhile() -> None:
    """Collect what is due, by the rules of Python itself (see `gc.set_threshold`): all generations when the oldest has
    grown by a quarter, since that keeps the GIL for seconds where there are millions of objects."""
    grown, size = 0, -1
    while True:
        time.sleep(POLL)
        with _lock:
            if time.monotonic() > _until or not _paused:
                return _resume()
        young, _, old = gc.get_count()
        threshold, _, oldest = gc.get_threshold()
        if not threshold or young <= threshold:
            continue
        if oldest and old > oldest:
            if size < 0:
                size = len(gc.get_objects(2))
            if grown > _GROWTH * size:
                gc.collect()
                grown, size = 0, len(gc.get_objects(2))
                continue
        grown += len(gc.get_objects(0)) + len(gc.get_objects(1))
        grown -= gc.collect(1)


def _note(phase: str, info: dict[str, int]) -> None:
    global _collecting
    if phase == "stop":
        _collecting = float("inf")
    else:
        name = threading.current_thread().name
        if name.startswith(threads.PREFIX) and name != threads.PREFIX + _NAME:
            _collecting = time.monotonic()


def stuck() -> bool:
    """Whether one of our threads seems to wait for the caller, who therefore must not wait for it.

    It collects garbage all the same, as when a function of the application calls `gc.collect`, and a cursor of the
    caller's connection is among that.
    """
    global _seen
    now, began = time.monotonic(), _collecting
    if began > now:
        return False
    before, looked, looks = _seen
    if before != began:
        _seen = began, now, 1
    elif now - looked > 0.9 * POLL:  # several threads may wait
        _seen = began, now, looks + 1
    return _seen[2] > _LOOKS


@atexit.register
def _before_python_ends() -> None:
    """What Python collects last, it does not where that is switched off."""
    global _ending
    _ending = True
    _resume()


def _forget() -> None:
    """In a forked child the thread does not exist."""
    global _collecting
    _collecting = float("inf")
    _resume()


forking.at_fork(in_child=_forget)
