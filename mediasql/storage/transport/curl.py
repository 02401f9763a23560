"""Exchanges through libcurl's multi interface, on a thread of the engine's own.

libcurl works without the GIL, TLS included, so that requests are on their way while SQLite and Python run on another
core. Each pass of the thread lets libcurl do what it can for all connections, then goes on with the jobs whose
exchanges ended; requests and outcomes cross threads in batches.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import re
import select
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pycurl

from ... import __version__
from ...errors import ForbiddenByPolicy, SetupError, UnavailableError
from ...lifetime import leak
from .. import garbage, threads
from ..address import check_addresses
from . import certificates
from .exchange import Exchange, Response, RetryableError, Tls, parse_head
from .jobs import Engine, Job
from .limiter import Place
from .names import ADDRESS_SECONDS, Names

log = logging.getLogger(__name__)

AGENT = f"mediasql/{__version__} (+https://github.com/mediasql/mediasql)"
BUFFER_BYTES = 64 * 1024  # that libcurl hands over at a time, at most
IDLE_SECONDS = 15  # after which a connection that no request used is closed
LONGEST_WAIT = 60.0  # seconds
TICK = 0.25  # seconds between looks at connections that are silent
GATHER = 0.0005  # seconds for which more may arrive, while many exchanges are under way
MANY = 32

_E_WEIRD_SERVER_REPLY, _E_PROXY, _E_TOO_LARGE = 8, 97, 100
_TLS_FAULTS = frozenset(
    {
        *(pycurl.E_SSL_CACERT, pycurl.E_SSL_CACERT_BADFILE, pycurl.E_SSL_CERTPROBLEM, pycurl.E_SSL_CRL_BADFILE),
        *(pycurl.E_SSL_ISSUER_ERROR, pycurl.E_SSL_PINNEDPUBKEYNOTMATCH, pycurl.E_SSL_INVALIDCERTSTATUS),
    }
)
# Some of libcurl's codes have no name in pycurl.
_INVALID = frozenset({pycurl.E_UNSUPPORTED_PROTOCOL, _E_WEIRD_SERVER_REPLY, _E_TOO_LARGE})
_MILLISECONDS = re.compile(r" after \d+ ms")  # would make every message another
_BROKEN = frozenset({pycurl.E_PARTIAL_FILE, pycurl.E_RECV_ERROR, pycurl.E_SEND_ERROR, pycurl.E_GOT_NOTHING})


class _Slot:
    """A libcurl handle, used for one exchange after another."""

    __slots__ = (
        "began",
        "connected",
        "curl",
        "engine",
        "error",
        "exchange",
        "heard",
        "job",
        "kind",
        "lines",
        "place",
        "proxy",
    )

    def __init__(self, engine: CurlEngine, tls: Tls, public_only: bool) -> None:
        self.engine = engine
        self.kind = tls, public_only
        self.exchange: Exchange | None = None
        self.job: Job | None = None
        self.place: Place | None = None
        self.error: BaseException | None = None
        self.lines: list[bytes] = []
        self.began = self.heard = 0.0
        self.connected = False
        self.proxy: str | None = ""
        curl = self.curl = pycurl.Curl()
        curl.slot = self
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.BUFFERSIZE, BUFFER_BYTES),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.FOLLOWLOCATION, 0),
            (pycurl.PATH_AS_IS, 1),  # signatures are of paths as they are
            (pycurl.HTTP_CONTENT_DECODING, 0),  # by `exchange`, which passes on what only claims to be coded
            (pycurl.USERAGENT, AGENT),
            (pycurl.DNS_CACHE_TIMEOUT, int(2 * ADDRESS_SECONDS)),  # `names` looks them up again before that
            (pycurl.MAXAGE_CONN, IDLE_SECONDS),
            (pycurl.HEADERFUNCTION, self.lines.append),
            (pycurl.WRITEFUNCTION, self._on_body),
            (pycurl.PREREQFUNCTION, self._on_connected),
            (pycurl.SOCKOPTFUNCTION, self._on_socket),
        ):
            curl.setopt(option, value)
        certificates.apply(curl, tls)
        if public_only:
            curl.setopt(pycurl.OPENSOCKETFUNCTION, self._open_public)

    def prepare(self, exchange: Exchange, job: Job) -> None:
        self.exchange, self.job, self.place = exchange, job, exchange.place
        self.error, self.connected = None, False
        curl = self.curl
        curl.setopt(pycurl.URL, exchange.url)
        curl.setopt(pycurl.HTTPHEADER, [_field(name, value) for name, value in exchange.headers.items()])
        if exchange.method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)
        elif exchange.data is not None:
            curl.setopt(pycurl.POSTFIELDS, exchange.data)
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, max(1, int(exchange.connect_timeout * 1000)))
        if exchange.proxy != self.proxy:
            self.proxy = exchange.proxy
            curl.setopt(pycurl.PROXY, exchange.proxy or "")
            curl.setopt(pycurl.NOPROXY, "" if exchange.proxy else "*")
        self.began = self.heard = time.monotonic()

    def reset(self) -> None:
        """Undo what is set for few exchanges only."""
        exchange = self.exchange
        assert exchange is not None
        if exchange.method == "HEAD":
            self.curl.setopt(pycurl.NOBODY, 0)
            self.curl.setopt(pycurl.HTTPGET, 1)
        elif exchange.data is not None:
            self.curl.setopt(pycurl.HTTPGET, 1)
        self.exchange = self.job = self.place = self.error = None
        self.lines.clear()

    def _on_body(self, data: bytes) -> int | None:
        exchange = self.exchange
        assert exchange is not None
        self.heard = time.monotonic()
        try:
            response = exchange.response or self.begin_response()
            return None if response.feed(data) else -1
        except RetryableError as error:
            self.error = error
            return -1

    def begin_response(self) -> Response:
        exchange = self.exchange
        assert exchange is not None
        version, status, headers = parse_head(self.lines)
        exchange.response = Response(status, headers, exchange, version=version)
        return exchange.response

    def _on_connected(self, remote: str, local: str, remote_port: int, local_port: int) -> int:
        """libcurl has a connection, perhaps one that was used before, and is about to send the request."""
        assert self.exchange is not None
        self.connected = True
        self.heard = time.monotonic()
        if self.place is not None:
            self.place.sent = self.heard
            if self.place.opens:
                self.engine.call(self.place.on_connected)  # libcurl must not be called back into
        if self.exchange.public_only:
            try:
                check_addresses(self.exchange.host, [remote])
            except ForbiddenByPolicy as error:
                self.error = error
                return 1  # CURL_PREREQFUNC_ABORT
        return 0

    def _on_socket(self, fd: int, purpose: int) -> int:
        self.engine.watch(fd)
        if self.place is not None:
            self.place.on_open()
        return 0

    def _open_public(self, purpose: int, address: Any) -> socket.socket | int:
        family, kind, protocol, (host, *_) = address
        assert self.exchange is not None
        try:
            check_addresses(self.exchange.host, [host.decode() if isinstance(host, bytes) else host])
        except (ForbiddenByPolicy, RetryableError) as error:
            self.error = error
            return -1  # CURL_SOCKET_BAD
        return socket.socket(family, kind, protocol)


class _Timer:
    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class CurlEngine(Engine):
    """The engine on libcurl. `most` is how many connections it keeps."""

    name = "curl"

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._inner, self._outer = socket.socketpair()
        self._inner.setblocking(False)
        self._outer.setblocking(False)
        self._awake = True  # until it waits, nobody needs to wake it
        self._waiter = _Waiter(self._inner)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, most)
        self._idle: dict[tuple[Tls, bool], list[_Slot]] = {}  # by what a handle is for: certificates, and addresses
        self._active: dict[_Slot, None] = {}
        self._resolving: dict[_Slot, None] = {}  # exchanges that wait for the address of their host
        self._names = Names(self)
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._looked = 0.0
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        leak(self._multi)

    # From any thread

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        garbage.postpone()
        self._calls.append((callback, arguments))
        if self._thread is None:
            self._start()
        if not self._awake:
            self._awake = True
            with suppress(BlockingIOError):
                self._outer.send(b"\0")

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threads.start(self._work, "transport")

    # On its own thread

    def call_later(self, seconds: float, callback: Callable[[], None]) -> _Timer:
        timer = _Timer(time.monotonic() + seconds, callback)
        heapq.heappush(self._timers, (timer.when, next(self._numbers), timer))
        return timer

    def send(self, exchange: Exchange, job: Job) -> _Slot:
        idle = self._idle.setdefault((exchange.tls, exchange.public_only), [])
        slot = idle.pop() if idle else self._new_slot(exchange)
        try:
            slot.prepare(exchange, job)
            name = self._names.needed(exchange.proxy or exchange.url)
            if name is None:
                self._check_addresses(exchange)
                self._multi.add_handle(slot.curl)
        except (ForbiddenByPolicy, RetryableError) as error:
            self._put_back(slot)
            self.call(self.fail, job, error)
            return slot
        except (pycurl.error, ValueError, UnicodeError, TypeError) as error:
            slot.reset()
            idle.append(slot)
            self.call(self.fail, job, UnavailableError(f"not a URL that can be requested: {error}"))
            return slot
        if name is None:
            self._active[slot] = None
        else:
            self._resolving[slot] = None
            self._names.look_up(name, partial(self._resolved, slot, exchange))
        return slot

    def _resolved(self, slot: _Slot, exchange: Exchange, entry: str | None, error: RetryableError | None) -> None:
        if slot.exchange is not exchange or slot not in self._resolving:  # it was given up
            return
        del self._resolving[slot]
        job = slot.job
        refusal: BaseException | None = error
        if entry is not None:
            try:
                self._check_addresses(exchange)
                slot.curl.setopt(pycurl.RESOLVE, [entry])
                self._multi.add_handle(slot.curl)
                self._active[slot] = None
                return
            except (ForbiddenByPolicy, RetryableError) as forbidden:
                refusal = forbidden
        if slot.place is not None and error is not None:
            slot.place.on_not_connected()
        self._put_back(slot)
        assert job is not None
        assert refusal is not None
        self.fail(job, refusal)

    def _check_addresses(self, exchange: Exchange) -> None:
        """Refuse a host of which one address is not public, whichever would be connected to."""
        if exchange.public_only:
            check_addresses(exchange.host, self._names.addresses(exchange.host))

    def abort(self, exchange: Exchange, slot: _Slot) -> None:
        """Give up an exchange, if it is still under way."""
        if slot.exchange is not exchange:
            return
        if slot in self._active:
            self._release(slot, lost=True)
        elif slot in self._resolving:
            del self._resolving[slot]
            self._put_back(slot)

    def watch(self, fd: int) -> None:
        """Wake up when something happens on this socket of libcurl's, until it is closed."""
        self._waiter.add(fd)

    def close_idle(self) -> None:
        if not self._active:
            self._names.forget()
            self._multi.close()
            self._multi = pycurl.CurlMulti()
            self._multi.setopt(pycurl.M_MAXCONNECTS, self._most)
            leak(self._multi)

    def _new_slot(self, exchange: Exchange) -> _Slot:
        slot = _Slot(self, exchange.tls, exchange.public_only)
        leak(slot.curl)  # the thread may be inside of it when Python ends
        return slot

    def _work(self) -> None:
        while True:
            if self._calls or self._active:
                garbage.postpone()
            self._run_calls()
            self._run_timers()
            active = len(self._active)
            if active:
                self._multi.perform()
                self._finish()
            if active or self._resolving:
                self._look_for_silence()
            if self._calls or len(self._active) > active:
                continue
            timeout = self._multi.timeout() / 1000 if self._active else -1
            wait = LONGEST_WAIT if timeout < 0 else timeout
            if self._timers:
                wait = min(wait, self._timers[0][0] - time.monotonic())
            if self._active or self._resolving:
                wait = min(wait, TICK)
            if wait <= 0:
                continue
            self._awake = False
            if self._calls:
                self._awake = True
                continue
            self._waiter.wait(self._multi, wait)
            self._awake = True
            if len(self._active) > MANY:
                time.sleep(GATHER)

    def _run_calls(self) -> None:
        for _ in range(len(self._calls)):
            callback, arguments = self._calls.popleft()
            try:
                callback(*arguments)
            except Exception:  # a mistake of ours must not end the thread, and all that waits for it
                log.exception("a mistake in mediasql's transport")

    def _run_timers(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._calls.append((timer.callback, ()))

    def _finish(self) -> None:
        while True:
            left, good, bad = self._multi.info_read()
            for curl, code, message in [*((curl, 0, "") for curl in good), *bad]:
                try:
                    self._done(curl.slot, code, _MILLISECONDS.sub("", message))
                except Exception:  # as above
                    log.exception("a mistake in mediasql's transport")
            if not left:
                return

    def _done(self, slot: _Slot, code: int, message: str) -> None:
        exchange, job = slot.exchange, slot.job
        if exchange is None or job is None:  # it was given up
            return
        try:
            error = slot.error or self._outcome(slot, exchange, code, message)
        except RetryableError as failure:
            error = failure
        self._release(slot, lost=code != 0)
        if error is not None:
            self.fail(job, error)
        else:
            self.resume(job, exchange.response)

    def _outcome(self, slot: _Slot, exchange: Exchange, code: int, message: str) -> BaseException | None:
        response = exchange.response
        if code == 0:
            response = response or slot.begin_response()
            response.finish(ended=True)
            return None
        if code == pycurl.E_WRITE_ERROR and response is not None:
            response.finish(ended=False)
            return None
        return _failure(slot, code, message)

    def _release(self, slot: _Slot, *, lost: bool) -> None:
        if lost and slot.place is not None:
            slot.place.on_lost()
        self._multi.remove_handle(slot.curl)
        self._active.pop(slot, None)
        self._put_back(slot)

    def _put_back(self, slot: _Slot) -> None:
        slot.reset()
        self._idle[slot.kind].append(slot)

    def _look_for_silence(self) -> None:
        now = time.monotonic()
        if now - self._looked < TICK:
            return
        self._looked = now
        for slot in [*self._active, *self._resolving]:
            exchange, job = slot.exchange, slot.job
            if exchange is None or job is None:
                continue
            silent = slot.connected and now - slot.heard > exchange.silence_timeout
            unresolved = slot in self._resolving and now - slot.began > exchange.connect_timeout
            if silent or unresolved or now - slot.began > exchange.total_timeout:
                self.abort(exchange, slot)
                what = "no byte on the connection" if silent else "no end of the answer"
                what = "the address of the host is not found" if unresolved else what
                self.fail(job, RetryableError(f"timed out: {what}", timed_out=True))


def _field(name: str, value: str) -> bytes:
    """A header as libcurl takes it. Raises ValueError for one that would be several (RFC 9110 section 5.5)."""
    if "\n" in value or "\r" in value or "\0" in value:
        raise ValueError(f"the header {name} has a line break or a NUL byte")
    return (f"{name}: {value}" if value else f"{name};").encode("utf-8", "surrogateescape")


def _failure(slot: _Slot, code: int, message: str) -> BaseException:
    curl = slot.curl
    exchange = slot.exchange
    assert exchange is not None
    if code in _TLS_FAULTS:
        return SetupError(f"the certificate of {exchange.host} is not accepted: {message}")
    tunnel = curl.getinfo(pycurl.HTTP_CONNECTCODE) if exchange.proxy else 0
    if code == _E_PROXY or code == pycurl.E_COULDNT_RESOLVE_PROXY or (tunnel and tunnel // 100 != 2):
        return SetupError(f"the proxy {exchange.proxy} does not let it through: {message}")
    if code == pycurl.E_SSL_CONNECT_ERROR and "SSL routines" in message:
        return SetupError(f"no secure connection to {exchange.host}: {message}")
    if code in (pycurl.E_COULDNT_CONNECT, pycurl.E_COULDNT_RESOLVE_HOST, pycurl.E_SSL_CONNECT_ERROR):
        if slot.place is not None:
            slot.place.on_not_connected()
        return RetryableError(f"no connection: {message}")
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if slot.place is not None and not slot.connected:
            slot.place.on_not_connected()
        return RetryableError(f"timed out: {message}", timed_out=True)
    if code == pycurl.E_URL_MALFORMAT:
        return UnavailableError(f"not a URL that can be requested: {message}")
    if code in _INVALID:
        return RetryableError(f"not a valid HTTP answer: {message}")
    if code in _BROKEN:
        where = "before the body was complete" if exchange.response is not None else "before there was an answer"
        return RetryableError(f"the connection broke {where}: {message}")
    return RetryableError(message or f"libcurl's error {code}")


class _Select:
    """Waits for any of libcurl's sockets, through libcurl's own list of them."""

    def __init__(self, wake: socket.socket) -> None:
        self._wake = wake

    def add(self, fd: int) -> None:
        return

    def wait(self, multi: Any, seconds: float) -> None:
        readers, writers, failed = multi.fdset()
        if select.select([*readers, self._wake], writers, failed, seconds)[0].count(self._wake):
            _drain(self._wake)


_Waiter: Any = _Select
if sys.platform == "linux" and hasattr(select, "epoll"):

    class _Epoll:
        """The same, edge-triggered, since libcurl reads until nothing is left."""

        def __init__(self, wake: socket.socket) -> None:
            self._poll = select.epoll()
            self._wake = wake
            self._poll.register(wake.fileno(), select.EPOLLIN)

        def add(self, fd: int) -> None:
            with suppress(FileExistsError):
                self._poll.register(fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

        def wait(self, multi: Any, seconds: float) -> None:
            for fd, _ in self._poll.poll(seconds):
                if fd == self._wake.fileno():
                    _drain(self._wake)

    _Waiter = _Epoll


def _drain(wake: socket.socket) -> None:
    with suppress(BlockingIOError):
        while len(wake.recv(4096)) == 4096:
            pass
