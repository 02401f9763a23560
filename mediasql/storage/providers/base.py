"""What a provider is: how objects of one kind of store are read, listed and signed.

A provider answers two questions for the fetcher: *how do I get these bytes* (`request`, one signed HTTP GET, or
`read` for stores without HTTP), and *what is there* (`pages`). Listing and credentials go through the store's fsspec
filesystem; ranged reads do not, since that costs ten times the CPU.

A module of this package that subclasses Provider with `schemes` is all that a provider needs; other packages add
theirs through the `mediasql` entry point group.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from ...errors import Unsupported
from ..location import Location


def iso_time(timestamp: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, whole seconds."""
    return datetime.fromtimestamp(int(timestamp), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about an object. Unknown is None.

    size           bytes
    last_modified  ISO 8601, UTC, seconds: '2026-11-23T17:50:52Z'
    etag           without quotes; of weak validators too
    mime_type      as the store declares it
    """

    size: int | None = None
    last_modified: str | None = None
    etag: str | None = None
    mime_type: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of an object from `start` on, and what the response said about the whole of it.

    `ranged` is False when the store sent the object from its beginning: each further read costs all that is before.
    """

    data: bytes
    start: int
    info: ObjectInfo
    ranged: bool = True


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing. `path` is its Location.path."""

    url: str
    path: str
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP GET, signed and ready but for its Range header, which no signature here covers.

    `url` is sent as it is, so it must be encoded already.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Signer:
    """Makes presigned URLs of one container without any I/O.

    sign        (path, seconds) -> URL
    expires_at  time.time() after which the credentials behind it must be fetched anew; None: never
    max_seconds the provider's limit for `seconds`; None: no limit
    """

    sign: Callable[[str, int], str]
    expires_at: float | None = None
    max_seconds: int | None = None


class Provider(ABC):
    """A kind of store with one set of options. Its coroutines run on the fetcher's event loop.

    options   what fsspec calls storage_options, already chosen for the URLs that this instance serves
    loop      the fetcher's event loop, for asynchronous fsspec filesystems
    """

    schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.options = dict(options)
        self.loop = loop

    async def request(self, location: Location) -> Request | None:
        """The GET that reads `location`; None where the store has no HTTP form, and `read` serves."""
        return None

    async def recover(self, location: Location, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Learn from an answer that refused `request` (the bucket's region, an expired token).

        True when a new request may fare better; the fetcher asks once per read. `headers` has any case, as
        aiohttp's CIMultiDict does; `body` is the beginning of the answer.
        """
        return False

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        """Bytes `start` to `stop` (fewer at the end of the object); runs in a worker thread.

        Raises FileNotFoundError, PermissionError, IsADirectoryError or OSError, as filesystems do, or a MediaError.
        """
        raise NotImplementedError

    @abstractmethod
    def pages(self, prefix: Location, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        """Objects whose path starts with `prefix.path`, a page at a time, in the store's order.

        Not `recursive`: only those without a further '/' behind the prefix. `page_size` is a wish.
        """

    async def signer(self, location: Location) -> Signer:
        """What signs URLs for the container of `location`. May ask the network; the answer is kept.

        Raises CredentialsError when the credentials cannot sign, Unsupported when the store cannot.
        """
        raise Unsupported(f"{location.scheme} has no presigned URLs")

    def scope(self, location: Location) -> str:
        """What a Signer is good for: all locations with the same scope can share one."""
        return location.container

    def glob_path(self, location: Location) -> str:
        """The part of the location that may hold wildcards, as `pages` gives paths."""
        return location.path

    def url_at(self, location: Location, path: str) -> str:
        """The URL of another path in the same container, spelled as `location` is."""
        root = location.url[: len(location.url) - len(location.path)]
        return f"{root}/{path}" if path and location.container and not root.endswith("/") else root + path

    def file_url(self, location: Location) -> str:
        """The location as a full URL, local paths as file:// URLs."""
        return location.url

    async def close(self) -> None:
        """Close what `request` and `pages` opened; nothing, for most."""
        return
