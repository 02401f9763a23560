"""Warns once for each statement in which values failed for the moment, since NULL alone would look like an answer.

SQLite does not say when a statement is over, and tracing every statement would cost more than most of them do. So
nothing is hooked until a value fails. Then, until it has warned, `Transients` looks whether the statement is over

- when a cursor goes that was there when the value failed: `con.execute(…).fetchall()` and `for row in con.execute(…)`
  drop theirs right where the statement ends
- when the DB-API cursor of mediasql has read its last row
- when the next statement begins, which SQLite traces for connections of APSW (a connection of another host has one
  tracer, which is the application's: there it is the next one that asks a store)
- when the connection closes, or the process ends.

A warning that Python is told to raise (`-W error`) is raised by the first value that fails, while the statement still
runs: later it would come out of another statement, or of nothing that could be caught.
"""

from __future__ import annotations

import atexit
import threading
import warnings
import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ..errors import MediaWarning
from ..storage import forking
from ..warning import application_frame


class StatementEnds(Protocol):
    """What the SQLite binding tells of when statements end; see `sql.statements`."""

    def calling(self, likely: Sequence[Hashable]) -> Hashable:
        """The execution whose function is being called; None where nobody can tell. In doubt the last of `likely`."""

    def is_over(self, execution: Hashable) -> bool:
        """Whether an execution that `calling` told is over; of None, whether any may be."""

    def cursors(self) -> list[Any]:
        """The cursors that may run what is under way."""

    def trace(self, began: Callable[[], None], closes: Callable[[], None]) -> bool:
        """Call `began()` before each statement, `closes()` when the connection closes. Whether that can be done."""

    def untrace(self) -> None:
        """Call them no more."""


@dataclass(frozen=True, slots=True)
class _Place:
    """The line of the application that runs a statement, as `warnings.warn_explicit` takes it."""

    filename: str
    lineno: int
    module: str


@dataclass(slots=True)
class _Failing:
    """A statement in which values failed: how many, and why the first of them did."""

    place: _Place
    first: str
    count: int = 1

    def __str__(self) -> str:
        text = described(self.count, self.first)
        return f"{text}. The same statement asks again; to see why: SELECT * FROM media_errors"


def described(count: int, first: str) -> str:
    """Return how many values failed for the moment, what that means, and why the first of them did."""
    if count == 1:
        return f"1 value could not be read for the moment and is NULL, so rows may be missing: {first}"
    return (
        f"{count:,} values could not be read for the moment and are NULL, so rows may be missing; the first is {first}"
    )


class Transients:
    """The statements of one connection in which values failed for the moment, and of which no warning was given yet."""

    def __init__(self, statements: StatementEnds) -> None:
        self._statements = statements
        self._failing: dict[Hashable, _Failing] = {}
        self._cursors: list[weakref.ref[Any]] = []
        self._traced = False
        self._thread = 0  # that ran the last of them
        # Given the call and the reason of each value, instead of a warning, where the host shows them in its own way.
        self.instead: Callable[[str, str], None] | None = None

    @contextmanager
    def shown_otherwise(self) -> Iterator[None]:
        """Give no warnings for what fails in here."""
        before, self.instead = self.instead, lambda call, reason: None
        try:
            yield
        finally:
            self.instead = before

    def add(self, call: str, reason: str) -> None:
        """Count the value of `call`, which failed. Raises MediaWarning where the application has warnings raised."""
        if self.instead is not None:
            self.instead(call, reason)
            return
        execution = self._statements.calling(list(self._failing))
        if execution in self._failing:
            self._failing[execution].count += 1
            return
        self.look()
        place = _place()
        if place is None:  # a host without Python code
            return
        failing = _Failing(place, f"{call}: {reason}")
        action = _action(str(failing), place)
        if action == "error":
            raise MediaWarning(str(failing))
        if action != "ignore":
            self._failing[execution] = failing
            self._watch()

    def look(self) -> None:
        """Warn of the statements that are over."""
        if self._failing and threading.get_ident() == self._thread:
            self._warn([execution for execution in self._failing if self._statements.is_over(execution)])

    def flush(self) -> None:
        """Warn of all statements: the connection closes, or Python ends."""
        self._warn(list(self._failing))

    def forget(self) -> None:
        """Warn of nothing: this is a forked child, and the statements are its parent's."""
        self._failing.clear()
        self._cursors = []

    def _watch(self) -> None:
        self._thread = threading.get_ident()
        _unwarned.add(self)
        own = weakref.ref(self)

        def gone(_: weakref.ref[Any]) -> None:
            transients = own()
            if transients is not None:
                transients.look()

        self._cursors = [weakref.ref(cursor, gone) for cursor in self._statements.cursors()]
        self._traced = self._traced or self._statements.trace(self.look, self.flush)

    def _warn(self, executions: list[Hashable]) -> None:
        over = [self._failing.pop(execution) for execution in executions if execution in self._failing]
        if over and not self._failing:
            self._cursors = []
            _unwarned.discard(self)
            if self._traced:
                self._traced = False
                self._statements.untrace()
        for failing in over:
            place, text = failing.place, str(failing)
            try:
                # Without a registry, Python does not leave out the ones that it gave for this line before.
                warnings.warn_explicit(text, MediaWarning, place.filename, place.lineno, place.module)
            except MediaWarning as warning:  # to be raised since a moment ago; here it would be lost
                warnings.showwarning(warning, MediaWarning, place.filename, place.lineno)


def _place() -> _Place | None:
    """The line of the application that runs the statement under way; None where that is no Python code."""
    found = application_frame()
    if found is None:
        return None
    return _Place(found.f_code.co_filename, found.f_lineno, str(found.f_globals.get("__name__", "<unknown>")))


def _action(text: str, place: _Place) -> str:
    """What Python's filters of warnings do with a MediaWarning: 'error', 'ignore', or a way to show it."""

    def fits(pattern: Any, value: str) -> bool:
        return pattern is None or (pattern == value if isinstance(pattern, str) else bool(pattern.match(value)))

    for action, message, category, module, lineno in warnings.filters:
        if (
            issubclass(MediaWarning, category)
            and fits(message, text)
            and fits(module, place.module)
            and lineno in (0, place.lineno)
        ):
            return str(action)
    return "default"


_unwarned: weakref.WeakSet[Transients] = weakref.WeakSet()


@atexit.register
def _flush_all() -> None:
    for transients in list(_unwarned):
        transients.flush()


def _forget_all() -> None:
    for transients in list(_unwarned):
        transients.forget()
    _unwarned.clear()


forking.at_fork(in_child=_forget_all)
