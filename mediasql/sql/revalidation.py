"""What a refresh learns: every object that is asked for, its store is asked whether it changed, once."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from ..errors import Forbidden, MediaError, TransientError, UsageError
from ..media.probe import Answer, Want
from ..storage.location import Location
from ..storage.providers.base import changed
from .ahead import Outcome, Wanted
from .session import Session, is_local

NAME = "refresh_computed_columns"


class Revalidation:
    """One refresh, as long as it runs. Answers from before it began have to be confirmed by the store.

    checked  URLs that were asked for
    changed  those of another version than was known, or whose values are others than those kept in the database
    failed   those that could not be asked for now, so that nobody knows whether they changed
    """

    def __init__(self, session: Session) -> None:
        self.checked: set[str] = set()
        self.changed: set[str] = set()
        self.failed: set[str] = set()
        self._session = session
        self._began = time.monotonic()
        self._same: set[str] = set()  # as the store says
        self._unreachable: dict[Hashable, TransientError | Forbidden] = {}
        self._asked: list[set[str]] = []
        self._row_failed = False

    def next_value(self) -> None:
        """What is asked for from here on is for the next value of the row."""
        self._asked.append(set())

    def end_row(self) -> tuple[bool, list[set[str]]]:
        """Whether all was known that the row asked for, and the URLs behind each of its values."""
        complete, asked = not self._row_failed, self._asked
        self._row_failed, self._asked = False, []
        return complete, asked

    def differs(self, asked: set[str]) -> None:
        """A value that comes from these is another than the one that is kept in the database."""
        # Of several, one changed. Where the store says of all that they did not, the database knew an earlier version.
        self.changed |= (asked - self._same) or asked

    def asks(self, url: str) -> None:
        """A function asks for an object."""
        self.checked.add(url)
        if self._asked:
            self._asked[-1].add(url)

    def is_old(self, key: Hashable, at: float) -> bool:
        """Whether an answer of that time has to be confirmed. A local file is known by its version anyway."""
        return at < self._began and isinstance(key, str)

    def confirm(self, url: str) -> None:
        """An object will be read whole: bytes of it that are on disk must not be of another version than it has now."""
        session = self._session
        answer = session.answer(url, Want.OBJECT)
        if not is_local(url) and not session.scout.active and url not in self.failed:
            session.store.told(Location.parse(url), answer.object)

    def foreseen(self, wanted: Wanted) -> Outcome | None:
        """What the scout is to take for the outcome of what was asked for in vain."""
        error = self._unreachable.get(wanted.key)
        return None if error is None else wanted.known or error

    def outcome(
        self, wanted: Wanted, known: tuple[float, Answer | MediaError] | None, failed: Outcome | None
    ) -> Outcome:
        """What the store says; what was known where it says nothing. `failed` is what it said in this statement."""
        session = self._session
        outcome = failed or self._unreachable.get(wanted.key) or session.ask(wanted)
        if isinstance(outcome, Answer):
            before = known[1] if known is not None and isinstance(known[1], Answer) else None
            if before is not None and not changed(before.object, outcome.object):
                self._same.add(wanted.url)
            else:
                self.changed |= set() if before is None else {wanted.url}
                session.store.told(Location.parse(wanted.url), outcome.object)
            session.mended(NAME, (wanted.url,))
        elif isinstance(outcome, TransientError | Forbidden):
            self._unreachable[wanted.key] = outcome
            self._fails(wanted.url)
            if isinstance(outcome, TransientError) and wanted.known is not None and session.config.on_error == "null":
                session.failures.add(wanted.url, NAME, outcome)
                return wanted.known
        return outcome

    def failed_call(self, url: str, error: MediaError) -> None:
        """A function failed with that."""
        if isinstance(error, TransientError | Forbidden):
            self._fails(url)

    def _fails(self, url: str) -> None:
        self.failed.add(url)
        self._row_failed = True


@contextmanager
def revalidating(session: Session) -> Iterator[Revalidation]:
    """Stores are asked meanwhile about all that statements ask for. Raises UsageError inside of another refresh."""
    if session.revalidation is not None:
        raise UsageError("another refresh of this connection is under way")
    session.forget_values()
    session.revalidation = Revalidation(session)
    session.row = session.revalidation.next_value
    try:
        yield session.revalidation
    finally:
        session.revalidation = session.row = None
        session.memory.outdate()  # other sessions find on disk what was learnt
