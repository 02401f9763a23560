"""What S3, GCS and Azure have in common: listing over HTTP, and how refusals become errors.

Listing goes over the same signed requests as reading. The SDKs' paginators have their own ideas of regions,
retries and log lines, and botocore takes 90 ms to parse a page of 1,000 objects where 7 ms do.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar

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
from ..location import Location
from ..transport.exchange import RetryableError
from ..transport.requests import RETRY_STATUS, status_text
from .base import Entry, KeyRange, Provider, Request
from .listing import FULL, ListedPage, Split, listed

T = TypeVar("T")

ATTEMPTS = 4
FIRST_DELAY = 0.25  # seconds; doubles with each attempt, with full jitter
LOOKUP_TIMEOUT = 10.0  # seconds

_ERROR_CODE = re.compile(r"<Code>([A-Za-z0-9]{3,60})</Code>|\"(?:reason|code)\"\s*:\s*\"([A-Za-z0-9]{3,60})\"")


class CloudProvider(Provider):
    """Base of the cloud providers.

    name              of the store, for messages
    credential_codes  error codes that blame the credentials and not the object
    """

    name: ClassVar[str]
    has_http: ClassVar[bool] = True
    is_cloud: ClassVar[bool] = True
    credential_codes: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop)
        # Held while credentials are fetched and regions looked up, so that a hundred first reads ask once. A
        # lock and not a shared task: a reader that times out inside it leaves the work to the next one.
        self._lock = asyncio.Lock()

    @abstractmethod
    async def page(self, prefix: Location, keys: KeyRange, delimiter: str, token: str | None, size: int) -> ListedPage:
        """Return one page of a listing; see `listing.ListedPage`."""

    def lists_ranges(self, prefix: Location) -> bool:
        """Return whether names are listed in order, from any name on."""
        return True

    async def pages(
        self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int
    ) -> AsyncIterator[list[Entry]]:
        async def get(keys: KeyRange, delimiter: str, token: str | None) -> ListedPage:
            return await self.page(prefix, keys, delimiter, token, page_size)

        in_order = self.lists_ranges(prefix)
        split = (Split.NAMES if in_order else Split.PREFIXES) if page_size >= FULL else Split.NOWHERE
        found = listed(get, keys if in_order else KeyRange(keys.prefix), recursive=recursive, split=split)
        async with aclosing(found):
            async for objects in found:
                yield [Entry(self.url_at(prefix, name), name, info) for name, info in objects]

    async def listing(self, prefix: Location, sign: Callable[[], Awaitable[Request]], parse: Callable[[bytes], T]) -> T:
        """Return what `parse` makes of the answer to a listing request, which `sign` makes anew for each attempt.

        `parse` raises ValueError for what is no listing; some stores say so of their errors with 200.
        """
        recovered = False
        attempt = 0
        while True:
            try:
                response = await self.client.send(await sign())
            except RetryableError as error:
                failure, status = str(error), 0
            else:
                status = response.status
                if status == HTTPStatus.OK:
                    try:
                        return parse(response.body)
                    except ValueError as error:
                        failure = f"the store sent what is no listing: {error_code(response.body) or error}"
                elif status not in RETRY_STATUS:
                    if not recovered and await self.recover(prefix, status, response.headers, response.body):
                        recovered = True
                        continue
                    raise self.refusal(prefix, status, response.body)
                else:
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
