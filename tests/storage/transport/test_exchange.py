"""What is made of heads and bodies, whatever transport they came by."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.transport.exchange import Exchange, Headers, Response, RetryableError, parse_head

DATA = bytes(range(256)) * 8


def response(
    status: int, headers: dict[str, str], pieces: list[bytes], *, start: int = 0, stop: int = 1 << 62
) -> Response:
    """A response whose body came in these pieces, up to where nothing more was wanted."""
    found = Response(status, Headers.of(headers.items()), Exchange("http://host/", {}, start, stop))
    ended = all(found.feed(piece) for piece in pieces)
    found.finish(ended=ended)
    return found


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


ranges = st.tuples(st.integers(0, len(DATA)), st.integers(1, len(DATA))).map(lambda pair: (pair[0], sum(pair)))
sizes = st.lists(st.integers(1, 500), max_size=20)


@given(ranges, sizes, st.booleans())
def test_of_a_whole_object_the_range_is_taken(wanted: tuple[int, int], sizes: list[int], told: bool) -> None:
    start, stop = wanted
    headers = {"Content-Length": str(len(DATA))} if told else {}
    found = response(200, headers, cut(DATA, sizes), start=start, stop=stop)
    assert found.body == DATA[start:stop]
    assert found.ended or found.received >= stop
    assert found.length == (len(DATA) if told else None)


@given(ranges, sizes)
def test_of_a_part_as_much_is_taken_as_was_asked_for(wanted: tuple[int, int], sizes: list[int]) -> None:
    start, stop = wanted
    headers = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
    found = response(206, headers, cut(DATA[start:], sizes), start=start, stop=stop)
    assert found.body == DATA[start:stop]


def test_a_body_that_ends_where_nothing_more_is_wanted_is_read_to_its_end() -> None:
    """The connection can be used again; one that was cut off cannot."""
    asked = Exchange("http://host/", {}, 0, 10)
    known = Response(206, Headers.of([("Content-Length", "10")]), asked)
    assert known.feed(b"0123456789")
    longer = Response(200, Headers.of([("Content-Length", "11")]), asked)
    assert not longer.feed(b"0123456789")
    unknown = Response(200, Headers(), asked)
    assert unknown.feed(b"0123456789")
    assert not unknown.feed(b"a")


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "GZIP", "deflate", "raw deflate"])
@given(ranges, sizes)
def test_codings_are_removed_before_the_range_is_taken(coding: str, wanted: tuple[int, int], sizes: list[int]) -> None:
    raw = zlib.compressobj(wbits=-15)
    data = {
        "deflate": zlib.compress(DATA),
        "raw deflate": raw.compress(DATA) + raw.flush(),
    }.get(coding, gzip.compress(DATA[:1000]) + gzip.compress(DATA[1000:]))  # several members are one body
    headers = {"Content-Encoding": coding.removeprefix("raw "), "Content-Length": str(len(data))}
    start, stop = wanted
    found = response(200, headers, cut(data, sizes), start=start, stop=stop)
    assert found.body == DATA[start:stop]
    assert (found.coded, found.length) == (True, None)


@pytest.mark.parametrize("data", [b"", b"\x1f", b"\xff\xd8 no gzip"])
def test_what_is_not_coded_passes_as_it_is(data: bytes) -> None:
    found = response(200, {"Content-Encoding": "gzip"}, [data[:1], data[1:]])
    assert found.body == data


def test_a_coded_body_that_is_cut_off_or_damaged_is_an_error() -> None:
    data = gzip.compress(DATA)
    with pytest.raises(RetryableError, match="cut off"):
        response(200, {"Content-Encoding": "gzip"}, [data[:-20]])
    with pytest.raises(RetryableError, match="damaged"):
        response(200, {"Content-Encoding": "gzip"}, [data[:20] + b"\0" * 50 + data[70:]])


def test_a_coding_that_nobody_asked_for_is_an_error() -> None:
    with pytest.raises(RetryableError, match="'br'"):
        response(200, {"Content-Encoding": "br"}, [b"..."])
    assert response(200, {"Content-Encoding": "aws-chunked"}, [b"..."]).body == b"..."
    assert response(404, {"Content-Encoding": "br"}, [b"..."]).status == 404


def test_of_an_error_the_beginning_is_kept() -> None:
    found = response(500, {}, [b"x" * 3000, b"x" * 3000], start=100, stop=200)
    assert found.body == b"x" * 4096


def test_a_head_is_taken_apart() -> None:
    version, status, headers = parse_head(
        [
            b"HTTP/1.1 206 Partial Content\r\n",
            b'ETag:  "a" \r\n',
            b"via: a\r\n",
            b"Via: b\r\n",
            b"no colon\r\n",
            b"\r\n",
        ]
    )
    assert (version, status) == ("1.1", 206)
    assert headers.get("etag") == headers.get("ETAG") == '"a"'
    assert headers.get("Via") == "a, b"
    assert headers.get("absent") is None


@pytest.mark.parametrize("before", [b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 200 Connection established\r\n"])
def test_heads_before_the_last_are_passed_over(before: bytes) -> None:
    found = parse_head([before, b"Link: x\r\n", b"\r\n", b"HTTP/2 404 \r\n", b"server: y\r\n", b"\r\n"])
    assert found == ("2", 404, {"server": "y"})


def test_trailers_are_no_headers() -> None:
    lines = [b"HTTP/1.1 200 OK\r\n", b"a: 1\r\n", b"\r\n", b"b: 2\r\n", b"\r\n"]
    assert parse_head(lines) == ("1.1", 200, {"a": "1"})
    with pytest.raises(RetryableError, match="broke in the head"):
        parse_head(lines[:2])


@pytest.mark.parametrize("lines", [[], [b"ICY 200 OK\r\n"], [b"HTTP/1.1 20 OK\r\n"], [b"HTTP/1.1\r\n"]])
def test_what_is_no_head_is_an_error(lines: list[bytes]) -> None:
    with pytest.raises(RetryableError, match="not a valid HTTP answer"):
        parse_head(lines)


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({"Content-Length": "12"}, 12),
        ({"Content-Length": "12, 12"}, 12),
        ({"Content-Length": "12, 13"}, None),
        ({"Content-Length": "-1"}, None),
        ({"Content-Length": "1" * 30}, None),
        ({"Content-Length": "12", "Transfer-Encoding": "chunked"}, None),
        ({}, None),
    ],
)
def test_lengths(headers: dict[str, str], length: int | None) -> None:
    assert response(200, headers, []).length == length
