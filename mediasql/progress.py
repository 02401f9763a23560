"""Progress bars: on standard error, on a terminal unless asked for, for what takes longer than a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Protocol

_DELAY = 1.0  # seconds that a statement takes before it has a bar
_PAUSE = 0.1  # seconds between two looks


class Progress(Protocol):
    """What is told of progress."""

    def update(self, count: int = 1) -> object:
        """So many more are done."""


class _Unseen:
    """Progress that nobody sees."""

    def update(self, count: int = 1) -> None:
        pass


@cache
def _bars() -> Any:
    """The class of bars: tqdm's, with a lock for the threads of this process.

    That of tqdm itself is for processes too. To make it, Python may start a process that outlives the statement.
    """
    from tqdm import tqdm

    bars: Any = type("Bar", (tqdm,), {})
    bars.set_lock(threading.RLock())
    return bars


def _is_shown(wanted: bool | None) -> bool:
    return wanted or (wanted is None and sys.stderr is not None and sys.stderr.isatty())


def bar(wanted: bool | None, total: int | None, description: str, unit: str) -> AbstractContextManager[Progress]:
    """A progress bar. `wanted` None means: where standard error is a terminal."""
    if not _is_shown(wanted):
        return nullcontext(_Unseen())
    delay = 0 if wanted else _DELAY
    made: AbstractContextManager[Progress] = _bars()(
        total=total, desc=description, unit=unit, delay=delay, leave=False, file=sys.stderr
    )
    return made


class Waiting:
    """What a connection shows while it waits for files: how many are done, how fast, how many bytes.

    The bar is there during waits only, and gone before a row is given: whoever gets it may write to the same terminal.

    wanted   as for `bar`
    counts   files and bytes that arrived so far
    moment   tells one statement from another
    """

    def __init__(
        self, wanted: bool | None, counts: Callable[[], tuple[int, int]], moment: Callable[[], Hashable]
    ) -> None:
        self._counts = counts
        self._moment = moment
        self._seen: Hashable = None
        self._since = 0.0
        self._before = (0, 0)
        self._delay = 0.0 if wanted else _DELAY
        self._bar: Any = None
        self.shown = False
        # A time.monotonic() before which `look` need not be called.
        self.next = 0.0 if _is_shown(wanted) else float("inf")

    def look(self) -> None:
        """Show the bar, or what is new in it, when the statement under way has waited for long enough."""
        now = time.monotonic()
        self.next = now + _PAUSE
        moment = self._moment()
        if moment != self._seen:
            self._seen, self._since, self._before = moment, now, self._counts()
            if self._bar is not None:
                self._bar.close()
                self._bar = None
        if now - self._since < self._delay:
            return
        files, size = (count - before for count, before in zip(self._counts(), self._before, strict=True))
        if self._bar is None:
            self._bar = _bars()(desc="reading", unit=" files", leave=False, file=sys.stderr, mininterval=0, delay=1e-9)
            self._bar.start_t = self._bar.last_print_t = time.time() - (now - self._since)
        self._bar.set_postfix_str(f"{size / 1e6:.1f} MB", refresh=False)
        self._bar.n = files
        self._bar.refresh()
        self.shown = True

    def clear(self) -> None:
        """Take the bar off the terminal; the next look may bring it back."""
        if self.shown:
            self.shown = False
            self._bar.clear()
