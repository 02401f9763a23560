"""MP4 and audio files: `moov` first and last, short clips and long films, and sound in three formats."""

from __future__ import annotations

import random
import struct
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

RATE = 44_100
CODECS = {"mp3": "libmp3lame", "flac": "flac", "wav": "pcm_s16le"}
LONG = 470  # seconds; its `moov` takes some 360 KB


def movies(clips: int, size: int, long: int = LONG) -> Iterator[bytes]:
    """`clips` short films and, for nine of them, a long one; each with `moov` first, and with `moov` last."""
    chance = random.Random(21)
    with tempfile.TemporaryDirectory() as folder:
        for index in range(clips):
            film = index % 10 == 9
            seconds = long if film else chance.randint(9, 25)
            width, height = (64, 48) if film else (160 + 16 * index, 96 + 16 * (index * 7 % 11))
            padding = chance.randbytes(int(size * chance.uniform(0.5, 1.5)))
            for options in ({"movflags": "+faststart"}, {}):
                path = Path(folder) / "film.mp4"
                write_movie(path, width, height, seconds, options)
                data = path.read_bytes()
                yield data + box(b"free", padding) if options else padded(data, padding)


def box(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">L4s", len(payload) + 8, kind) + payload


def padded(data: bytes, padding: bytes) -> bytes:
    """`mdat` made longer at its end, so that no offset into it changes; `moov` behind it moves."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">L4s", data, at)
        if kind == b"mdat":
            end = at + size
            return (
                data[:at] + struct.pack(">L4s", size + len(padding), kind) + data[at + 8 : end] + padding + data[end:]
            )
        at += size
    raise ValueError("no mdat")


def write_movie(path: Path, width: int, height: int, seconds: int, options: dict[str, str]) -> None:
    rate = 25
    with av.open(str(path), "w", options=options) as container:
        picture = container.add_stream("libx264", rate, options={"preset": "ultrafast", "bf": "2"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", RATE, layout="mono")
        frame = av.VideoFrame(width, height, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        frame.time_base = Fraction(1, rate)
        tones = silence(seconds, "fltp", "mono", 1024)
        for index in range(seconds * rate):
            frame.pts = index
            container.mux(picture.encode(frame))
            for tone in tones:
                container.mux(sound.encode(tone))
                if (tone.pts or 0) / RATE > index / rate:
                    break
        for stream in (picture, sound):
            container.mux(stream.encode(None))


def silence(seconds: int, layout: str, channels: str, samples: int, noise: bool = False) -> Iterator[av.AudioFrame]:
    chance = random.Random(seconds)
    for start in range(0, seconds * RATE, samples):
        frame = av.AudioFrame(layout, channels, samples)
        for plane in frame.planes:
            plane.update(chance.randbytes(plane.buffer_size) if noise else bytes(plane.buffer_size))
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def sounds(count: int) -> Iterator[tuple[str, bytes]]:
    """Extension and bytes of `count` recordings of noise, in turn MP3, FLAC and WAV."""
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            extension = list(CODECS)[index % len(CODECS)]
            path = Path(folder) / f"sound.{extension}"
            with av.open(str(path), "w") as container:
                container.metadata["title"] = f"Recording {index}"
                stream: Any = container.add_stream(CODECS[extension], RATE, layout="stereo")
                resampler = av.AudioResampler(
                    stream.format.name, stream.layout.name, stream.rate, stream.codec_context.frame_size
                )
                for tone in (*silence(5 + 2 * index, "s16", "stereo", 1152, noise=True), None):
                    for frame in resampler.resample(tone):
                        container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
            yield extension, path.read_bytes()
