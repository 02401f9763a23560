"""The cache as an fsspec filesystem: fsspec's own tests, its chained URLs, and the programs that read through it."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import fsspec
import fsspec.tests.abstract as abstract
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.filesystem import MediaFileSystem
from tests.media.headers.pictures import picture
from tests.servers.http import HttpServer
from tests.servers.s3 import Server
from tests.storage.objects import noise

DATA = noise("file", 40 * BLOCK + 321)


class Written(MediaFileSystem):
    """Ours over a filesystem in memory, where what the tests write goes directly."""

    mkdir = staticmethod(MemoryFileSystem().mkdir)
    makedirs = staticmethod(MemoryFileSystem().makedirs)
    touch = staticmethod(MemoryFileSystem().touch)
    pipe = staticmethod(MemoryFileSystem().pipe)
    rm = staticmethod(MemoryFileSystem().rm)


class MemoryFixtures(abstract.AbstractFixtures):
    """A filesystem in memory, read through ours."""

    @pytest.fixture
    def fs(self) -> MediaFileSystem:
        return Written(target_protocol="memory")

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self) -> Iterator[str]:
        memory = MemoryFileSystem()
        memory.makedirs("/mediasql-abstract", exist_ok=True)
        yield "/mediasql-abstract"
        memory.rm("/mediasql-abstract", recursive=True)


class TestGet(abstract.AbstractGetTests, MemoryFixtures):
    """fsspec's tests of `get`, in all its forms."""


@pytest.fixture
def photos(s3_server: Server) -> Server:
    for name, data in {
        "2024/a.jpg": picture("JPEG", size=(30, 20)),
        "2024/b c+d.jpg": b"b",
        "2024/raw/e.bin": DATA,
        "numbers.csv": b"name,width\na,1\nb,2\n",
    }.items():
        s3_server.put("fs-photos", name, data)
    s3_server.reset()
    return s3_server


@pytest.fixture
def fs(photos: Server) -> MediaFileSystem:
    return mediasql.filesystem(storage_options=photos.storage_options)


def gets(server: Server) -> int:
    return sum(request.method == "GET" and request.range is not None for request in server.requests())


def test_a_chained_url_is_read_once(photos: Server) -> None:
    for _ in range(3):
        with fsspec.open("mediasql::s3://fs-photos/2024/raw/e.bin", s3=photos.storage_options["s3"]) as file:
            assert file.read() == DATA
    asked = gets(photos)
    with fsspec.open("mediasql::s3://fs-photos/2024/raw/e.bin", s3=photos.storage_options["s3"]) as file:
        file.seek(-100, os.SEEK_END)
        assert file.read() == DATA[-100:]
    assert gets(photos) == asked
    assert sum(request.bytes for request in photos.requests()) < len(DATA) * 1.05


def test_a_chained_url_over_the_web(http_server: HttpServer) -> None:
    http_server.put("", "fsspec.csv", b"a,b\n1,2\n")
    with fsspec.open(f"mediasql::{http_server.at('fsspec.csv')}", "rt") as file:
        assert file.read() == "a,b\n1,2\n"


def test_whole_urls(fs: MediaFileSystem) -> None:
    assert fs.cat_file("s3://fs-photos/2024/b c+d.jpg") == b"b"
    names = ["s3://fs-photos/2024/a.jpg", "s3://fs-photos/2024/b c+d.jpg"]
    assert fs.ls("s3://fs-photos/2024", detail=False) == [*names, "s3://fs-photos/2024/raw"]
    assert fs.find("s3://fs-photos/2024/") == [*names, "s3://fs-photos/2024/raw/e.bin"]
    assert fs.glob("s3://fs-photos/**/*.jpg") == names
    assert fs.isfile(names[1])
    assert fs.isdir("s3://fs-photos/2024/raw")
    assert not fs.exists("s3://fs-photos/2024/nothing")
    assert fs.size("s3://fs-photos/2024/raw/e.bin") == len(DATA)
    assert fs.modified(names[0]).year >= 2020
    assert set(fs.cat("s3://fs-photos/2024/*.jpg")) == set(names)


def test_errors_are_those_of_files(fs: MediaFileSystem, photos: Server) -> None:
    with pytest.raises(FileNotFoundError, match="404"):
        fs.open("s3://fs-photos/none")
    with pytest.raises(FileNotFoundError):
        fs.info("s3://fs-photos/none")
    with pytest.raises(OSError, match="only reads"):
        fs.open("s3://fs-photos/new", "wb")
    for change in (fs.mkdir, fs.rm, fs.touch):
        with pytest.raises(OSError, match=r"only reads|none"):
            change("s3://fs-photos/none")
    with pytest.raises(mediasql.ConfigError, match="no option"):
        mediasql.filesystem(colour="blue")


def test_ranges(fs: MediaFileSystem) -> None:
    url = "s3://fs-photos/2024/raw/e.bin"
    assert fs.cat_file(url, 10, 20) == DATA[10:20]
    assert fs.cat_file(url, -10) == DATA[-10:]
    assert fs.cat_file(url, None, -5) == DATA[:-5]
    assert fs.cat_file(url, 5) == DATA[5:]
    found = fs.cat_ranges([url, "s3://fs-photos/none", url], [0, 0, BLOCK - 5], [5, 1, BLOCK + 5])
    assert (found[0], found[2]) == (DATA[:5], DATA[BLOCK - 5 : BLOCK + 5])
    assert isinstance(found[1], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(["s3://fs-photos/none"], 0, 1, on_error="raise")


@settings(max_examples=50)
@given(steps=st.lists(st.tuples(st.integers(0, len(DATA) + 10), st.integers(-1, 5 * BLOCK)), max_size=15))
def test_a_file_reads_as_one_in_memory(steps: list[tuple[int, int]]) -> None:
    MemoryFileSystem().pipe("/mediasql-file", DATA)
    fs = fsspec.filesystem("mediasql", target_protocol="memory")
    with fs.open("/mediasql-file") as file:
        oracle = io.BytesIO(DATA)
        for place, length in steps:
            assert file.seek(place) == oracle.seek(place)
            assert file.read(length) == oracle.read(length)
            assert file.readline() == oracle.readline()


def test_a_header_costs_little(fs: MediaFileSystem, photos: Server) -> None:
    with fs.open("s3://fs-photos/2024/raw/e.bin") as file:
        assert file.read(10) == DATA[:10]
    assert sum(request.bytes for request in photos.requests()) <= BLOCK


def test_an_object_that_changes_while_it_is_open(fs: MediaFileSystem, photos: Server) -> None:
    photos.put("fs-photos", "changing", DATA)
    with fs.open("s3://fs-photos/changing") as file:
        assert file.read(10) == DATA[:10]
        photos.put("fs-photos", "changing", DATA[::-1])
        file.seek(20 * BLOCK)
        with pytest.raises(OSError, match="changed"):
            file.read(10)


def test_a_change_is_seen_when_it_is_opened_again(photos: Server) -> None:
    fs = mediasql.filesystem(storage_options=photos.storage_options, max_age=0)
    photos.put("fs-photos", "changing", b"old")
    key = fs.ukey("s3://fs-photos/changing")
    assert fs.ukey("s3://fs-photos/changing") == key
    assert fs.cat_file("s3://fs-photos/changing") == b"old"
    photos.put("fs-photos", "changing", b"new")
    assert fs.cat_file("s3://fs-photos/changing") == b"new"
    assert fs.ukey("s3://fs-photos/changing") != key


def test_pickled(fs: MediaFileSystem) -> None:
    again = pickle.loads(pickle.dumps(fs))
    assert again.cat_file("s3://fs-photos/2024/b c+d.jpg") == b"b"
    with fs.open("s3://fs-photos/2024/raw/e.bin") as file:
        file.seek(7)
        copy = pickle.loads(pickle.dumps(file))
        copy.seek(7)
        assert copy.read(9) == DATA[7:16]


def test_many_threads(fs: MediaFileSystem, photos: Server) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        with fs.open("s3://fs-photos/2024/raw/e.bin") as file:
            for step in range(20):
                place = int(md5(b"%d %d" % (seed, step)).hexdigest(), 16) % len(DATA)
                file.seek(place)
                if file.read(1000) != DATA[place : place + 1000]:
                    wrong.append(place)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sum(request.bytes for request in photos.requests() if request.range) < len(DATA) * 1.05


def test_pillow_and_pyav(fs: MediaFileSystem, photos: Server) -> None:
    import av
    from PIL import Image

    with fs.open("s3://fs-photos/2024/a.jpg") as file:
        assert Image.open(file).size == (30, 20)
    with fs.open("s3://fs-photos/2024/a.jpg") as file, av.open(file) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (30, 20)


def test_pandas(photos: Server) -> None:
    import pandas

    frame = pandas.read_csv(
        "mediasql::s3://fs-photos/numbers.csv", storage_options={"s3": photos.storage_options["s3"]}
    )
    assert frame.width.sum() == 3


def test_fsspec_finds_it_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("here")
    script = f"import fsspec; print(fsspec.open('mediasql::file://{tmp_path}/a.txt', 'rt').open().read())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "here\n", done.stderr
