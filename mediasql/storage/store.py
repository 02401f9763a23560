"""All stores behind one door: a URL goes in, its bytes, its neighbours or its presigned form come out."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from .. import discovery, errors
from ..config import Config
from ..lifetime import leak
from . import forking, loop
from .cache import place
from .cache.forbidden import forbid
from .cache.identity import Identity, identify
from .cache.salt import salt
from .fetch import Fetcher, in_parts, of_one_version
from .location import Location
from .pattern import Pattern, below, compile_pattern, is_glob
from .policy import Policy
from .providers.base import EVERYTHING, Chunk, Entry, KeyRange, ObjectInfo, Provider, Signer
from .rules import WEB
from .transport.client import Client
from .transport.deadline import Deadline
from .transport.jobs import Await, Shared, Steps
from .transport.requests import NotModified

if TYPE_CHECKING:
    from .cache.blocks import Blocks
    from .cache.leases import Lease


_SIGNED = re.compile(r"^https?:.*[?&](?:x-amz-signature|x-goog-signature|sig)=", re.IGNORECASE)


class Store:
    """What one Config can reach. Its coroutines run on the fetcher's loop; the rest may be called from any thread.

    `check` is called while a thread waits; it raises to give up.
    """

    def __init__(self, config: Config, check: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.policy = Policy.of(config)
        self.rules = self.policy.digest if self.policy is not None else ""
        self.fetcher = Fetcher(config, self.policy)
        self._check = check
        self._providers: dict[tuple[type[Provider], str, bool], Provider] = {}
        # Most configurations have options for whole containers only, and then these tell the provider.
        self.by_path = any(
            Location.parse(prefix).path.strip("/") for prefix in config.storage_options if "://" in prefix
        )
        self._by_container: dict[tuple[str, str, bool], Provider] = {}
        self._signers: dict[tuple[Provider, str], Signer] = {}
        _stores.add(self)

    def provider(self, location: Location) -> Provider:
        """The provider that serves `location`, with the options that apply there.

        The one door to all stores. Raises ForbiddenByPolicy where it is shut.
        """
        # What options say of all web servers was not meant for those that a database names.
        named = self.policy is not None and not self.policy.check(location) and location.scheme in WEB
        where = location.scheme, location.container, named
        if not self.by_path and (known := self._by_container.get(where)):
            return known
        classes = discovery.providers()
        kind = classes.get(location.scheme) or classes["*"]
        options = self._options(location, named)
        key = (kind, repr(sorted(options.items())), named)
        found = self._providers.get(key)
        if found is None:
            made = kind(options, loop.get())
            made.policy, made.named, made.salt = self.policy, named, self._salt
            made.client = Client(self.config.transport)
            found = self._providers.setdefault(key, made)
        if location.container and not location.chained:
            self._by_container[where] = found
        return found

    def _salt(self) -> bytes:
        return salt(place.folder(self.config))

    def _options(self, location: Location, named: bool) -> dict[str, Any]:
        if not location.chained:
            return self.config.options_for(location.url, location.scheme, named=named)
        parts = [Location.parse(part if ":" in part else f"{part}://") for part in location.url.split("::")]
        chain = {part.scheme: self.config.options_for(part.url, part.scheme) for part in parts}
        return {scheme: options for scheme, options in chain.items() if options}

    async def read(
        self,
        location: Location,
        start: int,
        stop: int,
        *,
        deadline: Deadline | None = None,
        unless: ObjectInfo | None = None,
    ) -> Chunk:
        """Return bytes `start` to `stop`; see `read_job`."""
        return await self.fetcher.engine.run(self.read_job(location, start, stop, deadline=deadline, unless=unless))

    def read_job(
        self,
        location: Location,
        start: int,
        stop: int,
        *,
        deadline: Deadline | None = None,
        unless: ObjectInfo | None = None,
    ) -> Generator[Any, Any, Chunk]:
        """Bytes `start` to `stop`; see `Fetcher.read`. Concurrent reads of the same range share one request."""
        provider = self.provider(location)
        reading = self.fetcher.engine.reading
        # Redirects have passed the policy of whoever follows them, and one with a longer timeout may wait longer.
        whose = (provider.identity, self.rules, self.config.timeout) if provider.cached(location) else self
        # Another signature may be on its way to the same object. What that is refused says nothing about this one.
        signed = _SIGNED.search(location.url) is not None
        url = identity.key if signed and (identity := self.identity(location)) is not None else location.url
        key = whose, url, start, stop, unless
        while key in reading:
            if (shared := reading[key]) is None:  # most reads have nobody waiting
                shared = reading[key] = Shared()
            began = time.monotonic()
            found = yield shared
            if isinstance(found, Chunk):
                if deadline is not None:  # the other may have waited for a place
                    deadline.at += time.monotonic() - began
                return found
            if isinstance(found, errors.UnavailableError) and not signed:
                raise found.again()
            if isinstance(found, NotModified):
                raise NotModified(no_store=found.no_store)
            # It was given up, or ran out of the time that it had: ours is another.
        reading[key] = None
        outcome: Chunk | Exception | None = None
        try:
            outcome = yield from self.fetcher.read(provider, location, start, stop, deadline=deadline, unless=unless)
            if outcome.info.no_store:
                yield Await(self._discard(location))
            return outcome
        except (errors.UnavailableError, NotModified) as error:
            outcome = error
            if error.no_store:
                yield Await(self._discard(location))
            raise
        finally:
            if (shared := reading.pop(key, None)) is not None:
                shared.set(outcome)
            del outcome  # it may hold its traceback, which holds this frame

    @cached_property
    def blocks(self) -> Blocks | None:
        """The bytes that are kept on disk; None where none are to be."""
        folder = place.folder(self.config)
        if folder is None:
            return None
        from .cache.blocks import blocks

        return blocks(folder, partial(place.capacity, self.config, folder), partial(place.warn, folder))

    def identity(self, location: Location) -> Identity | None:
        """By what the cache knows an object; None when it keeps nothing of it. Raises UsageError as `provider` does."""
        provider = self.provider(location)
        return identify(location, provider.identity, self._salt) if provider.cached(location) else None

    def _cached(self, location: Location) -> tuple[Blocks, Identity] | None:
        """The bytes on disk, and by what they know an object; None where nothing is kept of it."""
        if self.blocks is None or (identity := self.identity(location)) is None:
            return None
        return self.blocks, identity

    async def _discard(self, location: Location) -> None:
        """Keep nothing of an object any more, since its store forbids it now."""
        if (identity := self.identity(location)) is None:
            return
        forbid(identity, location.url)
        if self.blocks is not None and self.blocks.holds():
            self.blocks.discard(identity)

    def reader(self, location: Location, deadline: float, *, anew: bool = False) -> Callable[..., Steps[Chunk]]:
        """Return `read_job` for one object, of which bytes on disk are not asked for again unless `anew`; none are
        kept there."""
        within = Deadline(self.config.timeout, deadline)
        job = partial(self.read_job, location, deadline=within)
        # A scan of headers of which no bytes are kept need not look for each.
        if anew or self.blocks is None or not self.blocks.holds() or (cached := self._cached(location)) is None:
            return job
        blocks, identity = cached
        if blocks.find(identity, 0, 1) is None:
            return job
        read = partial(self.read, location, deadline=within)

        def peek(start: int, stop: int, *, unless: ObjectInfo | None = None) -> Steps[Chunk]:
            found = blocks.peek(identity, read, start, stop, max_age=self.config.max_age, unless=unless)
            chunk: Chunk = yield Await(found)
            return chunk

        return peek

    def keeper(
        self, location: Location, deadline: float | None = None, since: float | None = None
    ) -> Callable[[int, int], Awaitable[Chunk]]:
        """`read` for one object through the cache, which keeps what is read; `since` as for `Blocks.read`."""
        given = None if deadline is None else Deadline(self.config.timeout, deadline)
        read = partial(self.read, location, deadline=given)
        if (cached := self._cached(location)) is None:
            return read
        blocks, identity = cached
        within = self.config.timeout if deadline is None else deadline - time.monotonic()
        return partial(blocks.read, identity, read, max_age=self.config.max_age, since=since, within=within)

    def parts(self, location: Location) -> AsyncIterator[Chunk]:
        """The whole object, from the cache where it is there; see `in_parts`."""
        read = partial(self.read, location)
        if (cached := self._cached(location)) is None:
            return in_parts(read)
        blocks, identity = cached
        return blocks.parts(identity, read, max_age=self.config.max_age, within=self.config.timeout)

    @contextmanager
    def prefetching(self, location: Location) -> Iterator[None]:
        """All of the object is read meanwhile, to be kept on disk. Raises Unsupported where it is not."""
        if (identity := self.identity(location)) is None:
            yield
            return
        if self.blocks is None:
            raise errors.Unsupported(
                "it cannot be fetched ahead: nothing is kept on disk here (cache_size is 0, or the cache has no folder)"
            )
        with self.blocks.stay(identity):
            yield
        if not self.blocks.complete(identity):
            raise errors.Unsupported(
                f"it was read, but is not kept: it is larger than the cache of {self.blocks.capacity} bytes "
                "(MEDIASQL_CACHE_SIZE), or the disk has no room or cannot be written"
            )

    async def lease(self, location: Location) -> Lease | None:
        """A file with the whole object, until it is released; None where nothing is kept on disk."""
        if (cached := self._cached(location)) is None:
            return None
        blocks, identity = cached
        read = partial(self.read, location)
        return await blocks.lease(
            identity, read, location.extension, max_age=self.config.max_age, within=self.config.timeout
        )

    def told(self, location: Location, info: ObjectInfo) -> None:
        """A store said that this is the version there is now; bytes of another are not used any more."""
        if (cached := self._cached(location)) is not None:
            blocks, identity = cached
            blocks.validate(identity, info)

    async def content(self, location: Location) -> tuple[bytes, ObjectInfo]:
        """The whole object."""

        async def read() -> tuple[bytes, ObjectInfo]:
            chunks = [chunk async for chunk in self.parts(location)]
            return b"".join(chunk.data for chunk in chunks), chunks[0].info

        return await of_one_version(read)

    def entries(
        self, pattern: str, *, narrowed: KeyRange = EVERYTHING, page_size: int = 1000
    ) -> Iterator[tuple[str, list[Entry]]]:
        """Pages of `(root, entries)` for a glob, a prefix, or the URL of one object.

        Names are relative to `root`. Those outside of `narrowed` may be left out; `page_size` is a wish. One page is
        listed at a time, when it is asked for. A URL without wildcard that does not end in '/' is one object, which
        is not asked for: its ObjectInfo is empty.
        """
        location, provider, glob = self._pattern(pattern)
        if glob is None:
            path = provider.glob_path(location)
            yield path[: path.rfind("/") + 1], [Entry(location.url, path, ObjectInfo())]
            return
        wanted = glob.root + narrowed.prefix
        if not (wanted.startswith(glob.prefix) or glob.prefix.startswith(wanted)):
            return
        prefix = max(glob.prefix, wanted, key=len)
        after = glob.root + narrowed.after if narrowed.after else ""
        until = None if narrowed.until is None else glob.root + narrowed.until
        if until is not None and until < prefix:
            return
        keys = KeyRange(prefix, after if after >= prefix else "", until)
        start = Location.parse(provider.url_at(location, prefix))
        policy = self.policy
        if policy is not None:  # `narrowed` may have dots
            policy.check(start)
        keeps = provider.cached(start)
        pages = _Pages(provider.pages(start, keys, recursive=glob.recursive, page_size=page_size), self.config.timeout)
        try:
            while (page := loop.run(pages.next(), self._check)) is not None:
                kept = [entry for entry in page if glob.keeps(entry.path)]
                if policy is not None:
                    kept = [entry for entry in kept if policy.permits(Location.parse(entry.url))]
                if keeps:
                    self._listed(kept)
                yield glob.root, kept
        finally:
            loop.finish(pages.close())

    def _listed(self, page: list[Entry]) -> None:
        """What a listing says of objects of which bytes are kept is as good as what `told` is told."""
        if self.blocks is None or not self.blocks.holds(age=0):
            return
        by_scope: dict[str, dict[str, ObjectInfo]] = {}
        for entry in page:
            if entry.info.size is not None and (identity := self.identity(Location.parse(entry.url))) is not None:
                by_scope.setdefault(identity.scope, {})[identity.key] = entry.info
        for scope, objects in by_scope.items():
            self.blocks.listed(scope, objects)

    def root_url(self, pattern: str) -> str:
        """The URL that the names of `entries` are relative to."""
        location, provider, glob = self._pattern(pattern)
        path = provider.glob_path(location)
        return provider.url_at(location, glob.root if glob else path[: path.rfind("/") + 1])

    def _pattern(self, pattern: str) -> tuple[Location, Provider, Pattern | None]:
        """A pattern's location, its provider, and what to list; None where it is the URL of one object."""
        location = Location.parse(pattern)
        provider = self.provider(location)
        path = provider.glob_path(location)
        if location.scheme == "file" and os.path.isdir(path):
            return location, provider, below(path if path.endswith("/") else f"{path}/")
        if is_glob(path):
            return location, provider, compile_pattern(path)
        if path.endswith("/") or (location.container and not path):
            return location, provider, below(path)
        return location, provider, None

    def presign(self, location: Location, seconds: int) -> str:
        """The URL that gives anyone access to `location` for `seconds`.

        The first call for a container may ask the network for credentials or its region; later ones do not.
        Raises SigningError, CredentialsError, or Unsupported where the store has no such URLs.
        """
        provider = self.provider(location)
        key = (provider, provider.scope(location))
        signer = self._signers.get(key)
        if signer is None or (signer.expires_at is not None and time.time() >= signer.expires_at):
            signer = self._signers[key] = loop.run(provider.signer(location), self._check)
        if signer.max_seconds is not None and seconds > signer.max_seconds:
            raise errors.SigningError(
                f"{seconds} seconds is more than the {signer.max_seconds} ({signer.max_seconds // 86400} days) that "
                f"{location.scheme} allows"
            )
        return signer.sign(location.path, seconds)

    def close(self) -> None:
        """Close connections; the next call opens them again. When Python ends, the system closes them."""
        loop.finish(self._close())

    async def _close(self) -> None:
        await self.fetcher.close()
        for provider in self._providers.values():
            await provider.close()

    def disown(self) -> None:
        """In a forked child: leave the clients to the parent, on whose loop they are."""
        leak([self._providers, self._signers])
        self._providers, self._by_container, self._signers = {}, {}, {}


_stores: WeakSet[Store] = WeakSet()


def _in_child() -> None:
    for store in _stores:
        store.disown()


forking.at_fork(in_child=_in_child)


class _Pages:
    """A listing, one page at a time. It can be closed while a page is on its way."""

    def __init__(self, pages: AsyncIterator[list[Entry]], timeout: float) -> None:
        self._pages = pages
        self._timeout = timeout
        self._lock = asyncio.Lock()

    async def next(self) -> list[Entry] | None:
        """The next page, None after the last."""
        try:
            async with self._lock, asyncio.timeout(self._timeout):
                return await anext(self._pages, None)
        except TimeoutError:
            raise errors.TransientError(f"no listing within {self._timeout:g} s") from None
        except FileNotFoundError:
            raise errors.NotFound("there is nothing to list") from None
        except PermissionError as error:
            raise errors.Forbidden(f"listing is not allowed: {error}") from None
        except OSError as error:
            raise errors.TransientError(f"listing failed: {error}") from None

    async def close(self) -> None:
        # A page that was given up may still be unwinding, and a generator that runs cannot be closed.
        async with self._lock:
            await self._pages.aclose()  # type: ignore[attr-defined]
