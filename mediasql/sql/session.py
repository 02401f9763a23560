"""What one connection knows: its configuration, its stores, the answers it has, and what failed."""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..config import Config
from ..errors import (
    Forbidden,
    MediaError,
    NotFound,
    TransientError,
    UnavailableError,
    Unsupported,
    UsageError,
)
from ..media.probe import Answer, Want, probe_bytes
from ..storage import loop
from ..storage.location import Location
from ..storage.store import Store
from .ahead import Ahead, Outcome, Wanted
from .calls import Recent
from .listings import Listings
from .scout import Noted, Scout

MOST_ANSWERS = 100_000
MOST_FAILURES = 100_000
MOST_VALUES = 200_000
VALUES_AGE = 60.0  # seconds, or `max_age` where that is less
_SHOWN = 200  # characters of an argument in an error message


class Statement(Protocol):
    """What the SQLite binding tells about the statement that calls us."""

    @property
    def moment(self) -> Hashable:
        """What is different when another statement is executed, or one anew."""

    @property
    def writing(self) -> bool:
        """Whether the statement under way changes the database."""

    def needs(self, function: str) -> bool:
        """Whether the statement under way uses what `function` returns. Called from what SQLite called."""

    def running(self) -> list[Any]:
        """The statements under way, as `Executions` of the same binding takes them."""

    def unused(self, statement: Any) -> frozenset[str]:
        """Functions that one of them calls without using what they return."""

    def text(self, statement: Any) -> str | None:
        """One of them, with its bindings in place."""

    def cursor(self) -> Any:
        """A cursor for our own statements, of which the application's tracers are not told."""

    def unwatched(self) -> AbstractContextManager[None]:
        """Statements run in here are our own."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that failed, for `media_errors`. Times are ISO 8601 in UTC."""

    url: str
    function: str
    error: str
    kind: str
    status: int | None
    attempts: int
    first_time: float
    last_time: float


def is_local(url: str) -> bool:
    """Whether a URL is, or may be, a path of this machine."""
    return "://" not in url or url[:5].lower() == "file:"


_KINDS: list[tuple[type[MediaError], str]] = [
    (NotFound, "not found"),
    (Forbidden, "forbidden"),
    (Unsupported, "unsupported"),
    (TransientError, "transient"),
    (UnavailableError, "damaged"),
]


class Failures:
    """What failed, by URL and function; the oldest are forgotten beyond 100,000."""

    def __init__(self) -> None:
        self._all: OrderedDict[tuple[str, str], Failure] = OrderedDict()
        self.total = 0

    def add(self, url: str, function: str, error: MediaError) -> None:
        now = time.time()
        known = self._all.pop((url, function), None)
        kind = next(name for cls, name in _KINDS if isinstance(error, cls))
        failure = Failure(url, function, str(error), kind, error.status, 1, now, now)
        if known is not None:
            failure = replace(failure, attempts=known.attempts + 1, first_time=known.first_time)
        self._all[url, function] = failure
        self.total += 1
        if len(self._all) > MOST_FAILURES:
            self._all.popitem(last=False)

    def mended(self, url: str, function: str) -> None:
        """The call succeeded, so that it is no longer among the failures."""
        self._all.pop((url, function), None)

    def __iter__(self) -> Any:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)


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
        self.row: Callable[..., Any] | None = None  # while a computed column is filled: counts its rows
        self._interrupted = interrupted
        self.store = Store(config, self.check)
        self.ahead = Ahead(self.store, lambda: self.statement.moment)
        self.scout = Scout(self, self.ahead)
        self.listings = Listings(self)
        self.functions: dict[str, Any] = {}  # of the application, by name in lower case; as registry.Function
        self.recent = Recent()
        self._answers: OrderedDict[Any, tuple[float, Answer]] = OrderedDict()
        self._values: list[dict[str, Any]] = []
        self.remembered_until = 0.0
        self._failed: dict[Any, Answer | MediaError] = {}
        self._failed_in: Hashable = None
        self._last_blob: tuple[bytes, Want, Answer] = (b"", Want.EXIF, Answer(object=None))  # type: ignore[arg-type]

    @property
    def connection(self) -> Any:
        """The connection that this is the session of."""
        return self._connection()

    def computes_row(self, *value: Any) -> Any:
        """What the SQL function of `computed` that counts rows does; of no use to anyone else."""
        if self.scout.active:
            return value[0] if value else None
        if self.row is None:
            raise UsageError("this function serves add_computed_column only")
        return self.row(*value)

    def check(self) -> None:
        """Raise when the query was interrupted."""
        if self._interrupted():
            raise KeyboardInterrupt("the query was interrupted")

    def wait(self, coroutine: Any) -> Any:
        """The result of a coroutine on the fetching loop; an interrupted query gives up at once.

        While scouting nothing is waited for: raises Noted.
        """
        if self.scout.active:
            coroutine.close()
            raise Noted
        return loop.run(coroutine, self.check)

    def answer(self, url: str, want: Want) -> Answer:
        """What is known of an object, asked for when it is not. Raises MediaError when it cannot be read.

        Answers are used again for `max_age`, those of local files until their size or time changes; a failure of the
        same statement is not asked for again.
        """
        key = self.version(url)
        now = time.monotonic()
        known = self._answers.get(key)
        if known is not None and known[1].satisfies(want) and self._fresh(now - known[0]):
            self._answers.move_to_end(key)
            if self.scout.active:
                self.scout.meets(key)
            return known[1]
        wanted = Wanted(key, Location.parse(url), want)
        if self.scout.active:
            return self._foreseen(wanted)
        if self._failed and self._failed_in != (moment := self.statement.moment):
            self._failed.clear()
            self._failed_in = moment
        outcome: Outcome | None = self._failed.get(key)
        if outcome is None:
            outcome = self.scout.answer(wanted)
        if isinstance(outcome, MediaError):
            if not isinstance(outcome, UsageError):
                self._failed[key] = outcome
                self._failed_in = self.statement.moment
            raise outcome.again()
        assert isinstance(outcome, Answer)
        self.keep(key, now, outcome)
        return outcome

    def keep(self, key: Hashable, at: float, answer: Answer) -> None:
        """Know this answer, which was given at that time."""
        self._answers[key] = (at, answer)
        if len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)

    def _foreseen(self, wanted: Wanted) -> Answer:
        """While scouting: the answer if it has arrived. Raises Noted when it is still to come."""
        outcome: Outcome | None = self._failed.get(wanted.key)
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
        if self.config.max_age == 0 or is_local(url):
            return False
        now = time.monotonic()
        if now >= self.remembered_until or sum(map(len, self._values)) >= MOST_VALUES:
            self.forget_values()
            self.remembered_until = now + min(self.config.max_age or VALUES_AGE, VALUES_AGE)
        return True

    def forget_values(self) -> None:
        """Ask for every value anew; the answers that they come from may still be known."""
        for values in self._values:
            values.clear()

    def _fresh(self, age: float) -> bool:
        return self.config.max_age is None or age <= self.config.max_age

    def version(self, url: str) -> Hashable:
        """What an answer is known by: the URL; of a local file also what tells one version from the next."""
        if not is_local(url):
            return url
        try:
            from ..storage.providers.local import local_path

            status = os.stat(local_path(Location.parse(url)))
        except (OSError, ValueError):
            return url
        return url, status.st_mtime_ns, status.st_size, status.st_ino

    def blob_answer(self, data: bytes, want: Want) -> Answer:
        """What is known of media that is given as bytes."""
        blob, known, answer = self._last_blob
        if known < want or blob != data or answer.object is None:
            answer = probe_bytes(data, want)
            self._last_blob = (data, want, answer)
        return answer

    def failed(self, function: str, arguments: tuple[Any, ...], error: MediaError) -> None:
        """Decide on the failure of a call: return for NULL, or raise. What is not a wrong call is recorded."""
        if self.scout.active:  # the outer run will come to it
            return
        explained = error.again(f"{function}({shown(arguments)}): {error}")
        if isinstance(error, UsageError):
            raise explained from error
        self.failures.add(_about(arguments), function, error)
        if self.config.on_error == "raise" or (isinstance(error, TransientError) and self.statement.writing):
            self.ahead.cancel()  # nobody will come for what follows
            raise explained from error

    def mended(self, function: str, arguments: tuple[Any, ...]) -> None:
        """A call succeeded, so that it is no longer among the failures."""
        if len(self.failures):
            self.failures.mended(_about(arguments), function)

    def close(self) -> None:
        """Close network connections. The session opens them again when it is used."""
        self.ahead.close()
        self.store.close()


def shown(arguments: tuple[Any, ...]) -> str:
    """Arguments as they would be written in SQL, cut to a readable length."""
    return ", ".join(map(_literal, arguments))


def _literal(value: Any) -> str:
    if isinstance(value, bytes):
        return f"<BLOB of {len(value)} bytes>"
    if isinstance(value, str):
        text = value if len(value) <= _SHOWN else value[:_SHOWN] + "…"
        return "'" + text.replace("'", "''").replace("\0", "\\0") + "'"
    return "NULL" if value is None else str(value)


def _about(arguments: tuple[Any, ...]) -> str:
    """What a call is about, for `media_errors`: a URL, or a text that tells BLOBs apart."""
    first = arguments[0] if arguments else ""
    if isinstance(first, bytes):
        return f"BLOB of {len(first)} bytes, SHA-256 {hashlib.sha256(first).hexdigest()[:16]}"
    return str(first)
