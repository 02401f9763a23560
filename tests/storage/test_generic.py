"""Other fsspec protocols, and chains of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from mediasql import discovery
from mediasql.config import Config
from mediasql.errors import MediaError, MissingExtra, NotFound, UnavailableError, UnknownScheme
from mediasql.storage import loop
from mediasql.storage.location import Location
from mediasql.storage.store import Store
from tests.servers.s3 import Server as S3Server

FILES = {"a.jpg": b"aaaa", "d/b.jpg": b"bbbb", "d/e/c.png": b"cccc", "d/é f#?.jpg": b"dddd"}


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Config.load(timeout=10))
    yield store
    store.close()


@pytest.fixture
def memory() -> Iterator[str]:
    files = fsspec.filesystem("memory")
    for name, data in FILES.items():
        files.pipe(f"/box/{name}", data)
    yield "memory://box"
    files.rm("/box", recursive=True)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped())
    return path


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name, data in FILES.items():
            file.writestr(name, data)
    return out.getvalue()


def read(store: Store, url: str, start: int = 0, stop: int = 100) -> bytes:
    return loop.run(store.read(Location.parse(url), start, stop)).data


def names(store: Store, pattern: str) -> list[str]:
    return sorted(entry.path[len(root) :] for root, page in store.entries(pattern) for entry in page)


def test_memory_is_read_and_listed(store: Store, memory: str) -> None:
    assert read(store, f"{memory}/d/é f#?.jpg", 1, 3) == b"dd"
    assert read(store, f"{memory}/a.jpg", 4, 9) == read(store, f"{memory}/a.jpg", 50, 60) == b""
    assert read(store, f"MEMORY{memory[6:]}/a.jpg") == b"aaaa"
    assert names(store, f"{memory}/") == names(store, memory) == sorted(FILES)
    assert names(store, f"{memory}/*") == ["a.jpg"]
    assert names(store, f"{memory}/d/*.jpg") == ["b.jpg", "é f#?.jpg"]
    assert names(store, f"{memory}/**.png") == ["d/e/c.png"]
    assert names(store, f"{memory}/d*") == names(store, f"{memory}/none/*") == []
    for _, page in store.entries(f"{memory}/"):
        for entry in page:
            assert entry.url.startswith("memory://box/")
            assert entry.info.size == 4
            assert read(store, entry.url) == FILES[entry.path]


@pytest.mark.parametrize("member", sorted(FILES))
def test_a_member_of_an_archive_is_read(store: Store, archive: Path, member: str) -> None:
    assert read(store, f"zip://{member}::file://{archive}") == FILES[member]


def test_an_archive_is_listed(store: Store, archive: Path) -> None:
    after = f"::file://{archive}"
    assert names(store, f"zip://**.jpg{after}") == ["a.jpg", "d/b.jpg", "d/é f#?.jpg"]
    assert names(store, f"zip://*.jpg{after}") == ["a.jpg"]
    assert names(store, f"zip://d/*.jpg{after}") == ["b.jpg", "é f#?.jpg"]
    assert names(store, f"zip://d/{after}") == ["b.jpg", "e/c.png", "é f#?.jpg"]
    for _, page in store.entries(f"zip://**{after}"):
        for entry in page:
            assert read(store, entry.url) == FILES[entry.path]
    assert store.root_url(f"zip://d/*.jpg{after}") == f"zip://d/{after}"


def test_an_archive_in_s3_is_read_with_the_options_of_s3(s3_server: S3Server) -> None:
    s3_server.put("archives", "a.zip", zipped())
    store = Store(Config.load(storage_options=s3_server.storage_options, timeout=20))
    assert read(store, "zip://d/b.jpg::s3://archives/a.zip") == b"bbbb"
    assert names(store, "zip://**.png::s3://archives/a.zip") == ["d/e/c.png"]
    assert read(store, "simplecache::s3://archives/a.zip", 0, 2) == b"PK"
    store.close()


def test_data_urls(store: Store) -> None:
    assert read(store, "data:text/plain;base64,aGVsbG8=") == b"hello"
    assert read(store, "data:text/plain;base64,aGVsbG8=", 1, 3) == b"el"


def test_what_cannot_be_read_says_why(store: Store, memory: str, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "no.zip").write_bytes(b"no archive")
    cases: dict[str, type[MediaError]] = {
        f"{memory}/none.jpg": NotFound,
        f"{memory}/d": UnavailableError,
        f"zip://none.jpg::file://{archive}": NotFound,
        f"zip://a.jpg::file://{tmp_path}/none.zip": NotFound,
        f"zip://a.jpg::file://{tmp_path}/no.zip": UnavailableError,
        "data:nonsense": UnavailableError,
    }
    for url, kind in cases.items():
        with pytest.raises(MediaError) as error:
            read(store, url)
        assert type(error.value) is kind, url


@pytest.mark.parametrize("url", ["nope://host/a.jpg", "zip://a::nope://b"])
def test_an_unknown_scheme_is_named_with_the_known(store: Store, url: str) -> None:
    for use in (lambda: read(store, url), lambda: names(store, url.replace("a", "*", 1))):
        with pytest.raises(UnknownScheme, match="no provider for nope://") as error:
            use()
        for known in ("az", "file", "gs", "http", "https", "s3"):
            assert f" {known}," in str(error.value) or f" {known} " in str(error.value)


def test_a_missing_package_is_named_with_how_to_install_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from fsspec.registry import known_implementations

    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(MissingExtra, match=r"pip install 'fsspec\[sftp\]'"):
        read(store, "sftp://host/a.jpg")
    monkeypatch.setitem(known_implementations, "faraway", {"class": "far_away.fs.FarFileSystem", "err": "Get far_away"})
    with pytest.raises(MissingExtra, match=r"faraway:// needs another package \(Get far_away\): pip install far-away$"):
        read(store, "faraway://host/a.jpg")


class Counting(fsspec.AbstractFileSystem):  # type: ignore[misc]
    protocol = "counting"
    cachable = False
    given: dict[str, Any]

    def __init__(self, **options: Any) -> None:
        super().__init__()
        type(self).given = options

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        return {"name": path, "type": "file", "size": 3, "mtime": 1_700_000_000.5, "ETag": '"x"'}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if path.endswith("odd"):
            raise RuntimeError("anything")
        return b"abc"[start:end]


def test_options_and_the_configuration_of_fsspec_reach_the_filesystem(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    fsspec.register_implementation("counting", Counting, clobber=True)
    monkeypatch.setitem(fsspec.config.conf, "counting", {"from": "fsspec", "kept": 1})
    store = Store(Config.load(storage_options={"counting": {"from": "us"}}))
    chunk = loop.run(store.read(Location.parse("counting://a"), 0, 10))
    assert Counting.given == {"from": "us", "kept": 1}
    assert (chunk.info.size, chunk.info.last_modified, chunk.info.etag) == (3, "2023-11-14T22:13:20Z", "x")
    with pytest.raises(UnavailableError, match="counting: anything"):
        read(store, "counting://odd")
    store.close()


def test_every_provider_is_found_by_its_schemes() -> None:
    found = discovery.providers()
    assert {found[scheme].__name__ for scheme in ("http", "https")} == {"HttpProvider"}
    assert found["*"].__name__ == "GenericProvider"
    assert {"s3", "gs", "az", "file"} <= found.keys()
