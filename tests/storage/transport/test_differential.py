"""Random answers through both transports, against what h11 makes of the same bytes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mediasql.storage import loop
from mediasql.storage.providers.base import Request
from mediasql.storage.transport.client import Client
from mediasql.storage.transport.exchange import RetryableError
from tests.storage.transport.scripted import Exchanged, scripted


@dataclass(frozen=True)
class Made:
    """The bytes of an answer, and where a server pauses while it sends them."""

    data: bytes
    cuts: tuple[int, ...]


names = st.sampled_from(["ETag", "etag", "X-A", "Content-Type", "Last-Modified", "Set-Cookie"])
values = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
bodies = st.binary(max_size=300)


@st.composite
def answers(draw: st.DrawFn) -> Made:
    status = draw(st.sampled_from([200, 201, 206, 204, 304, 404, 500]))
    fields = [
        f"{name}: {draw(st.sampled_from(['', ' ', '  ']))}{value}"
        for name, value in draw(st.lists(st.tuples(names, values), max_size=5))
    ]
    body = draw(bodies)
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if status in (204, 304):
        body, framing = b"", "none"
    if framing == "length":
        fields.append(f"Content-Length: {len(body)}")
    elif framing == "chunked":
        fields.append("Transfer-Encoding: chunked")
        sizes = draw(st.lists(st.integers(1, 50), max_size=6))
        coded, rest = b"", body
        for size in [*sizes, len(body)]:
            piece, rest = rest[:size], rest[size:]
            if piece:
                coded += b"%x\r\n%s\r\n" % (len(piece), piece)
        body = coded + b"0\r\n" + draw(st.sampled_from([b"", b"X-Trailer: 1\r\n"])) + b"\r\n"
    early = draw(
        st.sampled_from(["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"])
    )
    head = f"HTTP/1.1 {status} {draw(st.sampled_from(['OK', 'Odd Reason', '']))}\r\n" + "".join(
        f"{field}\r\n" for field in fields
    )
    data = early.encode() + head.encode() + b"Connection: close\r\n\r\n" + body
    if draw(st.booleans()) and draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]  # it breaks off
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=4))
    return Made(data, tuple(sorted(cuts)))


def by_h11(data: bytes) -> tuple[int, dict[str, list[str]], bytes] | None:
    """Status, fields and body; None for what is no whole answer."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    status, fields, body = 0, {}, b""
    try:
        while True:
            event: Any = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
                for name, value in event.headers:
                    fields.setdefault(name.decode(), []).append(value.decode())
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return status, fields, body
            elif not isinstance(event, h11.InformationalResponse):
                return None
    except h11.RemoteProtocolError:
        return None


@contextmanager
def serving() -> Iterator[tuple[str, Callable[[Made], None]]]:
    """A server, and how to tell it the next answer."""
    current: list[Made] = []

    def script(asked: Exchanged) -> bool:
        asked.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made = current[0]
        for start, stop in zip((0, *made.cuts), (*made.cuts, len(made.data)), strict=True):
            asked.send(made.data[start:stop])
        return False

    with scripted(script) as server:
        yield server.url, lambda made: current.__setitem__(slice(None), [made])


@pytest.mark.parametrize("transport", ["curl", "aiohttp"])
def test_answers_are_understood_as_h11_does(transport: str) -> None:
    client = Client(transport)
    with serving() as (url, give):

        @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(answers())
        def check(made: Made) -> None:
            give(made)
            expected = by_h11(made.data)
            try:
                response = loop.run(client.send(Request(f"{url}/a"), seconds=60))
            except RetryableError:
                assert expected is None, f"{expected} was expected of {made.data!r}"
                return
            assert expected is not None, f"{made.data!r} is no whole answer"
            status, fields, body = expected
            assert (response.status, response.body) == (status, body[:4096] if status >= 300 else body)
            assert {name: ", ".join(values) for name, values in fields.items()} == dict(response.headers)

        check()
