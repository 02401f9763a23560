from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator

import pytest

from tests.servers import web
from tests.servers.server import fetch
from tests.servers.web import HOST, WebServer

BODY = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def running() -> Iterator[WebServer]:
    with web.start() as server:
        yield server


@pytest.fixture
def server(running: WebServer) -> WebServer:
    running.put("images", "a b.jpg", BODY)
    running.reset()
    return running


def trusting(server: WebServer) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(server.certificate))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    return context


def tunnel(server: WebServer, context: ssl.SSLContext, host: str = HOST) -> http.client.HTTPSConnection:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
    connection.set_tunnel(host, 443)
    return connection


def ask(
    connection: http.client.HTTPConnection, target: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection.request("GET", target, headers=headers or {})
    response = connection.getresponse()
    return response.status, response.read()


def test_http_by_name(server: WebServer) -> None:
    proxy = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for host in (HOST, HOST.upper(), f"{HOST}:80"):
        assert ask(proxy, f"http://{host}/images/a%20b.jpg?v=1", {"Range": "bytes=10-19"}) == (206, BODY[10:20])
    assert ask(proxy, f"http://{HOST}/images/missing.jpg")[0] == 404
    assert ask(proxy, f"http://{HOST}")[0] == 404
    proxy.close()
    first, *_, missing, root = server.requests()
    assert (first.path, first.query, first.range, first.status) == ("/images/a%20b.jpg", "v=1", "bytes=10-19", 206)
    assert (missing.path, root.path) == ("/images/missing.jpg", "/")


def test_https_by_name(server: WebServer) -> None:
    large = BODY * 8192
    server.put("images", "large.bin", large)
    connection = tunnel(server, trusting(server))
    assert ask(connection, "/images/a%20b.jpg", {"Range": "bytes=10-19"}) == (206, BODY[10:20])
    assert ask(connection, "/images/large.bin") == (200, large)
    connection.close()
    assert [(request.path, request.range) for request in server.requests()] == [
        ("/images/a%20b.jpg", "bytes=10-19"),
        ("/images/large.bin", None),
    ]


def test_the_certificate_is_for_one_name_by_one_authority(server: WebServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(tunnel(server, ssl.create_default_context()), "/images/a%20b.jpg")
    context = trusting(server)
    assert server.certificate.read_text().count("BEGIN CERTIFICATE") == 1
    with web.start() as other, pytest.raises(ssl.SSLCertVerificationError):
        ask(tunnel(other, context), "/images/a%20b.jpg")
    # A client that does not like the certificate does not disturb the server.
    assert ask(tunnel(server, context), "/images/a%20b.jpg") == (200, BODY)


def test_other_hosts_cannot_be_reached(server: WebServer) -> None:
    for host in ("example.com", f"{HOST}.example.org", f"{HOST}:8080", f"user@{HOST}"):
        reply = ask(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60), f"http://{host}/images/a%20b.jpg")
        assert reply == (502, f"{host} cannot be reached: this proxy has {HOST} and nothing else\n".encode())
    with pytest.raises(OSError, match="502 Bad Gateway"):
        ask(tunnel(server, trusting(server), "example.com"), "/")
    assert server.requests() == []


def test_misbehaviour_works_in_tls(server: WebServer) -> None:
    # What was sent before a reset may arrive, or not.
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(tunnel(server, trusting(server)), "/reset/images/a%20b.jpg")
    with pytest.raises(http.client.IncompleteRead):
        ask(tunnel(server, trusting(server)), "/short/images/a%20b.jpg")


def test_it_is_a_web_server_too(server: WebServer) -> None:
    assert fetch(server.at("images/a b.jpg"), headers={"Range": "bytes=1-2"}).body == BODY[1:3]


def test_the_environment_has_both_spellings(server: WebServer) -> None:
    environment = server.environment
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        assert environment[name] == server.url
    assert environment["no_proxy"] == environment["NO_PROXY"] == "127.0.0.1,localhost"
    assert environment["SSL_CERT_FILE"] == str(server.certificate)
