"""What somebody may write into a database: URLs and paths that try to be read as others, and schemas that call us."""

from __future__ import annotations

import ipaddress
import os
import socket
from asyncio import selector_events
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.config import Config
from mediasql.errors import ForbiddenByPolicy, MediaError
from mediasql.sql import workshop
from mediasql.storage import fetch, loop
from mediasql.storage.address import check_addresses
from mediasql.storage.location import Location
from mediasql.storage.store import Store
from mediasql.storage.transport import curl
from mediasql.storage.transport.exchange import RetryableError
from tests.media.headers.pictures import picture
from tests.servers.http import HttpServer
from tests.storage import iana

BEFORE = [
    *("http://", "https://", "HTTP://", "http:/", "http:///", "http:\\\\", "http://@", "http://u:p@", "http://[::1]@"),
    *("http://example.com@", "http://example.com#@", "http://example.com\\@", "http://example.com/@", "http://%40"),
    *("http://example.com:80@", "http://[", "http://\t", "http://a.", "https://www."),
]
HOSTS = [
    *(
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.1",
        "127.1",
        "0",
        "0.0.0.0",
        "localhost",
        "LOCALHOST",
        "[::1]",
        "[::]",
    ),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[fe80::1%25eth0]", "[::1%251]", "169.254.169.254", "0xa9fea9fe"),
    *("10.0.0.1", "[fd00::1]", "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::ffff:0:127.0.0.1]"),
    *("127。0。0。1", "127｡1", "①②⑦.⓪.⓪.①", "ⓛocalhost", "0x7F.0x0.0.0X1", "00000127.0.0.1", "١٢٧.0.0.1"),
    *("example.com", "93.184.216.34", "[2606:4700::1]", "%31%32%37.0.0.1", "127.0.0.1%00", "xn--", "[1::1%25]"),
]
BEHIND = [
    *("", "/", "/a", ":80/", ":8080/a", ":0/", ":99999/", "./", "../", "./:80", "?x", "#x", "\\x", ":x/", " /", ",x/"),
    *(":80@example.com/", "@example.com/", "@127.0.0.1/", "/../", "%2f@example.com/", "%00/"),
]


class Network:
    """Where connections would go. Names have a public address, but for those of this machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        resolve = socket.getaddrinfo

        async def sock_connect(_: Any, __: Any, address: tuple[str, int]) -> None:
            self.asked.append(address[0])
            raise ConnectionRefusedError

        def getaddrinfo(host: str, port: int, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
            if host.lower().rstrip(".").endswith("localhost"):
                host = "127.0.0.1"
            with suppress(OSError, UnicodeError):
                return resolve(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", int(port or 0)))]

        def check(host: str, addresses: Iterable[str]) -> None:
            """What libcurl is about to connect to, if it passes."""
            addresses = list(addresses)
            check_addresses(host, addresses)
            self.asked += addresses
            if addresses:
                raise RetryableError("no connection is made in tests")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(curl, "check_addresses", check)
        monkeypatch.setattr(selector_events.BaseSelectorEventLoop, "sock_connect", sock_connect)
        monkeypatch.setattr(fetch, "ATTEMPTS", 1)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    return Network(monkeypatch)


@pytest.fixture
def untrusted() -> Iterator[Store]:
    store = Store(Config.load(profile="untrusted", timeout=5, cache_size=0))
    yield store
    store.close()


@settings(max_examples=300)
@given(st.sampled_from(BEFORE), st.sampled_from(HOSTS), st.sampled_from(["", "."]), st.sampled_from(BEHIND))
def test_no_spelling_of_an_address_gets_inside(
    network: Network, untrusted: Store, before: str, host: str, dot: str, behind: str
) -> None:
    network.asked.clear()
    with suppress(MediaError):  # nothing else, whatever is wrong with the URL
        loop.run(untrusted.read(Location.parse(f"{before}{host}{dot}{behind}"), 0, 10))
    for asked in network.asked:
        assert iana.is_reachable(ipaddress.ip_address(asked)), asked


def test_public_addresses_are_asked(network: Network, untrusted: Store) -> None:
    """Otherwise the test above would prove nothing."""
    for url in (
        "http://example.com/",
        "https://u:p@EXAMPLE.com.:8080/a",
        "http://93.184.216.34",
        "http://[2606:4700::1]/",
    ):
        network.asked.clear()
        with suppress(MediaError):
            loop.run(untrusted.read(Location.parse(url), 0, 10))
        assert network.asked, url


class Tree:
    """A directory that is allowed, one beside it that is not, and links from one into the other."""

    def __init__(self, folder: Path) -> None:
        self.root, self.outside = folder / "root", folder / "outside"
        places = {self.root: b"in", self.outside: b"outside", folder / "rooted": b"beside", folder: b"above"}
        for place, data in places.items():
            (place / "sub").mkdir(parents=True, exist_ok=True)
            for name in ("a", "sub/a"):
                (place / name).write_bytes(data)
        (self.root / "link").symlink_to(self.outside)
        (self.root / "sub" / "file").symlink_to(self.outside / "a")
        (self.root / "up").symlink_to("..")
        (self.root / "%2e%2e").mkdir()
        (self.root / "%2e%2e" / "a").write_bytes(b"in")
        (self.outside / "back").symlink_to(self.root)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("hostile"))


PARTS = [
    "..",
    ".",
    "",
    "a",
    "sub",
    "link",
    "file",
    "up",
    "back",
    "outside",
    "root",
    "%2e%2e",
    "%2E.",
    "..\\",
    "~",
    "%2f..",
]


@settings(max_examples=500)
@given(
    st.sampled_from(
        ["{}/", "file://{}/", "file:{}/", "FILE://localhost{}/", "file:///{}/", "", "file://", "~/", "{}%2f"]
    ),
    st.lists(st.sampled_from(PARTS), max_size=6),
)
def test_no_path_leads_out_of_a_root(tree: Tree, monkeypatch: pytest.MonkeyPatch, start: str, parts: list[str]) -> None:
    monkeypatch.chdir(tree.root)
    monkeypatch.setenv("HOME", str(tree.outside))
    url = start.format(tree.root) + "/".join(parts)
    hosted = Store(Config.load(profile="hosted", allow=[str(tree.root)]))
    owner = Store(Config.load(deny=[str(tree.outside)]))
    with suppress(MediaError):
        assert loop.run(hosted.read(Location.parse(url), 0, 10)).data == b"in"
    with suppress(MediaError):
        assert loop.run(owner.read(Location.parse(url), 0, 10)).data != b"outside"
    for store, pattern in ((hosted, f"{url}/"), (hosted, f"{url}*"), (hosted, f"{url}/**"), (owner, f"{url}/*")):
        with suppress(MediaError):
            for _, page in store.entries(pattern):
                for entry in page:
                    real = os.path.realpath(entry.path)
                    inside = real.startswith(f"{tree.root}/")
                    assert inside if store is hosted else not real.startswith(f"{tree.outside}/"), (pattern, entry)


def test_a_path_within_a_root_is_read(tree: Tree) -> None:
    store = Store(Config.load(profile="hosted", allow=[str(tree.root)]))
    for path in ("a", "sub/a", "sub/../a", "%2e%2e/a"):
        assert loop.run(store.read(Location.parse(f"{tree.root}/{path}"), 0, 10)).data == b"in"


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="only Linux tells where an open file is")
@pytest.mark.parametrize("swapped", ["a", "sub"])
def test_a_link_that_comes_when_the_path_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    tree = Tree(tmp_path)
    path = tree.root / "a" if swapped == "a" else tree.root / "sub" / "a"
    before = os.open

    def swap_and_open(name: Any, *args: Any, **kwargs: Any) -> int:
        if str(name) == str(path) and not (tree.root / swapped).is_symlink():
            (tree.root / swapped).rename(tree.root / "old")
            (tree.root / swapped).symlink_to(tree.outside / swapped)
        return before(name, *args, **kwargs)

    for config in ({"profile": "hosted", "allow": [str(tree.root)]}, {"deny": [str(tree.outside)]}):
        store = Store(Config.load(**config))
        assert loop.run(store.read(Location.parse(str(path)), 0, 10)).data == b"in"
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", swap_and_open)
            with pytest.raises(ForbiddenByPolicy):
                loop.run(store.read(Location.parse(str(path)), 0, 10))
        (tree.root / swapped).unlink()
        (tree.root / "old").rename(tree.root / swapped)


HOSTILE = """
CREATE TABLE bait(u, n INT);
CREATE TABLE loot(b);
INSERT INTO bait VALUES ('{inside}', 1);
CREATE VIEW v1 AS SELECT content('{secret}') b UNION ALL SELECT content('{inside}');
CREATE VIEW v2 AS SELECT width(u) FROM bait;
CREATE VIEW v3 AS SELECT url, size FROM media('{folder}/*');
CREATE VIEW v4 AS SELECT url FROM media('{site}/');
CREATE VIEW v5 AS SELECT content('file://{secret}'), content('local://{secret}'), media_info('zip://a::{inside}');
CREATE VIEW v6 AS SELECT width('{inside}?' || hex(content('{secret}')));
CREATE VIEW v7 AS SELECT url FROM media_cache WHERE url LIKE '%owner%';
CREATE TRIGGER t1 AFTER INSERT ON bait WHEN new.n = 2 BEGIN INSERT INTO loot SELECT content('{secret}'); END;
CREATE TRIGGER t2 AFTER UPDATE ON bait BEGIN INSERT INTO loot SELECT content(new.u); END;
CREATE TRIGGER t3 AFTER DELETE ON bait BEGIN INSERT INTO loot SELECT b FROM v1; END;
CREATE VIRTUAL TABLE files USING media('{folder}/*');
CREATE VIRTUAL TABLE pages USING media('{site}/');
CREATE TABLE g(u, w INT AS (width(u)), c CHECK (c IS NULL OR width('{inside}') > 0));
CREATE TABLE late(u, b DEFAULT (content('{secret}')));
INSERT INTO g(u) VALUES ('{inside}');
"""
CALLS = [
    *(f"SELECT * FROM v{number}" for number in range(1, 7)),
    *("INSERT INTO bait VALUES ('x', 2)", "UPDATE bait SET n = 3", "DELETE FROM bait", "SELECT * FROM files"),
    *("SELECT * FROM pages", "SELECT w FROM g", "INSERT INTO g(c) VALUES (1)", "CREATE INDEX i ON g(w)"),
    *(
        "INSERT INTO late(u) VALUES (1)",
        "SELECT u FROM bait WHERE width(u) > 0",
        "UPDATE g SET u = u || '' RETURNING w",
    ),
]


@pytest.mark.parametrize("profile", ["untrusted", "hosted"])
def test_a_hostile_schema_gets_nothing(http_server: HttpServer, tmp_path: Path, profile: str) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    secret = folder / "secret.jpg"
    secret.write_bytes(picture("JPEG", size=(30, 20)))
    http_server.put("", "owner/a.jpg", secret.read_bytes())
    inside = f"{http_server.url}/owner/a.jpg"
    owner = mediasql.connect(timeout=60)
    assert owner.execute("SELECT width(?)", (inside,)).get == 30
    schema = HOSTILE.format(secret=secret, inside=inside, folder=folder, site=f"{http_server.url}/owner")
    mediasql.connect(str(tmp_path / "theirs.db"), timeout=60).execute(schema)
    owner.close()
    http_server.reset()
    con = mediasql.connect(str(tmp_path / "theirs.db"), profile=profile, timeout=60)
    for call in CALLS:
        with pytest.raises(ForbiddenByPolicy, match="refused by policy"):
            con.execute(call).fetchall()
    assert con.execute("SELECT * FROM v7").fetchall() == []
    assert con.execute("SELECT count(*) FROM loot").get == con.execute("SELECT count(*) FROM late").get == 0
    assert http_server.requests() == []
    con.close()


@pytest.mark.parametrize("way", ["", "norange/", "nolength/"])
def test_a_file_that_is_longer_than_any_value_is_not_held(
    http_server: HttpServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(workshop, "LONGEST", 10 * 1024 * 1024)
    http_server.put("", "long.jpg", b"x" * (40 * 1024 * 1024))
    url = f"{http_server.url}/{way}long.jpg"
    con = mediasql.connect(timeout=20)
    http_server.reset()
    assert con.execute("SELECT content(?)", (url,)).get is None
    assert con.execute("SELECT error FROM media_errors").get.endswith("content_hash and local_path take any number")
    assert sum(request.bytes for request in http_server.requests() if way == "") <= 9 * 1024 * 1024
    assert len(con.execute("SELECT content_hash(?)", (url,)).get) == 64
    con.close()
