"""http:// and https://: any web server, with or without ranges."""

from __future__ import annotations

import asyncio
import netrc
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import cached_property
from html import unescape
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin

from ...errors import TransientError, UnavailableError
from ..cache.scope import configured
from ..imports import importing
from ..location import Location
from .base import Entry, ObjectInfo, Provider, Request, Signer

if TYPE_CHECKING:
    from ..web import Web

# Everything that may stand in a URL as it is (RFC 3986); the rest is sent percent-encoded. '%' is kept, so that
# what is encoded already is not encoded twice.
_SAFE = "!#$%&'()*+,/:;=?@[]~"
_ASIDE = re.compile(r"[?#]")  # where the path of a URL ends
_LISTING = 16 * 1024 * 1024  # bytes of a directory page, at most


class HttpProvider(Provider):
    """Options: `headers`, `username` and `password`, and those of them that fsspec's HTTPFileSystem has."""

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        # No fsspec filesystem is made, which would apply FSSPEC_HTTP_* by itself.
        super().__init__({**configured(self.schemes), **options}, loop)
        self._given = dict(options)
        self._netrc = _read_netrc()
        self._web: Web | None = None

    @cached_property
    def _headers(self) -> dict[str, str]:
        options = self._given if self.named else self.options
        headers = {**options.get("client_kwargs", {}).get("headers", {}), **options.get("headers", {})}
        if "username" in options:
            headers["Authorization"] = _basic(options["username"], options.get("password", ""))
        return headers

    async def request(self, location: Location) -> Request:
        if not location.container:
            raise UnavailableError("the URL names no host")
        userinfo, at, _ = location.container.rpartition("@")
        url = _ASIDE_FRAGMENT.sub("", location.url)
        try:
            if not at:
                return Request(encoded(url), self._headers_for(location.container))
            return self._with_userinfo(url, userinfo)
        except ValueError as error:
            raise UnavailableError(f"not a URL that can be requested: {error}") from None

    def _with_userinfo(self, url: str, userinfo: str) -> Request:
        # As a header: a client that is given both, in the URL and as options, refuses to choose.
        user, _, password = userinfo.partition(":")
        url = url.replace(f"{userinfo}@", "", 1)
        return Request(encoded(url), {**self._headers, "Authorization": _basic(unquote(user), unquote(password))})

    def _headers_for(self, host: str) -> Mapping[str, str]:
        if self._netrc is None or "Authorization" in self._headers:
            return self._headers
        name = host.partition(":")[0]
        known = self._netrc.hosts.get(name) if self.named else self._netrc.authenticators(name)  # with `default`
        return {**self._headers, "Authorization": _basic(known[0], known[2] or "")} if known else self._headers

    def glob_path(self, location: Location) -> str:
        return canonical(_ASIDE.split(location.path, maxsplit=1)[0])

    async def pages(self, prefix: Location, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        """What directory pages link to; servers tell neither size nor time there in a form that can be relied on."""
        path = self.glob_path(prefix)
        start = self.url_at(prefix, path)
        host = start[: len(start) - len(path)]
        pending, seen = [start[: start.rfind("/") + 1]], set()
        while pending:
            directory = pending.pop()
            entries, below = [], []
            for link in await self.links(directory):
                there = host + canonical(link[len(host) :])
                if there in seen or not (there.startswith(start) or _leads_to(there, start)):
                    continue
                seen.add(there)
                if self.policy is not None and not self.policy.permits(Location.parse(link)):
                    continue
                if there.endswith("/"):
                    below.append(link)
                else:
                    entries.append(Entry(link, there[len(host) :], ObjectInfo()))
            if recursive:
                pending.extend(reversed(below))
            if entries:
                yield entries

    async def links(self, directory: str) -> list[str]:
        """The files and directories that the page of a directory links to, in its order."""
        from ..fetch import Refused, Retry

        with importing("mediasql.storage.web"):
            from ..web import web

        request = await self.request(Location.parse(directory))
        if self._web is None:
            self._web = web(self, timeout=30, connections=8)
        guards = None if self.policy is None else self.policy.guards
        try:
            page = await self._web.get(request, 0, _LISTING, guards)
        except Refused as refusal:
            raise refusal.error().again(f"cannot list {directory}: {refusal.status}") from None
        except Retry as failure:
            raise TransientError(f"cannot list {directory}: {failure}", status=failure.status) from None
        return await asyncio.to_thread(links_of, page.data, directory)

    async def close(self) -> None:
        web, self._web = self._web, None
        if web is not None:
            await web.leave(self)

    async def signer(self, location: Location) -> Signer:
        """Whoever has the URL can read it already."""
        return Signer(sign=lambda path, seconds: self.url_at(location, path))


# Not with html.parser, which gives up on some pages, and takes seconds for a large one.
_ANCHOR = re.compile(
    r"""<a(?=[\s/])(?:[^<>"']|"[^"]*"|'[^']*')*?[\s"'/]href\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""", re.IGNORECASE
)


def links_of(page: bytes, directory: str) -> list[str]:
    """What the anchors of a page lead to directly in `directory`; what cannot be read of it is left out."""
    found = [
        next(filter(None, anchor.groups()), "") for anchor in _ANCHOR.finditer(_shown(page.decode("utf-8", "replace")))
    ]
    links: dict[str, None] = {}
    for link in dict.fromkeys(found):
        if not _ASIDE.search(link := unescape(link)):
            with suppress(ValueError):  # of urllib, for what is no host
                links[urljoin(directory, link)] = None
    root = encoded(directory)
    return [link for link in links if _is_in(link, root)]


def _shown(page: str) -> str:
    """A page without its comments."""
    parts, at = [], 0
    while (start := page.find("<!--", at)) >= 0:
        parts.append(page[at:start])
        end = page.find("-->", start + 4)
        at = len(page) if end < 0 else end + 3
    return "".join([*parts, page[at:]])


_ENCODED = re.compile(rf"[A-Za-z0-9_.\-{re.escape(_SAFE)}]*")
_ASIDE_FRAGMENT = re.compile(r"#.*", re.DOTALL)


def encoded(url: str) -> str:
    """`url` as it goes over the wire: what may not stand in a URL percent-encoded, a host of other letters in IDNA."""
    if _ENCODED.fullmatch(url):  # nearly all are; a tenth of the time of finding out below
        return url
    scheme, separator, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if separator and not host.isascii():
        with importing("yarl"):
            from yarl import URL

        rest = URL(f"http://{host}").raw_authority + rest[len(host) :]
    return quote((scheme + separator + rest).encode("utf-8", "surrogateescape"), safe=_SAFE)


def canonical(path: str) -> str:
    """One spelling for all percent-encodings of a path, to compare and to match with: encoded is only what changes
    the meaning of the path, or of a glob."""

    def shown(escapes: re.Match[str]) -> str:
        try:
            text = unquote_to_bytes(escapes[0]).decode()
        except UnicodeDecodeError:
            return escapes[0]
        return "".join(quote(char, safe="") if char in "%/?#*[]{}" or not char.isprintable() else char for char in text)

    return re.sub(r"(?:%[0-9A-Fa-f]{2})+", shown, path)


def _is_in(link: str, root: str) -> bool:
    """Whether a link leads to a file or directory directly in `root`, which is encoded."""
    try:
        link = encoded(link)
    except ValueError:  # a host that is none
        return False
    name = link[len(root) :]
    return link.startswith(root) and bool(name) and "/" not in name[:-1]


def _leads_to(link: str, start: str) -> bool:
    """Whether `link` is a directory on the way to `start`."""
    return link.endswith("/") and start.startswith(link)


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _read_netrc() -> netrc.netrc | None:
    try:
        return netrc.netrc()
    except (OSError, netrc.NetrcParseError):
        return None
