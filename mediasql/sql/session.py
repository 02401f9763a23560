"""What one connection knows: its configuration, its stores, the answers it has, and what failed."""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast
from weakref import WeakSet

import apsw

from ..config import Config
from ..errors import (
    ForbiddenByPolicy,
    MediaError,
    NotFound,
    TransientError,
    UsageError,
    redact,
)
from ..lifetime import leak
from ..media.answers import opened
from ..media.kept import is_of_statement
from ..media.probe import Answer, Want, probe_bytes
from ..storage import forking, garbage, loop
from ..storage.cache import forbidden
from ..storage.cache.identity import Identity
from ..storage.location import Location
from ..storage.providers.base import Entry, ObjectInfo, changed
from ..storage.providers.local import local_path
from ..storage.store import Store
from .ahead import Ahead, Outcome, Wanted
from .calls import Recent
from .failures import Failures, about, shown
from .leases import Leases
from .listings import Listings
from .memory import NEVER, Memory, Reader
from .scout import Noted, Scout
from .transients import StatementEnds, Transients

if TYPE_CHECKING:
    from .revalidation import Revalidation

MOST_VALUES = 200_000
MOST_OF_STATEMENT = 50_000  # objects
VALUES_AGE = 60.0  # seconds, or `max_age` where that is less


class Statement(StatementEnds, Protocol):
    """What the SQLite binding tells about the statement that calls us."""

    @property
    def unseen(self) -> str | None:
        """Why it cannot be seen which statements are under way; None where it can be."""

    @property
    def moment(self) -> frozenset[Hashable]:
        """What is different when another statement is executed, or one anew."""

    @property
    def writing(self) -> bool:
        """Whether the statement under way changes the database."""

    def needs(self, function: str) -> bool:
        """Whether the statement that called `function` uses what it returns."""

    def running(self) -> list[Any]:
        """The statements under way, as `Executions` of the same binding takes them."""

    def unused(self, statement: Any) -> frozenset[str]:
        """Functions that one of them calls without using what they return."""

    def unused_by(self, sql: str, bindings: Any) -> frozenset[str]:
        """Functions that a statement which is to come will call without using what they return."""

    def text(self, statement: Any) -> str | None:
        """One of them, with its bindings in place."""

    def cursor(self) -> Any:
        """A cursor for our own statements, of which the application's tracers are not told."""

    def unwatched(self) -> AbstractContextManager[None]:
        """Statements run in here are our own."""


_registering = forking.lock()
_all: WeakSet[Session] = WeakSet()


def _before_python_ends() -> None:
    """See `lifetime`: what a session has under way cannot be ended properly later."""
    with _registering:
        for session in _all:
            leak(session)


atexit.register(_before_python_ends)


def _interrupt(message: str) -> apsw.InterruptError:
    """An error as APSW raises it for SQLite's."""
    error: Any = apsw.InterruptError(message)
    error.result = error.extendedresult = apsw.SQLITE_INTERRUPT
    return cast("apsw.InterruptError", error)


def is_local(url: str) -> bool:
    """Whether a URL is, or may be, a path of this machine."""
    return "://" not in url or url[:5].lower() == "file:"


class Session:
    """Everything behind the SQL functions and tables of one connection.

    connection   of APSW, or what presents its interface
    interrupted  tells whether the connection's query was interrupted; waits look at it
    """

    def __init__(self, connection: Any, config: Config, statement: Statement, interrupted: Callable[[], bool]) -> None:
        # The connection holds this session through its functions; holding it here would keep both for ever.
        self._connection = weakref.ref(connection)
        self.config = config
        self.statement = statement
        self.failures = Failures()
        self.transients = Transients(statement)
        self.row: Callable[..., Any] | None = None  # while computed columns are filled or refreshed: counts
        self.revalidation: Revalidation | None = None  # while computed columns are refreshed
        self._interrupted = interrupted
        self.store = Store(config, self.check)
        self.ahead = Ahead(self.store, lambda: self.statement.moment)
        self.scout = Scout(self, self.ahead)
        self.listings = Listings(self)
        self.functions: dict[str, Any] = {}  # of the application, by name in lower case; as registry.Function
        self.recent = Recent()
        self.leases = Leases()
        self.memory = Memory(self.store, opened(config))
        if self.memory.disk is not None:
            self.memory.disk.tell(self)
        forbidden.tell(self)
        self._values: list[dict[str, Any]] = []
        self.remembered_until = 0.0
        self.good_until = float("inf")  # of the last answer; a time.monotonic()
        # Outcomes that hold for one statement: what failed, and what its store forbids to keep.
        self._of_statement: dict[Any, Answer | MediaError] = {}
        self._of_moment: Hashable = None
        self._began: tuple[Hashable, float] = (None, 0.0)  # the statement that asked last, and since when it is known
        self._last_blob: tuple[bytes, Want, Answer] = (b"", Want.OBJECT, Answer(ObjectInfo(size=0)))
        with _registering:
            _all.add(self)

    @property
    def connection(self) -> Any:
        """The connection that this is the session of."""
        return self._connection()

    def computes_row(self, *value: Any) -> Any:
        """What the SQL function of `computed` that counts rows does; of no use to anyone else."""
        if self.scout.active:
            return value[0] if value else None
        if self.row is None:
            raise UsageError("this function serves add_computed_column and refresh_computed_columns only")
        return self.row(*value)

    def check(self) -> None:
        """Raise apsw.InterruptError when the query was interrupted, or has to end so that the loop can go on."""
        if self._interrupted():
            raise _interrupt("interrupted")  # as SQLite says it
        if sys.is_finalizing():
            raise _interrupt("interrupted: Python is ending, and fetches nothing any more")
        garbage.postpone()
        if garbage.stuck():
            raise _interrupt(
                "interrupted: a thread that mediasql waits for collects garbage, in which a cursor of this connection "
                "waits for the statement to end; run the statement again"
            )

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine on the fetching loop; an interrupted query gives up at once.

        While scouting nothing is waited for: raises Noted.
        """
        if self.scout.active:
            coroutine.close()
            raise Noted
        return loop.run(coroutine, self.check)

    def answer(self, url: str, want: Want, listed: ObjectInfo | None = None, *, anew: bool = False) -> Answer:
        """What is known of an object, asked for when it is not. Raises MediaError when it cannot be read.

        Answers are used again for `max_age`, and then if the store says that nothing changed; those of local files
        until their size or time changes. What was missing or refused is not asked for again for `failure_age`, what
        failed otherwise not in the same statement.

        listed  what a listing just said of the object
        anew    the store is asked, even where its bytes are on disk
        """
        key = self.version(url)
        if self.revalidation is not None and not self.scout.active:
            self.revalidation.reads(url)
        # The scout runs over what the statement has consumed, which may be long: too long to look on disk for each.
        known = self.memory.here(key) if self.scout.repeats else self.memory.find(key)
        stale: Answer | None = None
        if known is not None and (outcome := self._valid(key, known, want, listed)) is not None:
            if self.scout.active:
                self.scout.meets(key)
            if isinstance(outcome, MediaError):
                raise outcome.again()
            return outcome
        if known is not None and isinstance(known[1], Answer) and known[1].satisfies(want) and not is_local(url):
            stale = known[1]
        wanted = Wanted(key, url, want, known=stale, anew=anew or self.revalidation is not None)
        if self.scout.active:
            return self._foreseen(wanted)
        self._statement_began()
        if self._of_statement and self._of_moment != (moment := self.statement.moment):
            self._of_statement.clear()
            self._of_moment = moment
        answer = self._held(key, want)
        if self.revalidation is not None:
            answer = self.revalidation.outcome(wanted, known, answer)
        elif answer is None:
            answer = self.ask(wanted)
        assert isinstance(answer, Answer | MediaError)
        if is_of_statement(answer):
            self.good_until = NEVER
        if is_of_statement(answer) or (isinstance(answer, MediaError) and not isinstance(answer, UsageError)):
            if len(self._of_statement) >= MOST_OF_STATEMENT:
                self._of_statement.pop(next(iter(self._of_statement)))
            self._of_statement[key] = answer
            self._of_moment = self.statement.moment
        if isinstance(answer, MediaError):
            raise answer.again()
        return answer

    def ask(self, wanted: Wanted) -> Outcome:
        """Have the store answer, and keep what it says."""
        now = time.monotonic()
        outcome = self.scout.answer(wanted)
        if isinstance(outcome, Answer | MediaError):
            self._is_good(self.memory.keep(wanted.key, now, outcome))
        return outcome

    def _held(self, key: Hashable, want: Want) -> Outcome | None:
        """What holds for the statement under way, if it tells as much as is wanted."""
        outcome = self._of_statement.get(key)
        return None if isinstance(outcome, Answer) and not outcome.satisfies(want) else outcome

    def refresh(self, url: str) -> bool:
        """Ask the store about an object now. Whether it is another than was known. Raises MediaError."""
        key = self.version(url)
        known = self.memory.find(key)
        self.memory.expire(key)
        self.forget_values()
        self._of_statement.pop(key, None)
        want = Want.HEADER if known is not None and isinstance(known[1], Answer) and known[1].info else Want.OBJECT
        answer = self.answer(url, want, anew=True)
        self.memory.outdate()  # not before the answer is kept, or they would take the old one again
        self.store.told(Location.parse(url), answer.object)
        return known is None or isinstance(known[1], MediaError) or changed(known[1].object, answer.object)

    def _valid(
        self, key: Hashable, known: tuple[float, Answer | MediaError], want: Want, listed: ObjectInfo | None
    ) -> Answer | MediaError | None:
        """What is known, if it may be used; None when the store has to be asked."""
        at, outcome = known
        if self.revalidation is not None and self.revalidation.is_old(key, at):
            return None
        if isinstance(outcome, Answer):
            if not outcome.satisfies(want):
                return None
            limit = self.config.max_age
            listed = self.memory.said(key, at, listed)
            if listed is not None and listed.size is not None:
                if changed(outcome.object, listed):
                    self.memory.forget(key)
                    self.forget_values()
                    return None
                if listed.etag is not None and listed.etag == outcome.object.etag:
                    self._statement_began()  # not after the time at which it is confirmed
                    self._is_good(self.memory.confirm(key, outcome))
                    return outcome  # the store has just said that it is still this version
        else:
            limit = self.config.failure_age
            if isinstance(outcome, NotFound):
                listed = self.memory.said(key, at, listed)
                if listed is not None and listed.size is not None:
                    limit = 0  # the store has just said that it is there
        self._is_good(at)
        fresh = at != NEVER if limit is None else time.monotonic() - at <= limit
        return outcome if fresh or at >= self._statement_began() else None

    def _is_good(self, at: float) -> None:
        """The last answer was true at that time."""
        self.good_until = float("inf") if self.config.max_age is None else at + self.config.max_age

    def _statement_began(self) -> float:
        """Since when the statement under way asks, for what was true then is true for the whole of it."""
        if not self.scout.active and (moment := self.statement.moment) != self._began[0]:
            self._began = moment, time.monotonic()
            self.transients.look()
        return self._began[1]

    def _foreseen(self, wanted: Wanted) -> Answer:
        """While scouting: the answer if it has arrived. Raises Noted when it is still to come."""
        outcome: Outcome | None = self._held(wanted.key, wanted.want)
        if outcome is None and self.revalidation is not None:
            outcome = self.revalidation.foreseen(wanted)
        if outcome is None:
            outcome = self.ahead.peek(wanted.key)
        if outcome is None or (isinstance(outcome, Answer) and not outcome.satisfies(wanted.want)):
            self.scout.note(wanted)
            raise AssertionError("a note ends the call")
        self.scout.meets(wanted.key)
        if isinstance(outcome, MediaError):
            raise outcome.again()
        assert isinstance(outcome, Answer)
        return outcome

    def remembered(self) -> dict[str, Any]:
        """A place for the values that one function gave; emptied when they have to be asked for anew."""
        self._values.append({})
        return self._values[-1]

    def may_remember(self, url: str) -> bool:
        """Whether the value of `url` may be kept: not of local files, which are looked at each time."""
        if self.config.max_age == 0 or self.revalidation is not None or is_local(url):
            return False
        now = time.monotonic()
        if now >= self.remembered_until or sum(map(len, self._values)) >= MOST_VALUES:
            self.forget_values()
            # Answers that are to serve for that long must be younger than the rest of `max_age`.
            self.remembered_until = now + min((self.config.max_age or float("inf")) / 2, VALUES_AGE)
        return True

    def foresee(self, reader: Reader, url: str, field: str | None, known: dict[str, Any]) -> None:
        """Learn the values of what was kept on disk after `url`, which a scan will mostly ask for next."""
        if field is None:
            return
        age = self.config.max_age
        # They are used again until `remembered_until`, so they must be true until then.
        left = max(self.remembered_until - time.monotonic(), 0.0)
        since = 0.0 if age is None else time.time() - age + left
        if len(known) >= MOST_VALUES // 2:
            known.clear()
        known.update(self.memory.values(reader, url, field, since))

    def listed(self, page: list[Entry]) -> None:
        """A listing says which versions there are: what is known of others is not used, whoever asks for it."""
        if not page or is_local(page[0].url):
            return
        self.memory.listed(page)
        for values in self._values:
            if values:
                for entry in page:
                    values.pop(entry.url, None)

    def forget_values(self) -> None:
        """Ask for every value anew; the answers that they come from may still be known."""
        for values in self._values:
            values.clear()

    def outdated(self) -> None:
        """Another session learnt something new. From any thread."""
        self.remembered_until = 0.0

    def forbidden(self, identity: Identity, url: str) -> None:
        """See `forbidden.Keeper`."""
        if self.memory.forbid(url):
            self.outdated()

    def version(self, url: str) -> Hashable:
        """What an answer is known by: the URL; of a local file also what tells one version from the next."""
        if not is_local(url):
            return url
        if self.store.policy is not None:
            self.store.policy.check(Location.parse(url))
        try:
            status = os.stat(local_path(Location.parse(url)))
        except (OSError, ValueError):
            return url
        return url, status.st_mtime_ns, status.st_size, status.st_ino

    def blob_answer(self, data: bytes, want: Want) -> Answer:
        """What is known of media that is given as bytes."""
        blob, known, answer = self._last_blob
        if known < want or blob != data:
            answer = probe_bytes(data, want)
            self._last_blob = (data, want, answer)
        return answer

    def failed(self, function: str, arguments: tuple[Any, ...], error: MediaError) -> None:
        """Decide on the failure of a call: return for NULL, or raise. Of wrong calls only refusals are recorded."""
        if self.scout.active:  # the outer run will come to it
            return
        call = f"{function}({shown(arguments)})"
        explained = error.again(f"{call}: {error}")
        if isinstance(error, UsageError):
            self.refused(function, arguments, error)
            raise explained from error
        self.failures.add(about(arguments), function, error)
        if self.revalidation is not None:
            self.revalidation.failed_call(about(arguments), error)
        is_transient = isinstance(error, TransientError)
        try:
            if self.config.on_error == "raise" or (is_transient and self.statement.writing):
                raise explained from error
            if is_transient and self.revalidation is None:  # which tells by itself what it could not learn
                self.transients.add(redact(call), str(error))
        except Exception:
            self.ahead.cancel()  # nobody will come for what follows
            raise

    def refused(self, function: str, arguments: tuple[Any, ...], error: MediaError) -> None:
        """Record what the policy forbade, and no other failure: somebody tries what a database must not reach."""
        if isinstance(error, ForbiddenByPolicy) and not self.scout.active:
            self.failures.add(about(arguments), function, error)

    def mended(self, function: str, arguments: tuple[Any, ...]) -> None:
        """A call succeeded, so that it is no longer among the failures."""
        if len(self.failures):
            self.failures.mended(about(arguments), function)

    def close(self) -> None:
        """Close network connections. The session opens them again when it is used."""
        if sys.is_finalizing():  # the threads that would do it have ended
            return
        self.transients.flush()
        for key, at, answer in self.ahead.leftovers(()):
            self.memory.keep(key, at, answer)
        self.ahead.close()
        self.store.close()
        self.leases.end()
        if self.memory.disk is not None:
            self.memory.disk.flush()
