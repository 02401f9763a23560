"""Which proxy a URL goes through; curl is the oracle for `no_proxy`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from mediasql.storage.transport.proxies import Proxies


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({"http_proxy": "http://p:1"}, "http://a/", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://a/", "http://p:1"),
        ({"http_proxy": "http://p:1", "HTTP_PROXY": "http://q:2"}, "http://a/", "http://p:1"),
        ({"http_proxy": "p:1"}, "http://a/", "http://p:1"),
        ({"http_proxy": "http://p:1"}, "https://a/", None),
        ({"https_proxy": "http://u:pw@p:1"}, "https://a/", "http://u:pw@p:1"),
        ({"ALL_PROXY": "socks5h://p:1"}, "https://a/", "socks5h://p:1"),
        ({"all_proxy": "socks5://p:1", "http_proxy": "q:2"}, "http://a/", "http://q:2"),
        ({"http_proxy": "p:1", "no_proxy": "*"}, "http://a/", None),
        ({}, "http://a/", None),
    ],
)
def test_the_proxy_of_a_url(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], url: str, proxy: str | None
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Proxies().of(url) == proxy


CASES = [
    ("example.com", "http://example.com/", True),
    ("example.com", "http://www.example.com/", True),
    (".example.com", "http://www.example.com/", True),
    (".example.com", "http://example.com/", True),
    ("example.com", "http://notexample.com/", False),
    ("EXAMPLE.com", "http://Example.COM/", True),
    ("example.com.", "http://example.com/", True),
    ("a.b, c.d e.f", "http://c.d/", True),
    ("10.0.0.0/8", "http://10.1.2.3/", True),
    ("10.0.0.0/8", "http://11.1.2.3/", False),
    ("127.0.0.1", "http://127.0.0.1:81/", True),
    ("[::1]", "http://[::1]/", True),
    ("::1", "http://[::1]/", True),
    ("fe80::/10", "http://[fe80::1]/", True),
    ("*", "http://anything/", True),
    ("", "http://anything/", False),
]


@pytest.mark.parametrize(("no_proxy", "url", "direct"), CASES)
def test_no_proxy(monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (Proxies().of(url) is None) == direct


def test_a_port_in_no_proxy_is_that_port_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", "a.example:8080")
    assert Proxies().of("http://a.example:8080/") is None
    assert Proxies().of("http://a.example/") == "http://p:1"


@pytest.fixture
def proxy() -> Iterator[tuple[int, list[bytes]]]:
    """The port of what takes requests as a proxy does, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def work() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    asked.append(connection.recv(1000))
                    connection.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

        threading.Thread(target=work, daemon=True).start()
        yield server.getsockname()[1], asked
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("no_proxy", "url", "direct"), [case for case in CASES if "[" not in case[1]])
def test_curl_thinks_the_same(proxy: tuple[int, list[bytes]], no_proxy: str, url: str, direct: bool) -> None:
    port, asked = proxy
    program = shutil.which("curl")
    assert program, "curl is not installed; `make servers` installs it"
    # Names lead nowhere, so that what is not asked of the proxy is asked of nobody.
    subprocess.run(
        [program, "-s", "-m", "20", "--resolve", "*:80:127.0.0.9", "--resolve", "*:81:127.0.0.9", url],
        env={"http_proxy": f"http://127.0.0.1:{port}", "no_proxy": no_proxy},
        check=False,
    )
    assert (not asked) == direct
