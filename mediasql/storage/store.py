"""All stores behind one door: a URL goes in, its bytes, its neighbours or its presigned form come out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .. import discovery, errors
from ..config import Config
from . import loop
from .fetch import Fetcher
from .location import Location
from .pattern import Pattern, below, compile_pattern, is_glob
from .providers.base import Chunk, Entry, ObjectInfo, Provider, Signer

# A whole object is read in parts of this size, each with the time limit of its own.
PART = 8 * 1024 * 1024


class Store:
    """What one Config can reach. Its coroutines run on the fetcher's loop; the rest may be called from any thread.

    `check` is called while a thread waits; it raises to give up.
    """

    def __init__(self, config: Config, check: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self.fetcher = Fetcher(config)
        self._check = check
        self._providers: dict[tuple[type[Provider], str], Provider] = {}
        # Most configurations have options for whole containers only, and then these tell the provider.
        self._by_path = any(
            Location.parse(prefix).path.strip("/") for prefix in config.storage_options if "://" in prefix
        )
        self._by_container: dict[tuple[str, str], Provider] = {}
        self._signers: dict[tuple[Provider, str], Signer] = {}
        # Ranges on their way, with the outcome for whoever else asks for them.
        self._reading: dict[tuple[str, int, int], asyncio.Future[Chunk | errors.MediaError | None] | None] = {}

    def provider(self, location: Location) -> Provider:
        """The provider that serves `location`, with the options that apply there."""
        if not self._by_path and (known := self._by_container.get((location.scheme, location.container))):
            return known
        classes = discovery.providers()
        kind = classes.get(location.scheme) or classes["*"]
        options = self._options(location)
        key = (kind, repr(sorted(options.items())))
        found = self._providers.get(key)
        if found is None:
            found = self._providers.setdefault(key, kind(options, loop.get()))
        if location.container and not location.chained:
            self._by_container[location.scheme, location.container] = found
        return found

    def _options(self, location: Location) -> dict[str, Any]:
        if not location.chained:
            return self.config.options_for(location.url, location.scheme)
        parts = [Location.parse(part if ":" in part else f"{part}://") for part in location.url.split("::")]
        chain = {part.scheme: self.config.options_for(part.url, part.scheme) for part in parts}
        return {scheme: options for scheme, options in chain.items() if options}

    async def read(self, location: Location, start: int, stop: int, *, deadline: float | None = None) -> Chunk:
        """Bytes `start` to `stop`; see `Fetcher.read`. Who asks for what is on its way waits for that."""
        key = location.url, start, stop
        while key in self._reading:
            if (waiter := self._reading[key]) is None:  # most reads have nobody waiting, and need no future
                waiter = self._reading[key] = asyncio.get_running_loop().create_future()
            found = await asyncio.shield(waiter)
            if isinstance(found, Chunk):
                return found
            if isinstance(found, errors.UnavailableError):
                raise found.again()
            # It was given up, or ran out of the time that it had: ours is another.
        self._reading[key] = None
        outcome: Chunk | errors.MediaError | None = None
        try:
            outcome = await self.fetcher.read(self.provider(location), location, start, stop, deadline=deadline)
            return outcome
        except errors.UnavailableError as error:
            outcome = error
            raise
        finally:
            if (waiter := self._reading.pop(key)) is not None:
                waiter.set_result(outcome)
            del outcome  # it may hold its traceback, which holds this frame

    async def parts(self, location: Location) -> AsyncIterator[Chunk]:
        """The whole object, in order, in parts of 8 MB. Raises TransientError when it changes meanwhile.

        Where the server knows no ranges, and sends all that comes before each part, they double in size.
        """
        at, size = 0, PART
        first: ObjectInfo | None = None
        while True:
            chunk = await self.read(location, at, at + size)
            first = first or chunk.info
            if changed(first, chunk.info):
                raise errors.TransientError("the object changed while it was read")
            yield chunk
            at += len(chunk.data)
            if len(chunk.data) < size or at == chunk.info.size:
                return
            if not chunk.ranged:
                size *= 2

    async def content(self, location: Location) -> tuple[bytes, ObjectInfo]:
        """The whole object."""
        chunks = [chunk async for chunk in self.parts(location)]
        return b"".join(chunk.data for chunk in chunks), chunks[0].info

    def entries(self, pattern: str, *, narrowed: str = "", page_size: int = 1000) -> Iterator[tuple[str, list[Entry]]]:
        """Pages of `(root, entries)` for a glob, a prefix, or the URL of one object.

        Names are relative to `root`. `narrowed` is text that names must start with, `page_size` a wish. One page is
        listed at a time, when it is asked for. A URL without wildcard that does not end in '/' is one object, which
        is not asked for: its ObjectInfo is empty.
        """
        location, provider, glob = self._pattern(pattern)
        if glob is None:
            path = provider.glob_path(location)
            yield path[: path.rfind("/") + 1], [Entry(location.url, path, ObjectInfo())]
            return
        prefix = glob.prefix
        if narrowed:
            wanted = glob.root + narrowed
            if not (wanted.startswith(prefix) or prefix.startswith(wanted)):
                return
            prefix = max(prefix, wanted, key=len)
        start = Location.parse(provider.url_at(location, prefix))
        pages = _Pages(provider.pages(start, recursive=glob.recursive, page_size=page_size), self.config.timeout)
        try:
            while (page := loop.run(pages.next(), self._check)) is not None:
                yield glob.root, [entry for entry in page if glob.keeps(entry.path)]
        finally:
            loop.finish(pages.close())

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
        """Close connections; the next call opens them again."""
        loop.run(self._close())

    async def _close(self) -> None:
        await self.fetcher.close()
        for provider in self._providers.values():
            await provider.close()


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


def changed(first: ObjectInfo, later: ObjectInfo) -> bool:
    """Whether two answers cannot be about the same version of an object."""
    pairs = ((first.etag, later.etag), (first.size, later.size), (first.last_modified, later.last_modified))
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)
