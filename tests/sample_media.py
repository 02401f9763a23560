"""Media made from nothing, the same bytes everywhere (for one version of Pillow and PyAV).

`python -m tests.sample_media FOLDER` writes them. `web/` is what the HTTP server has; `s3/`, `gcs/` and `azure/` hold
a folder per bucket or container; `local/` is for files on disk, and `archive/` is what the zip file holds.
"""

from __future__ import annotations

import array
import cmath
import io
import math
import random
import sys
import zipfile
from collections.abc import Callable, Iterator
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
    "s3/media-samples/photos/alps.jpg": Photo(1600, 1200, 1, "Fujifilm X-T4", "2024:07:14 06:12:09", (45.8326, 6.8652)),
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
    "s3/media-samples/inbox/IMG_0412.jpg": Photo(
        1280, 960, 41, "Google Pixel 8", "2025:06:21 20:14:55", (59.3250, 18.0710)
    ),
    "s3/media-samples/inbox/IMG_0413.jpg": Photo(
        960, 1280, 42, "Google Pixel 8", "2025:06:21 20:15:31", (59.3250, 18.0710)
    ),
    "s3/media-samples/inbox/banner.webp": Photo(800, 200, 43),
    "s3/media-samples/inbox/clip.mp4": Video(320, 240, 44, 2),
    "s3/media-samples/inbox/interview.m4a": Audio(6, TUNE[:2], "Interview"),
    "s3/media-samples/inbox/screenshot.png": Photo(720, 450, 45),
    "s3/media-samples/inbox/sketch.avif": Photo(600, 400, 46),
    "s3/media-samples/inbox/sticker.gif": Photo(128, 128, 47),
    "s3/media-samples/videos/clock.mp4": Video(1280, 720, 11, 2),
    "s3/media-samples/videos/harbour.mp4": Video(640, 360, 12, 5),
    "s3/media-samples/videos/lantern.webm": Video(320, 180, 15, 4, 15),
    "s3/media-samples/videos/stairs.mp4": Video(360, 640, 13, 3, 30),
    "s3/media-samples/videos/tide.mp4": Video(320, 180, 14, 10, 15, moov_first=False),
    "s3/media-private/secret.jpg": Photo(640, 400, 51),
    "s3/public-photos/dunes.jpg": Photo(900, 600, 52),
    "s3/public-photos/fjord.jpg": Photo(600, 900, 53),
    "gcs/media-samples/audio/chord.flac": Audio(3, TUNE[:1], "Chord"),
    "gcs/media-samples/audio/morning.mp3": Audio(8, TUNE, "Morning", 2),
    "gcs/media-samples/audio/scale.flac": Audio(5, TUNE, "Scale", 2),
    "gcs/media-samples/audio/signal.wav": Audio(1, TUNE[2:3], "Signal"),
    "azure/media-samples/photos/harbour-night.jpg": Photo(
        1024, 640, 61, "Sony ILCE-7M4", "2024:12:05 21:40:00", (53.5438, 9.9667)
    ),
    "azure/media-samples/photos/market.png": Photo(500, 375, 62),
    "azure/media-samples/videos/ferry.mp4": Video(320, 180, 63, 3),
    "archive/postcard.jpg": Photo(900, 640, 71),
    "archive/voices/hello.wav": Audio(1, TUNE[1:2], "Hello"),
    "local/bell.wav": Audio(2, TUNE[3:], "Bell"),
    "local/holiday.jpg": Photo(1024, 683, 21, "Nikon Z6", "2022:08:30 12:00:00", (64.1466, -21.9426)),
    "local/short.mp4": Video(320, 240, 22, 2),
}
# Made of the samples in a folder: an archive, and files that are not what their names say.
MADE: dict[str, Callable[[Path], bytes]] = {
    "web/images/broken.jpg": lambda folder: first_half(folder / "web/images/000000000090.jpg"),
    "web/images/notes.jpg": lambda _: b"This is a note, not a photograph.\n",
    "s3/media-samples/archive.zip": lambda folder: zipped(folder / "archive"),
    "s3/media-samples/inbox/cut.png": lambda folder: (folder / "web/images/logo.png").read_bytes()[:20],
    "s3/media-samples/inbox/damaged.jpg": lambda _: b"<html><body>502 Bad Gateway</body></html>\n",
}


def write(folder: Path) -> Path:
    """Write every sample under `folder`."""
    for name, sample in SAMPLES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        WRITERS[type(sample)](path, sample)
    for name, make in MADE.items():
        (folder / name).write_bytes(make(folder))
    return folder


def first_half(path: Path) -> bytes:
    data = path.read_bytes()
    return data[: len(data) // 2]


def zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            # A ZipInfo of its own has a fixed date.
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix()), path.read_bytes())
    return buffer.getvalue()


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
            (at, base + swing * math.sin(phase + waves * 2 * math.pi * at / width)) for at in range(0, width + 8, 8)
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
    codec, settings, sound_codec, rate = VIDEO_CODECS[path.suffix]
    fast_start = video.moov_first and path.suffix == ".mp4"
    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if fast_start else {})
    with av.open(str(path), "w", options=options) as container:
        # One thread: with more, the encoder's output depends on how many processors there are.
        picture = container.add_stream(codec, video.frame_rate, options=settings)
        picture.width, picture.height, picture.pix_fmt = video.width, video.height, "yuv420p"
        picture.codec_context.thread_count = 1
        sound = container.add_stream(sound_codec, rate, layout="mono")
        count = video.seconds * video.frame_rate
        for index in range(count):
            frame = av.VideoFrame.from_image(scene(video.width, video.height, video.seed, index / count))
            frame.pts, frame.time_base = index, Fraction(1, video.frame_rate)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        encode_audio(container, sound, Audio(video.seconds, TUNE, ""))


def write_audio(path: Path, audio: Audio) -> None:
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        container.metadata["title"] = audio.title
        layout = "stereo" if audio.channels == 2 else "mono"
        encode_audio(container, container.add_stream(AUDIO_CODECS[path.suffix], RATE, layout=layout), audio)


def encode_audio(container: Any, stream: Any, audio: Audio) -> None:
    resampler = av.AudioResampler(stream.format.name, stream.layout.name, stream.rate, stream.codec_context.frame_size)
    for tone in (*tones(audio, 1152), None):
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


AUDIO_CODECS = {".flac": "flac", ".m4a": "aac", ".mp3": "libmp3lame", ".wav": "pcm_s16le"}
VIDEO_CODECS = {
    # Its assembler code, on some processors, makes other bytes each time.
    ".mp4": ("libx264", {"preset": "veryfast", "crf": "28", "x264-params": "asm=0"}, "aac", RATE),
    ".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}, "libopus", 48000),
}
WRITERS: dict[type, Any] = {Photo: write_photo, Video: write_video, Audio: write_audio}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
