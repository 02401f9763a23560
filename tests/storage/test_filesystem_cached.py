"""The cache as an fsspec filesystem, over a store of which bytes are kept: what fsspec asks of its own caches.

That is fsspec's abstract tests of `get`, and what its tests of caching filesystems and of read-ahead caches are about.
"""

from __future__ import annotations

import io
import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import fsspec.tests.abstract as abstract
import pytest
from fsspec.caching import caches
from fsspec.spec import AbstractBufferedFile
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.storage.cache.catalogue import BLOCK
from mediasql.storage.files import Growing
from mediasql.storage.filesystem import MediaFileSystem
from tests.servers.http import HttpServer
from tests.servers.s3 import Server
from tests.storage.objects import noise

BUCKET = "fs-cached"
DATA = noise("cached", 5 * BLOCK + 77)


@pytest.fixture(autouse=True)
def new_filesystems() -> None:
    """Each test has a cache folder of its own, which fsspec's instances do not know."""
    MediaFileSystem.clear_instance_cache()
    Written.clear_instance_cache()


class Written(MediaFileSystem):
    """Ours over S3, where what the tests write goes directly."""

    def __init__(self, **options: Any) -> None:
        super().__init__(target_protocol="s3", target_options=options)
        self.direct = fsspec.filesystem("s3", use_listings_cache=False, **options)
        self.got: set[str] = set()
        for name in ("makedirs", "touch", "pipe", "rm"):
            setattr(self, name, getattr(self.direct, name))

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """There are no folders in S3."""

    def get_file(self, rpath: str, lpath: Any, **options: Any) -> None:
        super().get_file(rpath, lpath, **options)
        if os.path.isfile(lpath):
            self.got.add(rpath)

    def kept(self, path: str) -> dict[str, int]:
        """Which objects below a path are in the cache, and how many bytes of each."""
        with mediasql.connect() as con:
            held = con.execute("SELECT url, bytes FROM media_cache WHERE bytes > 0 OR size = 0").fetchall()
        return {url.removeprefix("s3://"): count for url, count in held if f"{path}/" in url}


class S3Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, s3_server: Server) -> Written:
        s3_server.put(BUCKET, "there", b"")
        return Written(**s3_server.storage_options["s3"])

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def fs_path(self, fs: Written) -> Iterator[str]:
        path = f"{BUCKET}/{uuid.uuid4().hex}"
        yield path
        assert set(fs.kept(path)) == fs.got  # all went through the cache


class TestGet(abstract.AbstractGetTests, S3Fixtures):
    """fsspec's tests of `get`, in all its forms."""


@pytest.fixture
def few() -> str:
    """Where the objects of one test are: what another test read of its own is in the cache as well."""
    return f"{BUCKET}/{uuid.uuid4().hex}"


@pytest.fixture
def server(s3_server: Server, few: str) -> Server:
    for name, data in {"a": DATA, "b": b"b", "sub/c": b"c" * BLOCK, "none": b""}.items():
        put(s3_server, f"{few}/{name}", data)
    s3_server.reset()
    return s3_server


def put(server: Server, path: str, data: bytes) -> None:
    bucket, _, key = path.partition("/")
    server.put(bucket, key, data)


@pytest.fixture
def fs(server: Server) -> Written:
    return Written(**server.storage_options["s3"])


def asked(server: Server) -> int:
    """GETs of objects since this was asked last."""
    count = sum(request.method == "GET" and request.range is not None for request in server.requests())
    server.reset()
    return count


def test_only_the_blocks_that_were_read_are_kept(fs: Written, few: str) -> None:
    with fs.open(f"{few}/a", block_size=5) as file:
        assert file.read(5) == DATA[:5]
    held = fs.kept(few)[f"{few}/a"]
    assert BLOCK <= held < len(DATA)
    with fs.open(f"{few}/a", block_size=5) as file:
        assert file.read(5) == DATA[:5]
        assert fs.kept(few)[f"{few}/a"] == held
        file.seek(4 * BLOCK)
        assert file.read(5) == DATA[4 * BLOCK : 4 * BLOCK + 5]
    assert fs.kept(few)[f"{few}/a"] > held


@pytest.mark.parametrize("way", ["cat", "cat_file", "cat_ranges", "open", "get", "get_file", "head", "read_block"])
def test_each_way_to_read_fills_the_cache_and_uses_it(
    way: str, fs: Written, server: Server, tmp_path: Path, few: str
) -> None:
    path = f"{few}/a"

    def read() -> bytes:
        match way:
            case "cat" | "cat_file":
                found = getattr(fs, way)(path)
            case "cat_ranges":
                found = b"".join(
                    fs.cat_ranges([path] * 6, list(range(0, len(DATA), BLOCK)), [*range(BLOCK, 7 * BLOCK, BLOCK)])
                )
            case "open":
                with fs.open(path) as file:
                    found = file.read()
            case "get" | "get_file":
                getattr(fs, way)(path, os.fspath(tmp_path / "out"))
                found = (tmp_path / "out").read_bytes()
            case "head":
                found = fs.head(path, size=len(DATA))
            case _:
                found = fs.read_block(path, 0, len(DATA))
        assert isinstance(found, bytes)
        return found

    assert read() == DATA
    assert asked(server) > 0
    assert fs.kept(few)[path] == len(DATA)
    assert read() == DATA
    assert asked(server) == 0
    # And so does another filesystem, such as the next process makes.
    again = mediasql.filesystem(storage_options=server.storage_options)
    assert again.cat_file(f"s3://{path}") == DATA
    assert asked(server) == 0


def test_many_at_once_ask_for_what_is_missing(fs: Written, server: Server, few: str) -> None:
    names = [f"{few}/{name}" for name in ("a", "b", "sub/c", "none")]
    assert fs.cat(names[1]) == b"b"
    asked(server)
    assert fs.cat(names) == {names[0]: DATA, names[1]: b"b", names[2]: b"c" * BLOCK, names[3]: b""}
    assert asked(server) == 3
    assert fs.cat(few, recursive=True) == dict(zip(names, [DATA, b"b", b"c" * BLOCK, b""], strict=True))
    assert fs.cat([*names, f"{few}/gone"], on_error="omit").keys() == set(names)
    assert isinstance(fs.cat([*names, f"{few}/gone"], on_error="return")[f"{few}/gone"], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat([*names, f"{few}/gone"])


def test_a_mapping_reads_through_the_cache(fs: Written, server: Server, few: str) -> None:
    mapping = fs.get_mapper(few)
    assert set(mapping) == {"a", "b", "sub/c", "none"}
    assert mapping["sub/c"] == b"c" * BLOCK
    assert mapping.getitems(["b", "gone"], on_error="omit") == {"b": b"b"}
    asked(server)
    assert mapping["sub/c"] == b"c" * BLOCK
    assert asked(server) == 0
    with pytest.raises(KeyError):
        mapping["gone"]


def test_what_is_kept_is_read_when_the_object_is_gone(fs: Written, server: Server, few: str) -> None:
    path = f"{few}/soon-gone"
    put(server, path, DATA)
    assert fs.cat_file(path) == DATA
    fs.direct.rm(path)
    assert fs.cat_file(path) == DATA
    strict = mediasql.filesystem(storage_options=server.storage_options, max_age=0)
    with pytest.raises(FileNotFoundError):
        strict.cat_file(f"s3://{path}")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)


def test_an_expired_object_is_asked_about_and_not_fetched(server: Server, few: str) -> None:
    strict = mediasql.filesystem(storage_options=server.storage_options, max_age=0)
    url = f"s3://{few}/a"
    assert strict.cat_file(url) == DATA
    sent = sum(request.bytes for request in server.requests())
    assert sent >= len(DATA)
    server.reset()
    assert strict.cat_file(url) == DATA
    assert [request.status for request in server.requests()] == [304]


def test_compressed_and_text(fs: Written, server: Server, few: str) -> None:
    import gzip

    put(server, f"{few}/lines.gz", gzip.compress(b"one\ntwo\n" * 1000))
    for _ in range(2):
        with fsspec.open(
            f"mediasql::s3://{few}/lines.gz", "rt", compression="gzip", s3=server.storage_options["s3"]
        ) as file:
            assert file.read() == "one\ntwo\n" * 1000
    with fs.open(f"{few}/lines.gz", "rt", compression="infer") as file:
        assert next(file) == "one\n"


def test_two_configurations_are_two_filesystems_and_one_is_one(server: Server, tmp_path: Path, few: str) -> None:
    options = server.storage_options
    first, second = (mediasql.filesystem(storage_options=options, cache_dir=tmp_path / name) for name in "ab")
    assert first is mediasql.filesystem(storage_options=options, cache_dir=tmp_path / "a")
    assert first != second
    assert first.fsid != second.fsid
    assert first.cat_file(f"s3://{few}/b") == second.cat_file(f"s3://{few}/b") == b"b"
    assert asked(server) == 2
    assert pickle.loads(pickle.dumps(first)).cat_file(f"s3://{few}/b") == b"b"
    assert asked(server) == 0


def test_the_web(http_server: HttpServer) -> None:
    http_server.put("", "fs.bin", DATA)
    fs = mediasql.filesystem()
    url = http_server.at("fs.bin")
    with fs.open(url) as file:
        assert file.read(3) == DATA[:3]
        assert file.seek(-3, os.SEEK_END) == len(DATA) - 3
        assert file.read() == DATA[-3:]
    http_server.reset()
    assert fs.cat_ranges([url, url], [0, len(DATA) - 3], [3, len(DATA)]) == [DATA[:3], DATA[-3:]]
    assert http_server.requests() == []
    assert fs.cat_file(url) == DATA


# The read-ahead that files have, as fsspec's tests ask of each


class Data(AbstractBufferedFile):  # type: ignore[misc]
    """A file that reads ahead as ours do."""

    def __init__(self, data: bytes, blocksize: int) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []
        super().__init__(None, "data", block_size=blocksize, cache_type="mediasql", size=len(data))

    def _fetch_range(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        return self.data[start:end]

    def at(self, start: int, stop: int) -> bytes:
        self.seek(start)
        return bytes(self.read(max(0, stop - start)))


@settings(max_examples=150)
@given(
    size=st.integers(0, 300),
    blocksize=st.integers(1, 400),
    spans=st.lists(st.tuples(st.integers(0, 320), st.integers(0, 320)), max_size=12),
)
def test_growing_reads_what_is_there(size: int, blocksize: int, spans: list[tuple[int, int]]) -> None:
    data = noise("growing", 300)[:size]
    file = Data(data, blocksize)
    assert isinstance(file.cache, Growing)
    for start, stop in spans:
        assert file.at(start, stop) == data[start:stop]
    file.seek(0)
    assert file.read() == data
    assert all(0 <= start < stop <= size for start, stop in file.asked)


def test_growing_asks_for_nothing_twice_and_for_little_first() -> None:
    size = 100 * BLOCK
    file = Data(bytes(size), BLOCK)
    for at in range(0, size, 1000):
        assert len(file.at(at, at + 1000)) == min(1000, size - at)
    asked = file.asked
    assert asked[0] == (0, BLOCK)
    assert [start for start, _ in asked[1:]] == [stop for _, stop in asked[:-1]]
    assert asked[-1][1] == size
    assert len(asked) < 15
    assert file.cache.total_requested_bytes == size
    file.at(0, 10)
    assert asked[-1] == (0, BLOCK)


@pytest.mark.parametrize("cache_type", sorted(name for name in caches if name and name not in ("parts", "all", "mmap")))
def test_files_with_each_of_fsspecs_read_aheads(cache_type: str, fs: Written, few: str) -> None:
    with fs.open(f"{few}/a", cache_type=cache_type, block_size=1000) as file:
        oracle = io.BytesIO(DATA)
        for place, length in ((0, 10), (5, BLOCK), (len(DATA) - 5, 10), (BLOCK - 3, 6), (3, 0), (0, -1)):
            assert file.seek(place) == oracle.seek(place)
            assert file.read(length) == oracle.read(length)
