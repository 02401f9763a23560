from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import av
import fsspec
import pytest
from PIL import ExifTags, Image

from tests import sample_media, store
from tests.servers.process import ROOT
from tests.servers.server import fetch
from tests.store import Store

QUERY = """
import json, sys
import mediasql
connection = mediasql.connect()
rows = [list(connection.execute(sql)) for sql in sys.argv[1:]]
connection.close()
print(json.dumps(rows))
"""
ACCOUNT = "devstoreaccount1"


def image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def query(running: Store, *statements: str, without: tuple[str, ...] = ()) -> list[Any]:
    """The rows of each statement, asked in a process of its own, as a user's is."""
    command = [sys.executable, "-c", QUERY, *statements]
    environment = {**os.environ, **running.environment}
    for name in without:
        del environment[name]
    return json.loads(subprocess.run(command, env=environment, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def sizes(*urls: str) -> str:
    return " UNION ALL ".join(f"SELECT width('{url}'), height('{url}')" for url in urls)


def test_the_web_has_the_recipe_s_photographs(sample_store: Store) -> None:
    known = {"000000000036.jpg": (481, 640), "000000000090.jpg": (640, 429), "000000000106.jpg": (640, 426)}
    for name, size in known.items():
        assert image(fetch(sample_store.http.at(f"images/{name}")).body).size == size
    assert fetch(sample_store.http.at("images/missing.jpg")).status == 404
    assert fetch(sample_store.http.at("images/notes.jpg")).body.startswith(b"This is a note")


def test_plain_urls_need_no_options(sample_environment: Store) -> None:
    for url, suffixes in {
        "s3://media-samples/photos": {".jpg", ".png", ".webp"},
        "s3://media-samples/videos": {".mp4", ".webm"},
        "gs://media-samples/audio": {".flac", ".mp3", ".wav"},
        "az://media-samples/photos": {".jpg", ".png"},
    }.items():
        protocol = url.partition(":")[0]
        files = fsspec.filesystem(protocol, skip_instance_cache=True)
        found = files.find(url)
        assert {os.path.splitext(name)[1] for name in found} == suffixes
        assert len(files.cat_file(found[0], start=0, end=10)) == 10


def test_the_web_has_a_name(sample_store: Store) -> None:
    sample_store.http.reset()
    urls = [f"{scheme}://www.example.com/images/000000000036.jpg" for scheme in ("http", "https")]
    assert query(sample_store, sizes(*urls)) == [[[481, 640], [481, 640]]]
    asked = sample_store.http.requests()
    assert {(request.path, request.status) for request in asked} == {("/images/000000000036.jpg", 206)}
    assert all(request.range and request.range.startswith("bytes=0-") for request in asked)


def test_every_spelling_of_an_azure_url(sample_store: Store) -> None:
    assert sample_store.azure
    urls = [
        "az://media-samples/photos/harbour-night.jpg",
        f"abfss://media-samples@{ACCOUNT}.dfs.core.windows.net/photos/harbour-night.jpg",
        f"wasbs://media-samples@{ACCOUNT}.blob.core.windows.net/photos/harbour-night.jpg",
    ]
    listing = "SELECT url, mime_type FROM media('az://media-samples/videos/*')"
    answers = query(sample_store, sizes(*urls), listing, "SELECT duration('az://media-samples/videos/ferry.mp4')")
    assert answers == [[[1024, 640]] * 3, [["az://media-samples/videos/ferry.mp4", "video/mp4"]], [[3.0]]]


def test_a_picture_in_an_archive(sample_store: Store) -> None:
    assert query(sample_store, sizes("zip://postcard.jpg::s3://media-samples/archive.zip")) == [[[900, 640]]]


def test_an_inbox_with_two_broken_files(sample_store: Store) -> None:
    (rows,) = query(
        sample_store, "SELECT name, size, error IS NULL FROM media('s3://media-samples/inbox/**') ORDER BY name"
    )
    assert [name for name, _, good in rows if not good] == ["cut.png", "damaged.jpg"]
    assert len({os.path.splitext(name)[1] for name, _, good in rows if good}) == 7
    for name in ("cut.png", "damaged.jpg"):
        with pytest.raises(OSError, match=r"Truncated|cannot identify"):  # by Pillow
            image((sample_store.folder / "s3/media-samples/inbox" / name).read_bytes()).load()


def test_buckets_that_refuse_and_that_ask_nothing(sample_store: Store) -> None:
    ours, theirs = "s3://media-private/secret.jpg", "s3://public-photos/fjord.jpg"
    answers = query(sample_store, sizes(ours, theirs), f"SELECT media_error('{ours}')")
    assert answers == [[[None, None], [600, 900]], [["403 Forbidden (AccessDenied)"]]]
    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    assert query(sample_store, sizes(ours, theirs), without=keys) == [[[None, None], [600, 900]]]
    assert fetch(f"{sample_store.s3.url}/media-private/secret.jpg").status == 403
    assert image(fetch(f"{sample_store.s3.url}/public-photos/fjord.jpg").body).size == (600, 900)
    assert {request.status for request in sample_store.s3.requests() if "media-private" in request.path} == {403}


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
                stream = container.streams.video[0]
                assert (stream.width, stream.height) == (sample.width, sample.height)
                assert (stream.average_rate, len(container.streams.audio)) == (sample.frame_rate, 1)
                assert sum(1 for _ in container.demux(stream)) - 1 == sample.seconds * sample.frame_rate
                data = path.read_bytes()
                if path.suffix == ".mp4":
                    assert (data.find(b"moov") < data.find(b"mdat")) == sample.moov_first


def test_media_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()

    def write(folder: Path) -> Path:
        made["folder"] += 1
        folder.mkdir()
        (folder / "sample").write_text("sample")
        return folder

    monkeypatch.setattr(sample_media, "write", write)
    first = store.samples(tmp_path / "cache")
    assert (first / "sample").read_text() == "sample"
    assert store.samples(tmp_path / "cache") == first
    assert list((tmp_path / "cache").iterdir()) == [first]
    monkeypatch.setattr(store, "version", lambda name: "another")
    assert store.samples(tmp_path / "cache") != first
    assert made["folder"] == 2


def test_two_processes_may_make_media_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> Path:
        folder.mkdir()
        (folder / "sample").write_text("sample")
        # Meanwhile somebody else has finished.
        monkeypatch.setattr(sample_media, "write", write_at_once)
        store.samples(tmp_path)
        return folder

    def write_at_once(folder: Path) -> Path:
        folder.mkdir()
        (folder / "sample").write_text("sample")
        return folder

    monkeypatch.setattr(sample_media, "write", write)
    folder = store.samples(tmp_path)
    assert list(tmp_path.iterdir()) == [folder]
    assert (folder / "sample").read_text() == "sample"


def test_media_are_the_same_each_time(tmp_path: Path, sample_store: Store) -> None:
    for name in ("s3/media-samples/videos/lantern.webm", "gcs/media-samples/audio/signal.wav", "web/images/logo.png"):
        sample = sample_media.SAMPLES[name]
        again = tmp_path / Path(name).name
        sample_media.WRITERS[type(sample)](again, sample)
        assert again.read_bytes() == (sample_store.folder / name).read_bytes()


def test_a_store_without_azurite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDIASQL_TEST_AZURITE", str(tmp_path / "nowhere"))
    with store.start() as running:
        assert running.azure is None
        assert not any(name.startswith("AZURE_") for name in running.environment)
    command = [sys.executable, "-m", "tests.store", "--azure", "--", sys.executable, "-c", "print('ran')"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "`make servers`" in done.stderr


def test_a_command_runs_in_the_environment_and_in_the_folder_of_the_caller(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("MEDIASQL_TIMEOUT", "7")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    script = "import json, os, sys; print(json.dumps([os.getcwd(), sys.argv[1:], dict(os.environ)])); sys.exit(42)"
    command = [sys.executable, "-m", "tests.store", "--", sys.executable, "-c", script, "--azure", "--"]
    done = subprocess.run(command, cwd=tmp_path, check=False, stdout=subprocess.PIPE)
    folder, arguments, environment = json.loads(done.stdout)
    assert (done.returncode, folder, arguments) == (42, str(tmp_path), ["--azure", "--"])
    assert environment["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1:")
    assert environment["MEDIASQL_TIMEOUT"] == "7"
    assert environment.keys().isdisjoint({"AWS_PROFILE", "ALL_PROXY"})
