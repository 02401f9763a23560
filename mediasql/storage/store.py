"""All stores behind one door: a URL goes in, its bytes, its neighbours or its presigned form come out."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import discovery, errors
from ..config import Config
from . import loop
from .location import Location
from .pattern import Pattern, compile_pattern, is_glob
from .providers.base import Chunk, Entry, ObjectInfo, Provider, Signer

if TYPE_CHECKING:
    from .fetch import Fetcher

# A whole object is read in parts of this size, each with the time limit of its own.
PART = 8 * 1024 * 1024


class Store:
    """What one Config can reach. Its coroutines run on the fetcher's loop; the rest may be called from any thread.

    `check` is called while a thread waits; it raises to give up.
    """

    def __init__(self, config: Config, check: Callable[[], None] = lambda: None) -> None:
        self.config = config
        self._check = check
        self._providers: dict[tuple[type[Provider], str], Provider] = {}
        self._signers: dict[tuple[Provider, str], Signer] = {}

    @cached_property
    def fetcher(self) -> Fetcher:
        from .fetch import Fetcher  # aiohttp takes 0.2 s to import, and a local query does without

        return Fetcher(self.config)

    def provider(self, location: Location) -> Provider:
        """The provider that serves `location`, with the options that apply there."""
        classes = discovery.providers()
        kind = classes.get(location.scheme) or classes["*"]
        options = self._options(location)
        key = (kind, repr(sorted(options.items())))
        found = self._providers.get(key)
        if found is None:
            found = self._providers[key] = kind(options, loop.get())
        return found

    def _options(self, location: Location) -> dict[str, Any]:
        if "::" not in location.path or location.container:
            return self.config.options_for(location.url, location.scheme)
        parts = [Location.parse(part if ":" in part else f"{part}://") for part in location.url.split("::")]
        chain = {part.scheme: self.config.options_for(part.url, part.scheme) for part in parts}
        return {scheme: options for scheme, options in chain.items() if options}

    async def read(self, location: Location, start: int, stop: int, *, deadline: float | None = None) -> Chunk:
        """Bytes `start` to `stop`; see `Fetcher.read`."""
        return await self.fetcher.read(self.provider(location), location, start, stop, deadline=deadline)

    async def parts(self, location: Location) -> AsyncIterator[Chunk]:
        """The whole object, in order, in parts of 8 MB. Raises TransientError when it changes meanwhile."""
        at, first = 0, None
        while True:
            chunk = await self.read(location, at, at + PART)
            first = first or chunk
            if (chunk.info.etag, chunk.info.size) != (first.info.etag, first.info.size) and at:
                raise errors.TransientError("the object changed while it was read")
            yield chunk
            at += len(chunk.data)
            if len(chunk.data) < PART or at == chunk.info.size:
                return

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
        pages = provider.pages(start, recursive=glob.recursive, page_size=page_size)
        try:
            while True:
                page = loop.run(self._page(pages), self._check)
                if page is None:
                    return
                yield glob.root, [entry for entry in page if glob.keeps(entry.path)]
        finally:
            loop.run(_close(pages))

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
        if is_glob(path):
            return location, provider, compile_pattern(path)
        if path.endswith("/") or (location.container and not path):
            return location, provider, compile_pattern(path)
        if location.scheme == "file" and os.path.isdir(path):
            return location, provider, compile_pattern(path + "/")
        return location, provider, None

    async def _page(self, pages: AsyncIterator[list[Entry]]) -> list[Entry] | None:
        try:
            async with asyncio.timeout(self.config.timeout):
                return await anext(pages, None)
        except TimeoutError:
            raise errors.TransientError(f"no listing within {self.config.timeout:g} s") from None
        except FileNotFoundError:
            raise errors.NotFound("there is nothing to list") from None
        except PermissionError as error:
            raise errors.Forbidden(f"listing is not allowed: {error}") from None
        except OSError as error:
            raise errors.TransientError(f"listing failed: {error}") from None

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
        if "fetcher" in self.__dict__:
            await self.fetcher.close()
        for provider in self._providers.values():
            await provider.close()


async def _close(pages: AsyncIterator[list[Entry]]) -> None:
    await pages.aclose()  # type: ignore[attr-defined]
