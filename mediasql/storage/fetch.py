"""The one place that moves bytes: attempts, the time limit, and which error each failure is."""

from __future__ import annotations

import asyncio
import errno
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from .. import errors
from ..config import Config
from . import threads
from .gate import Gate
from .location import Location
from .providers.base import PART, Chunk, ObjectInfo, Provider, Request, changed

if TYPE_CHECKING:
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


class NotModified(Exception):
    """The object is still the version that the read was conditional on."""


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

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def error(self) -> errors.MediaError:
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
        self._gates: dict[tuple[str, str], Gate] = {}

    async def read(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        *,
        deadline: float | None = None,
        unless: ObjectInfo | None = None,
    ) -> Chunk:
        """Bytes `start` to `stop` of an object; fewer only where it ends, none when `start` is behind its end.

        `deadline` is a time.monotonic() that holds for all attempts together; `timeout` from now by default.
        `unless` is a version that is known already: where the store can tell that it is still that, NotModified is
        raised and no byte is sent.
        Raises UnavailableError for what another attempt would not change, TransientError for the rest.
        """
        if deadline is None:
            deadline = time.monotonic() + self.timeout
        recovered = False
        attempt = invited = 0
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    chunk = await self._attempt(provider, location, start, stop, deadline, unless)
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
                if attempt - invited >= ATTEMPTS or time.monotonic() + delay >= deadline:
                    tries = f"{attempt} attempts" if attempt > 1 else "1 attempt"
                    raise errors.TransientError(f"{failure} (after {tries})", status=failure.status) from None
                await asyncio.sleep(delay)

    async def _recover(self, provider: Provider, location: Location, refusal: Refused, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await provider.recover(location, refusal.status, refusal.headers, refusal.body)
        except TimeoutError:
            return False

    async def _attempt(
        self,
        provider: Provider,
        location: Location,
        start: int,
        stop: int,
        deadline: float,
        unless: ObjectInfo | None,
    ) -> Chunk:
        request = await provider.request(location)
        if request is None:
            return await self._from_filesystem(provider, location, start, stop)
        if self._web is None:
            from .web import Web  # aiohttp takes 0.2 s to import, and local files do without

            self._web = Web(timeout=self.timeout, connections=self._concurrency)
        if unless is not None:
            request = Request(request.url, {**request.headers, **provider.condition(unless)})
        host = location.scheme, location.container
        gate = self._gates.get(host)
        if gate is None:
            gate = self._gates[host] = Gate(self._concurrency)
        await gate.enter(deadline)
        try:
            guards = None if self._policy is None else self._policy.hops(location, provider.is_own)
            chunk = await self._web.get(request, start, stop, guards)
        except Retry as failure:
            if failure.status in _TOO_MUCH or failure.timed_out:
                gate.refused(failure.after)
            raise
        except asyncio.CancelledError:
            if time.monotonic() >= deadline:
                gate.refused()
            raise
        except NotModified:
            gate.answered()
            raise
        finally:
            gate.leave()
        gate.answered()
        return chunk

    async def _from_filesystem(self, provider: Provider, location: Location, start: int, stop: int) -> Chunk:
        try:
            return await threads.run(location.scheme, partial(provider.read, location, start, stop))
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

    async def close(self) -> None:
        """Close all connections. The next read opens them again."""
        if self._web is not None:
            await self._web.close()


def status_text(status: int) -> str:
    """'404 Not Found' for 404; the bare number for a status without a name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
