"""One HTTP request, and the part of its response that is wanted: what the transports share, without I/O."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from .jobs import Engine, Job
    from .limiter import Place

MAX_ERROR_BODY_BYTES = 4096
UNLIMITED = 1 << 62

_STATUS_LINE = re.compile(rb"HTTP/(\d(?:\.\d)?) ([1-9]\d\d)(?: |\r?\n|$)")
_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_UNCODED = frozenset({"", "identity", "aws-chunked"})  # the last is what uploads to S3 leave behind; it changes no byte


class RetryableError(Exception):
    """An attempt failed in a way that another attempt may not.

    status     the HTTP status, where one was received
    after      seconds to wait before the next attempt, where the server said so
    timed_out  nothing arrived in time
    crowded    other requests of ours were under way at that host
    """

    def __init__(
        self, message: str, *, status: int | None = None, after: float | None = None, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.after = after
        self.timed_out = timed_out
        self.crowded = False


class Headers(dict[str, str]):
    """Header fields by name in lower case; the values of repeated fields are joined (RFC 9110 section 5.3)."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Headers:
        found = cls()
        for name, value in pairs:
            lower = name.lower()
            found[lower] = f"{dict.__getitem__(found, lower)}, {value}" if lower in found else value
        return found

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]
        return dict.get(self, name.lower(), default)


@dataclass(frozen=True, slots=True)
class Tls:
    """What certificates of servers are checked against. Paths of PEM files; None stands for the system's."""

    verify: bool = True
    ca_file: str | None = None
    ca_dir: str | None = None
    client_cert: str | None = None
    client_key: str | None = None


@dataclass(slots=True, eq=False)
class Exchange:
    """A request, ready to be sent as it is.

    start, stop        the bytes of the body that are wanted, where the response is the whole object; where it is a
                       part, as many of its first bytes
    public_only        only public addresses may be connected to
    place              at the host, told of connections
    proxy              the URL of the proxy to go through, None for none
    connect_timeout    seconds until there is a connection
    silence_timeout    seconds without a byte
    total_timeout      seconds for all of it
    """

    url: str
    headers: Mapping[str, str]
    start: int = 0
    stop: int = UNLIMITED
    method: str = "GET"
    data: bytes | None = None
    public_only: bool = False
    proxy: str | None = None
    tls: Tls = field(default_factory=Tls)
    connect_timeout: float = 10.0
    silence_timeout: float = 30.0
    total_timeout: float = 300.0
    place: Place | None = None
    response: Response | None = None
    _handle: object = None

    @property
    def host(self) -> str:
        """The host that the URL names."""
        return urlsplit(self.url).hostname or ""

    def begin(self, engine: Engine, job: Job) -> None:
        """See `jobs.Operation`; the job is sent the Response."""
        self._handle = engine.send(self, job)

    def cancel(self, engine: Engine) -> None:
        """Give the request up."""
        engine.abort(self, self._handle)


class Response:
    """A response, and what was wanted of its body.

    body      the bytes wanted, content codings removed
    received  bytes of the body that arrived before it ended or was cut off, content codings removed
    ended     the body ended; False where the rest was not wanted
    length    its Content-Length; None where there was none, or where it is that of a coded body
    coded     a content coding was removed
    """

    __slots__ = (
        *("body", "coded", "ended", "headers", "length", "received", "status"),
        *("_decoder", "_end", "_first", "_parts", "_start"),
    )

    def __init__(self, status: int, headers: Headers, exchange: Exchange, *, version: str = "1.1") -> None:
        self.status = status
        self.headers = headers
        self.body = b""
        self.received = 0
        self.ended = False
        connection = headers.get("connection", "") or ""
        if exchange.place is not None:
            token = connection.lower()
            exchange.place.on_head(
                reusable="keep-alive" in token if version == "1.0" else "close" not in token,
                multiplexed=version[0] in "23",
            )
        coding = (headers.get("content-encoding") or "").strip().lower()
        self.coded = coding in _DECODED
        if not self.coded and coding not in _UNCODED and status < 300:
            raise RetryableError(f"the server sent it in the Content-Encoding {coding!r}, which was not asked for")
        self._decoder = _Decoder(coding) if self.coded else None
        self.length = None if self.coded else _length(headers)
        self._parts: list[bytes] = []
        if status == 206 or (status < 300 and "content-range" in headers):
            self._start, self._end = 0, exchange.stop - exchange.start
        elif status < 300:
            self._start, self._end = exchange.start, exchange.stop
        else:
            self._start, self._end = 0, MAX_ERROR_BODY_BYTES

    def feed(self, data: bytes) -> bool:
        """Take bytes of the body. Returns whether to go on: what ends here lets the connection be used again."""
        if self._decoder is not None:
            return self._take(self._decoder.decode(data))
        at = self.received
        reached = at + len(data)
        if self._start <= at and reached < self._end:  # nearly all
            self._parts.append(data)
            self.received = reached
            return True
        return self._take(data)

    def _take(self, data: bytes) -> bool:
        at = self.received
        self.received += len(data)
        if self.received > self._start and at < self._end:
            first, last = max(0, self._start - at), min(len(data), self._end - at)
            self._parts.append(data if first == 0 and last == len(data) else data[first:last])
        if self.received != self._end:
            return self.received < self._end
        return self.length is None or self.length <= self._end

    def finish(self, *, ended: bool) -> None:
        """The body ended, or what was wanted of it is there."""
        if self._decoder is not None and ended:
            self._take(self._decoder.end())
        self.ended = ended
        parts = self._parts
        self.body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._parts = []


class _Decoder:
    """gzip and deflate (RFC 9110 section 8.4.1); what claims to be coded and is not passes as it is."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._zlib: zlib._Decompress | None = None
        self._is_plain = False
        self._begun = b""

    def decode(self, data: bytes) -> bytes:
        if self._is_plain:
            return data
        if self._zlib is None:
            data = self._begun + data
            if len(data) < 2:
                self._begun = data
                return b""
            if (bits := _window_bits(self._coding, data)) is None:
                self._is_plain = True
                return data
            self._zlib = zlib.decompressobj(bits)
        parts = []
        try:
            while data:
                parts.append(self._zlib.decompress(data))
                data = self._zlib.unused_data if self._zlib.eof else b""
                if data:  # another member (RFC 1952 section 2.2)
                    self._zlib = zlib.decompressobj(31)
        except zlib.error as error:
            raise RetryableError(f"its Content-Encoding {self._coding!r} is damaged: {error}") from None
        return b"".join(parts)

    def end(self) -> bytes:
        """Return what is left when the body has ended. Raises RetryableError where more should have come."""
        if self._zlib is None:
            return b"" if self._is_plain else self._begun
        if not self._zlib.eof:
            raise RetryableError(f"its Content-Encoding {self._coding!r} is cut off")
        return b""


def _window_bits(coding: str, data: bytes) -> int | None:
    """The argument of zlib for a body that begins with `data`; None for one that is not coded."""
    if coding != "deflate":
        return 31 if data[:2] == b"\x1f\x8b" else None
    # 'deflate' is zlib's format, and that of some servers is without its header (RFC 9110 section 8.4.1.2).
    return 15 if data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0 else -15


def parse_head(lines: list[bytes]) -> tuple[str, int, Headers]:
    """Return HTTP version, status and headers of the last head in `lines`, which trailers may follow.

    Raises RetryableError for what is no head, or not all of one.
    """
    first = len(lines) - 1
    while first >= 0 and not lines[first].startswith(b"HTTP/"):
        first -= 1
    line = _STATUS_LINE.match(lines[first]) if first >= 0 else None
    if line is None:
        raise RetryableError("not a valid HTTP answer: it has no status line")
    found = Headers()
    for raw in lines[first + 1 :]:
        name, separator, value = raw.decode("utf-8", "surrogateescape").partition(":")
        if separator:
            lower, value = name.strip().lower(), value.strip(" \t\r\n")
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
        elif raw in (b"\r\n", b"\n"):
            return line[1].decode(), int(line[2]), found
    raise RetryableError("the connection broke in the head of the answer")


def _length(headers: Headers) -> int | None:
    if "transfer-encoding" in headers:
        return None
    text = headers.get("content-length") or ""
    values = {part.strip() for part in text.split(",")}
    value = values.pop() if len(values) == 1 else ""
    return int(value) if value.isascii() and value.isdecimal() and len(value) <= 18 else None
