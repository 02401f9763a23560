"""What S3, GCS and Azure have in common: listing over HTTP, and how refusals become errors.

Listing goes over the same signed requests as reading. The SDKs' paginators have their own ideas of regions,
retries and log lines, and botocore takes 90 ms to parse a page of 1,000 objects where 7 ms do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, ClassVar

from ...errors import (
    CredentialsError,
    Forbidden,
    MediaError,
    MissingExtra,
    NotFound,
    TransientError,
    UnavailableError,
)
from .. import imports
from ..fetch import ATTEMPTS, FIRST_DELAY, RETRY_STATUS, status_text
from ..imports import importing
from ..location import Location
from ..loop import close_with
from .base import Provider, Request

if TYPE_CHECKING:
    import aiohttp

LOOKUP_TIMEOUT = 10.0  # seconds

_ERROR_CODE = re.compile(r"<Code>([A-Za-z0-9]{3,60})</Code>|\"(?:reason|code)\"\s*:\s*\"([A-Za-z0-9]{3,60})\"")


class CloudProvider(Provider):
    """Base of the cloud providers.

    name              of the store, for messages
    credential_codes  error codes that blame the credentials and not the object
    """

    name: ClassVar[str]
    credential_codes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop)
        self._http: aiohttp.ClientSession | None = None
        # Held while credentials are fetched and regions looked up, so that a hundred first reads ask once. A
        # lock and not a shared task: a reader that times out inside it leaves the work to the next one.
        self._lock = asyncio.Lock()

    def session(self) -> aiohttp.ClientSession:
        """The session for listings and lookups; made when first needed."""
        if self._http is None or self._http.closed:
            with importing("aiohttp"):
                import aiohttp

            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
            self._http = aiohttp.ClientSession(timeout=timeout, trust_env=True)
            close_with(self, self._http)
        return self._http

    async def answer(
        self, request: Request, method: str = "GET", data: bytes | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body of one request."""
        with importing("yarl"):
            from yarl import URL

        headers = {"Accept-Encoding": "identity", **request.headers}
        url = URL(request.url, encoded=True)
        async with self.session().request(method, url, headers=headers, data=data, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    async def listing(self, prefix: Location, sign: Callable[[], Awaitable[Request]]) -> bytes:
        """The answer to a listing request, which `sign` makes anew for each attempt."""
        with importing("aiohttp"):
            import aiohttp

        recovered = False
        attempt = 0
        while True:
            try:
                status, headers, body = await self.answer(await sign())
            except (aiohttp.ClientError, TimeoutError) as error:
                failure, status = str(error) or type(error).__name__, 0
            else:
                if status == HTTPStatus.OK:
                    return body
                if status not in RETRY_STATUS:
                    if not recovered and await self.recover(prefix, status, headers, body):
                        recovered = True
                        continue
                    raise self.refusal(prefix, status, body)
                failure = status_text(status)
            attempt += 1
            if attempt == ATTEMPTS:
                raise TransientError(
                    f"cannot list {prefix.url}: {failure} (after {attempt} attempts)", status=status or None
                )
            await asyncio.sleep(FIRST_DELAY * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))

    def refusal(self, prefix: Location, status: int, body: bytes) -> MediaError:
        """The error for a listing that was refused."""
        code = error_code(body)
        what = f"cannot list {prefix.url}: {status_text(status)}" + (f" ({code})" if code else "")
        if code in self.credential_codes or status == HTTPStatus.UNAUTHORIZED:
            return CredentialsError(f"{what}; check the credentials for {self.name}", status=status)
        if status in (404, 410):
            return NotFound(what, status=status)
        if status == HTTPStatus.FORBIDDEN:
            return Forbidden(f"{what}; the credentials in use need the permission to list", status=status)
        return UnavailableError(what, status=status)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None


def need_container(location: Location) -> None:
    """Raise NotFound unless the location names a container. Dots would lead to another one in a path."""
    if location.container in ("", ".", ".."):
        raise NotFound("the URL names no bucket or container")


def need_object(location: Location) -> None:
    """Raise NotFound unless the location names a container and an object in it."""
    need_container(location)
    if not location.path:
        raise NotFound("the URL names a bucket or container, and no object in it")


async def filesystem_class(module: str, name: str, install: str, logger: str | None = None) -> Any:
    """A class of an fsspec filesystem.

    The import takes half a second, so it happens in a thread, on first use. `logger` is that of an SDK which
    warns where credentials are not: without a handler, Python would print that into the user's terminal.
    """
    if logger is not None and not logging.getLogger(logger).handlers:
        logging.getLogger(logger).addHandler(logging.NullHandler())
    try:
        return getattr(await asyncio.to_thread(imports.module, module), name)
    except ImportError as error:
        raise MissingExtra(f"this needs {module.partition('.')[0]} ({error}): pip install {install}") from None


def error_code(body: bytes) -> str:
    """The store's name for an error, out of its XML or JSON; '' when there is none."""
    match = _ERROR_CODE.search(body[:4096].decode("utf-8", "replace"))
    return (match[1] or match[2]) if match else ""


def is_directory_marker(key: str, size: int | None) -> bool:
    """Whether an object only stands for a folder, as consoles make them."""
    return key.endswith("/") and not size
