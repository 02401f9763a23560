"""What the fetcher does with a provider, reduced to one GET, on an event loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp
from yarl import URL

from mediasql.storage.location import Location
from mediasql.storage.providers.base import Entry, KeyRange, Provider, Request, Signer


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class Reading:
    """`with Reading(S3Provider, key=…) as reading:`; the provider is closed at the end."""

    def __init__(self, kind: type[Provider], **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.provider = kind(options, self.loop)

    def __enter__(self) -> Reading:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self.provider.close())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def request(self, url: str) -> Request:
        request = self.run(self.provider.request(Location.parse(url)))
        assert request is not None
        return request

    def get(self, url: str, span: str | None = None) -> Answer:
        """GET through `request`, and once more when `recover` says so."""
        return self.run(self._get(url, span))

    async def _get(self, url: str, span: str | None) -> Answer:
        location = Location.parse(url)
        answer = await self._send(await self.provider.request(location), span)
        if answer.status >= 300 and await self.provider.recover(location, answer.status, answer.headers, answer.body):
            answer = await self._send(await self.provider.request(location), span)
        return answer

    def get_together(self, urls: list[str]) -> list[Answer]:
        async def work() -> list[Answer]:
            return await asyncio.gather(*(self._get(url, None) for url in urls))

        return self.run(work())

    def fetch(self, url: str, span: str | None = None) -> Answer:
        """GET a finished URL, such as a presigned one."""
        return self.run(self._send(Request(url), span))

    async def _send(self, request: Request | None, span: str | None) -> Answer:
        assert request is not None
        headers = {"Accept-Encoding": "identity", **request.headers}
        if span:
            headers["Range"] = f"bytes={span}"
        async with (
            aiohttp.ClientSession() as session,
            session.get(URL(request.url, encoded=True), headers=headers) as response,
        ):
            return Answer(response.status, response.headers, await response.read())

    def signer(self, url: str) -> Signer:
        signer = self.run(self.provider.signer(Location.parse(url)))
        assert isinstance(signer, Signer)
        return signer

    def presign(self, url: str, seconds: int) -> str:
        return self.signer(url).sign(Location.parse(url).path, seconds)

    def pages(
        self,
        url: str,
        *,
        recursive: bool = True,
        page_size: int = 1000,
        most: int = 1000,
        after: str = "",
        until: str | None = None,
    ) -> list[list[Entry]]:
        async def work() -> list[list[Entry]]:
            found: list[list[Entry]] = []
            prefix = Location.parse(url)
            keys = KeyRange(prefix.path, after, until)
            pages = self.provider.pages(prefix, keys, recursive=recursive, page_size=page_size)
            async for page in pages:
                found.append(page)
                if len(found) == most:
                    break
            await pages.aclose()  # type: ignore[attr-defined]
            return found

        return self.run(work())


# Legal in S3, GCS and Azure alike, and each a way to sign or encode wrongly.
ODD_KEYS = [
    "a b+c.jpg",
    "a%20b%2Fc.jpg",
    "q?x=1&y=#frag.jpg",
    'it\'s "(quoted)"*!~.jpg',
    "日本/é-üñ.jpg",
    "semi;colon:at@,$=.jpg",
    "{curly}[square]|^`.jpg",
    "a//b.jpg",
]


def tampered(url: str) -> str:
    """The URL with another last character of its signature."""
    return url[:-1] + ("0" if url[-1] != "0" else "1")
