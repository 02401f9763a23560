"""HTTP as the fetcher needs it: one GET of a range, and whether the answer is what was asked for."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Hashable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urldefrag, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass
from weakref import WeakSet

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from .. import __version__, errors
from . import loop
from .address import check_addresses, proxied
from .cache_control import forbids_storing
from .commons import commons
from .fetch import RETRY_STATUS, NotModified, Refused, Retry, status_text
from .providers.base import Chunk, ObjectInfo, Request, iso_time
from .providers.http import encoded
from .wire import Reply, Wire

if TYPE_CHECKING:
    from multidict import MultiMapping

CONNECT_TIMEOUT = 10.0  # seconds
SILENCE_TIMEOUT = 30.0  # seconds without a byte on an open connection
MOST_REDIRECTS = 10
AGENT = f"mediasql/{__version__}"

_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*$", re.IGNORECASE)
_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d) GMT")
_MONTHS = dict(
    zip(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        (f"{number:02}" for number in range(1, 13)),
        strict=True,
    )
)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# What aiohttp decodes; anything else, such as the 'aws-chunked' that uploads leave behind, changes no byte.
_ENCODINGS = frozenset({"gzip", "x-gzip", "deflate", "br", "zstd"})
_CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})
# Headers that follow a redirect to another host. Any other may hold a secret: options name headers as they like.
_PUBLIC = _CONDITIONS | {"Range", "Accept-Encoding"}

Response = Reply | aiohttp.ClientResponse


class PublicResolver(aiohttp.ThreadedResolver):
    """Resolves names to public addresses only, which are then the ones that are connected to.

    aiohttp does not ask it for what is an address already. Raises ForbiddenByPolicy.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        check_addresses(host, (result["host"] for result in found))
        return found


class Web:
    """GETs over one pool of connections, on the loop that first uses it.

    silence      seconds without a byte after which an answer is given up
    connect      seconds that a connection may take
    connections  that are kept, at most
    """

    def __init__(self, *, silence: float, connect: float, connections: int) -> None:
        self._silence, self._connect = silence, connect
        self._connections = connections
        self.users: WeakSet[Hashable] = WeakSet()
        # By whether they are guarded: connections, and addresses that are known, are of one kind or the other.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._wires: dict[bool, Wire] = {}
        self._proxies: dict[str, str] = {}

    async def get(self, request: Request, start: int, stop: int, guards: Callable[[str], bool] | None = None) -> Chunk:
        """Bytes `start` to `stop`, fewer only where the object ends.

        `guards` is called with the URL and with each that it redirects to, and tells whether only public addresses are
        connected to. Raises ForbiddenByPolicy where it does, NotModified where the condition in the request's headers
        says so, Retry for what another attempt may change, Refused for the refusals of the server, UnavailableError
        for a request that cannot be made.
        """
        try:
            return await self._get(request, start, stop, guards)
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise errors.UnavailableError(f"no secure connection: {error}") from None
        except aiohttp.ServerTimeoutError as error:
            raise Retry(f"timed out: {error}", timed_out=True) from None
        except aiohttp.ClientPayloadError:
            raise Retry("the connection broke before the body was complete") from None
        except aiohttp.ClientResponseError as error:
            raise Retry(f"not a valid HTTP answer: {error.message}") from None
        except ValueError as error:  # aiohttp.InvalidURL, and whatever yarl, idna and http.parser think of a URL
            raise errors.UnavailableError(f"not a URL that can be requested: {error}") from None
        except aiohttp.ClientError as error:
            raise Retry(str(error) or type(error).__name__) from None

    def _plain(self, guarded: bool) -> Wire:
        wire = self._wires.get(guarded)
        if wire is None or wire.closed or wire.loop is not asyncio.get_running_loop():
            self._proxies = getproxies()
            wire = self._wires[guarded] = Wire(
                most=self._connections,
                silence=self._silence,
                connect=self._connect,
                agent=AGENT,
                guarded=guarded,
            )
            loop.close_with(self, wire)
        return wire

    def _client(self, guarded: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(guarded)
        if session is None or session.closed:
            resolver = PublicResolver() if guarded else None
            session = self._sessions[guarded] = aiohttp.ClientSession(
                # Without a limit: waiting for a place here would take the time of an object.
                connector=aiohttp.TCPConnector(limit=0, resolver=resolver),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect, sock_read=self._silence),
                headers={"User-Agent": AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            loop.close_with(self, session)
        return session

    def _proxy(self, url: str) -> str | None:
        """The proxy of the environment for `url`. With trust_env, aiohttp would start two threads for each request."""
        if not self._proxies:
            return None
        parts = urlsplit(url)
        proxy = self._proxies.get(parts.scheme)
        return None if proxy is None or proxy_bypass(parts.hostname or "") else proxy

    async def _get(
        self,
        request: Request,
        start: int,
        stop: int,
        guards: Callable[[str], bool] | None,
        *,
        by_range: bool = True,
    ) -> Chunk:
        headers = {"Accept-Encoding": "identity", **request.headers}
        if by_range:
            headers["Range"] = f"bytes={start}-{stop - 1}"
        response = await self._answer(request.url, headers, start, stop, guards)
        try:
            status = response.status
            if status in RETRY_STATUS:
                raise Retry(status_text(status), status=status, after=_retry_after(response.headers))
            unit = _CONTENT_RANGE.match(response.headers.get("Content-Range", ""))
            if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start >= (_total(unit) or 0):
                size = _total(unit) if unit else (0 if start == 0 else None)
                return Chunk(b"", start, object_info(response.headers, size))
            if status == HTTPStatus.NOT_MODIFIED and _CONDITIONS & set(headers):
                raise NotModified(no_store=forbids_storing(response.headers))
            if not 200 <= status < 300:
                raise Refused(status, response.headers, (await _read(response, 0, 4096))[0])
            # Some servers answer 200 with a Content-Range, and mean 206.
            if unit and unit[1] and not _is_encoded(response):
                return await _part(response, unit, start, stop)
            if status != HTTPStatus.PARTIAL_CONTENT:
                return await _whole(response, start, stop)
            if not by_range or not _is_encoded(response):
                raise Retry("206 Partial Content without saying which part", status=status)
        finally:
            if not isinstance(response, Reply):
                response.release()
        # A part of a compressed object cannot be decompressed, the whole can.
        return await self._get(request, start, stop, guards, by_range=False)

    async def _answer(
        self, url: str, headers: dict[str, str], start: int, stop: int, guards: Callable[[str], bool] | None
    ) -> Response:
        """The answer to a GET, behind its redirects. They are followed here since aiohttp respells their URLs, which
        breaks signatures."""
        for hop in range(MOST_REDIRECTS + 1):
            try:
                guarded = guards is not None and guards(url)
            except errors.ForbiddenByPolicy as refusal:
                raise (refusal.again(f"redirected to {url}: {refusal}") if hop else refusal) from None
            wire = self._plain(guarded)  # before `_proxy`, since it reads the environment
            proxy = self._proxy(url)
            if guarded and proxy is not None:
                raise proxied()
            response: Response | None = None
            if proxy is None:
                response = await wire.get(url, headers, start, stop)
            if response is None:
                response = await self._client(guarded).get(
                    URL(url, encoded=True), headers=headers, allow_redirects=False, proxy=proxy
                )
                if proxy is None:
                    wire.learn(url, response)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                return response
            if not isinstance(response, Reply):
                response.release()
            before, url = url, urldefrag(encoded(urljoin(url, target))).url
            if urlsplit(url).scheme not in ("http", "https"):
                raise errors.UnavailableError(f"redirected to {url}, which is not a web address")
            if urlsplit(url)[:2] != urlsplit(before)[:2]:
                headers = {name: value for name, value in headers.items() if name in _PUBLIC}
        raise errors.UnavailableError(f"more than {MOST_REDIRECTS} redirects")

    async def leave(self, user: Hashable) -> None:
        """Close all connections, unless another uses them."""
        self.users.discard(user)
        if self.users:
            return
        # Who comes meanwhile opens others.
        sessions, self._sessions = self._sessions, {}
        wires, self._wires = self._wires, {}
        for session in sessions.values():
            await session.close()
        for wire in wires.values():
            await wire.close()


def web(user: Hashable, *, timeout: float, connections: int) -> Web:
    """The Web for a user who gives an object `timeout` seconds; others may use the same."""
    # Half of the time at most, so that there is time for another attempt.
    silence, connect = min(SILENCE_TIMEOUT, timeout / 2), min(CONNECT_TIMEOUT, timeout / 2)
    key = silence, connect, connections, tuple(sorted(getproxies().items()))
    webs = commons().webs
    found = webs.get(key)
    if found is None:
        found = webs[key] = Web(silence=silence, connect=connect, connections=connections)
    found.users.add(user)
    return found


async def _part(response: Response, unit: re.Match[str], start: int, stop: int) -> Chunk:
    """The body of an answer to a range request (RFC 9110 section 15.3.7)."""
    first, last, total = int(unit[1]), int(unit[2]), _total(unit)
    if first != start or last < first:
        raise Retry(f"asked for bytes {start}-{stop - 1}, answered with {unit[0]!r}", status=response.status)
    wanted = min(last + 1, stop) - start
    if isinstance(response, Reply):
        data = response.data[:wanted]
    elif last < stop and response.content_length == wanted:
        data = await response.read()
    else:
        data, _ = await _read(response, 0, wanted)
    end = stop if total is None else min(stop, total)
    if len(data) < wanted or (total is not None and start + len(data) < end):
        raise Retry(f"sent {len(data)} of {max(wanted, end - start)} bytes", status=response.status)
    declared = response.content_length
    if declared is not None and declared != last + 1 - first:
        raise Retry(f"sent {declared} bytes and called them {unit[0]!r}", status=response.status)
    return Chunk(data, start, object_info(response.headers, total))


async def _whole(response: Response, start: int, stop: int) -> Chunk:
    """The range asked for, out of a body that is the whole object: the server knows no ranges."""
    # aiohttp decodes it; Content-Length is of the encoded form.
    total = None if _is_encoded(response) else response.content_length
    data, seen = await _read(response, start, stop)
    ended = seen < stop
    if ended and total is not None and seen < total:
        raise Retry(f"sent {seen} of {total} bytes", status=response.status)
    if not ended and not isinstance(response, Reply):
        response.close()  # the rest of the body is not wanted, and reading it costs more than a new connection
    return Chunk(data, start, object_info(response.headers, seen if ended else total), ranged=False)


async def _read(response: Response, start: int, stop: int) -> tuple[bytes, int]:
    """Bytes `start` to `stop` of the body, fewer where it ends, and how many were seen to get there."""
    if isinstance(response, Reply):
        return response.data[start:stop], len(response.data)
    parts = []
    seen = 0
    while seen < stop and (part := await response.content.read(stop - seen)):
        if seen + len(part) > start:  # what comes before is not kept: it may be gigabytes
            parts.append(part[max(0, start - seen) :])
        seen += len(part)
    return b"".join(parts), seen


def _is_encoded(response: Response) -> bool:
    return response.headers.get("Content-Encoding", "").strip().lower() in _ENCODINGS


def object_info(headers: MultiMapping[str], size: int | None) -> ObjectInfo:
    """What response headers tell about the object."""
    mime_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return ObjectInfo(
        size=size,
        last_modified=http_date(headers.get("Last-Modified")),
        etag=headers.get("ETag", "").removeprefix("W/").strip('"') or None,
        mime_type=mime_type or None,
        no_store=forbids_storing(headers),
    )


def http_date(text: str | None) -> str | None:
    """An HTTP date (RFC 9110 section 5.6.7) in ISO 8601; None where there is none that can be read."""
    if not text:
        return None
    if (usual := _IMF_FIXDATE.fullmatch(text)) and (month := _MONTHS.get(usual[2])):
        return f"{usual[3]}-{month}-{usual[1]}T{usual[4]}Z"  # a tenth of the time of parsing it
    try:
        return iso_time(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


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
