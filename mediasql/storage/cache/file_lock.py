"""Locks on open files, which processes see of each other. The system takes them back from a process that dies."""

from __future__ import annotations

import errno
import importlib
from contextlib import suppress
from typing import Any


def _module(name: str) -> Any:
    with suppress(ImportError):
        return importlib.import_module(name)
    return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")  # the second is Windows'

_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK)


def try_lock(handle: int) -> bool:
    """Lock a file until it is closed. False when it is locked already. Raises OSError where locks do not work."""
    try:
        if _fcntl is not None:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        else:
            _msvcrt.locking(handle, _msvcrt.LK_NBLCK, 1)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        raise
    return True


def try_lock_byte(handle: int, place: int) -> bool:
    """Lock one byte of an open file for this process. False when another has it, but not where there are no locks."""
    if _fcntl is None:
        return True
    try:
        _fcntl.lockf(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB, 1, place)
    except OSError as error:
        return error.errno not in _TAKEN
    return True


def unlock_byte(handle: int, place: int) -> None:
    """Give up what `try_lock_byte` locked. Raises OSError."""
    if _fcntl is not None:
        _fcntl.lockf(handle, _fcntl.LOCK_UN, 1, place)
