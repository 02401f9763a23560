"""What a provider is: how objects of one kind of store are read, listed and signed.

A provider answers two questions for the fetcher: *how do I get these bytes* (`request`, one signed HTTP GET, or
`read` for stores without HTTP), and *what is there* (`pages`). Listing and credentials go through the store's fsspec
filesystem; ranged reads do not, since that costs ten times the CPU.

A module of this package that subclasses Provider with `schemes` is all that a provider needs; other packages add
theirs through the `mediasql` entry point group.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from ...errors import Unsupported
from ..cache.salt import salt
from ..cache.scope import configured, scope
from ..location import Location
from ..transport.client import Client
from ..transport.exchange import Tls

if TYPE_CHECKING:
    from ..policy import Policy


# A whole object is read in parts of this size, in bytes, each with the time limit of its own.
PART = 8 * 1024 * 1024


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def iso_time(timestamp: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, whole seconds."""
    # Not by fromtimestamp, which on Windows raises for times before 1970.
    return (_EPOCH + timedelta(seconds=int(timestamp))).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about an object. Unknown is None.

    size           bytes
    last_modified  ISO 8601, UTC, seconds: '2026-11-23T17:50:52Z'
    etag           without quotes; of weak validators too
    mime_type      as the store declares it
    no_store       the store forbids to keep anything of it; listings, which do not tell that, are not meant
    """

    size: int | None = None
    last_modified: str | None = None
    etag: str | None = None
    mime_type: str | None = None
    no_store: bool = False


def changed(first: ObjectInfo, later: ObjectInfo) -> bool:
    """Whether two answers cannot be about the same version of an object."""
    pairs = ((first.etag, later.etag), (first.size, later.size), (first.last_modified, later.last_modified))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of an object from `start` on, and what the response said about the whole of it.

    `ranged` is False when the store sent the object from its beginning: each further read costs all that is before.
    `checked` is the time.time() at which the store last said that this is the version; None: it has just said so.
    """

    data: bytes
    start: int
    info: ObjectInfo
    ranged: bool = True
    checked: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a listing. `path` is its Location.path."""

    url: str
    path: str
    info: ObjectInfo


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP GET, signed and ready but for its Range header, which no signature here covers.

    url        sent as it is, so it must be encoded already
    tls        for this request; None: as the environment says
    authorise  gives the Authorization header for another host that it is redirected to, if there is one
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    authorise: Callable[[str], str | None] | None = None

    def with_headers(self, headers: Mapping[str, str]) -> Request:
        """Return the same request with other headers."""
        return Request(self.url, headers, self.tls, self.authorise)


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


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Names that begin with `prefix`, behind `after`, up to `until` and with it, in the order of their UTF-8 bytes."""

    prefix: str = ""
    after: str = ""
    until: str | None = None


EVERYTHING = KeyRange()


class Provider(ABC):
    """A kind of store with one set of options. Its coroutines run on the fetcher's event loop.

    options   what fsspec calls storage_options, already chosen for the URLs that this instance serves
    loop      the fetcher's event loop, for asynchronous fsspec filesystems
    """

    schemes: ClassVar[tuple[str, ...]] = ()
    # Variables of the environment that choose the endpoint or the account; none that holds a secret, but for what is
    # before the '@' of a URL.
    variables: ClassVar[tuple[str, ...]] = ()
    # What may be reached, for providers that follow links of servers by themselves. Locations have passed it already.
    policy: Policy | None = None
    # Whether a database named what it serves: then `options` are those for these very hosts, and no others are used.
    named: bool = False
    # Of the cache that `identity` is for.
    salt: Callable[[], bytes] = staticmethod(partial(salt, None))

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        self.options = dict(options)
        self.loop = loop
        self.client = Client()

    # Whether objects are read by `request`, over HTTP, and not by `read`.
    has_http: ClassVar[bool] = False
    # Whether it is the front of a cloud, which bears many requests from the first.
    is_cloud: ClassVar[bool] = False
    # The requests that it makes by itself, for listings and look-ups.
    client: Client

    @cached_property
    def identity(self) -> str:
        """Which endpoint this is, and for whom: objects of the same URL and identity are the same. Holds no secret.

        It is made of the configuration alone, without asking the network or looking for credentials. What is read under
        a policy is another's: nobody looked where the servers of an owner's objects led, and a cache asks no server.
        """
        facts = self.facts()
        if self.policy is not None:
            facts["policy"] = self.policy.digest
        return scope(type(self).schemes[0], facts, self.variables, self.salt)

    def facts(self) -> dict[str, Any]:
        """What decides the endpoint and the account, by name: options, those that fsspec adds, and variables.

        Providers leave out what changes without another account, such as keys that are renewed.
        """
        given = {name: value for name in self.variables if (value := os.environ.get(name))}
        return {**given, **configured(self.schemes if "*" not in self.schemes else None), **self.options}

    def cached(self, location: Location) -> bool:
        """Whether what is read here is worth keeping on disk: not what lies there, or in memory, already."""
        return True

    def request_now(self, location: Location) -> Request | None:
        """Return the GET that reads `location` if it can be made without waiting; else `request` is asked."""
        return None

    async def request(self, location: Location) -> Request:
        """Return the GET that reads `location`, of a store that `has_http`."""
        raise NotImplementedError

    def condition(self, version: ObjectInfo) -> dict[str, str]:
        """The header that makes a request one for any other version (RFC 9110 section 13.1); none if nothing tells.

        Entity tags are compared weakly there, so that a tag may be given as strong whatever it was.
        """
        if version.etag:
            return {"If-None-Match": f'"{version.etag}"'}
        if version.last_modified:
            moment = datetime.fromisoformat(version.last_modified)
            return {"If-Modified-Since": format_datetime(moment.astimezone(UTC), usegmt=True)}
        return {}

    def is_own(self, location: Location, first: str, target: str) -> bool:
        """Whether a redirect of `first`, the URL of the request for `location`, stays in this store.

        Where any other leads, the database must be allowed to reach by itself.
        """
        return urlsplit(target)[:2] == urlsplit(first)[:2]

    async def recover(self, location: Location, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """Learn from an answer that refused `request` (the bucket's region, an expired token).

        True when a new request may fare better; the fetcher asks once per read. `headers` has any case, as
        aiohttp's CIMultiDict does; `body` is the beginning of the answer.
        """
        return False

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        """Bytes `start` to `stop` (fewer at the end of the object); runs in a thread of its scheme, and must
        not wait for reads of the same.

        Raises FileNotFoundError, PermissionError, IsADirectoryError or OSError, as filesystems do, or a MediaError.
        """
        raise NotImplementedError

    @abstractmethod
    def pages(self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        """Objects whose path starts with `keys.prefix`, which `prefix` is the URL of, a page at a time.

        They come in the store's order. Not `recursive`: only those without a further '/' behind the prefix. `page_size`
        is a wish, and so are the ends of the range: whoever asks looks again.
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
