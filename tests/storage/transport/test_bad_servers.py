"""Servers and networks that misbehave: each has a defined outcome, the same over both transports and over TLS."""

from __future__ import annotations

import gzip
import re
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mediasql.config import Config
from mediasql.errors import MediaError, SetupError, TransientError, UnavailableError
from mediasql.storage import fetch, loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk
from mediasql.storage.store import Store
from tests.servers.authority import Authority
from tests.storage.transport.scripted import Exchanged, Script, scripted

pytestmark = pytest.mark.usefixtures("transport")

DATA = bytes(range(256)) * 400
TIMEOUT = 3.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.01)


@pytest.fixture(params=["http", "https"])
def context(
    request: pytest.FixtureRequest, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext | None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority.context("127.0.0.1", "localhost") if request.param == "https" else None


@pytest.fixture
def read() -> Iterator[Callable[..., Chunk]]:
    store = Store(Config.load(timeout=TIMEOUT))
    yield lambda url, start=0, stop=1000: loop.run(store.read(Location.parse(url), start, stop))
    store.close()


def head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


def part(exchanged: Exchanged, *, most: int = 1 << 30) -> bytes:
    """The answer of an ordinary server."""
    start, stop = exchanged.range or (0, len(DATA))
    data = DATA[start : min(stop, start + most)]
    return (
        head(
            "HTTP/1.1 206 Partial Content",
            f"Content-Range: bytes {start}-{start + len(data) - 1}/{len(DATA)}",
            f"Content-Length: {len(data)}",
            'ETag: "1"',
        )
        + data
    )


# What a server does, and what is wrong with it in the end.


def reset_in_head(asked: Exchanged) -> bool:
    asked.send(part(asked)[:20])
    asked.reset()
    return False


def reset_in_body(asked: Exchanged) -> bool:
    asked.send(part(asked)[:-10])
    asked.reset()
    return False


def closes_in_head(asked: Exchanged) -> bool:
    asked.send(part(asked)[:20])
    return False


def closes_in_body(asked: Exchanged) -> bool:
    asked.send(part(asked)[:-10])
    return False


def closes_at_once(asked: Exchanged) -> bool:
    return False


def stalls_in_head(asked: Exchanged) -> bool:
    asked.send(part(asked)[:20])
    asked.ending.wait()
    return False


def stalls_in_body(asked: Exchanged) -> bool:
    asked.send(part(asked)[:-10])
    asked.ending.wait()
    return False


def stalls_at_once(asked: Exchanged) -> bool:
    asked.ending.wait()
    return False


def drips(asked: Exchanged) -> bool:
    for byte in part(asked):
        asked.send(bytes([byte]))
        if asked.ending.wait(0.05):
            break
    return False


def tells_too_much(asked: Exchanged) -> bool:
    asked.send(part(asked).replace(b"Content-Length: 1000", b"Content-Length: 1100"))
    return False


def tells_too_little(asked: Exchanged) -> bool:
    asked.send(part(asked).replace(b"Content-Length: 1000", b"Content-Length: 900"))
    return False


def tells_two_lengths(asked: Exchanged) -> bool:
    asked.send(part(asked).replace(b"Content-Length: 1000", b"Content-Length: 1000\r\nContent-Length: 900"))
    return False


def talks_nonsense(asked: Exchanged) -> bool:
    asked.send(b"\x16\x03\x01 what is this\r\n\r\n")
    return False


def sends_a_head_without_end(asked: Exchanged) -> bool:
    asked.send(b"HTTP/1.1 206 Partial Content\r\n")
    line = b"X-Padding: " + b"x" * 60_000 + b"\r\n"
    for _ in range(1700):  # 100 MB
        asked.send(line)
    return False


def sends_another_part(asked: Exchanged) -> bool:
    asked.send(part(asked).replace(b"bytes 0-", b"bytes 5-"))
    return False


def sends_a_part_of_nothing(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 206 Partial Content", "Content-Length: 3") + b"abc")
    return False


def damages_a_chunk(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + b"zz\r\n")
    return False


def fails(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 500 Internal Server Error", "Content-Length: 0"))
    return True


BAD: dict[Script, str] = {
    reset_in_head: "connection|reset|valid",
    reset_in_body: "broke|reset",
    closes_in_head: "connection|valid",
    closes_in_body: "broke|sent",
    closes_at_once: "connection",
    stalls_in_head: "timed out|no answer within",
    stalls_in_body: "timed out|no answer within",
    stalls_at_once: "timed out|no answer within",
    drips: "timed out|no answer within",
    tells_too_much: "broke|sent",
    tells_too_little: "sent|valid",
    tells_two_lengths: "valid|sent|broke",
    talks_nonsense: "valid|connection",
    sends_a_head_without_end: "valid|broke|head|header",
    sends_another_part: "answered with",
    sends_a_part_of_nothing: "which part",
    damages_a_chunk: "valid|broke|chunk",
    fails: "500 Internal Server Error",
}


@pytest.mark.parametrize("script", BAD, ids=lambda script: script.__name__)
def test_a_failure_of_the_moment(script: Script, context: ssl.SSLContext | None, read: Callable[..., Chunk]) -> None:
    with scripted(script, context) as server, pytest.raises(TransientError) as error:
        read(server.url + "/a.bin")
    assert re.search(BAD[script], str(error.value))
    assert server.requests


@pytest.mark.parametrize(
    "script", [s for s in BAD if "stall" not in s.__name__ and s is not drips], ids=lambda s: s.__name__
)
def test_it_is_tried_again(script: Script, context: ssl.SSLContext | None, read: Callable[..., Chunk]) -> None:
    def once(asked: Exchanged) -> bool:
        if asked.number == 0:
            return script(asked)
        asked.send(part(asked))
        return True

    with scripted(once, context) as server:
        assert read(server.url + "/a.bin").data == DATA[:1000]
        assert len(server.requests) == 2


def test_a_head_without_end_takes_no_memory(context: ssl.SSLContext | None, read: Callable[..., Chunk]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with scripted(sends_a_head_without_end, context) as server, pytest.raises(TransientError):
        read(server.url + "/a.bin")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # KB


# What servers do that is odd, and right: the bytes asked for come of it.


def knows_no_ranges(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 200 OK", f"Content-Length: {len(DATA)}") + DATA)
    return True


def tells_no_length(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 200 OK") + DATA)
    return False


def speaks_http_1_0(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.0 200 OK", "Server: SimpleHTTP") + DATA)
    return False


def sends_chunks_and_trailers(asked: Exchanged) -> bool:
    chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(piece), piece) for piece in (DATA[:7], DATA[7:5000], DATA[5000:]))
    asked.send(head("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Trailer: ETag"))
    asked.send(chunks + b'0\r\nETag: "x"\r\n\r\n')
    return True


def sends_a_body_without_end(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 200 OK") + DATA)
    while True:
        asked.send(DATA)


def sends_short_parts(asked: Exchanged) -> bool:
    asked.send(part(asked, most=300))
    return True


def sends_short_parts_of_who_knows_what(asked: Exchanged) -> bool:
    asked.send(part(asked, most=300).replace(f"/{len(DATA)}".encode(), b"/*"))
    return True


def sends_more_than_asked_for(asked: Exchanged) -> bool:
    start, _ = asked.range or (0, 0)
    line = f"Content-Range: bytes {start}-{len(DATA) - 1}/{len(DATA)}"
    asked.send(head("HTTP/1.1 206 Partial Content", line, f"Content-Length: {len(DATA) - start}") + DATA[start:])
    return True


def says_200_and_sends_a_part(asked: Exchanged) -> bool:
    asked.send(part(asked).replace(b"206 Partial Content", b"200 OK"))
    return True


def refuses_any_range(asked: Exchanged) -> bool:
    if asked.range is None:
        return knows_no_ranges(asked)
    asked.send(head("HTTP/1.1 416 Range Not Satisfiable", "Content-Length: 0"))
    return True


def sends_several_parts(asked: Exchanged) -> bool:
    if asked.range is None:
        return knows_no_ranges(asked)
    body = b"--x\r\nContent-Range: bytes 0-999/102400\r\n\r\n" + DATA[:1000] + b"\r\n--x--\r\n"
    kind = "Content-Type: multipart/byteranges; boundary=x"
    asked.send(head("HTTP/1.1 206 Partial Content", kind, f"Content-Length: {len(body)}") + body)
    return True


def sends_gzip(asked: Exchanged) -> bool:
    body = gzip.compress(DATA)
    asked.send(head("HTTP/1.1 200 OK", "Content-Encoding: gzip", f"Content-Length: {len(body)}") + body)
    return True


def sends_a_part_of_gzip(asked: Exchanged) -> bool:
    if asked.range is None:
        return sends_gzip(asked)
    body = gzip.compress(DATA)[:1000]
    asked.send(
        head(
            "HTTP/1.1 206 Partial Content",
            "Content-Encoding: gzip",
            f"Content-Range: bytes 0-{len(body) - 1}/5000",
            f"Content-Length: {len(body)}",
        )
        + body
    )
    return True


def says_gzip_of_what_is_none(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 200 OK", "Content-Encoding: gzip", f"Content-Length: {len(DATA)}") + DATA)
    return True


def continues_first(asked: Exchanged) -> bool:
    asked.send(head("HTTP/1.1 103 Early Hints", "Link: </a>") + part(asked))
    return True


ODD: list[Script] = [
    *(knows_no_ranges, tells_no_length, speaks_http_1_0, sends_chunks_and_trailers, sends_a_body_without_end),
    *(sends_short_parts, sends_short_parts_of_who_knows_what, sends_more_than_asked_for, says_200_and_sends_a_part),
    *(refuses_any_range, sends_several_parts, sends_gzip, sends_a_part_of_gzip, says_gzip_of_what_is_none),
    continues_first,
]


@pytest.mark.parametrize("script", ODD, ids=lambda script: script.__name__)
@pytest.mark.parametrize("start", [0, 700])
def test_the_bytes_that_were_asked_for(
    script: Script, start: int, context: ssl.SSLContext | None, read: Callable[..., Chunk]
) -> None:
    if script in (sends_several_parts, sends_a_part_of_gzip) and start:
        pytest.skip("a part from the beginning is what it sends")
    with scripted(script, context) as server:
        for _ in range(2):  # on a connection that was used before, where it is kept
            assert read(server.url + "/a.bin", start, start + 1000).data == DATA[start : start + 1000]


def test_a_416_is_the_end_only_where_it_says_so(context: ssl.SSLContext | None, read: Callable[..., Chunk]) -> None:
    def ends(asked: Exchanged) -> bool:
        asked.send(head("HTTP/1.1 416 Range Not Satisfiable", "Content-Range: bytes */50", "Content-Length: 0"))
        return True

    with scripted(ends, context) as server:
        chunk = read(server.url + "/a.bin", 50, 60)
        assert (chunk.data, chunk.info.size, len(server.requests)) == (b"", 50, 1)


def test_redirects_in_circles_end(context: ssl.SSLContext | None, read: Callable[..., Chunk]) -> None:
    def back(asked: Exchanged) -> bool:
        asked.send(head("HTTP/1.1 302 Found", "Location: /a.bin", "Content-Length: 0"))
        return True

    with scripted(back, context) as server, pytest.raises(UnavailableError, match="more than 10 redirects"):
        read(server.url + "/a.bin")
    assert len(server.requests) == 11


# Certificates, proxies and addresses: faults of whoever asks, or of the network.


@dataclass(frozen=True)
class Certificate:
    names: tuple[str, ...] = ("127.0.0.1",)
    expired: bool = False
    known: bool = True


@pytest.mark.parametrize(
    "certificate",
    [Certificate(names=("other.example",)), Certificate(expired=True), Certificate(known=False)],
    ids=["wrong name", "expired", "unknown authority"],
)
def test_a_certificate_that_is_not_accepted(
    certificate: Certificate,
    authority: Authority,
    read: Callable[..., Chunk],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    believed = authority if certificate.known else Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(believed.file))
    context = authority.context(*certificate.names, expired=certificate.expired)
    with scripted(knows_no_ranges, context) as server, pytest.raises(SetupError, match="certificate"):
        read(server.url + "/a.bin")
    assert not server.requests


def test_a_proxy_that_refuses(read: Callable[..., Chunk], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(asked: Exchanged) -> bool:
        asked.send(head("HTTP/1.1 407 Proxy Authentication Required", "Content-Length: 0"))
        return False

    with scripted(refuse) as server:
        monkeypatch.setenv("https_proxy", server.url)
        store = Store(Config.load(timeout=TIMEOUT))
        with pytest.raises(SetupError, match=r"proxy .*(407|refus)"):
            loop.run(store.read(Location.parse("https://media.example/a.bin"), 0, 10))
        store.close()
    assert server.requests[0].startswith(b"CONNECT media.example:443 ")


def test_a_name_that_does_not_resolve(read: Callable[..., Chunk]) -> None:
    with pytest.raises(TransientError, match=r"does-not-exist\.invalid"):
        read("http://does-not-exist.invalid/a.bin")


def test_a_port_where_nobody_listens(read: Callable[..., Chunk]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(TransientError, match="no connection"):
        read(f"http://127.0.0.1:{port}/a.bin")


def test_an_address_that_does_not_answer(read: Callable[..., Chunk]) -> None:
    """A full backlog drops what comes, as a firewall does."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        others = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(server.getsockname())
            others.append(other)
        with pytest.raises(TransientError, match=r"timed out|no answer within"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}/a.bin")
        for other in others:
            other.close()


def test_every_failure_is_a_media_error_with_the_url_left_out(read: Callable[..., Chunk]) -> None:
    """Callers put function and value in front of it."""
    with scripted(fails) as server, pytest.raises(MediaError) as error:
        read(server.url + "/secret-name.bin")
    assert "secret-name" not in str(error.value)
