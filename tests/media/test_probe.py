"""How much is read to understand a file, and what happens when it is not what it seems."""

from __future__ import annotations

import asyncio
import io
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mediasql import discovery
from mediasql.config import Config
from mediasql.errors import DecodeError, TransientError
from mediasql.media import headers, probe
from mediasql.media.info import MediaInfo
from mediasql.media.probe import Answer, Want, probe_bytes
from mediasql.storage import loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk, ObjectInfo
from mediasql.storage.store import Store
from tests.media import make
from tests.media.headers.pictures import chunk, exif, picture, segment
from tests.servers.http import HttpServer
from tests.waiting import soon

KB = 1024
discovery.load_all()


class Object:
    """An object that counts how it is read."""

    def __init__(self, data: bytes, *, knows_size: bool = True, delay: float = 0) -> None:
        self.data = data
        self.size = len(data) if knows_size else None
        self.delay = delay
        self.reads: list[tuple[int, int]] = []

    async def read(self, start: int, stop: int) -> Chunk:
        await asyncio.sleep(self.delay)
        self.reads.append((start, stop))
        data = self.data[start:stop]
        size = len(self.data) if self.size is None and stop > len(self.data) else self.size
        return Chunk(data, start, ObjectInfo(size=size, etag="x"))

    @property
    def bytes(self) -> int:
        return sum(min(stop, len(self.data)) - start for start, stop in self.reads)


def probed(data: bytes, extension: str = "", want: Want = Want.HEADER, **known: Any) -> tuple[Answer, Object]:
    read = Object(data, **known)
    return loop.run(probe.probe(read.read, extension=extension, want=want)), read


def known(answer: Answer) -> MediaInfo:
    assert answer.error is None
    assert answer.info is not None
    return answer.info


def jpeg(filler: int = 0, size: tuple[int, int] = (70, 50)) -> bytes:
    data = picture("JPEG", size=size)
    segments = b"".join(segment(0xE4, bytes(min(60_000, filler - at))) for at in range(0, filler, 60_000))
    return data[:2] + segments + data[2:] + bytes(300 * KB)


def test_a_jpeg_takes_one_read(http_server: HttpServer) -> None:
    answer, read = probed(jpeg(), "jpg")
    assert (known(answer).width, known(answer).height) == (70, 50)
    assert read.reads == [(0, 32 * KB)]
    http_server.put("", "one.jpg", jpeg())
    http_server.reset()
    store = Store(Config.load())
    location = Location.parse(f"{http_server.url}/one.jpg")
    loop.run(probe.probe(lambda start, stop: store.read(location, start, stop), extension=location.extension))
    assert [(request.method, request.range) for request in http_server.requests()] == [("GET", "bytes=0-32767")]
    store.close()


@pytest.mark.parametrize("size", [20, 100, 200, 400])
def test_a_jpeg_behind_much_metadata_takes_few(size: int) -> None:
    answer, read = probed(jpeg(size * KB), "jpg")
    assert known(answer).width == 70
    assert len(read.reads) <= 2 + (size > 100) + (size > 300)
    assert read.bytes <= 6 * size * KB + 64 * KB


@pytest.mark.parametrize(("format", "extension"), [("PNG", "png"), ("WEBP", "webp"), ("GIF", "gif"), ("BMP", "bmp")])
def test_other_pictures_take_4_kb(format: str, extension: str) -> None:
    answer, read = probed(picture(format, size=(30, 20)) + bytes(100 * KB), extension)
    assert (known(answer).width, known(answer).format) == (30, format)
    assert read.reads == [(0, 4 * KB)]


@pytest.mark.parametrize("padding", [0, 20_000_000])
@pytest.mark.parametrize("extension", ["mp4", ""])
def test_a_movie_whose_index_comes_last_takes_three_at_most(padding: int, extension: str) -> None:
    data = make.video("mp4", frames=50)
    at = data.index(b"mdat") - 4
    data = data[:at] + struct.pack(">I4s", padding + 8, b"free") + bytes(padding) + data[at:]
    answer, read = probed(data, extension)
    assert (known(answer).width, known(answer).video_codec) == (64, "h264")
    assert len(read.reads) <= 3
    assert read.bytes < 250 * KB


def test_a_movie_whose_index_comes_first_takes_one() -> None:
    _, read = probed(make.video("mp4", faststart=True) + struct.pack(">I4s", 500_008, b"free") + bytes(500_000), "mp4")
    assert read.reads == [(0, 64 * KB)]


@pytest.mark.parametrize("knows_size", [True, False])
@pytest.mark.parametrize("want", list(Want))
def test_the_object_takes_one_read_whatever_it_is(want: Want, knows_size: bool) -> None:
    for data in (jpeg(), jpeg(100 * KB), make.video("avi", codec="mpeg4"), b"text" * 9000):
        answer, read = probed(data, "x", want, knows_size=knows_size)
        assert answer.satisfies(want)
        assert answer.object.etag == "x"
        if want == Want.OBJECT:
            assert read.reads == [(0, 32 * KB)]


def test_exif_that_lies_far_behind_is_read_when_it_is_wanted() -> None:
    out = io.BytesIO()
    Image.effect_noise((1000, 1000), 100).save(out, "PNG")
    data = out.getvalue()
    assert len(data) > 700 * KB
    at = data.index(b"IEND") - 4
    data = data[:at] + chunk(b"eXIf", exif(6)) + data[at:]
    answer, read = probed(data, "png")
    assert not answer.satisfies(Want.EXIF)
    assert (known(answer).width, known(answer).exif_read, len(read.reads)) == (1000, False, 1)
    answer, read = probed(data, "png", Want.EXIF)
    assert (known(answer).orientation, answer.satisfies(Want.EXIF)) == (6, True)
    assert len(read.reads) <= 4
    assert read.bytes < 250 * KB


FALLBACKS = {
    "avi": make.video("avi", codec="mpeg4", audio_codec="mp3"),
    "ts": make.video("mpegts", audio_codec="aac"),
    "flv": make.video("flv", audio_codec="aac"),
    "aiff": make.audio("aiff", codec="pcm_s16be"),
    "aac": make.audio("adts", codec="aac"),
    "mp4": make.video("mp4", fragmented=True, audio_codec="aac"),
    "ico": picture("ICO", size=(32, 32)),
    "tga": picture("TGA"),
    "pcx": picture("PCX"),
    "ppm": picture("PPM"),
    "jp2": picture("JPEG2000"),
    "icns": picture("ICNS", "RGBA", (128, 128)),
    "dds": picture("DDS"),
}


@pytest.mark.parametrize("name", FALLBACKS)
@pytest.mark.parametrize("knows_size", [True, False])
def test_what_no_parser_knows_is_read_as_in_memory(name: str, knows_size: bool) -> None:
    data = FALLBACKS[name]
    answer, read = probed(data, name, knows_size=knows_size)
    assert known(answer) == known(probe_bytes(data))
    assert len(read.reads) <= len(data) // (64 * KB) + 4


def test_a_long_film_is_not_read_through() -> None:
    one = FALLBACKS["ts"]
    answer, read = probed(one * (30_000_000 // len(one)), "ts")
    assert known(answer).video_codec == "h264"
    assert read.bytes < 5_000_000
    assert len(read.reads) < 25


@pytest.mark.parametrize("data", [b"", b"\0", b"x" * 5, b"hello\n" * 1000, b"<html>Not found</html>" * 99, bytes(9999)])
def test_what_is_no_media_is_said_to_be_none(data: bytes) -> None:
    for answer in (probed(data)[0], probed(data, "jpg", Want.EXIF)[0], probe_bytes(data)):
        assert isinstance(answer.error, DecodeError)
        assert answer.info is None
        assert answer.error.__traceback__ is None
        assert answer.object.size == len(data)
    assert isinstance(probed(data, "", Want.OBJECT)[0], Answer)


STARTS = [b"", *(data[:64] for data in FALLBACKS.values()), jpeg()[:64], b"\x1aE\xdf\xa3", b"RIFF\0\0\0\0WEBP", b"OggS"]


@given(st.sampled_from(STARTS), st.binary(max_size=3000), st.booleans())
@settings(max_examples=150)
def test_garbage_is_an_answer_and_no_crash(start: bytes, rest: bytes, knows_size: bool) -> None:
    answer, read = probed(start + rest, knows_size=knows_size)
    assert (answer.info is None) == (answer.error is not None)
    assert len(read.reads) < 30


@given(st.sampled_from(sorted(FALLBACKS)), st.integers(0, 5000), st.binary(min_size=1, max_size=8))
@settings(max_examples=100)
def test_damaged_files_are_an_answer_and_no_crash(name: str, at: int, damage: bytes) -> None:
    data = FALLBACKS[name]
    at %= len(data)
    for broken in (data[:at], data[:at] + damage + data[at + len(damage) :]):
        answer = probe_bytes(broken)
        assert (answer.info is None) == (answer.error is not None)


PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "master": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000\n{url}/a.m3u8\n",
    "key": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/k"\n#EXTINF:9.0,\n{url}/a.ts\n',
    "ffconcat": "ffconcat version 1.0\nfile '{url}/a.mp4'\n",
    "ffconcat of a file": "ffconcat version 1.0\nfile {path}\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
    '<Representation id="1" bandwidth="1"><BaseURL>{url}/a.mp4</BaseURL></Representation>'
    "</AdaptationSet></Period></MPD>",
    "sdp": "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96\r\n",
    "svg": '<svg xmlns="http://www.w3.org/2000/svg"><image href="{url}/a.png"/></svg>',
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_no_other_url_or_file_is_opened(kind: str, http_server: HttpServer, tmp_path: Any) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(make.video("mp4"))
    for name in ("a.ts", "a.mp4", "a.m3u8", "k", "a.png"):
        http_server.put("", name, path.read_bytes())
    http_server.reset()
    text = PLAYLISTS[kind].format(url=http_server.url, path=path).encode()
    for answer in (probe_bytes(text), probed(text, "m3u8")[0]):
        assert isinstance(answer.error, DecodeError)
    assert http_server.requests() == []


def test_a_movie_that_refers_to_another_file_opens_none(tmp_path: Any) -> None:
    # An alias in the data reference of a QuickTime movie: FFmpeg follows it when it may.
    other = tmp_path / "other.mov"
    data = make.video("mov")
    other.write_bytes(data)
    at = data.index(b"url \0\0\0\1")
    referring = data[: at + 4] + b"\0\0\0\0" + data[at + 8 :]
    answer = probe_bytes(referring)
    assert (answer.info is None) == (answer.error is not None)


def test_a_read_that_fails_is_not_taken_for_the_end() -> None:
    for name in ("avi", "tga", "aiff", "icns"):
        data = FALLBACKS[name] + bytes(200 * KB)
        source = Object(data)

        async def read(start: int, stop: int, source: Object = source) -> Chunk:
            if start > 0:
                raise TransientError("the network is gone")
            return await source.read(start, min(stop, 20))

        with pytest.raises(TransientError, match="the network is gone"):
            loop.run(probe.probe(read, extension=name))
        # Nor does the next file that PyAV opens hear of it.
        assert known(probed(FALLBACKS[name], name)[0]).format


@pytest.mark.parametrize("name", ["jpg", "avi"])
def test_an_object_that_changes_between_reads_is_read_anew(name: str) -> None:
    old, new = {
        "jpg": (jpeg(100 * KB, (10, 10)), jpeg(100 * KB, (20, 20))),
        "avi": (make.video("avi", codec="mpeg4"), make.video("avi", codec="mpeg4", size=(32, 16))),
    }[name]
    reads: list[int] = []

    async def read(start: int, stop: int) -> Chunk:
        reads.append(start)
        data, etag = (old, "1") if len(reads) == 1 else (new, "2")
        return Chunk(data[start:stop][: 1000 if len(reads) == 1 else None], start, ObjectInfo(len(data), None, etag))

    info = known(loop.run(probe.probe(read, extension="x")))
    assert (info.width, info.height) == ((20, 20) if name == "jpg" else (32, 16))
    assert reads[0] == 0
    assert reads.count(0) >= 2


def test_an_object_that_always_changes_is_given_up(http_server: HttpServer) -> None:
    http_server.put("", "always.jpg", jpeg(100 * KB))
    http_server.reset()
    store = Store(Config.load())
    location = Location.parse(f"{http_server.url}/changing/always.jpg")
    with pytest.raises(TransientError, match="changed 3 times"):
        loop.run(probe.probe(lambda start, stop: store.read(location, start, stop), extension="jpg"))
    assert len(http_server.requests()) == 6
    store.close()


def test_an_endless_stream_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "MOST", 3 * KB * KB)
    one = FALLBACKS["ts"]
    answer, read = probed(one * (20_000_000 // len(one)), "ts", knows_size=False)
    assert isinstance(answer.error, DecodeError)
    assert "not within the 3 MB that were read" in str(answer.error)
    assert read.bytes < 3_500_000


def test_a_mistake_of_a_parser_is_no_end_of_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(head: bytes, size: int | None, want_exif: bool) -> Iterator[headers.Span]:
        yield headers.Span(0, 10)
        raise struct.error("an oversight")

    monkeypatch.setitem(headers.HEADERS, "a", headers.Header("a", lambda head: True, wrong))  # type: ignore[arg-type]
    data = picture("PNG", size=(30, 20))
    assert known(probe_bytes(data)).width == known(probed(data)[0]).width == 30


def test_many_at_a_time_do_not_wait_for_each_other(tmp_path: Any) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(FALLBACKS["avi"])
    store = Store(Config.load(timeout=60))
    location = Location.parse(str(path))

    async def many() -> list[Answer]:
        one = lambda start, stop: store.read(location, start, min(stop, start + 5000))  # noqa: E731
        return await asyncio.gather(*(probe.probe(one, extension="avi") for _ in range(100)))

    assert {known(answer).width for answer in loop.run(many())} == {64}
    store.close()


def test_giving_up_ends_the_thread_that_decodes() -> None:
    waits = threading.Event()
    source = Object(FALLBACKS["avi"] + bytes(10**6))

    async def read(start: int, stop: int) -> Chunk:
        if source.reads:
            waits.set()
            await asyncio.sleep(600)
        return await source.read(start, min(stop, 1000))

    def check() -> None:
        if waits.is_set():
            raise KeyboardInterrupt

    with soon(), pytest.raises(KeyboardInterrupt):
        loop.run(probe.probe(read), check)

    async def idle() -> None:
        await asyncio.gather(*(loop.in_decoder(lambda: time.sleep(0.01)) for _ in range(16)))

    loop.run(asyncio.wait_for(idle(), 60))  # every decoder's thread is free again


def test_what_is_in_memory_and_whole() -> None:
    assert probe_bytes(jpeg(), Want.OBJECT) == Answer(ObjectInfo(size=len(jpeg())))
    bomb = picture("PNG", "L", (1, 1)).replace(
        chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
        chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)),
    )
    assert known(probe_bytes(bomb)).width == 60_000  # no pixel is decoded
