"""Listings of web servers, and the options of HTTP."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.config import Config
from mediasql.errors import Forbidden, NotFound, TransientError, UnavailableError
from mediasql.storage import loop
from mediasql.storage.location import Location
from mediasql.storage.providers.http import canonical, encoded, links_of
from mediasql.storage.store import Store
from tests.servers.http import PASSWORD, USER, HttpServer
from tests.servers.nginx import NginxServer

pytestmark = pytest.mark.usefixtures("transport")

TREE = [
    "a.jpg",
    "b.png",
    "c d.jpg",
    "it's.jpg",
    "é(1).jpg",
    "x%20y.jpg",
    "d/e.jpg",
    "d/f/g.jpg",
    "d/f/h.txt",
    "dd/i.jpg",
]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Config.load(timeout=10))
    yield store
    store.close()


@pytest.fixture
def tree(nginx_server: NginxServer) -> str:
    for name in TREE:
        nginx_server.put("listed", name, name.encode())
    nginx_server.reset()
    return f"{nginx_server.url}/listed"


def names(store: Store, pattern: str) -> list[str]:
    return sorted(entry.path[len(root) :] for root, page in store.entries(pattern) for entry in page)


def test_a_directory_of_nginx_is_listed(store: Store, tree: str) -> None:
    every = [name.replace("%", "%25") for name in TREE]
    assert names(store, f"{tree}/") == sorted(every)
    assert names(store, f"{tree}/*.jpg") == sorted(name for name in every if name.endswith("jpg") and "/" not in name)
    assert names(store, f"{tree}/**.jpg") == sorted(name for name in every if name.endswith("jpg"))
    assert names(store, f"{tree}/d/f/*") == ["g.jpg", "h.txt"]
    assert names(store, f"{tree}/d*/*.jpg") == ["d/e.jpg", "dd/i.jpg"]
    for _, page in store.entries(f"{tree}/"):
        for entry in page:
            data = loop.run(store.read(Location.parse(entry.url), 0, 100)).data.decode()
            assert data.replace("%", "%25") == entry.path.removeprefix("listed/")


@pytest.mark.parametrize("glob", ["c d*.jpg", "c%20d*.jpg", "c d.jp*", "it's*", "it%27s*", "é*", "%C3%A9*", "é(1)*"])
def test_a_glob_may_be_spelled_encoded_or_not(store: Store, tree: str, glob: str) -> None:
    assert len(names(store, f"{tree}/{glob}")) == 1


def test_no_more_directories_are_asked_for_than_may_hold_matches(
    store: Store, tree: str, nginx_server: NginxServer
) -> None:
    assert names(store, f"{tree}/*.png") == ["b.png"]
    assert [request.path for request in nginx_server.requests()] == ["/listed/"]
    nginx_server.reset()
    assert names(store, f"{tree}/d/**.txt") == ["f/h.txt"]
    assert [request.path for request in nginx_server.requests()] == ["/listed/d/", "/listed/d/f/"]
    nginx_server.reset()
    pages = store.entries(f"{tree}/**")
    next(pages)
    pages.close()
    assert len(nginx_server.requests()) == 1


def test_a_page_leads_into_its_directory_only(store: Store, http_server: HttpServer) -> None:
    page = """<a href="../">up</a> <a href="/other/">other</a> <a href="https://elsewhere/x.jpg">x</a>
        <a href="?C=N;O=D">Name</a> <A class=x HREF='a&amp;b.jpg'>a</A> <a href="/dir/c.jpg">c</a> <a href="c.jpg">c</a>
        <a href="sub/">sub</a> <a href="sub/deep.jpg">deep</a> <a name="x">no link</a> <a href="#top">top</a>
        <a href="javascript:alert(1)">j</a> <a href="mailto:a@b">m</a> https://host/plain.jpg <a href="./">self</a>"""
    http_server.put("", "dir/", page.encode(), "text/html")
    http_server.put(
        "", "dir/sub/", b'<a href="../sub/">self</a> <a href="x.jpg">x</a> <a href="..">up</a>', "text/html"
    )
    assert names(store, f"{http_server.url}/dir/") == ["a&b.jpg", "c.jpg", "sub/x.jpg"]


def test_a_url_without_wildcard_is_one_object_and_not_asked_for(store: Store, http_server: HttpServer) -> None:
    http_server.reset()
    url = f"{http_server.url}/d/a%20b.jpg?token=x*y"
    ((root, (entry,)),) = store.entries(url)
    assert (entry.url, entry.path[len(root) :]) == (url, "a b.jpg")
    assert http_server.requests() == []


def test_a_directory_that_cannot_be_listed_says_why(store: Store, http_server: HttpServer) -> None:
    for way, kind in {
        "s/403": Forbidden,
        "s/404": NotFound,
        "s/500": TransientError,
        "s/418": UnavailableError,
    }.items():
        with pytest.raises(kind) as error:
            names(store, f"{http_server.url}/{way}/")
        assert error.value.status == int(way[2:])
    with pytest.raises(TransientError):
        names(store, "http://nowhere.invalid/*.jpg")
    with pytest.raises(UnavailableError):
        names(store, "http://127.0.0.1:99999/*.jpg")


def test_options_serve_listings_too(http_server: HttpServer) -> None:
    http_server.put("", "dir/", b'<a href="a.jpg">a</a>', "text/html")
    store = Store(Config.load(storage_options={"http": {"username": USER, "password": PASSWORD}}))
    assert names(store, f"{http_server.url}/auth/dir/*.jpg") == ["a.jpg"]
    assert names(store, f"{http_server.url.replace('://', f'://{USER}:{PASSWORD}@')}/auth/dir/") == ["a.jpg"]
    store.close()


def test_what_fsspec_is_configured_with_is_honoured(http_server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    http_server.put("", "a.bin", b"abc")
    configured: dict[str, Any] = {}
    monkeypatch.setenv("FSSPEC_HTTP_HEADERS", '{"Authorization": "Bearer secret-bearer"}')
    fsspec.config.set_conf_env(configured)
    assert configured["http"]
    monkeypatch.setattr(fsspec.config, "conf", configured)
    store = Store(Config.load())
    url = f"{http_server.url}/bearer/a.bin"
    assert loop.run(store.read(Location.parse(url), 0, 9)).data == b"abc"
    mine = Store(Config.load(storage_options={"http": {"headers": {"Authorization": "Bearer other"}}}))
    with pytest.raises(Forbidden):
        loop.run(mine.read(Location.parse(url), 0, 9))
    for one in (store, mine):
        one.close()


@pytest.mark.parametrize("url", ["https://host/a%20b?t=%2B#f", "https://host", "http://host?x=1", "https://u:p@host/é"])
def test_presigning_gives_the_url_itself(store: Store, url: str) -> None:
    expected = url.replace("host?", "host/?")  # the same (RFC 3986 6.2.3)
    assert store.presign(Location.parse(url), 60) == expected


@given(st.text())
def test_encoding_does_it_once(text: str) -> None:
    try:
        once = encoded(f"http://host/{text}")
    except ValueError:
        assert any("\ud800" <= char <= "\udfff" for char in text)
        return
    assert once.isascii()
    assert " " not in once
    assert encoded(once) == once
    # What was written with care stays as it was.
    if once[12:] == text:
        assert encoded(f"http://host/{text}") == f"http://host/{text}"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_one_spelling_for_all_encodings(path: str) -> None:
    assert canonical(encoded(f"http://h/{path}")) == canonical(encoded(canonical(encoded(f"http://h/{path}"))))
    assert canonical(path).count("/") == path.count("/")


@pytest.mark.parametrize(
    ("page", "links"),
    [
        ('<A title="x > y" HREF = a.jpg><a title=\'"\' href=b.jpg>', ["a.jpg", "b.jpg"]),
        ("<a class=x href='a.jpg'><a\nhref=b.jpg><a href=\"c&amp;d.jpg\">", ["a.jpg", "b.jpg", "c&d.jpg"]),
        ('<a data-href="x.jpg" href="a.jpg"><abbr href="x.jpg"><a><a name="href"><a href="">', ["a.jpg"]),
        ('<!-- <a href="x.jpg"> --><a href="a.jpg"><!-- <a href="y.jpg">', ["a.jpg"]),
        ('<![<![<a href="a.jpg">', ["a.jpg"]),
        ('<a href="http://["><a href="//[x"><a href="http://..\u2024/"><a href="a.jpg">', ["a.jpg"]),
        ('<a href="a.jpg', []),
    ],
)
def test_what_a_page_links_to(page: str, links: list[str]) -> None:
    assert links_of(page.encode(), "http://h/d/") == [f"http://h/d/{link}" for link in links]


@given(st.text(st.sampled_from("<a href='\"=>/!-[x:\u2024&;")), st.text())
def test_no_page_is_an_error(page: str, other: str) -> None:
    for text in (page, other, f'<a href="{page}">', f'<a href="{other}">'):
        for link in links_of(text.encode("utf-8", "surrogatepass"), "http://h/d/"):
            assert Location.parse(link).container == "h"


@pytest.mark.parametrize(
    "unit", ["<a ", "<a href", "<a href='", '<a href="', "<!--", "<a href=", "<a href  ", "</", "<![", " href"]
)
def test_no_page_takes_longer_than_its_length(unit: str) -> None:
    page = unit.encode() * (4_000_000 // len(unit))
    begun = time.process_time()
    links_of(page, "http://h/d/")
    assert time.process_time() - begun < 5
