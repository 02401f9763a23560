"""One door to all stores: pages, parts, and what is left when a listing is given up."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import apsw
import pytest

from mediasql.config import Config
from mediasql.errors import Forbidden, MediaError, NotFound, TransientError, Unsupported
from mediasql.storage import fetch, loop, store
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Entry, KeyRange, ObjectInfo, Provider, Signer
from mediasql.storage.store import Store
from tests.clock import Clock
from tests.servers.http import HttpServer
from tests.servers.s3 import Server as S3Server
from tests.waiting import soon

PART = 4096
DATA = bytes(range(251)) * 100


@pytest.fixture
def make() -> Iterator[Callable[..., Store]]:
    made: list[Store] = []

    def new(check: Callable[[], None] = lambda: None, **config: Any) -> Store:
        made.append(Store(Config.load(**{"timeout": 10, **config}), check))
        return made[-1]

    yield new
    for one in made:
        one.close()


class Fake(Provider):
    """A listing of a hundred pages that knows how far it got. Its scheme is none that anybody has."""

    pages_given = 0
    ended = threading.Event()
    slow = threading.Event()
    waits = threading.Event()
    error: Exception | None = None
    signers = 0

    async def pages(
        self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int
    ) -> AsyncIterator[list[Entry]]:
        try:
            for number in range(100):
                if Fake.error is not None:
                    raise Fake.error
                if Fake.slow.is_set() and number:
                    try:
                        Fake.waits.set()
                        await asyncio.sleep(600)
                    except asyncio.CancelledError:
                        await asyncio.sleep(0.05)  # slow to give up, too
                        raise
                Fake.pages_given += 1
                yield [Entry(f"fake://b/{number}.jpg", f"{number}.jpg", ObjectInfo())]
        finally:
            Fake.ended.set()

    async def signer(self, location: Location) -> Signer:
        Fake.signers += 1
        return Signer(
            lambda path, seconds: f"https://{path}?{seconds}", expires_at=time.time() + 1000, max_seconds=604800
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[Fake]:
    Fake.pages_given, Fake.signers, Fake.error = 0, 0, None
    Fake.ended.clear()
    Fake.slow.clear()
    Fake.waits.clear()
    monkeypatch.setattr(store.discovery, "providers", lambda: {"fake": Fake})
    return Fake


def tasks() -> int:
    async def count() -> int:
        return len(asyncio.all_tasks())

    return loop.run(count())


def test_pages_are_listed_when_they_are_asked_for(make: Callable[..., Store], fake: type[Fake]) -> None:
    before = tasks()
    pages = make().entries("fake://b/*.jpg")
    assert fake.pages_given == 0
    assert [next(pages)[1][0].path for _ in range(3)] == ["0.jpg", "1.jpg", "2.jpg"]
    assert fake.pages_given == 3
    assert not fake.ended.is_set()
    pages.close()  # type: ignore[attr-defined]
    assert fake.ended.is_set()
    assert (fake.pages_given, tasks()) == (3, before)


def test_what_is_not_wanted_is_left_out_but_pages_stay(make: Callable[..., Store], fake: type[Fake]) -> None:
    pages = list(make().entries("fake://b/1*.jpg"))
    assert len(pages) == 100
    assert [entry.path for _, page in pages for entry in page] == ["1.jpg", *(f"1{digit}.jpg" for digit in range(10))]
    assert list(make().entries("fake://b/1*.jpg", narrowed=KeyRange("2"))) == []
    assert fake.pages_given == 100


def test_a_listing_that_is_forgotten_is_closed_wherever_it_is_collected(
    make: Callable[..., Store], fake: type[Fake]
) -> None:
    holder = [make().entries("fake://b/*")]
    next(holder[0])

    async def collect() -> None:  # on the loop's own thread, where waiting for the loop would be for ever
        holder.clear()
        gc.collect()

    loop.run(collect())
    assert fake.ended.wait(60)


def test_an_interrupted_listing_ends_at_once_and_is_closed(make: Callable[..., Store], fake: type[Fake]) -> None:
    def check() -> None:
        if fake.waits.is_set():
            raise apsw.InterruptError("interrupted")

    before = tasks()
    fake.slow.set()
    pages = make(check).entries("fake://b/*")
    next(pages)
    with soon(), pytest.raises(apsw.InterruptError):
        next(pages)
    assert fake.ended.is_set()
    assert tasks() == before


def test_a_listing_has_its_time(make: Callable[..., Store], fake: type[Fake]) -> None:
    fake.slow.set()
    pages = make(timeout=2).entries("fake://b/*")
    next(pages)
    with pytest.raises(TransientError, match=r"no listing within 2 s"):
        next(pages)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), NotFound),
        (PermissionError("x"), Forbidden),
        (OSError("x"), TransientError),
        (Unsupported("x"), Unsupported),
    ],
)
def test_the_errors_of_a_listing(
    make: Callable[..., Store], fake: type[Fake], error: Exception, kind: type[MediaError]
) -> None:
    fake.error = error
    with pytest.raises(MediaError) as raised:
        list(make().entries("fake://b/*"))
    assert type(raised.value) is kind


def test_signers_are_kept_until_they_expire(make: Callable[..., Store], fake: type[Fake], clock: Clock) -> None:
    here = make()
    assert here.presign(Location.parse("fake://b/k"), 60) == "https://k?60"
    assert here.presign(Location.parse("fake://b/other"), 604800) == "https://other?604800"
    assert fake.signers == 1
    here.presign(Location.parse("fake://c/k"), 60)
    assert fake.signers == 2
    clock.move(1000)
    here.presign(Location.parse("fake://b/k"), 60)
    assert fake.signers == 3
    with pytest.raises(MediaError, match=r"604801 seconds is more than the 604800 \(7 days\) that fake allows"):
        here.presign(Location.parse("fake://b/k"), 604801)


def test_one_provider_for_the_same_options(make: Callable[..., Store], fake: type[Fake]) -> None:
    here = make(storage_options={"fake://other": {"x": 1}})
    first = here.provider(Location.parse("fake://a/k"))
    assert here.provider(Location.parse("fake://b/k")) is first
    assert here.provider(Location.parse("fake://other/k")) is not first
    assert first.loop is loop.get()


@pytest.mark.parametrize("way", ["", "norange/", "nolength/", "gzip/", "novalidators/"])
@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, len(DATA)])
def test_the_whole_object_in_parts(
    make: Callable[..., Store], http_server: HttpServer, monkeypatch: pytest.MonkeyPatch, way: str, size: int
) -> None:
    if size == 0 and way == "nolength/":
        size = 2
    monkeypatch.setattr(fetch, "PART", PART)
    http_server.put("", f"parts-{size}.bin", DATA[:size])
    http_server.reset()
    data, info = loop.run(make(cache_size=0).content(Location.parse(f"{http_server.url}/{way}parts-{size}.bin")))
    assert data == DATA[:size]
    assert info.size in (size, None)
    requests = http_server.requests()
    assert len(requests) <= (size // PART + 1 if way in ("", "novalidators/") else 4)
    assert {request.method for request in requests} == {"GET"}


def test_an_object_that_changes_is_not_put_together(
    make: Callable[..., Store], http_server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "PART", PART)
    http_server.put("", "parts.bin", DATA)
    http_server.reset()
    with pytest.raises(TransientError, match="changed while it was read"):
        loop.run(make(cache_size=0).content(Location.parse(f"{http_server.url}/changing/parts.bin")))
    # As it was begun three times, with two requests each.
    assert len(http_server.requests()) == 6


def test_s3_is_listed_page_by_page(make: Callable[..., Store], s3_server: S3Server) -> None:
    for name in ("a b/1.jpg", "a b/2.jpg", "a b/c/3.jpg", "a b/[4].jpg", "x.jpg"):
        s3_server.put("paged", name, b"x")
    here = make(storage_options=s3_server.storage_options, timeout=20)
    s3_server.reset()
    pages = here.entries("s3://paged/a b/**.jpg", page_size=2)
    root, page = next(pages)
    assert (root, [entry.url for entry in page]) == ("a b/", ["s3://paged/a b/1.jpg", "s3://paged/a b/2.jpg"])
    assert [request.method for request in s3_server.requests()].count("GET") == 1  # and one to learn the region
    assert [entry.path for _, page in pages for entry in page] == ["a b/[4].jpg", "a b/c/3.jpg"]
    names = {entry.path for _, page in here.entries("s3://paged/a b/[4].jpg") for entry in page}
    assert names == {"a b/[4].jpg"}
    assert here.root_url("s3://paged/a b/**.jpg") == "s3://paged/a b/"
