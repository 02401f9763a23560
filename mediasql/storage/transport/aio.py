"""Exchanges through aiohttp, on the event loop: for interpreters that libcurl has no wheel for."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import ResolveResult
from yarl import URL

from ... import __version__
from ...errors import ForbiddenByPolicy, SetupError, UnavailableError
from .. import garbage
from .. import loop as event_loop
from ..address import check_addresses
from . import certificates
from .exchange import Exchange, Headers, Response, RetryableError
from .jobs import Engine, Job, Timer

AGENT = f"mediasql/{__version__} (+https://github.com/mediasql/mediasql)"
IDLE_SECONDS = 15
MAX_HEAD_BYTES = 300 * 1024  # as libcurl
BUFFER_BYTES = 64 * 1024


class _PublicResolver(aiohttp.ThreadedResolver):
    """Resolves names to public addresses only. Raises ForbiddenByPolicy.

    aiohttp does not ask it for what is an address already; `Policy.check` has seen these.
    """

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        check_addresses(host, (result["host"] for result in found))
        return found


class AiohttpEngine(Engine):
    """The engine on aiohttp. `most` is how many connections it keeps."""

    name = "aiohttp"

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self._loop = event_loop.get()
        # By whether they are for public addresses only: connections are of one kind or the other.
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def call(self, callback: Callable[..., None], *arguments: Any) -> None:
        garbage.postpone()
        self._loop.call_soon_threadsafe(partial(callback, *arguments))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(seconds, callback)

    def send(self, exchange: Exchange, job: Job) -> asyncio.Task[None]:
        return self._loop.create_task(self._send(exchange, job))

    def abort(self, exchange: Exchange, handle: Any) -> None:
        handle.cancel()

    def close_idle(self) -> None:
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            task = self._loop.create_task(session.close())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _send(self, exchange: Exchange, job: Job) -> None:
        try:
            async with asyncio.timeout(exchange.total_timeout):
                response = await self._exchange(exchange)
        except asyncio.CancelledError:
            return
        except Exception as error:
            failure = _failure(exchange, error)
            self.call(self.fail, job, failure)  # not from inside of the exception that it would hold on to
        else:
            exchange.response = response
            self.resume(job, response)

    def _session(self, public_only: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(public_only)
        if session is None or session.closed:
            connector = aiohttp.TCPConnector(
                limit=0,  # waiting for a place here would take the time of an object
                resolver=_PublicResolver() if public_only else None,
                keepalive_timeout=IDLE_SECONDS,
            )
            trace = aiohttp.TraceConfig()
            trace.on_connection_create_start.append(_on_open)
            trace.on_connection_create_end.append(_on_connected)
            trace.on_connection_reuseconn.append(_on_connected)
            session = self._sessions[public_only] = aiohttp.ClientSession(
                connector=connector,
                headers={"User-Agent": AGENT},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trace_configs=[trace],
                max_line_size=MAX_HEAD_BYTES,
                max_field_size=MAX_HEAD_BYTES,
                read_bufsize=BUFFER_BYTES,
            )
            event_loop.close_with(self, session)
        return session

    async def _exchange(self, exchange: Exchange) -> Response:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=exchange.connect_timeout, sock_read=exchange.silence_timeout
        )
        async with self._session(exchange.public_only).request(
            exchange.method,
            URL(exchange.url, encoded=True),
            headers=exchange.headers,
            data=exchange.data,
            allow_redirects=False,
            proxy=exchange.proxy,
            ssl=certificates.context(exchange.tls),
            timeout=timeout,
            trace_request_ctx=exchange,
        ) as answer:
            version = f"{answer.version.major}.{answer.version.minor}" if answer.version else "1.1"
            response = Response(answer.status, Headers.of(answer.headers.items()), exchange, version=version)
            wanted = True
            while wanted and (data := await answer.content.read(BUFFER_BYTES)):
                wanted = response.feed(data)
            response.finish(ended=wanted)
            if not wanted and not answer.content.at_eof():
                answer.close()  # the rest of the body is not wanted, and reading it costs more than a new connection
            return response


class _itself:
    """What aiohttp makes of the context of a request: the context itself, an Exchange."""

    def __new__(cls, trace_request_ctx: Any) -> Any:
        return trace_request_ctx


async def _on_open(session: aiohttp.ClientSession, context: Any, parameters: Any) -> None:
    place = context.trace_request_ctx.place
    if place is not None:
        place.on_open()


async def _on_connected(session: aiohttp.ClientSession, context: Any, parameters: Any) -> None:
    place = context.trace_request_ctx.place
    if place is not None:
        place.on_connected()
        place.sent = time.monotonic()


def _failure(exchange: Exchange, error: Exception) -> Exception:
    place = exchange.place
    if isinstance(error, RetryableError | ForbiddenByPolicy):
        return error
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return SetupError(f"the certificate of {exchange.host} is not accepted: {error.certificate_error}")
    if isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError):
        return SetupError(f"the proxy {exchange.proxy} does not let it through: {error}")
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return SetupError(f"no secure connection to {exchange.host}: {error}")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        if place is not None:
            place.on_not_connected()
        return RetryableError(f"timed out: {error}", timed_out=True)
    if isinstance(error, TimeoutError):  # aiohttp's ServerTimeoutError too
        return RetryableError(f"timed out: {error or 'no end of the answer'}", timed_out=True)
    if isinstance(error, aiohttp.ClientConnectorError):
        if place is not None:
            place.on_not_connected()
        return RetryableError(f"no connection: {error}")
    if isinstance(error, aiohttp.ClientPayloadError):
        return RetryableError("the connection broke before the body was complete")
    if isinstance(error, aiohttp.ClientResponseError):
        return RetryableError(f"not a valid HTTP answer: {error.message}")
    if isinstance(error, aiohttp.ClientError):
        return RetryableError(f"the connection broke before there was an answer: {error or type(error).__name__}")
    if isinstance(error, ValueError):  # aiohttp.InvalidURL, and whatever yarl, idna and http.parser think of a URL
        return UnavailableError(f"not a URL that can be requested: {error}")
    if isinstance(error, OSError):
        return RetryableError(str(error))
    return error
