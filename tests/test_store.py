from __future__ import annotations

import io
import os
import subprocess
import sys

import av
import fsspec
from PIL import ExifTags, Image

from tests import sample_media
from tests.servers.process import ROOT
from tests.servers.server import fetch
from tests.store import Store


def image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def test_the_web_has_the_recipe_s_photographs(sample_store: Store) -> None:
    sizes = {"000000000036.jpg": (481, 640), "000000000090.jpg": (640, 429), "000000000106.jpg": (640, 426)}
    for name, size in sizes.items():
        assert image(fetch(sample_store.http.at(f"images/{name}")).body).size == size
    assert fetch(sample_store.http.at("images/missing.jpg")).status == 404
    assert fetch(sample_store.http.at("images/notes.jpg")).body.startswith(b"This is a note")


def test_plain_urls_need_no_options(sample_environment: Store) -> None:
    for url, suffixes in {
        "s3://media-samples/photos": {".jpg", ".png", ".webp"},
        "s3://media-samples/videos": {".mp4"},
        "gs://media-samples/audio": {".flac", ".mp3", ".wav"},
    }.items():
        protocol = url.partition(":")[0]
        files = fsspec.filesystem(protocol, skip_instance_cache=True)
        found = files.find(url)
        assert {os.path.splitext(name)[1] for name in found} == suffixes
        assert len(files.cat_file(found[0], start=0, end=10)) == 10


def test_media_are_what_their_descriptions_say(sample_store: Store) -> None:
    for name, sample in sample_media.SAMPLES.items():
        path = sample_store.folder / name
        if isinstance(sample, sample_media.Photo):
            with Image.open(path) as photo:
                assert photo.size == (sample.width, sample.height)
                assert photo.getexif().get(ExifTags.Base.Orientation, 1) == sample.orientation
            continue
        with av.open(str(path)) as container:
            assert abs(container.duration / 1e6 - sample.seconds) < 0.1
            if isinstance(sample, sample_media.Video):
                assert (container.streams.video[0].frames, len(container.streams.audio)) == (
                    sample.seconds * sample.frame_rate,
                    1,
                )
                data = path.read_bytes()
                assert (data.find(b"moov") < data.find(b"mdat")) == sample.moov_first


def test_a_command_runs_in_the_environment() -> None:
    script = "import os, sys; sys.exit(42 if os.environ['AWS_ENDPOINT_URL'].startswith('http://127') else 1)"
    command = [sys.executable, "-m", "tests.store", "--", sys.executable, "-c", script]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 42
