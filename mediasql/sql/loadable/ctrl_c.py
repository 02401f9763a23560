"""Ctrl-C in a host that is a module of Python, as `sqlite3` is.

SQLite has no exceptions: a KeyboardInterrupt raised in one of our functions ends there, and the host raises an error of
its own in its place. If that were all, a program that handles errors would go on after Ctrl-C. If the signal were set
again, KeyboardInterrupt would be raised while the host's error is being handled: in an `except` of the program, or in
Python itself as it prints a traceback. So Python's tracing, which calls a function before an exception leaves the call
that raised it, puts the one in the place of the other.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any


def raise_in(caller: FrameType | None, interrupt: KeyboardInterrupt) -> bool:
    """Have `caller`, which called the host, raise `interrupt` instead of what the host is about to raise there.

    Return False where that cannot be done, since a debugger or the like traces this thread.
    """
    if caller is None or sys.gettrace() is not None:
        return False
    interrupt.__traceback__ = None  # it holds the frames of ours that it went through

    def replace(frame: FrameType, event: str, argument: Any) -> None:
        raise interrupt  # which ends the tracing

    caller.f_trace = replace
    sys.settrace(lambda frame, event, argument: None)
    return True
