"""Media made from nothing, the same bytes everywhere (for one version of Pillow and PyAV).

`python -m tests.sample_media FOLDER` writes them. `web/` is what the HTTP server has, `s3/` and `gcs/` hold a
folder per bucket, `local/` is for files on disk.
"""

from __future__ import annotations

import array
import cmath
import math
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
from PIL import ExifTags, Image, ImageDraw, ImageOps

RATE = 44100


@dataclass(frozen=True)
class Photo:
    width: int
    height: int
    seed: int
    camera: str | None = None
    taken: str | None = None
    place: tuple[float, float] | None = None  # latitude, longitude
    orientation: int = 1


@dataclass(frozen=True)
class Video:
    width: int
    height: int
    seed: int
    seconds: int
    frame_rate: int = 24
    moov_first: bool = True


@dataclass(frozen=True)
class Audio:
    seconds: int
    notes: tuple[float, ...]
    title: str
    channels: int = 1


TUNE = (261.63, 329.63, 392.0, 523.25)
SAMPLES: dict[str, Photo | Video | Audio] = {
    "web/images/000000000036.jpg": Photo(481, 640, 36),
    "web/images/000000000090.jpg": Photo(640, 429, 90),
    "web/images/000000000106.jpg": Photo(640, 426, 106),
    "web/images/logo.png": Photo(256, 256, 7),
    "s3/media-samples/photos/alps.jpg": Photo(
        1600, 1200, 1, "Fujifilm X-T4", "2024:07:14 06:12:09", (45.8326, 6.8652)
    ),
    "s3/media-samples/photos/berlin.jpg": Photo(
        1200, 800, 2, "Canon EOS R6", "2023:11:02 17:45:00", (52.5163, 13.3777)
    ),
    "s3/media-samples/photos/cape town.jpg": Photo(
        1200, 900, 3, "Apple iPhone 15", "2024:01:20 19:58:31", (-33.9628, 18.4098), 6
    ),
    "s3/media-samples/photos/lisbon.jpg": Photo(
        800, 1200, 4, "Canon EOS R6", "2025:05:09 09:30:12", (38.6916, -9.2160)
    ),
    "s3/media-samples/photos/scan.png": Photo(640, 480, 5),
    "s3/media-samples/photos/tokyo.webp": Photo(1024, 768, 6),
    "s3/media-samples/videos/clock.mp4": Video(1280, 720, 11, 2),
    "s3/media-samples/videos/harbour.mp4": Video(640, 360, 12, 5),
    "s3/media-samples/videos/stairs.mp4": Video(360, 640, 13, 3, 30),
    "s3/media-samples/videos/tide.mp4": Video(320, 180, 14, 10, 15, moov_first=False),
    "gcs/media-samples/audio/chord.flac": Audio(3, TUNE[:1], "Chord"),
    "gcs/media-samples/audio/morning.mp3": Audio(8, TUNE, "Morning", 2),
    "gcs/media-samples/audio/scale.flac": Audio(5, TUNE, "Scale", 2),
    "gcs/media-samples/audio/signal.wav": Audio(1, TUNE[2:3], "Signal"),
    "local/bell.wav": Audio(2, TUNE[3:], "Bell"),
    "local/holiday.jpg": Photo(1024, 683, 21, "Nikon Z6", "2022:08:30 12:00:00", (64.1466, -21.9426)),
    "local/short.mp4": Video(320, 240, 22, 2),
}
BROKEN = "web/images/broken.jpg"
TEXT = "web/images/notes.jpg"


def write(folder: Path) -> Path:
    """Write every sample under `folder`, and two files that are not what their names say."""
    for name, sample in SAMPLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[type(sample)](path, sample)
    whole = (folder / "web/images/000000000090.jpg").read_bytes()
    (folder / BROKEN).write_bytes(whole[: len(whole) // 2])
    (folder / TEXT).write_text("This is a note, not a photograph.\n")
    return folder


def scene(width: int, height: int, seed: int, moment: float = 0.3) -> Image.Image:
    """Sky, sun and hills; the sun goes from left to right as `moment` goes from 0 to 1."""
    chance = random.Random(seed)
    hue = chance.randrange(360)
    picture = sky(width, height, hue).copy()
    draw = ImageDraw.Draw(picture)
    radius = min(width, height) / 9
    x, y = width * moment, height * (0.5 - 0.3 * math.sin(math.pi * moment))
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="hsl(48, 100%, 70%)")
    for layer in range(3):
        base, swing = height * (0.6 + 0.13 * layer), height * chance.uniform(0.03, 0.1)
        phase, waves = chance.uniform(0, 6), chance.uniform(1, 3)
        ridge = [
            (at, base + swing * math.sin(phase + waves * 2 * math.pi * at / width))
            for at in range(0, width + 8, 8)
        ]
        colour = f"hsl({(hue + 150) % 360}, 35%, {38 - 10 * layer}%)"
        draw.polygon([*ridge, (width, height), (0, height)], fill=colour)
    return picture


@cache
def sky(width: int, height: int, hue: int) -> Image.Image:
    dark, light = f"hsl({hue}, 60%, 35%)", f"hsl({(hue + 40) % 360}, 80%, 80%)"
    return ImageOps.colorize(Image.linear_gradient("L").resize((width, height)), dark, light)


def write_photo(path: Path, photo: Photo) -> None:
    image = scene(photo.width, photo.height, photo.seed)
    exif = Image.Exif()
    if photo.camera:
        make, _, model = photo.camera.partition(" ")
        exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = make, model
        exif[ExifTags.Base.Orientation] = photo.orientation
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = photo.taken
    if photo.place:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update(position(*photo.place))
    options: dict[str, Any] = {"exif": exif} if photo.camera else {}
    image.save(path, quality=85, **options)


def position(latitude: float, longitude: float) -> dict[int, Any]:
    return {
        ExifTags.GPS.GPSLatitudeRef: "N" if latitude >= 0 else "S",
        ExifTags.GPS.GPSLatitude: degrees(latitude),
        ExifTags.GPS.GPSLongitudeRef: "E" if longitude >= 0 else "W",
        ExifTags.GPS.GPSLongitude: degrees(longitude),
    }


def degrees(value: float) -> tuple[float, float, float]:
    minutes, seconds = divmod(round(abs(value) * 3600, 2), 60)
    return (*divmod(minutes, 60), round(seconds, 2))


def write_video(path: Path, video: Video) -> None:
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if video.moov_first else {})
    with av.open(str(path), "w", format="mp4", options=options) as container:
        # One thread: with more, x264's output depends on how many processors there are.
        picture = container.add_stream(
            "libx264", video.frame_rate, options={"preset": "veryfast", "crf": "28"}
        )
        picture.width, picture.height, picture.pix_fmt = video.width, video.height, "yuv420p"
        picture.codec_context.thread_count = 1
        sound = container.add_stream("aac", RATE, layout="mono")
        count = video.seconds * video.frame_rate
        for index in range(count):
            frame = av.VideoFrame.from_image(scene(video.width, video.height, video.seed, index / count))
            frame.pts, frame.time_base = index, Fraction(1, video.frame_rate)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for tone in tones(Audio(video.seconds, TUNE, ""), 1024):
            container.mux(sound.encode(tone))
        container.mux(sound.encode(None))


def write_audio(path: Path, audio: Audio) -> None:
    codec = {".flac": "flac", ".mp3": "libmp3lame", ".wav": "pcm_s16le"}[path.suffix]
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        container.metadata["title"] = audio.title
        stream = container.add_stream(codec, RATE, layout="stereo" if audio.channels == 2 else "mono")
        resampler = av.AudioResampler(stream.format.name, stream.layout.name, RATE)
        for tone in tones(audio, 1152):
            for frame in resampler.resample(tone):
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def tones(audio: Audio, size: int) -> Iterator[av.AudioFrame]:
    """The notes one after the other, each dying away, as frames of `size` samples."""
    total = audio.seconds * RATE
    each = total // len(audio.notes)
    samples = array.array("h")
    for note in audio.notes:
        # A dying note is a number that turns and shrinks; faster than a sine and a power for each sample.
        step, now = cmath.exp(complex(-3 / each, 2 * math.pi * note / RATE)), complex(12000)
        for _ in range(each):
            samples.extend([int(now.imag)] * audio.channels)
            now *= step
    for start in range(0, total, size):
        count = min(size, total - start)
        frame = av.AudioFrame("s16", "stereo" if audio.channels == 2 else "mono", count)
        part = samples[start * audio.channels : (start + count) * audio.channels].tobytes()
        frame.planes[0].update(part + bytes(frame.planes[0].buffer_size - len(part)))
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


WRITERS: dict[type, Any] = {Photo: write_photo, Video: write_video, Audio: write_audio}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
