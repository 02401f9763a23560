"""http:// and https://: any web server, with or without ranges."""

from __future__ import annotations

import asyncio
import netrc
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import cached_property, lru_cache
from html import unescape
from typing import Any, ClassVar
from urllib.parse import quote, unquote, unquote_to_bytes, urljoin, urlsplit

from ...errors import TransientError, UnavailableError
from ..cache.scope import configured
from ..location import Location
from ..transport.exchange import RetryableError
from ..transport.requests import HttpStatusError, refusal
from ..urls import encoded, is_signed
from .base import Entry, KeyRange, ObjectInfo, Provider, Request, Signer

_ASIDE = re.compile(r"[?#]")  # where the path of a URL ends
_LISTING = 16 * 1024 * 1024  # bytes of a directory page, at most


class HttpProvider(Provider):
    """Options: `headers`, `username` and `password`, and those of them that fsspec's HTTPFileSystem has."""

    schemes: ClassVar[tuple[str, ...]] = ("http", "https")
    has_http: ClassVar[bool] = True

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        # No fsspec filesystem is made, which would apply FSSPEC_HTTP_* by itself.
        super().__init__({**configured(self.schemes), **options}, loop)
        self._given = dict(options)
        self._netrc = _read_netrc()

    @cached_property
    def _headers(self) -> dict[str, str]:
        options = self._given if self.named else self.options
        headers = {**options.get("client_kwargs", {}).get("headers", {}), **options.get("headers", {})}
        if "username" in options:
            headers["Authorization"] = _basic(options["username"], options.get("password", ""))
        return headers

    async def request(self, location: Location) -> Request:
        return self.request_now(location)

    def request_now(self, location: Location) -> Request:
        if not location.container:
            raise UnavailableError("the URL names no host")
        userinfo, at, _ = location.container.rpartition("@")
        url = _ASIDE_FRAGMENT.sub("", location.url)
        try:
            if not at:
                host = _host(location.container)
                if is_signed(url):  # stores refuse a request that is authorised in two ways
                    return Request(encoded(url), self._headers)
                headers = self._headers
                if "Authorization" not in headers and (authorisation := self._authorisation(host)):
                    headers = {**headers, "Authorization": authorisation}
                return Request(encoded(url), headers, authorise=self._authorisation)
            return self._with_userinfo(url, userinfo)
        except ValueError as error:
            raise UnavailableError(f"not a URL that can be requested: {error}") from None

    def _with_userinfo(self, url: str, userinfo: str) -> Request:
        # As a header: a client that is given both, in the URL and as options, refuses to choose.
        user, _, password = userinfo.partition(":")
        url = url.replace(f"{userinfo}@", "", 1)
        return Request(encoded(url), {**self._headers, "Authorization": _basic(unquote(user), unquote(password))})

    def _authorisation(self, host: str) -> str | None:
        """What `.netrc` says for a host."""
        if self._netrc is None:
            return None
        known = self._netrc.hosts.get(host) if self.named else self._netrc.authenticators(host)  # with `default`
        return _basic(known[0], known[2] or "") if known else None

    def glob_path(self, location: Location) -> str:
        return canonical(_ASIDE.split(location.path, maxsplit=1)[0])

    async def pages(
        self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int
    ) -> AsyncIterator[list[Entry]]:
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
        guards = None if self.policy is None else self.policy.guards
        request = self.request_now(Location.parse(directory))
        try:
            page = await self.client.get(request, 0, _LISTING, guards=guards)
        except HttpStatusError as error:
            raise refusal(error).again(f"cannot list {directory}: {error.status}") from None
        except RetryableError as failure:
            raise TransientError(f"cannot list {directory}: {failure}", status=failure.status) from None
        return await asyncio.to_thread(links_of, page.data, directory)

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


_ASIDE_FRAGMENT = re.compile(r"#.*", re.DOTALL)


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


@lru_cache(1024)
def _host(authority: str) -> str:
    return urlsplit(f"//{authority}").hostname or ""


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _read_netrc() -> netrc.netrc | None:
    try:
        return netrc.netrc()
    except (OSError, netrc.NetrcParseError):
        return None
