"""The files that are measured, made here and kept in `.cache/bench`; and what Pillow and PyAV say about them.

A few hundred different files stand under thousands of names, as hard links: each name is a URL of its own and is sent
in full, and the shares of the headers are those of `pictures`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av
from PIL import Image

from benchmarks import movies, pictures

CACHE = Path(__file__).resolve().parents[1] / ".cache/bench"
TINY = "tiny.jpg"
FUNCTIONS = {
    "images": ("width", "height"),
    "videos": ("width", "height", "duration", "frame_rate"),
    "audio": ("duration", "sample_rate", "channels"),
}
Truth = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How many names of each kind there are, and how many files behind them; sizes in pixels, bytes and seconds."""

    name: str = "full"
    images: int = 5000
    videos: int = 300
    audio: int = 100
    pictures: int = 200
    pixels: int = 1_500_000
    clips: int = 10
    clip_size: int = 6_000_000
    film: int = movies.LONG
    sounds: int = 9


SMALL = Recipe(
    "small", images=40, videos=8, audio=6, pictures=40, pixels=20_000, clips=2, clip_size=200_000, film=20, sounds=3
)


@dataclass(frozen=True)
class Corpus:
    folder: Path

    @cached_property
    def truth(self) -> dict[str, list[tuple[str, Truth]]]:
        """By kind: each name with the answers of Pillow or PyAV, by the names of our functions."""
        made = json.loads((self.folder / "truth.json").read_text())
        return {
            kind: [(name, made["files"][original]) for name, original in names] for kind, names in made["names"].items()
        }


def corpus(recipe: Recipe) -> Corpus:
    """The files of `recipe`, made when they are not there; those of earlier versions of it are removed then."""
    sources = b"".join(Path(module.__file__ or "").read_bytes() for module in (pictures, movies))
    version = hashlib.sha256(sources + Path(__file__).read_bytes() + repr(asdict(recipe)).encode()).hexdigest()[:12]
    folder = CACHE / f"{recipe.name}-{version}"
    if not folder.exists():
        partial = CACHE / f"making-{recipe.name}-{os.getpid()}"
        make(partial, recipe)
        for outdated in CACHE.glob(f"{recipe.name}-*"):
            shutil.rmtree(outdated)
        try:
            partial.rename(folder)
        except OSError:  # another run was first
            shutil.rmtree(partial)
    return Corpus(folder)


def make(folder: Path, recipe: Recipe) -> None:
    (folder / "originals").mkdir(parents=True)
    Image.new("RGB", (16, 12), "teal").save(folder / TINY, quality=50, comment=bytes(300))
    names: dict[str, list[tuple[str, str]]] = {}
    truth: dict[str, Truth] = {}
    for kind, files, count in (
        ("images", jpegs(recipe), recipe.images),
        ("videos", films(recipe), recipe.videos),
        ("audio", movies.sounds(recipe.sounds), recipe.audio),
    ):
        originals = []
        for index, (extension, data) in enumerate(files):
            original = f"originals/{kind}{index:03d}.{extension}"
            (folder / original).write_bytes(data)
            truth[original] = {name: value for name, value in ask(data).items() if name in FUNCTIONS[kind]}
            originals.append(original)
        (folder / kind).mkdir()
        names[kind] = []
        for index in range(count):
            original = originals[index % len(originals)]
            name = f"{kind}/{index:05d}{Path(original).suffix}"
            os.link(folder / original, folder / name)
            names[kind].append((name, original))
    (folder / "truth.json").write_text(json.dumps({"files": truth, "names": names}))


def jpegs(recipe: Recipe) -> Iterator[tuple[str, bytes]]:
    for picture in pictures.pictures(recipe.pictures, recipe.pixels):
        if (ask(picture.data)["width"], ask(picture.data)["height"]) != (picture.width, picture.height):
            raise AssertionError("Pillow reads other sizes than were written")
        yield "jpg", picture.data


def films(recipe: Recipe) -> Iterator[tuple[str, bytes]]:
    return (("mp4", data) for data in movies.movies(recipe.clips, recipe.clip_size, recipe.film))


def ask(data: bytes) -> Truth:
    """What Pillow, or else PyAV, says: the truth, and what the measured programs without mediasql do."""
    if data.startswith(b"\xff\xd8"):
        with Image.open(io.BytesIO(data)) as image:
            return {"width": image.width, "height": image.height}
    with av.open(io.BytesIO(data), "r") as container:
        answers: Truth = {"duration": None if container.duration is None else container.duration / av.time_base}
        for picture in container.streams.video[:1]:
            rate = picture.average_rate
            answers |= {"width": picture.width, "height": picture.height, "frame_rate": float(rate) if rate else None}
        for sound in container.streams.audio[:1]:
            answers |= {"sample_rate": sound.rate, "channels": sound.layout.nb_channels}
        return answers
