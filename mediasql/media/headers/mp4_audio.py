"""Sample entries of sound in MP4 and MOV: what each says of the codec, the sampling rate and the channels.

ISO/IEC 14496-12 12.2.3 and the QuickTime File Format for the entry, ISO/IEC 14496-1 7.2.6 and 14496-3 1.6.2
for AAC, ETSI TS 102 366 F for AC-3, and the encapsulations of ALAC, FLAC and Opus. The entry's own rate and
channels are right for PCM alone: of a compressed sound only its decoder's configuration tells, so one without
it is given up.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from . import GiveUp
from .isobmff import Box, children

_MOST_CONFIG = 16  # bytes of an AudioSpecificConfig, behind which nothing is read
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_AAC_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)
_AC3_RATES = (48000, 44100, 32000)
_AC3_CHANNELS = (2, 1, 2, 3, 3, 4, 4, 5)
_AC3_BIT_RATES = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)

# Entry -> PCM by bits of a sample (None: whatever they say), as big-endian and as little-endian.
_PCM: dict[bytes, dict[int | None, str]] = {
    b"twos": {8: "pcm_s8", 16: "pcm_s16be", 24: "pcm_s24be", 32: "pcm_s32be"},
    b"sowt": {8: "pcm_s8", 16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"},
    b"in24": {None: "pcm_s24be"},
    b"in32": {None: "pcm_s32be"},
    b"fl32": {None: "pcm_f32be"},
    b"fl64": {None: "pcm_f64be"},
    b"raw ": {8: "pcm_u8", 16: "pcm_s16be"},
    b"alaw": {None: "pcm_alaw"},
    b"ulaw": {None: "pcm_mulaw"},
}
_BITS = {
    "8": 8,
    "s16": 16,
    "s24": 24,
    "s32": 32,
    "f32": 32,
    "f64": 64,
    "alaw": 8,
    "mulaw": 8,
    "u8": 8,
    "s8": 8,
}


_fields = struct.Struct(">H6xHH4xH").unpack_from


class Sound(NamedTuple):
    codec: str
    sample_rate: int
    channels: int
    bit_rate: int | None = None  # where the codec itself tells, and not the sizes of the samples


class _Entry(NamedTuple):
    data: bytes
    kind: bytes
    channels: int
    bits: int
    sample_rate: int
    flags: int | None  # of `lpcm`, version 2
    parts: dict[bytes, Box]  # the boxes behind the fields, and in QuickTime's `wave` among them


def sound(data: bytes, entry: Box, time_scale: int) -> Sound:
    """What a sample entry tells. QuickTime's versions 1 and 2 have more fields, and are found in MP4 too."""
    version, channels, bits, sample_rate = _fields(data, entry.start + 8)
    at, flags = entry.start + 28, None
    if version == 1:
        at += 16
    elif version == 2:
        real, channels, bits, flags = struct.unpack_from(">4xdI4xII", data, at)
        sample_rate = int(real) if 0 < real < 1 << 31 else 0
        at += 36
    elif version:
        raise GiveUp(f"a sound entry of version {version}")
    parts = children(data, at, entry.stop)
    if b"wave" in parts:
        parts = children(data, parts[b"wave"].start, parts[b"wave"].stop) | parts
    made = _Entry(data, entry.kind, channels, bits, sample_rate or time_scale, flags, parts)
    return _READERS.get(entry.kind, _unknown)(made)


def object_type(data: bytes, esds: Box) -> tuple[int, bytes]:
    """The object type and the decoder's own configuration from an elementary stream descriptor."""
    at, stop = esds.start + 4, esds.stop
    config, kind = b"", 0
    for _ in range(8):
        if at + 2 > stop:
            break
        tag, at = data[at], at + 1
        length = 0
        for _ in range(4):
            byte, at = data[at], at + 1
            length = length << 7 | byte & 127
            if byte < 128:
                break
        if tag == 3:  # ES_Descriptor: its number, flags, and what they announce; then descriptors inside it
            flags, at = data[at + 2], at + 3
            at += (2 if flags & 0x80 else 0) + (1 + data[at] if flags & 0x40 else 0) + (2 if flags & 0x20 else 0)
        elif tag == 4:  # DecoderConfigDescriptor
            kind, at = data[at], at + 13
        elif tag == 5:  # DecoderSpecificInfo
            config = data[at : min(at + length, stop)]
            break
        else:
            at += length
    return kind, config


def aac(config: bytes) -> tuple[int, int]:
    """Sampling rate and channels from an AudioSpecificConfig.

    FFmpeg decodes the first frame, and may find spectral band replication there (twice the rate) or
    parametric stereo (twice the channels) that the configuration does not mention: where that can be, give
    up.
    """
    return _aac(config[:_MOST_CONFIG])


@lru_cache(256)
def _aac(config: bytes) -> tuple[int, int]:
    bits = int.from_bytes(config.ljust(_MOST_CONFIG, b"\0"), "big")
    at, end = 8 * _MOST_CONFIG, 8 * (_MOST_CONFIG - len(config))

    def take(count: int) -> int:
        nonlocal at
        at -= count
        if at < end:
            raise GiveUp("a short AudioSpecificConfig")
        return bits >> at & (1 << count) - 1

    def kind() -> int:
        value = take(5)
        return 32 + take(6) if value == 31 else value

    def rate() -> int:
        index = take(4)
        if index == 15:
            return take(24)
        if index >= len(_AAC_RATES):
            raise GiveUp("a reserved sampling rate")
        return _AAC_RATES[index]

    object_kind, sample_rate, layout = kind(), rate(), take(4)
    doubled: int | None = None
    told = object_kind in (5, 29)
    if told:
        doubled, object_kind = rate(), kind()
    if object_kind != 2 or not 1 <= layout < len(_AAC_CHANNELS):
        raise GiveUp(f"AAC of object type {object_kind}, channel configuration {layout}")
    if not told:
        at -= 3  # frame length, core coder, extension
        if at - end >= 17 and take(11) == 0x2B7 and kind() == 5:
            told = True
            doubled = rate() if take(1) else None
    channels = _AAC_CHANNELS[layout]
    if doubled is not None and (channels == 1 or doubled != 2 * sample_rate):
        raise GiveUp("HE-AAC that may hold parametric stereo")
    if not told and sample_rate <= 24000:
        raise GiveUp("AAC that may be HE-AAC without saying so")
    return doubled or sample_rate, channels


def _mp4a(entry: _Entry) -> Sound:
    kind, config = object_type(entry.data, entry.parts[b"esds"])
    if kind not in (0x40, 0x66, 0x67, 0x68) or not config:
        raise GiveUp(f"MPEG-4 sound of object type {kind:#x}")
    return Sound("aac", *aac(config))


def _alac(entry: _Entry) -> Sound:
    box = entry.parts[b"alac"]
    channels, sample_rate = struct.unpack_from(">B10xI", entry.data, box.start + 13)
    return Sound("alac", sample_rate, channels)


def _opus(entry: _Entry) -> Sound:
    return Sound("opus", 48000, entry.data[entry.parts[b"dOps"].start + 1])


def _flac(entry: _Entry) -> Sound:
    (packed,) = struct.unpack_from(">Q", entry.data, entry.parts[b"dfLa"].start + 8 + 10)
    return Sound("flac", packed >> 44, (packed >> 41 & 7) + 1)


def _ac3(entry: _Entry) -> Sound:
    box = entry.parts[b"dac3"]
    bits = int.from_bytes(entry.data[box.start : box.start + 3], "big")
    rate, mode, low, code = bits >> 22, bits >> 11 & 7, bits >> 10 & 1, bits >> 5 & 31
    return Sound("ac3", _AC3_RATES[rate], _AC3_CHANNELS[mode] + low, _AC3_BIT_RATES[code] * 1000)


def _pcm(entry: _Entry) -> Sound:
    codecs = _PCM[entry.kind]
    codec = codecs.get(None) or codecs.get(entry.bits)
    if codec is None:
        raise GiveUp(f"PCM of {entry.bits} bits")
    enda = entry.parts.get(b"enda")
    if enda and entry.data[enda.start : enda.start + 2] == b"\0\1":
        codec = codec.replace("be", "le")
    return _uncompressed(codec, entry)


def _lpcm(entry: _Entry) -> Sound:
    """QuickTime's entry of version 2 spells the format in flags: 1 float, 2 big-endian, 4 signed."""
    if entry.flags is None or (entry.bits == 8 and not entry.flags & 4 and entry.flags & 1):
        raise GiveUp("lpcm without its flags")
    family = "f" if entry.flags & 1 else "s" if entry.flags & 4 or entry.bits > 8 else "u"
    name = f"{family}{entry.bits}"
    if name not in ("f32", "f64", "s8", "u8", "s16", "s24", "s32"):
        raise GiveUp(f"lpcm of {name}")
    return _uncompressed(f"pcm_{name}" + ("" if entry.bits == 8 else "be" if entry.flags & 2 else "le"), entry)


def _uncompressed(codec: str, entry: _Entry) -> Sound:
    bits = _BITS[codec[4:].removesuffix("be").removesuffix("le")]
    if not entry.channels or not entry.sample_rate:
        raise GiveUp("PCM without channels or a rate")
    return Sound(codec, entry.sample_rate, entry.channels, bits * entry.sample_rate * entry.channels)


def _unknown(entry: _Entry) -> Sound:
    raise GiveUp(f"sound coded as {entry.kind!r}")


_READERS: dict[bytes, Callable[[_Entry], Sound]] = {
    b"mp4a": _mp4a,
    b"alac": _alac,
    b"Opus": _opus,
    b"fLaC": _flac,
    b"ac-3": _ac3,
    b"lpcm": _lpcm,
    **dict.fromkeys(_PCM, _pcm),
}
