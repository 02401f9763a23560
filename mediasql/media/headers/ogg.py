"""Ogg with one Vorbis, Opus or FLAC stream: its first packets tell the codec, its last page when it ends.

RFC 3533 for pages, the Vorbis I specification, RFC 7845 (Opus), and the FLAC-to-Ogg mapping of RFC 9639 10.1.
As in FFmpeg (libavformat/oggdec.c), the length is the last position that the last 65,307 bytes tell, since a
page is never longer. That the first is 0 is checked: the first page's position less what its packets last.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple

from ...errors import DecodeError
from ..info import StreamInfo
from . import GiveUp, Span, Steps, header
from .ffmpeg import rescale, timed
from .flac import stream_info

_LONGEST_PAGE = 65307
_MOST_PAGES = 1024
_page_header = struct.Struct("<4sBBqIIIB").unpack_from
_NOWHERE = -1
_FIRST_PAGE = 512  # it holds the identification packet alone, of 100 bytes at most
_MOST_HEADERS = 1 << 20
_MOST_ASKED = 16


class _Page(NamedTuple):
    flags: int  # 1: goes on with a packet, 2: first of its stream, 4: last
    granule: int
    serial: int
    start: int
    lacing: bytes
    stop: int


def _page(data: bytes, at: int) -> _Page | None:
    """The page at `at`, None where there is none or it is not all there."""
    if at + 27 > len(data):
        return None
    mark, version, flags, granule, serial, _, _, count = _page_header(data, at)
    lacing = data[at + 27 : at + 27 + count]
    start = at + 27 + count
    stop = start + sum(lacing)
    if mark != b"OggS" or version or len(lacing) < count or stop > len(data):
        return None
    return _Page(flags, granule, serial, start, lacing, stop)


@header(matches=lambda head: head.startswith(b"OggS\0\x02"))
def ogg(head: bytes, size: int | None, want_exif: bool) -> Steps:
    if size is None:
        raise GiveUp("an Ogg file of unknown size")
    if len(head) < _FIRST_PAGE and len(head) < size:
        head += yield Span(len(head), _FIRST_PAGE)
    first = _page(head, 0)
    if first is None:
        if len(head) < _FIRST_PAGE:
            raise DecodeError("Ogg ends inside its first page")
        raise GiveUp("Ogg with a long first page")
    packet = head[first.start : first.stop]
    codec = next((codec for codec in _CODECS if packet.startswith(codec.mark)), None)
    if codec is None:
        raise GiveUp(f"Ogg with {packet[:8]!r}")
    sample_rate, channels, headers = codec.identify(packet)
    if not sample_rate or not channels:
        raise GiveUp("Ogg without channels or a rate")
    yield from _check_begin(head, first, codec, headers)

    tail = max(0, size - _LONGEST_PAGE)
    data = head[tail:size] if size <= len(head) else (yield Span(tail, size))
    length = _end(data, first.serial)
    stream = StreamInfo(
        index=0,
        type="audio",
        codec=codec.name,
        duration=length / sample_rate,
        sample_rate=sample_rate,
        channels=channels,
        is_default=False,
    )
    microseconds = rescale(length, 1_000_000, sample_rate)
    return timed("ogg", ("video/ogg", "audio/ogg"), [stream], microseconds=microseconds, size=size)


def _end(data: bytes, serial: int) -> int:
    """The last position that a page of `data`, the end of a file, tells."""
    at, end = 0, 0
    for _ in range(_MOST_PAGES):
        at = data.find(b"OggS", at)
        if at < 0:
            break
        page = _page(data, at)
        if page is None:  # chance bytes, or a page that is cut
            at += 4
            continue
        if page.serial != serial:
            raise GiveUp("Ogg with several streams")
        if page.granule not in (_NOWHERE, 0):
            end = page.granule
        at = page.stop
    else:
        raise GiveUp("Ogg of very small pages")
    if end <= 0:
        raise GiveUp("Ogg that does not tell where it ends")
    return end


def _check_begin(head: bytes, first: _Page, codec: _Codec, headers: int) -> Generator[Span, bytes, None]:
    """Make sure that sound starts at 0: that the first page of it is at where its packets end.

    Where it is not, a stream was cut, and FFmpeg finds its start by rules of its own for each codec.
    """
    packets: list[bytes] = []
    piece = b""
    data, at, asked = head, 0, 0
    while at < _MOST_HEADERS:
        page = _page(data, at)
        if page is None:
            # The page itself once its header is at hand, which is 27 bytes and a lacing of up to 255.
            lacing = data[at + 27 : at + 27 + data[at + 26]] if at + 27 <= len(data) else b""
            ended = at + 27 <= len(data) and len(lacing) == data[at + 26]
            stop = at + 27 + len(lacing) + sum(lacing) if ended else at + 282
            more = (yield Span(len(data), stop)) if stop > len(data) and asked < _MOST_ASKED else b""
            if not more:
                raise GiveUp("Ogg with long headers, or that ends in them")
            data += more
            asked += 1
            continue
        if page.serial != first.serial:
            raise GiveUp("Ogg with several streams")
        for part, ended in _parts(data, page):
            piece += part
            if ended:
                packets.append(piece)
                piece = b""
        at = page.stop
        if len(packets) > headers and page.granule != _NOWHERE:
            begin = page.granule - codec.length(packets[:headers], packets[headers:])
            # The last page may cut its packets short.
            if begin and not (page.flags & 4 and begin < 0):
                raise GiveUp(f"Ogg that starts at {begin}")
            return
    raise GiveUp("Ogg with long headers")


def _parts(data: bytes, page: _Page) -> Iterator[tuple[bytes, bool]]:
    """The packets of a page (RFC 3533 6), and whether each ends there: segments of 255 bytes go on."""
    start = stop = page.start
    for length in page.lacing:
        stop += length
        if length < 255:
            yield data[start:stop], True
            start = stop
    if start < stop:
        yield data[start:stop], False


def _identify_vorbis(packet: bytes) -> tuple[int, int, int]:
    channels, sample_rate = struct.unpack_from("<BI", packet.ljust(30, b"\0"), 11)
    return sample_rate, channels, 3


def _identify_opus(packet: bytes) -> tuple[int, int, int]:
    return 48000, packet.ljust(19, b"\0")[9], 2


def _identify_flac(packet: bytes) -> tuple[int, int, int]:
    packet = packet.ljust(51, b"\0")
    headers = int.from_bytes(packet[7:9], "big")
    if not headers:
        raise GiveUp("FLAC in Ogg that does not tell how many headers it has")
    return *stream_info(packet[17:51])[:2], 1 + headers


def _vorbis_length(headers: list[bytes], packets: list[bytes]) -> int:
    """Samples that Vorbis packets make: of each, half its block overlaps half of the one before (4.3.8)."""
    sizes = 1 << (headers[0][28] & 15), 1 << (headers[0][28] >> 4)
    modes = _vorbis_modes(headers[2])
    bits = (len(modes) - 1).bit_length()
    total = before = 0
    for packet in packets:
        if not packet or packet[0] & 1:
            raise GiveUp("a Vorbis packet that is not sound")
        mode = packet[0] >> 1 & (1 << bits) - 1
        if mode >= len(modes):
            raise GiveUp("a Vorbis packet of an unknown mode")
        block = sizes[modes[mode]]
        total += (before + block) // 4 if before else 0
        before = block
    return total


def _vorbis_modes(setup: bytes) -> list[int]:
    """Whether each mode has long blocks, from the end of the setup header, as FFmpeg finds them (4.2.4).

    To read up to them from the front one must decode all codebooks. From the back, behind a framing bit, are
    modes of 41 bits each: a flag, two zeros of 16 bits, a mapping of 8. Their number, 6 bits, is before them.
    """
    bits = int.from_bytes(setup, "little")
    at = bits.bit_length() - 1
    modes: list[int] = []
    found: list[int] = []
    while at >= 47 and len(modes) < 64:
        if bits >> at - 40 & 0xFFFFFFFF or bits >> at - 8 & 0xFF > 63:
            break
        modes.insert(0, bits >> at - 41 & 1)
        at -= 41
        if (bits >> at - 6 & 63) + 1 == len(modes):
            found = modes.copy()
    if not found:
        raise GiveUp("a Vorbis setup header without modes")
    return found


def _opus_length(headers: list[bytes], packets: list[bytes]) -> int:
    """Samples that Opus packets make, from their table-of-contents bytes (RFC 6716 3.1)."""
    total = 0
    for packet in packets:
        if not packet:
            raise GiveUp("an empty Opus packet")
        config, code = packet[0] >> 3, packet[0] & 3
        if config < 12:
            frame = (480, 960, 1920, 2880)[config & 3]
        elif config < 16:
            frame = (480, 960)[config & 1]
        else:
            frame = (120, 240, 480, 960)[config & 3]
        total += frame * ((1, 2, 2)[code] if code < 3 else packet.ljust(2, b"\0")[1] & 63)
    return total


def _flac_length(headers: list[bytes], packets: list[bytes]) -> int:
    """Samples of FLAC packets when all blocks are of the one size that STREAMINFO tells."""
    shortest, longest = struct.unpack_from(">HH", headers[0].ljust(51, b"\0"), 17)
    if shortest != longest:
        raise GiveUp("FLAC in Ogg with blocks of several sizes")
    return int(longest) * len(packets)


class _Codec(NamedTuple):
    name: str
    mark: bytes
    identify: Callable[[bytes], tuple[int, int, int]]  # -> sampling rate, channels, number of header packets
    length: Callable[[list[bytes], list[bytes]], int]  # header packets, sound packets -> samples


_CODECS = (
    _Codec("vorbis", b"\x01vorbis", _identify_vorbis, _vorbis_length),
    _Codec("opus", b"OpusHead", _identify_opus, _opus_length),
    _Codec("flac", b"\x7fFLAC", _identify_flac, _flac_length),
)
