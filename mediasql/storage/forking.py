"""The one place that knows about fork: what is done before a process forks, and afterwards in the child.

In a forked child only the thread that forked exists. Whatever another thread held or was in the middle of stays so for
ever, which has two consequences, and this module owns both:

- A lock that a child may need is made by `lock`. All of them are taken before a fork and given back after it, in the
  parent and in the child, so that no fork happens in the middle of what they protect.
- A module with threads, loops, connections or files gives `at_fork` a hook that closes them before the fork, or that
  forgets them in the child.

Hooks run in the order in which modules import each other: before a fork those of the upper floors first, in the child
those of the lower ones. Nothing happens where processes do not fork, as on Windows.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakSet

Hook = Callable[[], None]

LONGEST_WAIT = 10.0  # seconds that a fork waits for what other threads are in the middle of
_PATIENCE = 0.02  # seconds that it waits for one lock while it holds others

_before: list[Hook] = []
_in_child: list[Hook] = []
_registering = threading.RLock()
_locks: WeakSet[threading.RLock] = WeakSet((_registering,))
_forks = threading.Lock()  # held by the thread that forks: one at a time


class _Fork(threading.local):
    """What this thread holds while it forks."""

    def __init__(self) -> None:
        self.locks: list[threading.RLock] = []
        self.alone = False  # it holds `_forks`


_fork = _Fork()


def lock() -> threading.RLock:
    """Return a new lock that no other thread holds while this process forks, so that a child finds it open.

    Whoever holds it must neither wait for another thread nor call the application. The thread that forks may hold it,
    as where the handler of a signal forks.
    """
    made = threading.RLock()
    with _registering:
        _locks.add(made)
    return made


def at_fork(*, before: Hook | None = None, in_child: Hook | None = None) -> None:
    """Call `before` in the thread that is about to fork, and `in_child` in the child.

    While `before` runs, the locks made by `lock` are taken, except for those that another thread has held for
    LONGEST_WAIT. What a hook raises is reported as by `os.register_at_fork`, and keeps no other hook from running.
    """
    if before is not None:
        _before.insert(0, before)
    if in_child is not None:
        _in_child.append(in_child)


def _take(wanted: list[threading.RLock], taken: list[threading.RLock], seconds: float) -> None:
    """Take all locks, or after `seconds` those that can be had, and add them to `taken`.

    Other threads may wait for one of them while they hold another, in any order. No deadlock comes of that: while it
    holds locks, a fork waits for one more only for _PATIENCE, and then gives all back before it tries again.
    """
    until = time.monotonic() + seconds
    while True:
        last = time.monotonic() >= until
        missing = None
        for each in wanted:
            if each.acquire(timeout=0 if last else _PATIENCE):
                taken.append(each)
            elif not last:
                missing = each
                break
        if missing is None:
            return
        _give_back(taken)
        # Whoever holds the missing one may wait for one of the others, and can have it now.
        wanted = [missing, *(each for each in wanted if each is not missing)]
        time.sleep(random.uniform(0, _PATIENCE / 10))


def _give_back(taken: list[threading.RLock]) -> None:
    while taken:
        taken.pop().release()


def _run(hooks: list[Hook]) -> None:
    failed: BaseException | None = None
    for hook in hooks:
        try:
            hook()
        except BaseException as error:
            failed = error
    if failed is not None:
        raise failed


def _before_fork() -> None:
    _fork.alone = _forks.acquire(timeout=2 * LONGEST_WAIT)
    with _registering:
        wanted = list(_locks)
    _take(wanted, _fork.locks, LONGEST_WAIT)
    _run(_before)


def _after_in_parent() -> None:
    _give_back(_fork.locks)
    if _fork.alone:
        _fork.alone = False
        _forks.release()


def _after_in_child() -> None:
    global _forks
    _forks, _fork.alone = threading.Lock(), False
    for each in set(_locks).difference(_fork.locks):  # held by threads that do not exist here
        cast(Any, each)._at_fork_reinit()
    _give_back(_fork.locks)
    _run(_in_child)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
