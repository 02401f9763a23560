"""What the fetcher makes of servers, networks and file systems, good and bad."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from mediasql.config import Config
from mediasql.errors import Forbidden, MediaError, NotFound, SetupError, TransientError, UnavailableError
from mediasql.storage import fetch, loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk
from mediasql.storage.store import Store
from mediasql.storage.transport.deadline import Deadline
from tests.servers.fault import FaultProxy
from tests.servers.http import PASSWORD, USER, HttpServer
from tests.waiting import eventually, meanwhile, soon

pytestmark = pytest.mark.usefixtures("transport")

DATA = bytes(range(256)) * 400


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.01)


@pytest.fixture
def server(http_server: HttpServer) -> HttpServer:
    http_server.put("", "a.bin", DATA)
    http_server.put("", "empty.bin", b"")
    http_server.put("", "a b/é#?%20.bin", DATA)
    http_server.reset()
    return http_server


class Client:
    def __init__(self, **config: Any) -> None:
        self.store = Store(Config.load(**{"timeout": 20, **config}))

    def read(self, url: str, start: int = 0, stop: int = 1000) -> Chunk:
        return loop.run(self.store.read(Location.parse(url), start, stop))

    def fails(self, url: str, kind: type[MediaError], stop: int = 1000) -> MediaError:
        with pytest.raises(MediaError) as error:
            self.read(url, 0, stop)
        assert type(error.value) is kind
        return error.value


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    yield client
    client.store.close()


@pytest.fixture
def make() -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def new(**config: Any) -> Client:
        made.append(Client(**config))
        return made[-1]

    yield new
    for client in made:
        client.store.close()


@pytest.mark.parametrize("way", ["", "novalidators/", "norange/", "nolength/", "gzip/", "head-forbidden/", "slow/100/"])
@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1000), (500, 1500), (len(DATA) - 10, len(DATA) + 90), (0, len(DATA)), (0, 10**7)]
)
def test_a_range_is_what_was_asked_for(server: HttpServer, client: Client, way: str, start: int, stop: int) -> None:
    chunk = client.read(f"{server.url}/{way}a.bin", start, stop)
    assert (chunk.data, chunk.start) == (DATA[start:stop], start)
    ended = stop > len(DATA)
    knows_size = way not in ("nolength/", "gzip/") or ended
    assert chunk.info.size == (len(DATA) if knows_size else None)
    assert chunk.ranged == (way not in ("norange/", "nolength/", "gzip/"))
    assert (chunk.info.etag is None) == (way == "novalidators/")
    assert chunk.info.last_modified == (None if way == "novalidators/" else "2023-11-14T22:13:20Z")
    assert chunk.info.mime_type == "application/octet-stream"
    assert [request.method for request in server.requests()] == ["GET"]
    assert server.requests()[0].range == f"bytes={start}-{stop - 1}"


@pytest.mark.parametrize("way", ["", "norange/", "nolength/"])
@pytest.mark.parametrize("start", [len(DATA), len(DATA) + 1000])
def test_behind_the_end_there_is_nothing(server: HttpServer, client: Client, way: str, start: int) -> None:
    chunk = client.read(f"{server.url}/{way}a.bin", start, start + 10)
    assert (chunk.data, chunk.info.size) == (b"", len(DATA))
    assert len(server.requests()) == 1


@pytest.mark.parametrize("way", ["", "norange/"])
def test_an_empty_file_is_empty(server: HttpServer, client: Client, way: str) -> None:
    chunk = client.read(f"{server.url}/{way}empty.bin")
    assert (chunk.data, chunk.info.size) == (b"", 0)
    assert len(server.requests()) == 1


def test_what_comes_before_a_part_of_a_whole_answer_is_not_kept(client: Client, server: HttpServer) -> None:
    assert client.read(f"{server.url}/norange/a.bin", 100_000, 100_010).data == DATA[100_000:100_010]
    assert server.requests()[0].status == 200


@pytest.mark.parametrize("code", ["301", "302", "307", "308"])
def test_redirects_are_followed_with_range_and_query(server: HttpServer, client: Client, code: str) -> None:
    assert client.read(f"{server.url}/r{code}/token/a.bin?token=secret", 5, 25).data == DATA[5:25]
    requests = server.requests()
    assert [request.status for request in requests] == [int(code), 206]
    assert {request.range for request in requests} == {"bytes=5-24"}


def test_a_loop_of_redirects_ends(server: HttpServer, client: Client) -> None:
    error = client.fails(f"{server.url}/loop/a.bin", UnavailableError)
    assert "more than 10 redirects" in str(error)
    assert len(server.requests()) == 11


@pytest.mark.parametrize(
    ("code", "kind", "requests"),
    [
        (400, UnavailableError, 1),
        (401, Forbidden, 1),
        (403, Forbidden, 1),
        (404, NotFound, 1),
        (410, NotFound, 1),
        (412, UnavailableError, 1),
        (418, UnavailableError, 1),
        (300, UnavailableError, 1),
        (408, TransientError, 4),
        (500, TransientError, 4),
        (502, TransientError, 4),
        (504, TransientError, 4),
        (599, UnavailableError, 1),
    ],
)
def test_a_status_is_an_error_of_its_kind(
    server: HttpServer, client: Client, code: int, kind: type[MediaError], requests: int
) -> None:
    error = client.fails(f"{server.url}/s/{code}/a.bin", kind)
    assert error.status == code
    assert str(error).startswith(str(code))
    assert ("after 4 attempts" in str(error)) == (requests == 4)
    assert [request.method for request in server.requests()] == ["GET"] * requests


def test_a_missing_file_is_asked_for_once(server: HttpServer, client: Client) -> None:
    assert str(client.fails(server.at("none.jpg"), NotFound)) == "404 Not Found"
    assert len(server.requests()) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_is_waited_for(server: HttpServer, make: Callable[..., Client], code: int) -> None:
    client = make(timeout=4)
    client.read(server.at("a.bin"))  # behind a pause that an earlier test was asked for
    server.reset()
    error = client.fails(f"{server.url}/s/{code}/a.bin", TransientError)
    at = [request.at for request in server.requests()]
    assert error.status == code
    assert 2 <= len(at) <= 4  # a fifth would have come after the time limit
    assert all(second - first >= 1 for first, second in pairwise(at))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_flaky_server_is_asked_again(server: HttpServer, client: Client, code: int) -> None:
    assert client.read(f"{server.url}/flaky/2/{code}/a.bin").data == DATA[:1000]
    assert [request.status for request in server.requests()] == [code, code, 206]


@pytest.mark.parametrize("way", ["short", "long", "wrongrange", "reset"])
def test_an_answer_that_is_not_what_was_asked_for_is_no_answer(server: HttpServer, client: Client, way: str) -> None:
    client.fails(f"{server.url}/{way}/a.bin", TransientError)
    assert len(server.requests()) == 4


def test_a_total_that_is_wrong_is_noticed_where_the_file_ends(server: HttpServer, client: Client) -> None:
    assert client.read(f"{server.url}/lie/a.bin").data == DATA[:1000]
    client.fails(f"{server.url}/lie/a.bin", TransientError, stop=len(DATA) + 10)


def test_more_than_was_declared_never_gets_into_an_answer(server: HttpServer, client: Client) -> None:
    # Whether aiohttp sees the surplus in time to call the answer bad depends on how the network cuts it.
    for _ in range(3):
        with suppress(TransientError):
            assert client.read(f"{server.url}/undeclared/a.bin").data == DATA[:1000]
        assert client.read(f"{server.url}/a.bin").data == DATA[:1000]


def test_a_short_body_of_a_whole_answer_is_noticed(server: HttpServer, client: Client) -> None:
    client.fails(f"{server.url}/short/norange/a.bin", TransientError, stop=10**6)


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("a%20b/%C3%A9%23%3F%2520.bin", "/a%20b/%C3%A9%23%3F%2520.bin"),
        ("a b/é%23%3F%2520.bin", "/a%20b/%C3%A9%23%3F%2520.bin"),
        ("token/a.bin?token=secret&x=%2B+a%2fb|c&y#frag", "/token/a.bin?token=secret&x=%2B+a%2fb%7Cc&y"),
        ("x/../a.bin", "/x/../a.bin"),
        ("x%2F..%2F!$&'()*+,;=:@[~]", "/x%2F..%2F!$&'()*+,;=:@[~]"),
        ("100%.bin", "/100%.bin"),
    ],
)
def test_a_url_is_sent_as_it_is(server: HttpServer, client: Client, path: str, sent: str) -> None:
    try:
        assert client.read(f"{server.url}/{path}").data == DATA[:1000]
    except NotFound:
        assert "a.bin" not in path or ".." in path
    request = server.requests()[0]
    assert request.path + ("?" if request.query else "") + request.query == sent


def test_basic_auth_from_the_url_the_options_and_netrc(
    server: HttpServer, make: Callable[..., Client], environment: Any
) -> None:
    url = f"{server.url}/auth/a.bin"
    host = f"http://127.0.0.1:{server.port}"
    assert make().fails(url, Forbidden).status == 401
    with_user = url.replace("://", f"://{USER}:{PASSWORD}@")
    assert make().read(with_user).data == DATA[:1000]
    options = {host: {"username": USER, "password": PASSWORD}}
    assert make(storage_options=options).read(url).data == DATA[:1000]
    # The URL's own are preferred, and both together are no error.
    wrong = {"http": {"username": "nobody", "password": "x"}}
    assert make(storage_options=wrong).read(with_user).data == DATA[:1000]
    assert make(storage_options=wrong).fails(url, Forbidden).status == 401
    (environment / ".netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    (environment / ".netrc").chmod(0o600)
    assert make().read(url).data == DATA[:1000]


def test_headers_are_sent_and_not_given_to_other_hosts(server: HttpServer, make: Callable[..., Client]) -> None:
    options = {"http": {"headers": {"Authorization": "Bearer secret-bearer"}}}
    client = make(storage_options=options)
    assert client.read(f"{server.url}/bearer/a.bin").data == DATA[:1000]
    assert client.read(f"{server.url}/r302/bearer/a.bin").data == DATA[:1000]
    with_redirector(f"{server.url}/bearer/a.bin", lambda url: client.fails(url, Forbidden))


@pytest.mark.parametrize("listing", [False, True])
def test_another_host_gets_no_headers_of_options(make: Callable[..., Client], *, listing: bool) -> None:
    headers = {"X-Api-Key": "hidden", "x-amz-security-token": "hidden", "Cookie": "hidden"}
    client = make(storage_options={"http": {"headers": headers}})

    def use(url: str) -> None:
        if listing:
            list(client.store.entries(f"{url}/"))
        else:
            client.fails(url, NotFound)

    def redirected(target: str) -> None:
        first = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
        sent.extend(answer(first, use))

    sent: list[bytes] = []
    status = b"200 OK" if listing else b"404 Not Found"
    there = answer(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n", redirected)
    assert len(sent) == len(there) == 1
    assert sent[0].count(b"hidden") == 3
    assert b"hidden" not in there[0]
    assert b"Range: bytes=0-" in there[0]


def with_redirector(target: str, use: Callable[[str], object]) -> None:
    answer(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode(), use)


def answer(response: bytes, use: Callable[[str], object]) -> list[bytes]:
    """Call `use` with the URL of a server that gives one answer to everything; the requests."""
    received: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    received.append(connection.recv(65536))
                    connection.sendall(response)
                    connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        use(f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin")
        listener.shutdown(socket.SHUT_RDWR)
    return received


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://host/a", "gopher://x"])
def test_redirects_lead_to_the_web_only(client: Client, target: str) -> None:
    with_redirector(target, lambda url: client.fails(url, UnavailableError))


@pytest.mark.parametrize(
    "response",
    [
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/"
        + b"9" * 5000
        + b"\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-2/9\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n\x1f\x8bc",
    ],
)
def test_nonsense_is_tried_again_and_no_crash(client: Client, response: bytes, transport: str) -> None:
    requests = answer(response, lambda url: client.fails(url, TransientError))
    # aiohttp asks once more by itself where a server closes without a word.
    assert len(requests) == (4 if response or transport == "curl" else 8)


def test_a_part_without_a_total_is_taken(client: Client) -> None:
    response = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/*\r\nContent-Length: 3\r\n\r\nabc"

    def use(url: str) -> None:
        chunk = client.read(url, 0, 3)
        assert (chunk.data, chunk.info.size) == (b"abc", None)

    requests = answer(response, use)
    assert b"\r\nUser-Agent: mediasql/" in requests[0]
    assert b"\r\nAccept-Encoding: identity\r\n" in requests[0]


@pytest.mark.parametrize("start", [0, 3])
def test_200_with_a_content_range_means_206(client: Client, start: int) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Range: bytes %d-%d/9\r\nContent-Length: 3\r\n\r\nabc" % (start, start + 2)

    def use(url: str) -> None:
        chunk = client.read(url, start, start + 3)
        assert (chunk.data, chunk.info.size) == (b"abc", 9)

    answer(response, use)


def test_leftovers_of_an_upload_are_no_encoding(client: Client) -> None:
    head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n"
    answer(head + b"Content-Encoding: aws-chunked\r\n\r\nabc", lambda url: client.read(url, 0, 3))


def test_part_of_a_compressed_object_is_read_as_a_whole(client: Client) -> None:
    import gzip

    body = gzip.compress(DATA)
    head = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    part = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-%d/%d\r\n" % (len(body) - 1, len(body))
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    asked = b"\r\nRange:" in connection.recv(65536)
                    connection.sendall((part if asked else b"HTTP/1.1 200 OK\r\n") + head + body)
                    connection.shutdown(socket.SHUT_WR)

        threading.Thread(target=serve, daemon=True).start()
        chunk = client.read(f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin", 10, 500)
    assert chunk.data == DATA[10:500]


@pytest.mark.parametrize("fault", ["cut_after", "fin_after"])
def test_a_connection_that_breaks_once_is_opened_again(
    server: HttpServer, client: Client, fault_proxy: Callable[[int], FaultProxy], fault: str
) -> None:
    for after in (0, 100, 30_000):
        proxy = fault_proxy(server.port)
        proxy.set(**{fault: after}, first=1)
        assert client.read(f"{proxy.url}/a.bin", 0, 90_000).data == DATA[:90_000]
        assert proxy.connections == 2


def test_a_connection_that_falls_silent_is_given_up_for_another(
    server: HttpServer, make: Callable[..., Client], fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(server.port)
    proxy.set(stall_after=30_000, first=1)
    assert make(timeout=6).read(f"{proxy.url}/a.bin", 0, 90_000).data == DATA[:90_000]


def test_a_connection_that_always_breaks_is_a_failure_of_the_moment(
    server: HttpServer, client: Client, fault_proxy: Callable[[int], FaultProxy]
) -> None:
    proxy = fault_proxy(server.port)
    for fault in ({"cut_after": 500}, {"refuse": True}):
        proxy.set(**fault)
        client.store.close()
        assert "after 4 attempts" in str(client.fails(f"{proxy.url}/a.bin", TransientError, stop=90_000))


@pytest.mark.parametrize("amount", [-100, 100])
def test_a_wrong_content_length_is_noticed(
    server: HttpServer, make: Callable[..., Client], fault_proxy: Callable[[int], FaultProxy], amount: int
) -> None:
    proxy = fault_proxy(server.port)
    proxy.set(content_length=amount)
    make(timeout=1).fails(f"{proxy.url}/a.bin", TransientError)


def test_a_server_that_hangs_takes_the_time_that_is_given(server: HttpServer, make: Callable[..., Client]) -> None:
    client = make(timeout=0.6)
    begun = time.monotonic()
    client.fails(f"{server.url}/hang/a.bin", TransientError)
    assert time.monotonic() - begun > 0.5


def test_a_deadline_counts_from_where_it_was_set(server: HttpServer, make: Callable[..., Client]) -> None:
    client = make(timeout=600)
    location = Location.parse(f"{server.url}/hang/a.bin")
    begun = time.monotonic()
    with soon(), pytest.raises(TransientError):
        loop.run(client.store.read(location, 0, 10, deadline=Deadline(0.3)))
    with soon(), pytest.raises(TransientError):
        loop.run(client.store.read(location, 0, 10, deadline=Deadline(600, at=begun)))


def test_a_host_that_does_not_exist_or_refuses(client: Client) -> None:
    assert "nowhere.invalid" in str(client.fails("http://nowhere.invalid/a", TransientError))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert str(port) in str(client.fails(f"http://127.0.0.1:{port}/a", TransientError))


def test_tls_that_fails_says_so(client: Client) -> None:
    def use(url: str) -> None:
        error = client.fails(url.replace("http:", "https:"), SetupError)
        assert "no secure connection" in str(error)

    assert len(answer(b"HTTP/1.1 400 Bad Request\r\n\r\n", use)) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http:///a",
        "http://127.0.0.1:99999/a",
        "http://127.0.0.1:x/a",
        "http://[::1/a",
        "http://" + "a" * 64 + ".é/",
        "http://\ud800/",
    ],
)
def test_what_is_no_url_is_unavailable(client: Client, url: str) -> None:
    client.fails(url, UnavailableError)


def test_a_host_of_other_letters_is_looked_up_in_idna(client: Client) -> None:
    assert "xn--bcher-kva.invalid" in str(client.fails("http://bücher.invalid/é", TransientError))


def test_proxies_of_the_environment(
    server: HttpServer, make: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    # The server is no proxy: it takes the whole URL for a path, which shows that it was asked.
    make().fails("http://nowhere.invalid/a.bin", NotFound)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert make().read(server.at("a.bin")).data == DATA[:1000]


class Interrupted(Exception):
    pass


def test_an_interrupted_wait_ends_at_once_and_stops_the_work(server: HttpServer) -> None:
    store = Store(Config.load(timeout=600))
    ended: list[BaseException] = []

    async def work() -> None:
        try:
            await store.read(Location.parse(f"{server.url}/hang/a.bin"), 0, 10)
        except BaseException as error:
            ended.append(error)
            raise

    def check() -> None:
        if server.requests():
            raise Interrupted

    with soon(), pytest.raises(Interrupted):
        loop.run(work(), check)
    eventually(lambda: ended)
    assert isinstance(ended[0], asyncio.CancelledError)
    store.close()


def test_ctrl_c_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    import signal

    waiting, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()

    def interrupt() -> None:
        waiting.wait(60)
        os.kill(os.getpid(), signal.SIGINT)

    with soon(), meanwhile(interrupt), pytest.raises(KeyboardInterrupt):
        loop.run(work(), waiting.set)
    assert cancelled.wait(60)


def test_the_answer_of_a_coroutine_is_its_answer_even_when_that_is_a_timeout() -> None:
    async def work() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        loop.run(work())


def test_a_forked_child_has_a_loop_of_its_own(server: HttpServer) -> None:
    before = Client()
    assert before.read(server.at("a.bin")).data == DATA[:1000]
    child = os.fork()
    if child == 0:
        try:
            clients = [Client(timeout=60), before]
            ok = all(each.read(server.at("a.bin")).data == DATA[:1000] for each in clients)
            os._exit(0 if ok else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 120
    while (status := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.02)
    if status == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert status == (child, 0)
    assert before.read(server.at("a.bin")).data == DATA[:1000]
    before.store.close()


def test_many_at_a_time_and_again_after_close(server: HttpServer, client: Client) -> None:
    location = Location.parse(server.at("together/32/a.bin"))

    async def many() -> list[Chunk]:
        return await asyncio.gather(*(client.store.read(location, at, at + 10) for at in range(50)))

    assert [chunk.data for chunk in loop.run(many())] == [DATA[at : at + 10] for at in range(50)]
    client.store.close()
    assert client.read(server.at("a.bin")).data == DATA[:1000]
