"""The one place that moves bytes: ranges, timeouts, retries, and whether an answer is what was asked for."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import aiohttp
from yarl import URL

from .. import errors
from ..config import Config
from .location import Location
from .providers.base import Chunk, ObjectInfo, Provider, Request, iso_time

ATTEMPTS = 4
FIRST_DELAY = 0.25  # seconds; doubles with each attempt, with full jitter
CONNECT_TIMEOUT = 10.0  # seconds
SILENCE_TIMEOUT = 30.0  # seconds without a byte on an open connection

_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d+)-(\d+)|\*)/(\d+|\*)", re.IGNORECASE)
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9]{3,60})</Code>|\"(?:reason|code)\"\s*:\s*\"([A-Za-z0-9]{3,60})\"")


class _Retry(Exception):
    """An attempt failed in a way that another may not."""

    def __init__(self, message: str, *, status: int | None = None, after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.after = after


class _Refused(Exception):
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

    def __init__(self, config: Config) -> None:
        self.timeout = config.timeout
        self._concurrency = config.concurrency
        self._session: aiohttp.ClientSession | None = None

    async def read(
        self, provider: Provider, location: Location, start: int, stop: int, *, deadline: float | None = None
    ) -> Chunk:
        """Bytes `start` to `stop` of an object; fewer only where it ends, none when `start` is behind its end.

        `deadline` is a time.monotonic() that holds for all attempts together; `timeout` from now by default.
        Raises UnavailableError for what another attempt would not change, TransientError for the rest.
        """
        if deadline is None:
            deadline = time.monotonic() + self.timeout
        recovered = False
        attempt = 0
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._attempt(provider, location, start, stop)
            except _Refused as refusal:
                if not recovered and await self._recover(provider, location, refusal, deadline):
                    recovered = True
                    continue
                raise refusal.error() from None
            except TimeoutError:
                raise errors.TransientError(f"no answer within {self.timeout:g} s") from None
            except _Retry as failure:
                attempt += 1
                delay = FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1.5)
                if failure.after is not None:
                    delay = max(delay, failure.after)
                if attempt == ATTEMPTS or time.monotonic() + delay >= deadline:
                    tries = f"{attempt} attempts" if attempt > 1 else "1 attempt"
                    raise errors.TransientError(f"{failure} (after {tries})", status=failure.status) from None
                await asyncio.sleep(delay)

    async def _recover(self, provider: Provider, location: Location, refusal: _Refused, deadline: float) -> bool:
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await provider.recover(location, refusal.status, refusal.headers, refusal.body)
        except TimeoutError:
            return False

    async def _attempt(self, provider: Provider, location: Location, start: int, stop: int) -> Chunk:
        request = await provider.request(location)
        if request is None:
            return await self._from_filesystem(provider, location, start, stop)
        try:
            return await self._from_http(request, start, stop)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise errors.UnavailableError(f"not a URL that can be requested: {error}") from None
        except aiohttp.TooManyRedirects:
            raise errors.UnavailableError("more than 10 redirects") from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise errors.UnavailableError(f"no secure connection: {error}") from None
        except aiohttp.ServerTimeoutError as error:
            raise _Retry(f"timed out: {error}") from None
        except aiohttp.ClientPayloadError:
            raise _Retry("the connection broke before the body was complete") from None
        except aiohttp.ClientResponseError as error:
            raise _Retry(f"not a valid HTTP answer: {error.message}") from None
        except aiohttp.ClientError as error:
            raise _Retry(str(error) or type(error).__name__) from None

    async def _from_filesystem(self, provider: Provider, location: Location, start: int, stop: int) -> Chunk:
        try:
            return await asyncio.to_thread(provider.read, location, start, stop)
        except FileNotFoundError:
            raise errors.NotFound("no such file") from None
        except (PermissionError, IsADirectoryError, NotADirectoryError) as error:
            text = error.strerror or str(error) or type(error).__name__
            kind = errors.Forbidden if isinstance(error, PermissionError) else errors.UnavailableError
            raise kind(text[:1].lower() + text[1:]) from None
        except TimeoutError:
            raise _Retry("timed out") from None
        except OSError as error:
            raise _Retry(error.strerror or str(error) or type(error).__name__) from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._concurrency),
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=min(CONNECT_TIMEOUT, self.timeout),
                    sock_read=min(SILENCE_TIMEOUT, self.timeout),
                ),
                trust_env=True,  # proxies and .netrc, as other tools honour them
            )
        return self._session

    async def _from_http(self, request: Request, start: int, stop: int) -> Chunk:
        headers = {"Accept-Encoding": "identity", **request.headers, "Range": f"bytes={start}-{stop - 1}"}
        async with self._client().get(URL(request.url, encoded=True), headers=headers) as response:
            status = response.status
            if status in _RETRY_STATUS:
                raise _Retry(status_text(status), status=status, after=_retry_after(response.headers))
            unit = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start >= (_total(unit) or 0):
                return Chunk(b"", start, object_info(response.headers, _total(unit)))
            if not 200 <= status < 300:
                raise _Refused(status, response.headers, await response.content.read(4096))
            # Some servers answer 200 with a Content-Range, and mean 206.
            if unit and unit[1]:
                return await _part(response, unit, start, stop)
            if status == HTTPStatus.PARTIAL_CONTENT:
                raise _Retry("206 Partial Content without saying which part", status=status)
            return await _whole(response, start, stop)

    async def close(self) -> None:
        """Close all connections. The next read opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _part(response: aiohttp.ClientResponse, unit: re.Match[str], start: int, stop: int) -> Chunk:
    """The body of an answer to a range request (RFC 9110 section 15.3.7)."""
    first, last, total = int(unit[1]), int(unit[2]), _total(unit)
    if first != start or last < first or "Content-Encoding" in response.headers:
        raise _Retry(f"asked for bytes {start}-{stop - 1}, answered with {unit[0]!r}", status=response.status)
    wanted = min(last + 1, stop) - start
    data = await _read(response, wanted)
    end = stop if total is None else min(stop, total)
    if len(data) < wanted or (total is not None and start + len(data) < end):
        raise _Retry(f"sent {len(data)} of {max(wanted, end - start)} bytes", status=response.status)
    declared = response.content_length
    if declared is not None and declared != last + 1 - first:
        raise _Retry(f"sent {declared} bytes and called them {unit[0]!r}", status=response.status)
    return Chunk(data, start, object_info(response.headers, total))


async def _whole(response: aiohttp.ClientResponse, start: int, stop: int) -> Chunk:
    """The range asked for, out of a body that is the whole object: the server knows no ranges."""
    encoded = "Content-Encoding" in response.headers  # aiohttp decodes it; Content-Length is of the encoded form
    total = None if encoded else response.content_length
    data = await _read(response, stop)
    ended = len(data) < stop
    if ended and total is not None and len(data) < total:
        raise _Retry(f"sent {len(data)} of {total} bytes", status=response.status)
    if not ended:
        response.close()  # the rest of the body is not wanted, and reading it costs more than a new connection
    return Chunk(data[start:], start, object_info(response.headers, len(data) if ended else total))


async def _read(response: aiohttp.ClientResponse, wanted: int) -> bytes:
    """The first `wanted` bytes of the body; fewer where it ends."""
    parts = []
    while wanted > 0:
        part = await response.content.read(wanted)
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    return b"".join(parts)


def object_info(headers: Mapping[str, str], size: int | None) -> ObjectInfo:
    """What response headers tell about the object."""
    mime_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return ObjectInfo(
        size=size,
        last_modified=http_date(headers.get("Last-Modified")),
        etag=headers.get("ETag", "").removeprefix("W/").strip('"') or None,
        mime_type=mime_type or None,
    )


def http_date(text: str | None) -> str | None:
    """An HTTP date (RFC 9110 section 5.6.7) in ISO 8601; None where there is none that can be read."""
    if not text:
        return None
    try:
        return iso_time(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def status_text(status: int) -> str:
    """'404 Not Found' for 404; the bare number for a status without a name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _total(unit: re.Match[str] | None) -> int | None:
    return int(unit[3]) if unit and unit[3] != "*" else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait as the server asks (RFC 9110 section 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
