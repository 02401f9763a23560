"""What a hostile database may try, and that nothing is sent when it does."""

from __future__ import annotations

import gc
import io
import ipaddress
import os
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fsspec.config
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mediasql
from mediasql.config import Config
from mediasql.errors import ConfigError, Forbidden, ForbiddenByPolicy, UnavailableError
from mediasql.storage import address, loop
from mediasql.storage.location import Location
from mediasql.storage.policy import Policy
from mediasql.storage.store import Store
from tests.media.headers.pictures import picture
from tests.servers.http import BEARER, PASSWORD, USER, HttpServer
from tests.servers.nginx import NginxServer
from tests.servers.server import Server
from tests.storage import iana
from tests.storage.metadata import json_server

pytestmark = pytest.mark.usefixtures("transport")


def policy(profile: str = "untrusted", **rules: Any) -> Policy:
    made = Policy.of(Config.load(profile=profile, **rules))
    assert made is not None
    return made


def permits(made: Policy, url: str) -> bool:
    return made.permits(Location.parse(url))


def test_an_owner_without_rules_has_no_policy() -> None:
    assert Policy.of(Config.load()) is None
    assert Store(Config.load()).policy is None


INTERNAL = [
    "http://169.254.169.254/latest/meta-data/",
    "http://127.0.0.1:8000/x",
    "http://user:password@127.0.0.1/x",
    "http://example.com@127.0.0.1/x",
    "http://example.com:80@127.0.0.1/x",
    "http://a@b@127.0.0.1/x",
    "http://127.0.0.1./x",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fd00:ec2::254]/",
    "http://[ff02::1]/",
    "http://10.1.2.3/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[64:ff9b:1::a9fe:a9fe]/",
    "http://[::ffff:0:7f00:1]/",
    "http://[3fff::1]/",
    "http://[5f00::1]/",
    "http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/",
    "http://[::1%25lo]/",
    "http://192.88.99.1/",
    "http://192.0.0.8/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost:9000/",
    "HTTP://127.0.0.1/",
    "https://\uff11\uff12\uff17.\uff10.0.1/",  # full-width digits, which IDNA makes ordinary ones
    "http://127。0。0。1/",
]
LOCAL = [
    "/etc/passwd",
    "a.jpg",
    "",
    "~/x.jpg",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file:/etc/passwd",
    "file://localhost/etc/passwd",
    "../../etc/passwd",
    "\\\\server\\share\\x.jpg",
    "http:/etc/passwd",
]
OTHERS = [
    "zip://a.jpg::s3://bucket/a.zip",
    "zip://a.jpg::file:///etc/passwd",
    "zip://a.jpg::/etc/passwd",
    "simplecache::http://169.254.169.254/",
    "filecache::file:///etc/passwd",
    "memory://a.jpg",
    "memory://a::file:///etc/passwd",
    "data:x::file:///etc/passwd",
    "sftp://host/a.jpg",
    "local:///etc/passwd",
    "github://org:repo@/a",
    "nowhere://x",
]
OUTSIDE = [
    "https://example.com/a.jpg",
    "http://93.184.216.34/a.jpg",
    "https://[2606:2800:220:1::1]:8443/a",
    "https://[64:ff9b::5db8:d822]/a",
]
CLOUD = [
    "s3://bucket/a.jpg",
    "s3a://b/::http://x",
    "gs://b/a",
    "gcs://b/a",
    "az://c/a",
    "abfss://c@a.dfs.core.windows.net/a",
]


@pytest.mark.parametrize("url", [*INTERNAL, *LOCAL, *OTHERS])
def test_what_an_untrusted_database_does_not_reach(url: str) -> None:
    with pytest.raises(ForbiddenByPolicy, match=r"refused by policy: .*allow|neither a protocol"):
        policy().check(Location.parse(url))


@pytest.mark.parametrize("url", [*OUTSIDE, *CLOUD, "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP"])
def test_what_an_untrusted_database_reaches(url: str) -> None:
    assert policy().check(Location.parse(url)) is False


@pytest.mark.parametrize("url", [*INTERNAL, *LOCAL, *OTHERS, *OUTSIDE, *CLOUD])
def test_a_hosted_database_reaches_nothing(url: str) -> None:
    with pytest.raises(ForbiddenByPolicy):
        policy("hosted").check(Location.parse(url))


@pytest.mark.parametrize(
    "url", ["http://[", "http://exa mple/", "http://a%2eb/", "http://a\\b/", "http://a:b:c/", "http://\0/"]
)
def test_a_host_that_cannot_be_read_is_no_url(url: str) -> None:
    with pytest.raises(UnavailableError, match="not a URL that can be requested"):
        policy().check(Location.parse(url))


PREFIXES = [
    # prefix, what it allows, what it does not
    (
        "s3://data",
        ["s3://data", "s3://data/", "s3://data/k", "S3://data/a/b", "s3a://data/k", "s3://data/**.jpg"],
        [
            "s3://database/k",
            "s3://Data/k",
            "gs://data/k",
            "s3://data/../other/k",
            "s3://data/%2e%2e/other/k",
            "s3://da*/k",
        ],
    ),
    (
        "s3://data/raw",
        ["s3://data/raw", "s3://data/raw/k", "s3://data/raw/*", "s3://data/raw/a..b"],
        [
            "s3://data/rawest/k",
            "s3://data/",
            "s3://data/raw*",
            "s3://data/Raw/k",
            "s3://data//raw/k",
            "s3://data/raw/../k",
            "s3://data/raw%2Fk",
            "s3://data/raw/..\\k",
            "s3://data/*/raw/k",
        ],
    ),
    (
        "https://h.example/a",
        [
            "https://h.example/a",
            "https://H.EXAMPLE/a/b?x=/../",
            "https://h.example./a/b#f",
            "https://h.example:443/a/b",
            "https://user:pw@h.example/a/b",
            "https://h.example/%61/b",
        ],
        [
            "https://h.example/ab",
            "http://h.example/a/b",
            "https://h.example:8443/a/b",
            "https://h.example.evil/a/b",
            "https://h.example@evil.example/a/b",
            "https://evil.example/h.example/a",
            "https://h.example/a/../b",
            "https://h.example/a/%2e%2e/b",
            "https://h.example/a/%252e%252e/b",
            "https://h.example/a/.%2E/b",
            "https://h.example/a/..;x/b",
            "https://h.example/a/..\\b",
            "https://h.example/a%2Fb",
            "https://h.example\\@evil.example/a/b",
            "https://evil.example#@h.example/a",
            "https://evil.example?@h.example/a/b",
            "https://h.example%2fa@evil.example/",
        ],
    ),
    (
        "https://h.example",
        ["https://h.example/a/../b", "https://h.example?x", "https://h.example"],
        ["https://h.example.evil/", "https://g.h.example/"],
    ),
    (
        "https://bücher.example/",
        ["https://xn--bcher-kva.example/a", "https://BÜCHER.example/a"],
        ["https://bucher.example/a"],
    ),
    ("http://[::1]:8000/m/", ["http://[::1]:8000/m/a"], ["http://[::1]/m/a", "http://[::2]:8000/m/a"]),
    ("az://c", ["az://c/a", "abfs://c/a"], ["abfss://c@evil.dfs.core.windows.net/a", "az://cc/a"]),
    ("abfss://c@acct.dfs.core.windows.net/x", ["wasbs://c@ACCT.dfs.core.windows.net/x/y"], ["az://c/x/y"]),
    ("sftp://h/raw", ["sftp://h/raw/a"], ["sftp://h/rawest", "sftp://h", "sftp://g/raw/a", "sftp://h/raw/../x"]),
    ("hdfs:///raw", ["hdfs:///raw/a"], ["hdfs:///private/a", "hdfs://raw/a", "hdfs:///"]),
    ("zip://", ["zip://a"], ["zip://a::s3://data/k", "zip://a::file:///etc/passwd", "tar://a"]),
]


@pytest.mark.parametrize(("prefix", "allowed", "others"), PREFIXES, ids=[row[0] for row in PREFIXES])
def test_what_a_prefix_allows(prefix: str, allowed: list[str], others: list[str]) -> None:
    hosted = policy("hosted", allow=[prefix])
    assert [url for url in allowed if not permits(hosted, url)] == []
    assert [url for url in others if permits(hosted, url)] == []
    both = policy("hosted", allow=[prefix], deny=prefix)
    assert [url for url in [*allowed, *others] if permits(both, url)] == [], "deny wins"


def test_each_part_of_a_chain_is_allowed_by_itself(tmp_path: Path) -> None:
    made = policy("hosted", allow=["zip://", "s3://data", str(tmp_path)])
    assert permits(made, "zip://a.jpg::s3://data/a.zip")
    assert permits(made, f"zip://a.jpg::file://{tmp_path}/a.zip")
    for url in (
        "zip://a::s3://other/a.zip",
        "zip://a::file:///etc/x.zip",
        "tar://a::s3://data/a.tar",
        "zip://a::/etc/x",
    ):
        assert not permits(made, url), url
    anywhere = policy("untrusted", allow="zip://,https://")
    assert not permits(anywhere, "zip://a::https://127.0.0.1/a.zip")


@pytest.mark.parametrize("config", [{"profile": "hosted", "allow": ["local://", "/srv"]}, {"deny": ["/etc"]}])
@pytest.mark.parametrize(
    "url",
    [
        "local:///etc/passwd",
        "reference://a::/etc/x.json",
        "reference://a::file:///srv/x.json",
        "mediasql://file:///etc/passwd",
        "mediasql::file:///srv/a.jpg",
        "generic://file:///etc/passwd",
        "dir://etc/passwd",
        "git:///srv:main@a.jpg",
        "zip://a::local:///srv/a.zip",
        "memory://a::local:///etc/x",
    ],
)
def test_protocols_that_lead_anywhere_are_not_taken_at_their_word(config: dict[str, Any], url: str) -> None:
    allow = [*config["allow"], *(f"{url.partition(':')[0]}://", "zip://", "memory://")] if "allow" in config else []
    with pytest.raises(ForbiddenByPolicy, match=r"neither `allow` nor `deny` can speak for|neither a protocol"):
        policy(**{"profile": "owner", **config, "allow": allow}).check(Location.parse(url))


def test_a_scheme_alone_vouches_for_no_host() -> None:
    made = policy("hosted", allow="https://")
    assert made.check(Location.parse("https://example.com/a")) is False
    assert not permits(made, "https://127.0.0.1/a")
    assert not permits(made, "http://example.com/a")


DENIED = [
    (
        "s3://data/raw",
        ["s3://data/raw/k", "s3a://data/raw", "s3://data/x/../raw/k", "s3://data/raw/"],
        ["s3://data/rawest", "s3://other/raw/k"],
    ),
    (
        "https://h.example/a",
        [
            "https://h.example/a/b",
            "http://h.example:81/a",
            "https://h.example//a/b",
            "https://h.example/A",
            "https://h.example/%61",
            "https://h.example/x%2f..%2fa",
            "https://u@h.example./a/b",
        ],
        ["https://h.example/b", "https://g.example/a"],
    ),
    ("https://h.example:444", ["https://h.example:444/a"], ["https://h.example/a"]),
    ("az://c/x", ["abfss://c@acct.dfs.core.windows.net/x/y", "az://c/x"], ["az://c/y"]),
    ("sftp://h/raw", ["sftp://H/raw/a", "sftp://me@h:22/raw/a", "sftp://h//raw"], ["sftp://h/x", "sftp://g/raw/a"]),
    ("memory://box", ["memory:///box/a", "memory://box"], ["memory://other/a"]),
    ("memory://", ["memory://a", "zip://a::memory://a.zip"], ["zip://a::s3://b/a.zip"]),
]


@pytest.mark.parametrize(("prefix", "denied", "others"), DENIED, ids=[row[0] for row in DENIED])
def test_what_an_owner_denies_himself(prefix: str, denied: list[str], others: list[str]) -> None:
    owner = policy("owner", deny=prefix)
    assert [url for url in denied if permits(owner, url)] == []
    assert [url for url in others if not permits(owner, url)] == []
    assert permits(owner, "http://127.0.0.1/")
    assert permits(owner, "/etc/passwd")


NAMES = st.text("ab.%2e/\\;", max_size=8)


@given(NAMES, NAMES)
def test_prefixes_end_where_a_path_does(prefix: str, path: str) -> None:
    if {".", ".."} & set(prefix.split("/")):
        with pytest.raises(ConfigError):
            Config.load(profile="hosted", allow=[f"s3://b/{prefix}"])
        return
    hosted = policy("hosted", allow=[f"s3://b/{prefix}"])
    bare = prefix.rstrip("/")
    if permits(hosted, f"s3://b/{path}"):
        assert not bare or f"{path}/".startswith(f"{bare}/")
        assert ".." not in path.split("/")
    elif not bare or f"{path}/".startswith(f"{bare}/"):
        assert "." in path or "%2e" in path, "only dots make it ambiguous"
    assert not permits(hosted, f"s3://bb/{path}")


# Addresses that lead to the IPv4 address inside of them: mapped ones (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
OUTER = [ipaddress.IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")]
# Public after IANA's registries, and refused all the same: blocks for protocols, of which single addresses lead to the
# nearest server of some service, and Azure's address for services of a machine's own host.
STRICTER = [ipaddress.ip_network(text) for text in ("192.0.0.0/24", "2001::/23", "168.63.129.16")]


def is_public(number: iana.Address) -> bool:
    """Return whether the policy lets a hostile database have requests sent to this address."""
    for network in OUTER:
        if number.version == 6 and number in network:
            return is_public(ipaddress.IPv4Address(int(number) >> (96 - network.prefixlen) & 0xFFFFFFFF))
    stricter = any(number.version == network.version and number in network for network in STRICTER)
    return iana.is_reachable(number) and not stricter


def edges(network: iana.Network) -> list[iana.Address]:
    """Return the first and the last address of a network, and those beside it."""
    first, last = int(network[0]), int(network[-1])
    numbers = (number for number in (first - 1, first, last, last + 1) if 0 <= number < 1 << network.max_prefixlen)
    return [type(network[0])(number) for number in numbers]


SPECIAL = sorted({*iana.SPECIAL, *STRICTER}, key=str)
# Of all IPv6 addresses hardly one is in a network that the registries name: most are to be near those.
NEAR_SPECIAL = st.sampled_from(SPECIAL).flatmap(
    lambda network: st.sampled_from(edges(network)) | st.ip_addresses(network=network)
)


@given(NEAR_SPECIAL | st.ip_addresses(network="2000::/3") | st.ip_addresses())
def test_addresses_are_public_that_are_globally_reachable_after_iana(number: iana.Address) -> None:
    assert (address.not_public(number) is None) == is_public(number)


@pytest.mark.parametrize("network", SPECIAL, ids=str)
def test_each_special_network_ends_where_the_registries_say(network: iana.Network) -> None:
    for number in edges(network):
        assert (address.not_public(number) is None) == is_public(number), number


@given(NEAR_SPECIAL.filter(lambda number: number.version == 4) | st.ip_addresses(v=4))
def test_an_address_is_the_same_in_all_spellings(number: ipaddress.IPv4Address) -> None:
    made = policy()
    octets = [f"{byte:#o}".replace("0o", "0") for byte in number.packed]
    spellings = [str(number), str(int(number)), hex(int(number)), ".".join(octets), f"[::ffff:{number}]", f"{number}."]
    assert [permits(made, f"http://{host}/") for host in spellings] == [is_public(number)] * len(spellings)


@given(st.ip_addresses(v=4))
def test_an_address_inside_of_another_counts(number: ipaddress.IPv4Address) -> None:
    within = int(number)
    for prefix, shift in (("::ffff:0:0", 0), ("64:ff9b::", 0), ("2002::", 80)):
        outer = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | within << shift)
        assert address.not_public(outer) == address.not_public(number), outer
    for prefix in ("::", "::ffff:0:0:0", "64:ff9b:1::", "2001::"):
        assert address.not_public(ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) | within)), prefix


def test_local_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, outside = tmp_path / "media files", tmp_path / "private"
    for folder in (root, outside, tmp_path / "media files of others"):
        folder.mkdir()
        (folder / "a.jpg").write_bytes(picture("JPEG", size=(30, 20)))
    (root / "link.jpg").symlink_to(outside / "a.jpg")
    (root / "folder").symlink_to(outside)
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    monkeypatch.chdir(root)
    for allow in (str(root), root.as_uri(), f"{root}/", "."):
        made = policy("hosted", allow=[allow])
        for path in ("a.jpg", f"{root}/a.jpg", (root / "a.jpg").as_uri(), f"{root}/../{root.name}/a.jpg", "inside.jpg"):
            assert permits(made, path), (allow, path)
        for path in (
            *("link.jpg", "folder/a.jpg", "folder/*.jpg", "../private/a.jpg", f"{root} of others/a.jpg", "/", "~"),
            *(
                f"{root}/link.jpg",
                f"file://{quote(str(root))}/%2e%2e/private/a.jpg",
                f"{root}/..%2fprivate/../../x",
                "a\0b",
            ),
        ):
            assert not permits(made, path), (allow, path)
    con = mediasql.connect(profile="hosted", allow=[str(root)])
    assert con.execute("SELECT name, width FROM media('*.jpg')").fetchall() == [("a.jpg", 30), ("inside.jpg", 30)]
    assert con.execute("SELECT width('a.jpg')").get == 30
    with pytest.raises(ForbiddenByPolicy):
        con.execute("SELECT url FROM media(?) WHERE name LIKE '../private/%'", (f"{root}/",)).fetchall()
    for function in ("width", "fileurl", "content", "presigned_url", "byte_size"):
        with pytest.raises(ForbiddenByPolicy, match=rf"^{function}\('link.jpg'\): refused by policy: .*hosted"):
            con.execute(f"SELECT {function}('link.jpg')").fetchall()
    con.close()
    owner = policy("owner", deny=str(outside))
    assert [permits(owner, path) for path in ("a.jpg", "link.jpg", "folder/*")] == [True, False, False]


def test_nothing_is_looked_at_outside_of_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    con = mediasql.connect(profile="untrusted", allow=[str(tmp_path)])
    seen: list[str] = []
    for name in ("stat", "lstat", "open", "scandir", "readlink"):
        real: Callable[..., Any] = getattr(os, name)

        def watched(path: Any, *args: Any, real: Callable[..., Any] = real, **kwargs: Any) -> Any:
            seen.append(str(path))
            return real(path, *args, **kwargs)

        monkeypatch.setattr(os, name, watched)
    for call in ("width(?)", "content(?)", "fileurl(?)", "media_error(?)"):
        with pytest.raises(ForbiddenByPolicy):
            con.execute(f"SELECT {call}", ("/net/evil/x.jpg",)).fetchall()
    with pytest.raises(ForbiddenByPolicy):
        con.execute("SELECT * FROM media('/net/evil/*')").fetchall()
    assert not [path for path in seen if path.startswith("/net")]
    monkeypatch.undo()
    con.close()


@pytest.fixture
def server(http_server: HttpServer) -> HttpServer:
    http_server.put("", "seen/a.jpg", picture("JPEG", size=(30, 20)))
    http_server.put("", "unseen/a.jpg", picture("JPEG", size=(30, 20)))
    http_server.reset()
    return http_server


def test_a_refusal_raises_is_recorded_and_sends_nothing(server: HttpServer) -> None:
    con = mediasql.connect(profile="untrusted", timeout=60)
    url = f"{server.url}/seen/a.jpg"
    con.execute("CREATE TABLE t(u, w INT AS (width(u)), d TEXT AS (media_error(u)))")
    con.execute("INSERT INTO t(u) VALUES (?)", (url,))
    statements = [
        "SELECT w FROM t",
        "SELECT d FROM t",
        "SELECT url FROM t, media(u)",
        "SELECT * FROM t, media(u || '/')",
        "SELECT content_hash(u) FROM t",
        "SELECT * FROM t, media_streams(u)",
        "UPDATE t SET u = content(u)",
    ]
    for statement in statements:
        with pytest.raises(ForbiddenByPolicy, match=r"127\.0\.0\.1 is a loopback address.*the option `allow`"):
            con.execute(statement).fetchall()
    recorded = con.execute("SELECT url, function, kind FROM media_errors WHERE function = 'width'").fetchall()
    assert recorded == [(url, "width", "refused")]
    assert server.requests() == []
    con.close()


def test_what_is_allowed_is_reached_and_nothing_beside_it(server: HttpServer) -> None:
    for profile in ("untrusted", "hosted"):
        con = mediasql.connect(profile=profile, allow=f"{server.url}/seen", timeout=60)
        assert con.execute("SELECT width(?)", (f"{server.url}/seen/a.jpg",)).get == 30
        server.reset()
        for path in ("unseen/a.jpg", "seen/../unseen/a.jpg", "seen/%2e%2e/unseen/a.jpg"):
            with pytest.raises(ForbiddenByPolicy):
                con.execute("SELECT width(?)", (f"{server.url}/{path}",)).fetchall()
        assert server.requests() == [], "a connection that is open is not used for it either"
        con.close()


@pytest.mark.parametrize("profile", ["untrusted", "hosted"])
@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/",
        "{other}/x",
        "http://[::1]:{port}/x",
        "http://2130706433:{port}/x",
        "/unseen/a.jpg",
    ],
)
def test_redirects_are_judged_anew(server: HttpServer, profile: str, target: str) -> None:
    with json_server(lambda _: {}) as (other, asked):
        port = other.rpartition(":")[2]
        target = target.format(other=f"http://{other}", port=port)
        store = Store(Config.load(profile=profile, allow=f"{server.url}/to,{server.url}/seen", timeout=60))
        url = f"{server.url}/to/{quote(target, safe='')}/x"
        with pytest.raises(ForbiddenByPolicy, match="refused by policy"):
            loop.run(store.read(Location.parse(url), 0, 10))
        assert (len(server.requests()), asked) == (1, [])
        seen = f"{server.url}/to/{quote('/seen/a.jpg', safe='')}/x"
        assert loop.run(store.read(Location.parse(seen), 0, 2)).data == b"\xff\xd8"
        store.close()


class Names:
    """A resolver of our own. What is in `public` counts as public, so that there is a server to be reached."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[list[str]] = []
        self.asked = 0
        self.public = {"127.0.0.1"}
        ask, judge = socket.getaddrinfo, address.not_public

        def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            if host != "rebind.example":
                return ask(host, port, *args, **kwargs)
            self.asked += 1
            found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, int(port))) for one in found]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(address, "not_public", lambda one: None if str(one) in self.public else judge(one))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    return Names(monkeypatch)


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Config.load(profile="untrusted", timeout=60))
    yield store
    store.close()


@pytest.mark.parametrize("answer", [["127.0.0.2"], ["169.254.169.254"], ["127.0.0.1", "10.0.0.1"]])
def test_names_of_internal_addresses(server: HttpServer, names: Names, store: Store, answer: list[str]) -> None:
    names.answers = [answer]
    location = Location.parse(f"http://rebind.example:{server.port}/seen/a.jpg")
    with pytest.raises(ForbiddenByPolicy, match=rf"rebind.example has the address {answer[-1]}"):
        loop.run(store.read(location, 0, 10))
    assert server.requests() == []


def test_a_name_that_changes_its_address(server: HttpServer, names: Names, store: Store) -> None:
    names.answers = [["127.0.0.1"], ["127.0.0.2"]]
    location = Location.parse(f"http://rebind.example:{server.port}/seen/a.jpg")
    assert loop.run(store.read(location, 0, 2)).data == b"\xff\xd8"
    assert names.asked == 1, "the address that was looked at is the one that was connected to"
    gc.collect()  # stores of other tests use the same connections
    store.close()  # and with it the connection
    with pytest.raises(ForbiddenByPolicy, match=r"127\.0\.0\.2"):
        loop.run(store.read(location, 2, 4))
    assert names.asked == 2
    assert len(server.requests()) == 1


def test_an_address_that_was_looked_at_is_used_again(server: HttpServer, names: Names, store: Store) -> None:
    names.answers = [["127.0.0.1"]]
    location = Location.parse(f"http://rebind.example:{server.port}/seen/a.jpg")
    assert [loop.run(store.read(location, at, at + 1)).data for at in range(3)] == [b"\xff", b"\xd8", b"\xff"]
    assert names.asked == 1


def test_connections_to_allowed_hosts_are_for_what_is_allowed(server: HttpServer, names: Names) -> None:
    names.answers, names.public = [["127.0.0.1"]], set()
    site = f"http://rebind.example:{server.port}"
    store = Store(Config.load(profile="untrusted", allow=f"{site}/seen", timeout=60))
    for _ in range(2):  # on a new connection, and on one that is there
        assert loop.run(store.read(Location.parse(f"{site}/seen/a.jpg"), 0, 2)).data == b"\xff\xd8"
        server.reset()
        with pytest.raises(ForbiddenByPolicy, match=r"has the address 127\.0\.0\.1"):
            loop.run(store.read(Location.parse(f"{site}/unseen/a.jpg"), 0, 2))
        assert server.requests() == []
    store.close()


def cached(con: Any, url: str) -> tuple[int, int, int]:
    """What a connection tells of a picture: from its header, its bytes, and the table of it as an object."""
    return con.execute("SELECT width(?1), length(content(?1)), size FROM media(?1)", (url,)).fetchone()  # type: ignore[no-any-return]


def test_what_the_owner_fetched_is_not_served_to_others(server: HttpServer, names: Names) -> None:
    """Neither redirects nor addresses are looked at where no request is made."""
    names.answers, names.public = [["127.0.0.1"]], set()
    redirected = f"{server.url}/to/{quote('/unseen/a.jpg', safe='')}/x"
    named = f"http://rebind.example:{server.port}/seen/a.jpg"
    guests = [
        ({"profile": "hosted", "allow": [f"{server.url}/to"]}, redirected),
        ({"profile": "untrusted"}, named),
        ({"profile": "owner", "deny": [f"{server.url}/unseen"]}, redirected),
    ]
    owner = mediasql.connect(timeout=60)
    assert cached(owner, redirected) == cached(owner, named)
    for config, url in guests:
        guest = mediasql.connect(timeout=60, **config)
        for call in ("width(?)", "content(?)", "content_hash(?)", "last_modified(?)"):
            with pytest.raises(ForbiddenByPolicy):
                guest.execute(f"SELECT {call}", (url,)).fetchall()
        guest.close()
    files = mediasql.filesystem(timeout=60, profile="untrusted")
    with pytest.raises(ForbiddenByPolicy):
        files.cat_file(named)
    owner.close()


def test_the_cache_is_shared_by_those_with_the_same_rules(server: HttpServer) -> None:
    url = f"{server.url}/seen/a.jpg"
    rules = {"profile": "hosted", "allow": [f"{server.url}/seen", "s3://bucket"], "timeout": 5}
    first = mediasql.connect(**rules)
    found = cached(first, url)
    first.close()
    server.reset()
    again = mediasql.connect(**{**rules, "allow": ["s3://bucket", f"{server.url}/seen"]})
    assert cached(again, url) == found
    assert server.requests() == []
    again.close()
    for others in ({}, {"profile": "hosted", "allow": [server.url]}):
        server.reset()
        other = mediasql.connect(timeout=60, **others)
        assert cached(other, url) == found
        assert len(server.requests()) > 0
        other.close()


@pytest.mark.parametrize("scope", ["http", "http://", "fsspec", "netrc"])
def test_secrets_for_all_servers_are_not_for_those_that_a_database_names(
    server: HttpServer, names: Names, monkeypatch: pytest.MonkeyPatch, environment: Path, scope: str
) -> None:
    names.answers = [["127.0.0.1"]]
    secret = {"headers": {"Authorization": f"Bearer {BEARER}"}}
    way, options = "bearer", {scope: secret} if "http" in scope else {}
    if scope == "fsspec":
        monkeypatch.setitem(fsspec.config.conf, "http", secret)
    if scope == "netrc":
        way = "auth"
        (environment / ".netrc").write_text(f"default login {USER} password {PASSWORD}\n")
        (environment / ".netrc").chmod(0o600)
    site = f"http://rebind.example:{server.port}"
    location = Location.parse(f"{site}/{way}/seen/a.jpg")
    for rules in ({}, {"profile": "untrusted", "allow": [site]}, {"deny": ["s3://b"]}):
        store = Store(Config.load(storage_options=options, timeout=60, **rules))
        assert loop.run(store.read(location, 0, 2)).data == b"\xff\xd8"
        store.close()
    store = Store(Config.load(storage_options=options, timeout=60, profile="untrusted", allow=[f"{site}/unseen"]))
    assert loop.run(store.read(Location.parse(f"{site}/unseen/a.jpg"), 0, 2)).data == b"\xff\xd8"
    with pytest.raises(Forbidden):
        loop.run(store.read(location, 0, 2))
    store.close()
    store = Store(Config.load(storage_options={site: secret}, timeout=60, profile="untrusted"))
    if scope != "netrc":
        assert loop.run(store.read(location, 0, 2)).data == b"\xff\xd8", "they are for this very host"
    store.close()


def test_a_proxy_would_look_names_up_itself(server: HttpServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    store = Store(Config.load(profile="untrusted", allow="http://allowed.example", timeout=60))
    with pytest.raises(ForbiddenByPolicy, match="through a proxy"):
        loop.run(store.read(Location.parse("http://public.example/seen/a.jpg"), 0, 2))
    assert server.requests() == []
    with pytest.raises(mediasql.NotFound):  # this server is no proxy, but it was asked
        loop.run(store.read(Location.parse("http://allowed.example/seen/a.jpg"), 0, 2))
    assert len(server.requests()) == 1
    store.close()


def test_listings(nginx_server: NginxServer) -> None:
    for name in ("open/a.jpg", "open/b/c.jpg", "shut/d.jpg"):
        nginx_server.put("guarded", name, b"x")
    url = f"{nginx_server.url}/guarded"
    nginx_server.reset()
    hosted = Store(Config.load(profile="hosted", allow=f"{url}/open", timeout=60))

    def found(store: Store, pattern: str) -> list[str]:
        return sorted(entry.path[len(root) :] for root, page in store.entries(pattern) for entry in page)

    for pattern in (f"{url}/", f"{url}/shut/", f"{url}/open/../shut/*", f"{url}/op*", f"{url}/{{open,shut}}/*"):
        with pytest.raises(ForbiddenByPolicy):
            found(hosted, pattern)
    assert nginx_server.requests() == []
    assert found(hosted, f"{url}/open/**") == ["a.jpg", "b/c.jpg"]
    owner = Store(Config.load(deny=f"{url}/open", timeout=60))
    assert found(owner, f"{url}/**") == ["shut/d.jpg"]
    untrusted = Store(Config.load(profile="untrusted", timeout=60))
    with pytest.raises(ForbiddenByPolicy):
        found(untrusted, f"{url}/")
    for store in (hosted, owner, untrusted):
        store.close()


def test_a_listing_follows_no_redirect_inside(server: HttpServer, nginx_server: NginxServer) -> None:
    nginx_server.put("guarded", "open/a.jpg", b"x")
    nginx_server.reset()
    store = Store(Config.load(profile="untrusted", allow=f"{server.url}/to", timeout=60))
    url = f"{server.url}/to/{quote(f'{nginx_server.url}/guarded/open/', safe='')}/"
    with pytest.raises(ForbiddenByPolicy):
        list(store.entries(url))
    assert nginx_server.requests() == []
    store.close()


def test_the_endpoint_of_the_owner_is_trusted(s3_server: Server) -> None:
    s3_server.put("endpoint", "a/1.jpg", picture("JPEG", size=(30, 20)))
    s3_server.put("endpoint", "b/1.jpg", picture("JPEG", size=(30, 20)))
    options = {"storage_options": s3_server.storage_options, "timeout": 10}
    con = mediasql.connect(profile="untrusted", **options)
    assert con.execute("SELECT width('s3://endpoint/a/1.jpg')").get == 30
    con.close()
    con = mediasql.connect(profile="hosted", allow=["s3://endpoint/a"], **options)
    assert con.execute("SELECT width('s3://endpoint/a/1.jpg')").get == 30
    assert con.execute("SELECT url FROM media('s3://endpoint/a/**')").fetchall() == [("s3://endpoint/a/1.jpg",)]
    assert "X-Amz-Signature" in con.execute("SELECT presigned_url('s3://endpoint/a/1.jpg', 60)").get
    s3_server.reset()
    for query in (
        "SELECT presigned_url('s3://endpoint/b/1.jpg', 60)",
        "SELECT presigned_url('s3://endpoint/a/../b/1.jpg', 60)",
        "SELECT fileurl('s3://endpoint/b/1.jpg')",
        "SELECT width('s3://endpoint/b/1.jpg')",
        "SELECT url FROM media('s3://endpoint/**')",
    ):
        with pytest.raises(ForbiddenByPolicy):
            con.execute(query).fetchall()
    assert s3_server.requests() == []
    con.close()
    con = mediasql.connect(deny="s3://endpoint/b", **options)
    assert con.execute("SELECT url FROM media('s3://endpoint/**')").fetchall() == [("s3://endpoint/a/1.jpg",)]
    con.close()


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_where_a_store_redirects_to_must_be_allowed(server: HttpServer, scheme: str) -> None:
    def read(target: str, **config: Any) -> bytes:
        options = {"endpoint_url": f"{server.url}/to/{quote(target, safe='')}"}
        options |= {"anon": True} if scheme == "s3" else {"token": "anon"}
        store = Store(Config.load(storage_options={scheme: options}, timeout=10, **config))
        try:
            return loop.run(store.read(Location.parse(f"{scheme}://bucket/a.jpg"), 0, 2)).data
        finally:
            store.close()

    hosted = {"profile": "hosted", "allow": [f"{scheme}://bucket"]}
    with json_server(lambda _: {}) as (other, asked):
        elsewhere = f"http://{other}/x"
        for config in ({"profile": "untrusted"}, hosted, {"deny": [f"http://{other}"]}):
            assert read(f"{server.url}/seen/a.jpg", **config) == b"\xff\xd8", "it is the store's own"
            with pytest.raises(ForbiddenByPolicy, match=rf"redirected to {elsewhere}: refused by policy"):
                read(elsewhere, **config)
        with pytest.raises(ForbiddenByPolicy, match="link-local"):
            read("http://169.254.169.254/latest/", profile="untrusted")
        assert asked == []
        assert read(elsewhere, profile="hosted", allow=[f"{scheme}://bucket", elsewhere]) == b"{}"
        assert read(elsewhere) == b"{}"
        assert len(asked) == 2


@pytest.mark.parametrize(
    ("target", "own"),
    [
        ("https://photos.s3.us-east-1.amazonaws.com/b.jpg", True),
        ("https://photos.s3.eu-west-3.amazonaws.com/a.jpg", True),
        ("https://photos.s3-eu-west-3.amazonaws.com/a.jpg", True),
        ("https://s3.dualstack.eu-west-3.amazonaws.com/photos/a.jpg", True),
        ("https://s3.eu-west-3.amazonaws.com/others/a.jpg", False),
        ("https://others.s3.eu-west-3.amazonaws.com/a.jpg", False),
        ("http://photos.s3.eu-west-3.amazonaws.com/a.jpg", False),
        ("https://photos.s3.eu-west-3.amazonaws.com.example/a.jpg", False),
        ("https://photos.s3.eu-west-3.amazonaws.com@example.com/a.jpg", False),
        ("https://photos.s3.eu-west-3.amazonaws.com:8443/a.jpg", False),
        ("https://example.com/photos/a.jpg", False),
        ("https://s3.amazonaws.com", False),
    ],
)
def test_s3_may_redirect_to_the_region_of_a_bucket(target: str, own: bool) -> None:
    location = Location.parse("s3://photos/a.jpg")
    provider = Store(Config.load()).provider(location)
    assert provider.is_own(location, "https://photos.s3.us-east-1.amazonaws.com/a.jpg", target) is own
    assert not provider.is_own(location, "https://minio.example/photos/a.jpg", target)


def test_what_leads_back_to_a_store_is_not_its_own() -> None:
    hop = policy("hosted", allow=["s3://b", "https://cdn.example"]).hops(
        Location.parse("s3://b/k"), lambda _, first, target: target.startswith("http://minio/")
    )
    assert [hop(url) for url in ("http://minio/b/k", "http://minio/c/k", "https://cdn.example/k")] == [False] * 3
    with pytest.raises(ForbiddenByPolicy):
        hop("http://minio/b/k")


def test_a_chain_that_is_allowed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jpg", picture("JPEG", size=(30, 20)))
    url = f"zip://a.jpg::file://{tmp_path}/a.zip"
    con = mediasql.connect(profile="untrusted", allow=[str(tmp_path)])
    with pytest.raises(ForbiddenByPolicy, match="chained"):
        con.execute("SELECT width(?)", (url,)).fetchall()
    con.close()
    con = mediasql.connect(profile="untrusted", allow=[str(tmp_path), "zip://"])
    assert con.execute("SELECT width(?)", (url,)).get == 30
    con.close()


def zipped(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize("chain", ["zip://a.jpg::", "simplecache::", "zip://a.jpg::simplecache::"])
def test_a_chain_follows_no_redirect_that_is_not_allowed(server: HttpServer, chain: str) -> None:
    body = zipped("a.jpg", picture("JPEG", size=(30, 20))) if "zip" in chain else picture("JPEG", size=(30, 20))
    server.put("", "seen/archive", body)
    server.put("", "unseen/archive", body)
    for config in (
        {"profile": "hosted", "allow": [f"{server.url}/to", f"{server.url}/seen", "zip://", "simplecache://"]},
        {"deny": [f"{server.url}/unseen"]},
    ):
        con = mediasql.connect(timeout=60, **config)
        read = "SELECT width(?)"
        redirected = f"{chain}{server.url}/to/{quote('/seen/archive', safe='')}/x"
        assert con.execute(read, (redirected,)).get == 30
        for url in (f"{server.url}/to/{quote('/unseen/archive', safe='')}/x", f"{server.url}/unseen/archive"):
            with pytest.raises(ForbiddenByPolicy):
                con.execute(read, (chain + url,)).fetchall()
            with pytest.raises(ForbiddenByPolicy):
                con.execute("SELECT * FROM media(?)", (f"zip://*::{url}",)).fetchall()
        con.close()
    assert not [request for request in server.requests() if request.path == "/unseen/archive"]


def test_many_chains_do_not_wait_for_each_other(server: HttpServer, names: Names) -> None:
    """What fsspec reads through us needs threads too: to look names up, and for the files of the cache."""
    names.answers = [["127.0.0.1"]]
    for number in range(100):
        server.put("", f"seen/{number}.zip", zipped("a.jpg", picture("JPEG", size=(30, 20))))
    site = f"http://rebind.example:{server.port}/seen"
    # Filesystems are there for ever, and would keep open what others of the same timeout share.
    con = mediasql.connect(profile="untrusted", allow=["zip://", site], timeout=23)
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(f"zip://a.jpg::{site}/{number}.zip",) for number in range(100)])
    assert con.execute("SELECT count(*) FROM t WHERE width(u) = 30").get == 100
    con.close()


def test_an_archive_in_a_store_is_read_with_its_options(s3_server: Server) -> None:
    s3_server.put("chained", "a.zip", zipped("a.jpg", picture("JPEG", size=(30, 20))))
    options = {"s3://chained": s3_server.storage_options["s3"]}
    con = mediasql.connect(profile="hosted", allow=["zip://", "s3://chained"], storage_options=options, timeout=10)
    assert con.execute("SELECT width('zip://a.jpg::s3://chained/a.zip')").get == 30
    assert con.execute("SELECT name FROM media('zip://*::s3://chained/a.zip')").get == "a.jpg"
    con.close()


def test_the_filesystem_lists_what_is_allowed(nginx_server: NginxServer, names: Names, tmp_path: Path) -> None:
    for name in ("open/a.jpg", "open/b/c.jpg", "shut/d.jpg"):
        nginx_server.put("files", name, b"x")
    url = f"{nginx_server.url}/files"
    owner = mediasql.filesystem(timeout=60)
    assert owner.find(url) == [f"{url}/{name}" for name in ("open/a.jpg", "open/b/c.jpg", "shut/d.jpg")]
    hosted = mediasql.filesystem(profile="hosted", allow=[f"{url}/open"], timeout=60)
    assert hosted.find(f"{url}/open") == [f"{url}/open/a.jpg", f"{url}/open/b/c.jpg"]
    assert hosted.ls(f"{url}/open", detail=False) == [f"{url}/open/a.jpg", f"{url}/open/b/"]
    assert hosted.glob(f"{url}/open/*.jpg") == [f"{url}/open/a.jpg"]
    names.answers, names.public = [["127.0.0.1"]], set()
    untrusted = mediasql.filesystem(profile="untrusted", timeout=60)
    nginx_server.reset()
    for fs, path in ((hosted, url), (untrusted, url), (untrusted, f"http://rebind.example:{nginx_server.port}/files")):
        for use in (fs.ls, fs.find, fs.info, fs.isdir, lambda path, fs=fs: fs.glob(f"{path}/*"), fs.modified, fs.cat):
            with pytest.raises(ForbiddenByPolicy):
                use(path)
    assert nginx_server.requests() == []
    assert owner.find(f"{url}/open/a.jpg") == [f"{url}/open/a.jpg"]
    assert list(owner.find(f"{url}/open/a.jpg", detail=True)) == [f"{url}/open/a.jpg"]


def test_the_filesystem_takes_paths_as_reading_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    (tmp_path / "root" / "~").mkdir(parents=True)
    (tmp_path / "root" / "~" / "a.jpg").write_bytes(b"here")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.jpg").write_bytes(b"at home")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "root")
    fs = mediasql.filesystem(profile="hosted", allow=["."], transport=transport)
    assert fs.cat("file://~/a.jpg") == b"here"
    assert fs.info("file://~/a.jpg")["size"] == 4
    assert fs.ls("file://~", detail=False) == [str(tmp_path / "root" / "~" / "a.jpg")]


def test_configuration_shows_no_secrets_and_no_schema_reads_it() -> None:
    con = mediasql.connect(
        profile="untrusted",
        allow=["sftp://me:hidden@host/x"],
        storage_options={"sftp://me:hidden@host": {"password": "hidden"}},
    )
    shown = con.execute(
        "SELECT media_config('allow') || media_config('storage_options') || media_config('profile')"
    ).get
    assert "sftp://me:***@host/x" in shown
    assert "hidden" not in shown
    con.execute("CREATE VIEW leak AS SELECT media_config('allow')")
    with pytest.raises(Exception, match="unsafe use of media_config"):
        con.execute("SELECT * FROM leak").fetchall()
    con.close()


@pytest.mark.parametrize(
    "allow", ["bucket", "s3://b/*", "s3:/b", "s3://b/../c", "https://h/?x=", "https://u@h/", "zip://a::s3://b", 5, [5]]
)
def test_prefixes_that_would_not_do_what_they_seem_to(allow: object) -> None:
    with pytest.raises(ConfigError, match=r"allow: .* is not valid; a list of URL prefixes"):
        Config.load(profile="hosted", allow=allow)


def test_prefixes_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDIASQL_PROFILE", "hosted")
    monkeypatch.setenv("MEDIASQL_ALLOW", " s3://a ,/data\nhttps://h ,, ")
    assert Config.load().allow == ("s3://a", "/data", "https://h")
    assert permits(policy("hosted", allow=Config.load().allow), "s3://a/k")
    with pytest.raises(ConfigError, match="profile 'owner' reaches everything"):
        Config.load(profile="owner")
    with pytest.raises(ConfigError, match=r"allow or deny: 'http://a b/' is not a URL"):
        Store(Config.load(allow=["http://a b/"]))


def test_a_picture_of_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    bomb = picture("PNG", size=(30, 20))
    con = mediasql.connect()

    @con.media_function
    def pixels(image: Image.Image) -> int:
        return image.width * image.height

    assert con.execute("SELECT width(?)", (bomb,)).get == 30, "its header is no danger"
    assert con.execute("SELECT pixels(?)", (bomb,)).get is None
    error = con.execute("SELECT error FROM media_errors").get
    assert error.startswith("too large an image to be decoded: Image size (600 pixels) exceeds limit of 200")
    con.close()
