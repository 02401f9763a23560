"""Requests that a provider makes by itself: listings, regions, keys to sign with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .engines import engine

if TYPE_CHECKING:
    from ..providers.base import Chunk, Request
    from .exchange import Response

TIMEOUT = 60.0  # seconds


class Client:
    """Makes single requests on the engine of a transport, and waits for them as a coroutine on any event loop."""

    def __init__(self, transport: str = "auto") -> None:
        self._transport = transport

    async def send(
        self, request: Request, method: str = "GET", data: bytes | None = None, *, seconds: float = TIMEOUT
    ) -> Response:
        """Return the response, with all of its body; redirects are not followed.

        Raises RetryableError, SetupError, or UnavailableError for what cannot be requested.
        """
        from .requests import Requests

        headers: Mapping[str, str] = {"Accept-Encoding": "identity", **request.headers}
        job = Requests(seconds).send(request.with_headers(headers), method=method, data=data, total=seconds)
        return await engine(self._transport).run(job)

    async def get(
        self,
        request: Request,
        start: int,
        stop: int,
        *,
        guards: Callable[[str], bool] | None = None,
        seconds: float = TIMEOUT,
    ) -> Chunk:
        """Return a range, behind redirects; see `Requests.get`."""
        from .requests import Requests

        job = Requests(seconds).get(request, start, stop, guards=guards, total=seconds)
        return await engine(self._transport).run(job)
