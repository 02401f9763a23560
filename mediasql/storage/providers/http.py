"""http:// and https://: any web server, with or without ranges."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote

from ...errors import UnavailableError
from ..location import Location
from .base import Entry, ObjectInfo, Provider, Request, Signer

# Everything that may stand in a URL as it is (RFC 3986); the rest is sent percent-encoded. '%' is kept, so that
# what is encoded already is not encoded twice.
_SAFE = "!#$%&'()*+,/:;=?@[]~"


class HttpProvider(Provider):
    """Options: `headers`, `username` and `password`, and those of fsspec's HTTPFileSystem for listing."""

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        import fsspec.config

        # No fsspec filesystem is made for reading, which would apply FSSPEC_HTTP_* by itself.
        super().__init__({**fsspec.config.conf.get("http", {}), **options}, loop)
        client = self.options.get("client_kwargs", {})
        self._headers = {**client.get("headers", {}), **self.options.get("headers", {})}
        if "username" in self.options:
            userinfo = f"{self.options['username']}:{self.options.get('password', '')}"
            self._headers["Authorization"] = f"Basic {b64encode(userinfo.encode()).decode()}"

    async def request(self, location: Location) -> Request:
        if not location.container:
            raise UnavailableError("the URL names no host")
        url = quote(location.url.partition("#")[0], safe=_SAFE)
        return Request(url, self._headers)

    def glob_path(self, location: Location) -> str:
        return re.split(r"[?#]", location.path, maxsplit=1)[0]

    async def pages(self, prefix: Location, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        """What directory pages link to; servers tell neither size nor time there in a form that can be relied on."""
        import fsspec

        options = {k: v for k, v in self.options.items() if k not in ("headers", "username", "password")}
        client = {**options.pop("client_kwargs", {}), "headers": self._headers}
        filesystem = fsspec.filesystem(
            "http",
            asynchronous=True,
            loop=self.loop,
            skip_instance_cache=True,
            client_kwargs=client,
            **options,
        )
        path = self.glob_path(prefix)
        start = self.url_at(prefix, path)
        pending, seen = [start[: start.rfind("/") + 1]], set()
        try:
            while pending:
                directory = pending.pop()
                entries = []
                for link in sorted(set(await filesystem._ls(directory, detail=False))):
                    if link in seen or not link.startswith(directory) or not _may_lead_to(link, start):
                        continue
                    seen.add(link)
                    if not link.endswith("/"):
                        entries.append(Entry(link, link[len(start) - len(path) :], ObjectInfo()))
                    elif recursive:
                        pending.append(link)
                if entries:
                    yield entries
        finally:
            if filesystem._session is not None:
                await filesystem._session.close()

    async def signer(self, location: Location) -> Signer:
        """Whoever has the URL can read it already."""
        return Signer(sign=lambda path, seconds: f"{location.scheme}://{location.container}/{path}")


def _may_lead_to(link: str, start: str) -> bool:
    """Whether `link` begins with `start`, or is a directory on the way to it."""
    return link.startswith(start) or (link.endswith("/") and start.startswith(link))
