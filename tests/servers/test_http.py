from __future__ import annotations

import base64
import gzip
import http.client
import select
import socket
import time
from collections.abc import Callable

import pytest

from tests.servers import http as web
from tests.servers.fault import FaultProxy
from tests.servers.nginx import NginxServer
from tests.servers.server import Reply, fetch
from tests.waiting import eventually

BODY = bytes(range(256)) * 4
NAME = "photos/x y.jpg"
PATH = "photos/x%20y.jpg"
PART = {"Range": "bytes=10-19"}


@pytest.fixture
def server(http_server: web.HttpServer) -> web.HttpServer:
    http_server.put("", NAME, BODY)
    http_server.reset()
    return http_server


def ask(server: web.HttpServer, behaviour: str, headers: dict[str, str] | None = None) -> Reply:
    return fetch(f"{server.url}/{behaviour}{PATH}", headers=PART if headers is None else headers)


def test_files_are_served_with_ranges_and_validators(server: web.HttpServer) -> None:
    whole = fetch(server.at(NAME))
    assert (whole.status, whole.body, whole.headers["Content-Type"]) == (200, BODY, "image/jpeg")
    part = ask(server, "")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, BODY[10:20], "bytes 10-19/1024")
    assert ask(server, "", {"Range": "bytes=-5"}).body == BODY[-5:]
    assert ask(server, "", {"Range": "bytes=1024-"}).status == 416
    assert ask(server, "", {"If-None-Match": whole.headers["ETag"]}).status == 304
    assert ask(server, "", {**PART, "If-Range": '"another"'}).body == BODY
    assert fetch(server.at(NAME), "HEAD").headers["Content-Length"] == "1024"
    assert fetch(server.at("none.jpg")).status == 404


def test_ranges_may_be_ignored(server: web.HttpServer) -> None:
    for behaviour in ("norange/", "nolength/"):
        reply = ask(server, behaviour)
        assert (reply.status, reply.body, reply.headers["Accept-Ranges"]) == (200, BODY, None)
    assert ask(server, "nolength/").headers["Content-Length"] is None


def test_access(server: web.HttpServer) -> None:
    basic = base64.b64encode(f"{web.USER}:{web.PASSWORD}".encode()).decode()
    assert ask(server, "auth/").status == 401
    assert ask(server, "auth/", {"Authorization": f"Basic {basic}"}).status == 200
    assert ask(server, "bearer/", {"Authorization": f"Bearer {web.BEARER}"}).status == 200
    assert ask(server, "token/").status == 403
    assert fetch(f"{server.url}/token/{PATH}?token={web.TOKEN}").status == 200


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_keep_path_and_query(server: web.HttpServer, status: int) -> None:
    reply = fetch(f"{server.url}/r{status}/token/{PATH}?token=secret")
    assert (reply.status, reply.headers["Location"]) == (status, f"/token/{PATH}?token=secret")
    assert fetch(f"{server.url}/loop").headers["Location"] == "/loop"


def test_statuses(server: web.HttpServer) -> None:
    codes = [401, 403, 404, 410, 416, 429, 500, 502, 503, 504]
    assert [ask(server, f"s/{code}/").status for code in codes] == codes
    assert ask(server, "s/429/").headers["Retry-After"] == "1"


def test_flaky_paths_recover_and_reset(server: web.HttpServer) -> None:
    assert [ask(server, "flaky/2/503/").status for _ in range(4)] == [503, 503, 206, 206]
    server.reset()
    assert ask(server, "flaky/2/503/").status == 503


def test_bodies_of_the_wrong_length(server: web.HttpServer) -> None:
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(server, "short/")
    assert caught.value.partial == BODY[10:15]
    assert ask(server, "long/").body == BODY[10:20] + b"0123456789"
    with pytest.raises(ConnectionResetError):
        ask(server, "reset/")


def test_headers_that_lie(server: web.HttpServer) -> None:
    assert ask(server, "wrongrange/").headers["Content-Range"] == "bytes 11-20/1024"
    assert ask(server, "lie/").headers["Content-Range"] == "bytes 10-19/2024"
    assert ask(server, "novalidators/").headers["ETag"] is None
    zipped = ask(server, "gzip/", {"Accept-Encoding": "identity"})
    assert (zipped.headers["Content-Encoding"], gzip.decompress(zipped.body)) == ("gzip", BODY)


def test_changing_files(server: web.HttpServer) -> None:
    first, second = ask(server, "changing/", {}), ask(server, "changing/", {})
    assert first.headers["ETag"] != second.headers["ETag"]
    assert first.body != second.body


def test_time(server: web.HttpServer) -> None:
    started = time.monotonic()
    assert ask(server, "slow/100/norange/").body == BODY
    assert time.monotonic() - started >= 0.1
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET /hang/{PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def waits(server: web.HttpServer, behaviour: str) -> socket.socket:
    """A connection whose request has arrived, and is not answered."""
    before = len(server.requests())
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    connection.sendall(f"GET /{behaviour}{PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    eventually(lambda: len(server.requests()) > before)
    assert not select.select([connection], [], [], 0.1)[0]
    return connection


def test_answers_that_wait_for_an_event(server: web.HttpServer) -> None:
    for _ in range(2):
        with waits(server, "together/3/"), waits(server, "together/3/") as second:
            assert ask(server, "together/3/").body == BODY[10:20]
            assert second.recv(8) == b"HTTP/1.1"
        assert ask(server, "together/3/").status == 206
        with waits(server, "held/") as first:
            server.release()
            assert first.recv(8) == b"HTTP/1.1"
        assert ask(server, "held/").status == 206
        server.reset()


def test_requests_are_logged(server: web.HttpServer) -> None:
    ask(server, "norange/")
    fetch(f"{server.url}/head-forbidden/{PATH}", "HEAD")
    seen = [(r.method, r.path, r.status, r.bytes, r.range) for r in server.requests()]
    assert seen == [
        ("GET", f"/norange/{PATH}", 200, 1024, "bytes=10-19"),
        ("HEAD", f"/head-forbidden/{PATH}", 403, 0, None),
    ]


def test_nginx(nginx_server: NginxServer) -> None:
    nginx_server.put("", NAME, BODY)
    nginx_server.reset()
    part = fetch(f"{nginx_server.url}/{PATH}", headers=PART)
    assert (part.status, part.body) == (206, BODY[10:20])
    assert fetch(f"{nginx_server.url}/norange/{PATH}", headers=PART).status == 200
    assert fetch(f"{nginx_server.url}/novalidators/{PATH}").headers["ETag"] is None
    started = time.monotonic()
    assert fetch(f"{nginx_server.url}/lat/0.2/{PATH}", headers=PART).status == 206
    assert time.monotonic() - started >= 0.2
    request = nginx_server.requests()[0]
    assert (request.path, request.status, request.bytes, request.range) == (
        f"/{PATH}",
        206,
        10,
        "bytes=10-19",
    )


def test_fault_proxy(server: web.HttpServer, fault_proxy: Callable[[int], FaultProxy]) -> None:
    proxy = fault_proxy(server.port)
    url = f"{proxy.url}/{PATH}"
    assert fetch(url).body == BODY
    faults: list[tuple[dict[str, int], type[Exception]]] = [
        ({"cut_after": 500}, ConnectionResetError),
        ({"fin_after": 500}, http.client.IncompleteRead),
        ({"refuse": True}, ConnectionResetError),
        ({"content_length": 100}, http.client.IncompleteRead),
    ]
    for fault, failure in faults:
        proxy.set(**fault, first=1)
        with pytest.raises(failure):
            fetch(url, headers={"Connection": "close"})
        assert fetch(url).body == BODY
        assert proxy.connections == 2
    proxy.set(content_length=-100)
    assert len(fetch(url).body) == len(BODY) - 100
    for fault in ({"latency": 0.2}, {"bandwidth": 5000}):
        proxy.set(**fault)
        started = time.monotonic()
        assert fetch(url).body == BODY
        assert time.monotonic() - started >= 0.2


def test_fault_proxy_stalls(server: web.HttpServer, fault_proxy: Callable[[int], FaultProxy]) -> None:
    proxy = fault_proxy(server.port)
    proxy.set(stall_after=500)
    with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
        connection.sendall(f"GET /{PATH} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        received = 0
        connection.settimeout(60)
        while received < 500:  # a socket with a timeout gives what is there, MSG_WAITALL or not
            received += len(connection.recv(500 - received))
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
