"""The one place that moves bytes: attempts, the time limit, and which error each failure is."""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .. import errors
from ..config import Config
from . import threads
from .location import Location
from .providers.base import PART, Chunk, ObjectInfo, Provider, changed
from .transport.deadline import Deadline
from .transport.engines import engine
from .transport.exchange import RetryableError
from .transport.jobs import Await, Delay, Engine, InThread
from .transport.limiter import FIRST, FIRST_AT_CLOUD, AdaptiveLimiter, Place, Turn
from .transport.requests import HttpStatusError, NotModified, Requests, refusal

if TYPE_CHECKING:
    from .policy import Policy

T = TypeVar("T")

ATTEMPTS = 4
VERSIONS = 3  # of an object that changes while it is read, before that is a failure
FIRST_DELAY = 0.25  # seconds; doubles with each attempt, with full jitter

_TOO_MUCH = frozenset({429, 503})
# Failures of a file system that pass; others, such as a name that is too long, stay.
_PASSING = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.EMFILE, errno.ENFILE})


class Changed(errors.TransientError):
    """Another version of the object came while the earlier one was read."""

    def __init__(self, message: str = "the object changed while it was read", *, status: int | None = None) -> None:
        super().__init__(message, status=status)


async def in_parts(read: Callable[[int, int], Awaitable[Chunk]]) -> AsyncIterator[Chunk]:
    """A whole object through `read`, in order, in parts of 8 MB. Raises Changed when it changes meanwhile.

    Where the server knows no ranges, and sends all that comes before each part, they double in size.
    """
    at, size = 0, PART
    first: ObjectInfo | None = None
    while True:
        chunk = await read(at, at + size)
        first = first or chunk.info
        if changed(first, chunk.info):
            raise Changed
        yield chunk
        at += len(chunk.data)
        if len(chunk.data) < size or at == chunk.info.size:
            return
        if not chunk.ranged:
            size *= 2


async def of_one_version(attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of `attempt`, which reads an object and is made again when that changes meanwhile: three times."""
    for _ in range(VERSIONS - 1):
        try:
            return await attempt()
        except Changed:
            continue
    return await attempt()


class Fetcher:
    """Reads ranges of objects: what it gives are jobs for its engine."""

    def __init__(self, config: Config, policy: Policy | None = None) -> None:
        self.timeout = config.timeout
        self._transport = config.transport
        self._policy = policy
        self.bytes = 0  # that arrived, for progress
        self._concurrency = config.concurrency
        self._engine: Engine | None = None
        self._requests = Requests(self.timeout)
        self._limiters: dict[Hashable, AdaptiveLimiter] = {}  # those that it uses; other fetchers may use the same

    @property
    def engine(self) -> Engine:
        """The engine of this process."""
        here = engine(self._transport)
        if here is not self._engine:  # at first, and in a forked child
            self._engine, self._limiters, self._requests = here, {}, Requests(self.timeout)
        return here

    def read(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        *,
        deadline: Deadline | None = None,
        unless: ObjectInfo | None = None,
    ) -> Generator[Any, Any, Chunk]:
        """Bytes `start` to `stop` of an object; fewer only where it ends, none when `start` is behind its end.

        `deadline` holds for all attempts together; `timeout` from now by default.
        `unless` is a version that is known already: where the store can tell that it is still that, NotModified is
        raised and no byte is sent.
        Raises UnavailableError for what another attempt would not change, SetupError for faults of the caller's set-up,
        TransientError for the rest.
        """
        if deadline is None:
            deadline = Deadline(self.timeout)
        recovered = False
        attempt = invited = 0
        while True:
            try:
                if deadline.left <= 0:
                    raise TimeoutError
                chunk = yield from self._attempt(provider, location, start, stop, deadline, unless)
                self.bytes += len(chunk.data)
                return chunk
            except HttpStatusError as error:
                if not recovered and (yield from self._recover(provider, location, error, deadline)):
                    recovered = True
                    continue
                raise refusal(error) from None
            except TimeoutError:
                raise errors.TransientError(f"no answer within {self.timeout:g} s") from None
            except RetryableError as failure:
                if failure.timed_out and deadline.left <= 0:
                    raise errors.TransientError(f"no answer within {self.timeout:g} s") from None
                attempt += 1
                delay = FIRST_DELAY * 2 ** min(attempt - 1, ATTEMPTS) * random.uniform(0.5, 1.5)
                if failure.after:
                    # It asked to come again later, so that there is no end to it but the deadline.
                    invited += 1
                    delay = failure.after * random.uniform(1, 1.25)
                too_much = failure.after or failure.status in _TOO_MUCH
                if too_much and failure.crowded and not deadline.excused:
                    deadline.excused = True
                    deadline.at += delay
                    invited += not failure.after
                if attempt - invited >= ATTEMPTS or delay >= deadline.left:
                    tries = f"{attempt} attempts" if attempt > 1 else "1 attempt"
                    raise errors.TransientError(f"{failure} (after {tries})", status=failure.status) from None
                yield Delay(delay)

    def _recover(
        self, provider: Provider, location: Location, error: HttpStatusError, deadline: Deadline
    ) -> Generator[Any, Any, bool]:
        try:
            return bool(
                (yield Await(provider.recover(location, error.status, error.headers, error.body), deadline.left))
            )
        except TimeoutError:
            return False

    def _attempt(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        deadline: Deadline,
        unless: ObjectInfo | None,
    ) -> Generator[Any, Any, Chunk]:
        if not provider.has_http:
            return (yield from self._from_filesystem(provider, location, start, stop, deadline))
        request = provider.request_now(location)
        if request is None:
            request = yield Await(provider.request(location), deadline.left)
        if unless is not None:
            request = request.with_headers({**request.headers, **provider.condition(unless)})
        # Buckets have limits of their own, although they may be on one host.
        host = request.url[: request.url.find("/", 8)], location.container
        limiter = self._limiter(host, self._concurrency, FIRST_AT_CLOUD if provider.is_cloud else FIRST)
        place: Place | None = limiter.try_acquire()
        if place is None:
            place = yield Turn(limiter, deadline)
        try:
            guards = None if self._policy is None else self._policy.hops(location, provider.is_own)
            chunk = yield from self._requests.get(request, start, stop, guards=guards, place=place, total=deadline.left)
            place.on_success()
            return chunk
        except RetryableError as failure:
            failure.crowded = limiter.active > 1
            if failure.status in _TOO_MUCH:
                limiter.on_throttle(failure.after)
            elif failure.timed_out:
                limiter.on_timeout()
            raise
        except GeneratorExit:
            if deadline.left <= 0:
                limiter.on_timeout()
            raise
        except (NotModified, HttpStatusError):
            place.on_success()
            raise
        finally:
            place.release()

    def _limiter(self, host: Hashable, most: int, first: int) -> AdaptiveLimiter:
        limiter = self._limiters.get(host)
        if limiter is None:
            here = self.engine
            here.users.add(self)
            limiter = here.limiters.get((host, most))
            if limiter is None:
                limiter = here.limiters[host, most] = AdaptiveLimiter(here, most, first=first)
            self._limiters[host] = limiter
        return limiter

    def _from_filesystem(
        self, provider: Provider, location: Location, start: int, stop: int, deadline: Deadline
    ) -> Generator[Any, Any, Chunk]:
        limiter = self._limiter(location.scheme, threads.MOST, threads.MOST)
        place: Place | None = limiter.try_acquire()
        if place is None:
            place = yield Turn(limiter, deadline)
        place.on_connected()
        try:
            # The place is free only when the thread is: one that hangs is not to be had.
            chunk: Chunk = yield InThread(
                location.scheme, partial(provider.read, location, start, stop), deadline.left, place.release
            )
            limiter.on_success()
            return chunk
        except GeneratorExit:
            if deadline.left <= 0:
                limiter.on_timeout()
            raise
        except FileNotFoundError:
            raise errors.NotFound("no such file") from None
        except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
            text = error.strerror or str(error) or type(error).__name__
            kind = errors.Forbidden if isinstance(error, PermissionError) else errors.UnavailableError
            raise kind(text[:1].lower() + text[1:]) from None
        except TimeoutError:
            if deadline.left <= 0:
                limiter.on_timeout()
                raise
            raise RetryableError("timed out") from None
        except OSError as error:
            text = error.strerror or str(error) or type(error).__name__
            if error.errno is None or error.errno in _PASSING:
                raise RetryableError(text) from None
            raise errors.UnavailableError(text[:1].lower() + text[1:]) from None
        except ValueError as error:  # a NUL byte in a path
            raise errors.UnavailableError(str(error)) from None

    async def close(self) -> None:
        """Close connections that nobody else uses. The next read opens them again."""
        here, self._engine = self._engine, None
        self._limiters.clear()
        if here is not None and here is engine(self._transport):
            await asyncio.wrap_future(here.perform(here.leave, self))
