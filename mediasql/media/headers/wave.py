"""WAVE in RIFF, RF64, BW64: `fmt ` names the codec, `data` is measured, not read (RFC 2361, EBU Tech 3306).

Numbers are FFmpeg's (libavformat/wavdec.c). Only codecs whose samples have a fixed size are read here: of
others, and of DTS and AC-3 that disguise themselves as PCM, the `fmt ` chunk does not tell enough.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ...errors import DecodeError
from ..info import StreamInfo
from . import GiveUp, Span, Steps, header
from .ffmpeg import read, rescale, timed

# WAVE_FORMAT_* -> codec by bits of a sample, rounded up to whole bytes.
_CODECS: dict[int, dict[int, str]] = {
    0x0001: {8: "pcm_u8", 16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le", 64: "pcm_s64le"},
    0x0003: {32: "pcm_f32le", 64: "pcm_f64le"},
    0x0006: {8: "pcm_alaw"},
    0x0007: {8: "pcm_mulaw"},
}


@dataclass(frozen=True, slots=True)
class _Adpcm:
    """A codec of four bits a sample, in blocks: each has a header that holds its first samples, and groups of samples.

    The sizes are bytes for each channel.
    """

    name: str
    block_header: int
    header_samples: int
    group: int

    def bit_rate(self, byte_rate: int, block_size: int, channels: int, sample_rate: int) -> int:
        """Return bits per second, headers of blocks included, as FFmpeg 9 does; `byte_rate` is what the file claims.

        FFmpeg 8 believes the file, and writes files that claim 0. Raises GiveUp for blocks that no encoder makes.
        """
        groups, rest = divmod(block_size - self.block_header * channels, self.group * channels)
        if groups < 0 or rest:
            raise GiveUp(f"{self.name} in blocks of {block_size} bytes")
        samples = self.header_samples + groups * self.group * 2
        exact = block_size * 8 * sample_rate // samples
        return byte_rate * 8 if byte_rate == block_size * sample_rate // samples else exact


_ADPCM = {0x0002: _Adpcm("adpcm_ms", 7, 2, 1), 0x0011: _Adpcm("adpcm_ima_wav", 4, 1, 4)}
_EXTENSIBLE = 0xFFFE
# How DTS, in its four packings, and IEC 61937 bursts start.
_DISGUISED = (
    b"\xff\x1f\x00\xe8",
    b"\x1f\xff\xe8\x00",
    b"\xfe\x7f\x01\x80",
    b"\x7f\xfe\x80\x01",
    b"\x72\xf8\x1f\x4e",
)
_LOOKED_AT = 4096
_MOST_CHUNKS = 64
_MOST_FMT = 4096


def _is_wave(head: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"


@header(matches=_is_wave)
def wave(head: bytes, size: int | None, want_exif: bool) -> Steps:
    long_size = None
    fmt, data, samples = b"", None, 0
    at = 12
    for _ in range(_MOST_CHUNKS):
        if size is not None and at + 8 > size:
            break
        chunk = head[at : at + 8] if at + 8 <= len(head) else (yield Span(at, at + 8))
        if len(chunk) < 8:
            break
        kind, length = struct.unpack("<4sI", chunk)
        body = at + 8
        if kind == b"ds64":
            sizes = yield from read(head, body, body + 24, "the ds64 chunk")
            _, long_size, samples = struct.unpack("<3Q", sizes)
        elif kind == b"fmt " and not fmt:
            if not 14 <= length <= _MOST_FMT:
                raise GiveUp(f"a fmt chunk of {length} bytes")
            fmt = yield from read(head, body, body + length, "the fmt chunk")
        elif kind == b"fact" and not samples and length >= 4:
            (samples,) = struct.unpack("<I", (yield from read(head, body, body + 4, "the fact chunk")))
        elif kind == b"data":
            if long_size is not None and head[:4] != b"RIFF":
                length = long_size
            data = body, 0 if length == 0xFFFFFFFF else length
            if fmt or not data[1]:
                break
        at = body + length + (length & 1)
    if not fmt:
        raise DecodeError("WAVE has no fmt chunk")
    if data is None:
        raise DecodeError("WAVE ends before its data chunk")
    sound = head[data[0] : data[0] + _LOOKED_AT]
    if any(mark in sound for mark in _DISGUISED):
        raise GiveUp("what may be DTS or AC-3 in a WAVE file")

    codec, bits, channels, sample_rate, claimed, bit_rate = _format(fmt)
    if codec.startswith("adpcm") and not samples:
        raise GiveUp("ADPCM that does not tell its length")
    length = _samples(data, size, samples, codec, bits, channels, sample_rate, claimed)
    stream = StreamInfo(
        index=0,
        type="audio",
        codec=codec,
        duration=length / sample_rate,
        bit_rate=bit_rate,
        sample_rate=sample_rate,
        channels=channels,
        is_default=False,
    )
    microseconds = rescale(length, 1_000_000, sample_rate)
    return timed("wav", ("audio/wav", "audio/wav"), [stream], microseconds=microseconds, size=size)


def _format(fmt: bytes) -> tuple[str, int, int, int, int, int]:
    """Codec, bits of a sample, channels, samples per second, bits per second as the file claims and as they are."""
    tag, channels, sample_rate, byte_rate, align = struct.unpack_from("<HHIIH", fmt)
    bits = struct.unpack_from("<H", fmt, 14)[0] if len(fmt) >= 16 else 8
    if tag == _EXTENSIBLE and len(fmt) >= 40:
        # The first two bytes of the GUID are the tag that the rest of it makes extensible.
        bits = struct.unpack_from("<H", fmt, 18)[0] or bits
        (tag,) = struct.unpack_from("<H", fmt, 24)
        if fmt[26:40] != b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71":
            raise GiveUp("WAVE of an unknown sub-format")
    if not channels or not sample_rate:
        raise GiveUp("WAVE without channels or a rate")
    if tag in _ADPCM and bits == 4:
        adpcm = _ADPCM[tag]
        bit_rate = adpcm.bit_rate(byte_rate, align, channels, sample_rate)
        return adpcm.name, 4, channels, sample_rate, byte_rate * 8, bit_rate
    bits = bits + 7 & ~7
    codec = _CODECS.get(tag, {}).get(bits)
    # Where the numbers contradict each other (24 bits in four bytes), FFmpeg guesses; that is not worth
    # copying.
    if codec is None or align != channels * bits // 8 or byte_rate != align * sample_rate:
        raise GiveUp(f"WAVE of format {tag:#06x}, {bits} bits in {align} bytes")
    return codec, bits, channels, sample_rate, byte_rate * 8, bits * sample_rate * channels


def _samples(
    data: tuple[int, int],
    size: int | None,
    samples: int,
    codec: str,
    bits: int,
    channels: int,
    sample_rate: int,
    bit_rate: int,
) -> int:
    """The length in samples; by the file's size where a recorder did not come back to write it."""
    start, length = data
    # Some writers count the samples of all channels.
    many = samples and length and bit_rate and channels > 1 and samples % channels == 0
    if many and abs(8.0 * length * channels * sample_rate / samples / bit_rate - 1.0) < 0.3:
        samples //= channels
    if samples and length and length * 8 // samples // channels > bits + 1:
        samples = 0
    if (not samples or codec.startswith("pcm")) and length and (size is None or start + length <= size):
        samples = length * 8 // (channels * bits)
    if not samples and (size is None or not bit_rate):
        raise GiveUp("WAVE that does not tell its length")
    return samples or rescale(max(size or 0, start) - start, 8 * sample_rate, bit_rate)
