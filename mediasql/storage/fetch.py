"""The one place that moves bytes: attempts, the time limit, and which error each failure is."""

from __future__ import annotations

import asyncio
import errno
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from .. import errors
from ..config import Config
from . import threads
from .cache_control import forbids_storing
from .commons import commons
from .futures import shared_result
from .gate import Deadline, Gate
from .imports import importing
from .location import Location
from .providers.base import PART, Chunk, ObjectInfo, Provider, Request, changed

if TYPE_CHECKING:
    from multidict import MultiMapping

    from .policy import Policy
    from .web import Web

T = TypeVar("T")

ATTEMPTS = 4
VERSIONS = 3  # of an object that changes while it is read, before that is a failure
FIRST_DELAY = 0.25  # seconds; doubles with each attempt, with full jitter
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_TOO_MUCH = frozenset({429, 503})
# Failures of a file system that pass; others, such as a name that is too long, stay.
_PASSING = frozenset({errno.EIO, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ESTALE, errno.EMFILE, errno.ENFILE})
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9]{3,60})</Code>|\"(?:reason|code)\"\s*:\s*\"([A-Za-z0-9]{3,60})\"")


class Retry(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(
        self, message: str, *, status: int | None = None, after: float | None = None, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.after = after
        self.timed_out = timed_out
        self.crowded = False  # others of ours were there


class NotModified(Exception):
    """The object is still the version that the read was conditional on; `no_store` as in ObjectInfo."""

    def __init__(self, *, no_store: bool = False) -> None:
        super().__init__()
        self.no_store = no_store


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


class Refused(Exception):
    """The store answered, with a refusal."""

    def __init__(self, status: int, headers: MultiMapping[str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def error(self) -> errors.MediaError:
        """The error that it is to whoever asked."""
        error = self._error()
        error.no_store = forbids_storing(self.headers)
        return error

    def _error(self) -> errors.MediaError:
        code = _ERROR_CODE.search(self.body)
        detail = f" ({(code[1] or code[2]).decode()})" if code else ""
        message = f"{status_text(self.status)}{detail}"
        if self.status in (404, 410):
            return errors.NotFound(message, status=self.status)
        if self.status in (401, 403):
            return errors.Forbidden(message, status=self.status)
        return errors.UnavailableError(message, status=self.status)


class Fetcher:
    """Reads ranges of objects. Its coroutines run on the loop of `mediasql.storage.loop`."""

    def __init__(self, config: Config, policy: Policy | None = None) -> None:
        self.timeout = config.timeout
        self._policy = policy
        self.bytes = 0  # that arrived, for progress
        self._concurrency = config.concurrency
        self._web: Web | None = None
        self._gates: dict[Hashable, Gate] = {}  # those that it uses; other fetchers may use the same
        self._commons = commons()
        self._inherited: object = None

    async def read(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        *,
        deadline: Deadline | None = None,
        unless: ObjectInfo | None = None,
    ) -> Chunk:
        """Bytes `start` to `stop` of an object; fewer only where it ends, none when `start` is behind its end.

        `deadline` holds for all attempts together; `timeout` from now by default.
        `unless` is a version that is known already: where the store can tell that it is still that, NotModified is
        raised and no byte is sent.
        Raises UnavailableError for what another attempt would not change, TransientError for the rest.
        """
        if deadline is None:
            deadline = Deadline(self.timeout)
        recovered = False
        attempt = invited = 0
        while True:
            try:
                async with asyncio.timeout(deadline.left) as limit:
                    chunk = await self._attempt(provider, location, start, stop, _Limits(deadline, limit), unless)
                self.bytes += len(chunk.data)
                return chunk
            except Refused as refusal:
                if not recovered and await self._recover(provider, location, refusal, deadline):
                    recovered = True
                    continue
                raise refusal.error() from None
            except TimeoutError:
                raise errors.TransientError(f"no answer within {self.timeout:g} s") from None
            except Retry as failure:
                attempt += 1
                delay = FIRST_DELAY * 2 ** min(attempt - 1, ATTEMPTS) * random.uniform(0.5, 1.5)
                if failure.after:
                    # It asked to come again later, so that there is no end to it but the deadline.
                    invited += 1
                    delay = failure.after * random.uniform(1, 1.25)
                    if failure.crowded and not deadline.excused:
                        deadline.excused = True
                        deadline.at += delay
                if attempt - invited >= ATTEMPTS or delay >= deadline.left:
                    tries = f"{attempt} attempts" if attempt > 1 else "1 attempt"
                    raise errors.TransientError(f"{failure} (after {tries})", status=failure.status) from None
                await asyncio.sleep(delay)

    async def _recover(self, provider: Provider, location: Location, refusal: Refused, deadline: Deadline) -> bool:
        try:
            async with asyncio.timeout(deadline.left):
                return await provider.recover(location, refusal.status, refusal.headers, refusal.body)
        except TimeoutError:
            return False

    async def _attempt(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        limits: _Limits,
        unless: ObjectInfo | None,
    ) -> Chunk:
        if self._commons is not (here := commons()):  # this is a forked child, and what there is is the parent's
            self._inherited = self._web, self._gates  # connections complain when they are forgotten without a close
            self._commons, self._web, self._gates = here, None, {}
        request = await provider.request(location)
        if request is None:
            return await self._from_filesystem(provider, location, start, stop, limits)
        if self._web is None:
            began = time.monotonic()
            with importing("mediasql.storage.web"):
                from .web import web  # aiohttp takes 0.2 s to import, and local files do without

            limits.extend(time.monotonic() - began)
            self._web = web(self, timeout=self.timeout, connections=self._concurrency)
        if unless is not None:
            request = Request(request.url, {**request.headers, **provider.condition(unless)})
        # Buckets have limits of their own, although they may be on one host.
        host = request.url[: request.url.find("/", 8)], location.container
        gate = self._gate(host, self._concurrency)
        if not gate.passes():
            await limits.enter(gate)
        try:
            guards = None if self._policy is None else self._policy.hops(location, provider.is_own)
            chunk = await self._web.get(request, start, stop, guards)
            gate.answered()
            return chunk
        except Retry as failure:
            failure.crowded = gate.active > 1
            if failure.status in _TOO_MUCH:
                gate.refused(failure.after)
            elif failure.timed_out:
                gate.missed()
            raise
        except asyncio.CancelledError:
            if limits.deadline.left <= 0:
                gate.missed()
            raise
        except (NotModified, Refused):
            gate.answered()
            raise
        finally:
            gate.leave()

    def _gate(self, host: Hashable, most: int) -> Gate:
        gate = self._gates.get(host)
        if gate is None:
            gates = self._commons.gates
            gate = gates.get((host, most))
            if gate is None:
                gate = gates[host, most] = Gate(most)
            self._gates[host] = gate
        return gate

    async def _from_filesystem(
        self, provider: Provider, location: Location, start: int, stop: int, limits: _Limits
    ) -> Chunk:
        gate = self._gate(location.scheme, threads.MOST)
        if not gate.passes():
            await limits.enter(gate)
        reading = asyncio.get_running_loop().run_in_executor(
            threads.of(location.scheme), provider.read, location, start, stop
        )

        def done(reading: asyncio.Future[Chunk]) -> None:
            gate.leave()  # only now: a thread that hangs is not to be had, whether somebody still waits for it or not
            reading.exception()  # asyncio complains about those that nobody looked at

        reading.add_done_callback(done)
        try:
            return await shared_result(reading)
        except asyncio.CancelledError:
            if limits.deadline.left <= 0:
                gate.missed()
            raise
        except FileNotFoundError:
            raise errors.NotFound("no such file") from None
        except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
            text = error.strerror or str(error) or type(error).__name__
            kind = errors.Forbidden if isinstance(error, PermissionError) else errors.UnavailableError
            raise kind(text[:1].lower() + text[1:]) from None
        except TimeoutError:
            raise Retry("timed out") from None
        except OSError as error:
            text = error.strerror or str(error) or type(error).__name__
            if error.errno is None or error.errno in _PASSING:
                raise Retry(text) from None
            raise errors.UnavailableError(text[:1].lower() + text[1:]) from None
        except ValueError as error:  # a NUL byte in a path
            raise errors.UnavailableError(str(error)) from None
        finally:
            if reading.done():
                gate.answered()

    async def close(self) -> None:
        """Close connections that nobody else uses. The next read opens them again."""
        web, self._web = self._web, None
        self._gates.clear()
        if web is not None and self._commons is commons():
            await web.leave(self)


class _Limits:
    """How long an attempt may take: until the deadline of its object, which moves by what it waited at a gate."""

    __slots__ = ("_timeout", "deadline")

    def __init__(self, deadline: Deadline, timeout: asyncio.Timeout) -> None:
        self.deadline = deadline
        self._timeout = timeout

    async def enter(self, gate: Gate) -> None:
        """Wait at `gate`. Raises TimeoutError where its host seems dead."""
        self._timeout.reschedule(None)
        await gate.enter(self.deadline)
        self._restart()

    def extend(self, seconds: float) -> None:
        """Something took that time that is not the object's."""
        self.deadline.at += seconds
        self._restart()

    def _restart(self) -> None:
        self._timeout.reschedule(asyncio.get_running_loop().time() + self.deadline.left)


def status_text(status: int) -> str:
    """'404 Not Found' for 404; the bare number for a status without a name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
