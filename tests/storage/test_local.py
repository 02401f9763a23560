from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mediasql.config import Config
from mediasql.errors import Forbidden, MediaError, NotFound, UnavailableError, Unsupported
from mediasql.storage import fetch, loop
from mediasql.storage.location import Location
from mediasql.storage.providers.base import Chunk
from mediasql.storage.store import Store
from tests.waiting import soon

ODD_NAMES = [
    "a b.jpg",
    "a%20b.jpg",
    "a#b.jpg",
    "a?b.jpg",
    "a*b.jpg",
    "[1].jpg",
    "{a,b}.jpg",
    "é.jpg",
    "100%.jpg",
    "'\".jpg",
]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store(Config.load(timeout=10))
    yield store
    store.close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(store: Store, url: str, start: int = 0, stop: int = 100) -> Chunk:
    return loop.run(store.read(Location.parse(url), start, stop))


def names(store: Store, pattern: str) -> list[str]:
    return [entry.path[len(root) :] for root, page in store.entries(pattern) for entry in page]


def urls(store: Store, pattern: str) -> list[str]:
    return [entry.url for _, page in store.entries(pattern) for entry in page]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_of_any_name_is_found_under_each_of_its_urls(store: Store, folder: Path, name: str) -> None:
    (folder / name).write_bytes(name.encode())
    for url in (name, f"./{name}", str(folder / name), (folder / name).as_uri(), f"file://{folder / name}"):
        assert read(store, url).data == name.encode()
    provider = store.provider(Location.parse(name))
    assert provider.file_url(Location.parse(name)) == (folder / name).as_uri()
    assert names(store, f"{folder}/") == [name]
    assert urls(store, f"file://{folder}/") == [(folder / name).as_uri()]
    # As a pattern, it finds itself, whatever else it finds.
    assert names(store, name) == [name]


def test_a_glob_finds_what_it_matches_and_the_file_of_its_own_name(store: Store, folder: Path) -> None:
    for name in ("photo1.jpg", "photo[1].jpg", "photo*.jpg", "other.jpg"):
        (folder / name).touch()
    assert names(store, "photo[1].jpg") == ["photo1.jpg", "photo[1].jpg"]
    assert names(store, "photo*.jpg") == ["photo*.jpg", "photo1.jpg", "photo[1].jpg"]
    assert names(store, "photo[*].jpg") == ["photo*.jpg"]
    (folder / "d[1]").mkdir()
    (folder / "d[1]/a.jpg").touch()
    assert names(store, "d[1]") == names(store, "d[1]/") == ["a.jpg"]


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
@settings(max_examples=40)
def test_the_urls_of_a_listing_lead_back_to_the_files(store: Store, tmp_path: Path, name: str) -> None:
    if name in (".", "..") or len(name.encode()) > 200:
        return
    path = tmp_path / name
    path.write_bytes(b"x")
    try:
        for prefix in (str(tmp_path), tmp_path.as_uri()):
            (url,) = urls(store, f"{prefix}/")
            assert read(store, url).data == b"x"
    finally:
        path.unlink()


def test_a_name_that_is_not_utf_8_has_a_url_that_is(store: Store, folder: Path) -> None:
    with open(os.fsencode(folder) + b"/\xff.jpg", "wb") as file:
        file.write(b"x")
    for pattern in ("*.jpg", f"file://{folder}/*.jpg"):
        ((_, (entry,)),) = store.entries(pattern)
        assert (entry.url, entry.path.rpartition("/")[2]) == (f"{folder.as_uri()}/%FF.jpg", "\ufffd.jpg")
        assert read(store, entry.url).data == b"x"


def test_home_is_home(store: Store, environment: Path) -> None:
    (environment / "a.jpg").write_bytes(b"x")
    assert read(store, "~/a.jpg").data == b"x"
    assert urls(store, "~/*.jpg") == [str(environment / "a.jpg")]


@pytest.mark.parametrize("form", ["file:{}", "file://localhost{}", "FILE://{}"])
def test_other_spellings_of_a_file_url(store: Store, folder: Path, form: str) -> None:
    (folder / "a b.jpg").write_bytes(b"x")
    assert read(store, form.format(f"{folder}/a%20b.jpg")).data == b"x"


def test_ranges_and_what_is_known(store: Store, folder: Path) -> None:
    (folder / "a.jpg").write_bytes(bytes(range(200)))
    os.utime("a.jpg", (1_700_000_000, 1_700_000_000))
    chunk = read(store, "a.jpg", 190, 300)
    assert (chunk.data, chunk.start, chunk.info.size) == (bytes(range(190, 200)), 190, 200)
    assert chunk.info.last_modified == "2023-11-14T22:13:20Z"
    assert read(store, "a.jpg", 500, 600).data == b""
    assert read(store, "a.jpg", 0, 1).info.etag == chunk.info.etag
    (folder / "a.jpg").write_bytes(bytes(200))
    assert read(store, "a.jpg").info.etag != chunk.info.etag
    ((_, (entry,)),) = store.entries("*.jpg")
    assert entry.info.size == 200
    assert entry.info.mime_type == "image/jpeg"
    assert entry.info.etag == read(store, "a.jpg").info.etag


def test_an_empty_file(store: Store, folder: Path) -> None:
    (folder / "a").touch()
    assert (read(store, "a").data, read(store, "a").info.size) == (b"", 0)


def test_what_cannot_be_read_says_why_at_once(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "a.jpg").touch()
    os.mkfifo("pipe")
    os.symlink("loop", "loop")
    cases: list[tuple[str, type[MediaError], str]] = [
        ("none.jpg", NotFound, "no such file"),
        ("", NotFound, "no such file"),
        (".", UnavailableError, "is a directory"),
        ("a.jpg/b", UnavailableError, "not a directory"),
        ("pipe", UnavailableError, "not a regular file"),
        (os.devnull, UnavailableError, "not a regular file"),
        ("loop", UnavailableError, "too many levels of symbolic links"),
        ("x" * 300, UnavailableError, "file name too long"),
        ("a\0b", UnavailableError, "null"),
    ]
    monkeypatch.setattr(fetch, "FIRST_DELAY", 600)
    with soon():  # nothing was tried again
        for path, kind, text in cases:
            with pytest.raises(MediaError, match=text) as error:
                read(store, path)
            assert type(error.value) is kind, path

    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(Forbidden, match="permission denied"):
        read(store, "a.jpg")


def test_globs_and_prefixes(store: Store, folder: Path) -> None:
    for name in ("a.jpg", "b.png", ".h.jpg", "d/c.jpg", "d/e/f.jpg", "dd/g.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    assert names(store, "*.jpg") == [".h.jpg", "a.jpg"]
    assert names(store, "**.jpg") == [".h.jpg", "a.jpg", "d/c.jpg", "d/e/f.jpg", "dd/g.jpg"]
    assert names(store, "d/**/*.jpg") == ["c.jpg", "e/f.jpg"]
    assert names(store, "d*/*.jpg") == ["d/c.jpg", "dd/g.jpg"]
    assert names(store, "d") == names(store, "d/") == ["c.jpg", "e/f.jpg"]
    assert names(store, ".") == [".h.jpg", "a.jpg", "b.png", "d/c.jpg", "d/e/f.jpg", "dd/g.jpg"]
    assert names(store, f"{folder}/{{a,b}}.*") == ["a.jpg", "b.png"]
    assert names(store, "none/*.jpg") == names(store, "a.jpg/*") == names(store, "none/") == []
    assert store.root_url("d/*.jpg") == "d/"
    assert store.root_url(f"file://{folder}/d/*.jpg") == f"file://{folder}/d/"
    assert urls(store, f"file://{folder}/d/*.jpg") == [f"file://{folder}/d/c.jpg"]


def test_links_that_lead_in_circles_and_to_nothing(store: Store, folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "d/a.jpg").touch()
    (folder / "d/back").symlink_to(folder)
    (folder / "d/nothing.jpg").symlink_to("none")
    (folder / "d/link.jpg").symlink_to("a.jpg")
    (folder / "other").symlink_to("d")
    assert names(store, "**.jpg") == ["d/a.jpg", "d/link.jpg"]
    assert names(store, "other/*.jpg") == ["a.jpg", "link.jpg"]


def test_a_directory_that_may_not_be_read_is_passed_over_below_the_top(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/secret/x.jpg", "a/z/y.jpg"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    scandir = os.scandir

    def guarded(path: str) -> object:
        if path.rstrip("/").endswith("secret"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert names(store, "a/") == ["z/y.jpg"]
    with pytest.raises(Forbidden, match="listing is not allowed"):
        names(store, "a/secret/")


def test_pages_are_of_the_size_that_is_asked_for(store: Store, folder: Path) -> None:
    for number in range(25):
        (folder / f"{number:02}.jpg").touch()
    pages = [[entry.path for entry in page] for _, page in store.entries("*.jpg", page_size=10)]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [path for page in pages for path in page] == [f"{number:02}.jpg" for number in range(25)]


def test_a_local_file_has_no_presigned_url(store: Store) -> None:
    with pytest.raises(Unsupported, match="a local file has no presigned URL"):
        store.presign(Location.parse("a.jpg"), 60)
