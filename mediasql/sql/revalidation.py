"""Asks stores about each object that SQL functions read during a refresh, and collects what changed or failed."""

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
    """The state of one refresh. Answers from before it began are not used until the store has confirmed them.

    checked  URLs that functions read
    changed  URLs of objects with another version than was known, or with values other than the database has
    failed   URLs of objects that could not be checked
    """

    def __init__(self, session: Session) -> None:
        self.checked: set[str] = set()
        self.changed: set[str] = set()
        self.failed: set[str] = set()
        self._session = session
        self._began = time.monotonic()
        self._unchanged: set[str] = set()  # according to their stores
        self._unreachable: dict[Hashable, TransientError | Forbidden] = {}
        self._urls: list[set[str]] = []
        self._row_failed = False

    def next_value(self) -> None:
        """Attribute the objects that are read from here on to the next value of the row."""
        self._urls.append(set())

    def end_row(self) -> tuple[bool, list[set[str]]]:
        """Return whether all objects of the row could be checked, and the URLs behind each of its values."""
        complete, urls = not self._row_failed, self._urls
        self._row_failed, self._urls = False, []
        return complete, urls

    def differs(self, urls: set[str]) -> None:
        """Note that a value that was computed from these objects is not the one in the database."""
        # If their stores say that all of them are unchanged, the database has the value of an earlier version.
        self.changed |= (urls - self._unchanged) or urls

    def reads(self, url: str) -> None:
        """Note that a function reads an object."""
        self.checked.add(url)
        if self._urls:
            self._urls[-1].add(url)

    def is_old(self, key: Hashable, at: float) -> bool:
        """Return whether the store has to confirm an answer of that time. The key of a local file has its version."""
        return at < self._began and isinstance(key, str)

    def confirm(self, url: str) -> None:
        """Check an object before it is read whole, so that cached bytes of another version are not used."""
        session = self._session
        answer = session.answer(url, Want.OBJECT)
        if not is_local(url) and not session.scout.active and url not in self.failed:
            session.store.told(Location.parse(url), answer.object)

    def foreseen(self, wanted: Wanted) -> Outcome | None:
        """Return the outcome for an object that could not be checked before; None for others. For the scout."""
        error = self._unreachable.get(wanted.key)
        return None if error is None else wanted.known or error

    def outcome(
        self, wanted: Wanted, known: tuple[float, Answer | MediaError] | None, failed: Outcome | None
    ) -> Outcome:
        """Return what the store says now, or for a transient failure the answer that was known before.

        `known` is what is known of the object, `failed` the failure that this statement has seen already.
        """
        session = self._session
        outcome = failed or self._unreachable.get(wanted.key) or session.ask(wanted)
        if isinstance(outcome, Answer):
            before = known[1] if known is not None and isinstance(known[1], Answer) else None
            if before is not None and not changed(before.object, outcome.object):
                self._unchanged.add(wanted.url)
            else:
                self.changed |= set() if before is None else {wanted.url}
                session.store.told(Location.parse(wanted.url), outcome.object)
            session.mended(NAME, (wanted.url,))
        elif isinstance(outcome, TransientError | Forbidden):
            self._unreachable[wanted.key] = outcome
            self._fail(wanted.url)
            if isinstance(outcome, TransientError) and wanted.known is not None and session.config.on_error == "null":
                session.failures.add(wanted.url, NAME, outcome)
                return wanted.known
        return outcome

    def failed_call(self, url: str, error: MediaError) -> None:
        """Note that a function failed with this error."""
        if isinstance(error, TransientError | Forbidden):
            self._fail(url)

    def _fail(self, url: str) -> None:
        self.failed.add(url)
        self._row_failed = True


@contextmanager
def revalidating(session: Session) -> Iterator[Revalidation]:
    """Ask stores about all objects that statements read in the block. Raises UsageError inside of another refresh."""
    if session.revalidation is not None:
        raise UsageError("another refresh of this connection is running")
    session.forget_values()
    session.revalidation = Revalidation(session)
    session.row = session.revalidation.next_value
    try:
        yield session.revalidation
    finally:
        session.revalidation = session.row = None
        session.memory.outdate()  # other sessions read the new answers from disk
