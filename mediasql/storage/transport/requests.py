"""What is asked of web servers: one GET of a range, behind redirects; or any one request."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urldefrag, urljoin, urlsplit

from ...errors import Forbidden, ForbiddenByPolicy, MediaError, NotFound, UnavailableError
from ..address import proxied
from ..cache_control import forbids_storing
from ..providers.base import Chunk, ObjectInfo, Request, changed, iso_time
from ..urls import encoded
from . import certificates
from .exchange import Exchange, Headers, Response, RetryableError, Tls
from .limiter import Place
from .proxies import Proxies

CONNECT_TIMEOUT = 10.0  # seconds
SILENCE_TIMEOUT = 30.0  # seconds without a byte on an open connection
MAX_REDIRECTS = 10
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})

_CONTENT_RANGE = re.compile(r"bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(\d{1,18}|\*)\s*$", re.IGNORECASE)
_IMF_FIXDATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d:\d\d:\d\d) GMT")
_MONTHS = dict(
    zip(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
        (f"{number:02}" for number in range(1, 13)),
        strict=True,
    )
)
_ERROR_CODE = re.compile(rb"<Code>([A-Za-z0-9]{3,60})</Code>|\"(?:reason|code)\"\s*:\s*\"([A-Za-z0-9]{3,60})\"")
_KINDS: dict[int, type[MediaError]] = {404: NotFound, 410: NotFound, 401: Forbidden, 403: Forbidden}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONDITIONS = frozenset({"If-None-Match", "If-Modified-Since"})
# Headers that follow a redirect to another host. Any other may hold a secret: options name headers as they like.
_PUBLIC = _CONDITIONS | {"Range", "Accept-Encoding"}

Guard = Callable[[str], bool]
Sending = Generator[Any, Response, Response]


class NotModified(Exception):
    """The object is still the version that the read was conditional on; `no_store` as in ObjectInfo."""

    def __init__(self, *, no_store: bool = False) -> None:
        super().__init__()
        self.no_store = no_store


class HttpStatusError(Exception):
    """The server answered with a status that is no success, and is not worth another attempt."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status_text(status))
        self.status = status
        self.headers = headers
        self.body = body


class Requests:
    """Makes requests with one set of time limits, and the proxies and certificates of the environment as it is now.

    connect  seconds that a connection may take
    silence  seconds without a byte after which an answer is given up
    """

    def __init__(self, timeout: float) -> None:
        # Half of the time at most, so that there is time for another attempt.
        self.connect, self.silence = min(CONNECT_TIMEOUT, timeout / 2), min(SILENCE_TIMEOUT, timeout / 2)
        self._proxies = Proxies()
        self._tls: Tls = certificates.from_environment()

    def send(
        self,
        request: Request,
        *,
        method: str = "GET",
        data: bytes | None = None,
        start: int = 0,
        stop: int = 1 << 62,
        guards: Guard | None = None,
        place: Place | None = None,
        total: float = 300.0,
        redirects: int = 0,
    ) -> Sending:
        """The response to a request, behind its redirects. They are followed here, since policy looks at each, and
        secrets do not follow to other hosts.

        `guards` is called with each URL, and tells whether only public addresses are connected to. Raises
        ForbiddenByPolicy where it does, RetryableError, SetupError, and UnavailableError for what cannot be requested.
        """
        url, headers = request.url, dict(request.headers)
        tls = request.tls or self._tls
        ends = time.monotonic() + total
        for hop in range(redirects + 1):
            try:
                public_only = guards is not None and guards(url)
            except ForbiddenByPolicy as refusal:
                raise (refusal.again(f"redirected to {url}: {refusal}") if hop else refusal) from None
            proxy = self._proxies.of(url)
            if public_only and proxy is not None:
                raise proxied()
            response = yield Exchange(
                url,
                headers,
                start,
                stop,
                method,
                data,
                public_only,
                proxy,
                tls,
                self.connect,
                self.silence,
                ends - time.monotonic(),
                place,
            )
            target = response.headers.get("location")
            if response.status not in _REDIRECTS or target is None or not redirects:
                return response
            before, url = url, urldefrag(encoded(urljoin(url, target))).url
            if urlsplit(url).scheme not in ("http", "https"):
                raise UnavailableError(f"redirected to {url}, which is not a web address")
            if urlsplit(url)[:2] != urlsplit(before)[:2]:
                headers = {name: value for name, value in headers.items() if name in _PUBLIC}
                host = urlsplit(url).hostname or ""
                if request.authorise is not None and (authorisation := request.authorise(host)):
                    headers["Authorization"] = authorisation
        raise UnavailableError(f"more than {redirects} redirects")

    def get(
        self,
        request: Request,
        start: int,
        stop: int,
        *,
        guards: Guard | None = None,
        place: Place | None = None,
        total: float = 300.0,
    ) -> Generator[Any, Response, Chunk]:
        """Bytes `start` to `stop` of what a GET gives, fewer only where the object ends.

        Raises as `send` does, NotModified where the condition in the request's headers says so, and HttpStatusError for
        the refusals of the server.
        """
        ends = time.monotonic() + total
        found: Chunk | None = None
        by_range = True
        while True:
            at = start if found is None else start + len(found.data)
            headers = {"Accept-Encoding": "identity", **request.headers}
            if by_range:
                headers["Range"] = f"bytes={at}-{stop - 1}"
            response = yield from self.send(
                request.with_headers(headers),
                start=at,
                stop=stop,
                guards=guards,
                place=place,
                total=ends - time.monotonic(),
                redirects=MAX_REDIRECTS,
            )
            chunk = _chunk(response, headers, at, stop, by_range=by_range)
            if chunk is None:
                by_range = False
                continue
            found = chunk if found is None else _joined(found, chunk)
            # A server may send less than was asked for (RFC 9110 section 15.3.7), and the rest on another request.
            size = found.info.size
            reached = start + len(found.data)
            if not chunk.data or not chunk.ranged or reached >= (stop if size is None else min(stop, size)):
                return found


def _joined(first: Chunk, rest: Chunk) -> Chunk:
    """A chunk and the one behind it. Raises RetryableError where they are of different versions."""
    if changed(first.info, rest.info):
        raise RetryableError("the object changed while it was read")
    size = first.start + len(first.data) if first.info.size is None and not rest.data else first.info.size
    return replace(first, data=first.data + rest.data, info=replace(first.info, size=size))


def _chunk(response: Response, headers: Mapping[str, str], start: int, stop: int, *, by_range: bool) -> Chunk | None:
    """What a response to a GET of a range gives; None where it has to be asked without one."""
    status = response.status
    if status in RETRY_STATUS:
        raise RetryableError(status_text(status), status=status, after=retry_after(response.headers))
    unit = _CONTENT_RANGE.match(response.headers.get("content-range") or "")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and by_range:
        size = _total(unit)
        if size is None or start < size:
            return None  # it refuses a range that there is, or does not say: some know no ranges at all
        return Chunk(b"", start, object_info(response.headers, size))
    if status == HTTPStatus.NOT_MODIFIED and _CONDITIONS & set(headers):
        raise NotModified(no_store=forbids_storing(response.headers))
    if not 200 <= status < 300:
        raise HttpStatusError(status, response.headers, response.body)
    # Some servers answer 200 with a Content-Range, and mean 206.
    if unit and unit[1] and not response.coded:
        return _part(response, unit, start, stop)
    if status != HTTPStatus.PARTIAL_CONTENT:
        return _whole(response, start, stop)
    kind = (response.headers.get("content-type") or "").lower()
    if by_range and (response.coded or kind.startswith("multipart/byteranges")):
        return None  # a part of a coded object cannot be decoded, the whole can; and several parts were not asked for
    raise RetryableError("206 Partial Content without saying which part", status=status)


def _part(response: Response, unit: re.Match[str], start: int, stop: int) -> Chunk:
    """The body of an answer to a range request (RFC 9110 section 15.3.7)."""
    first, last, total = int(unit[1]), int(unit[2]), _total(unit)
    if first != start or last < first:
        raise RetryableError(f"asked for bytes {start}-{stop - 1}, answered with {unit[0]!r}", status=response.status)
    wanted = min(last + 1, stop) - start
    data = response.body[:wanted]
    if len(data) < wanted:
        raise RetryableError(f"sent {len(data)} of {wanted} bytes", status=response.status)
    declared = response.length
    if declared is not None and declared != last + 1 - first:
        raise RetryableError(f"sent {declared} bytes and called them {unit[0]!r}", status=response.status)
    return Chunk(data, start, object_info(response.headers, total))


def _whole(response: Response, start: int, stop: int) -> Chunk:
    """The range asked for, out of a body that is the whole object: the server knows no ranges."""
    ended = response.received < stop
    total = response.length
    if ended and total is not None and response.received < total:
        raise RetryableError(f"sent {response.received} of {total} bytes", status=response.status)
    info = object_info(response.headers, response.received if ended else total)
    return Chunk(response.body, start, info, ranged=False)


def refusal(error: HttpStatusError) -> MediaError:
    """Return what a refusal of a store means for the object."""
    code = _ERROR_CODE.search(error.body)
    detail = f" ({(code[1] or code[2]).decode()})" if code else ""
    kind = _KINDS.get(error.status, UnavailableError)
    found = kind(f"{status_text(error.status)}{detail}", status=error.status)
    found.no_store = forbids_storing(error.headers)
    return found


def object_info(headers: Mapping[str, str], size: int | None) -> ObjectInfo:
    """Return what response headers tell about the object."""
    mime_type = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    return ObjectInfo(
        size=size,
        last_modified=http_date(headers.get("last-modified")),
        etag=(headers.get("etag") or "").removeprefix("W/").strip('"') or None,
        mime_type=mime_type or None,
        no_store=forbids_storing(headers),
    )


def http_date(text: str | None) -> str | None:
    """Return an HTTP date (RFC 9110 section 5.6.7) in ISO 8601; None where there is none that can be read."""
    if not text:
        return None
    if (usual := _IMF_FIXDATE.fullmatch(text)) and (month := _MONTHS.get(usual[2])):
        return f"{usual[3]}-{month}-{usual[1]}T{usual[4]}Z"  # a tenth of the time of parsing it
    try:
        return iso_time(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, OSError):
        return None


def status_text(status: int) -> str:
    """Return '404 Not Found' for 404; the bare number for a status without a name."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def retry_after(headers: Headers | Mapping[str, str]) -> float | None:
    """Return the seconds to wait that the server asks for (RFC 9110 section 10.2.3)."""
    value = (headers.get("retry-after") or "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _total(unit: re.Match[str] | None) -> int | None:
    return int(unit[3]) if unit and unit[3] != "*" else None
