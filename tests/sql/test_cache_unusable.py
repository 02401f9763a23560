"""A cache folder that cannot be used, for whatever reason: one warning says so, and queries are answered without it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import pytest

import mediasql
from tests.servers.http import HttpServer
from tests.sql.conftest import Connect, picture
from tests.storage.objects import in_child

NOBODY = 65534
SIZE = 400_000
DATA = b"q" * SIZE
Urls = tuple[str, str]


@pytest.fixture
def above() -> Iterator[Path]:
    """A folder that everybody may use: pytest's own cannot be looked into by others."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    subprocess.run(["chmod", "-R", "u+rwx", folder], check=True)
    shutil.rmtree(folder)


@pytest.fixture
def urls(http_server: HttpServer, tmp_path: Path) -> Urls:
    """A picture, of which answers are kept, and an object of which bytes are.

    They were read once, so that a child that is nobody finds all modules imported: it may not be able to read them.
    """
    http_server.put("unusable", "a.jpg", picture(123, 45))
    http_server.put("unusable", "b.bin", DATA)
    found = http_server.at("unusable/a.jpg"), http_server.at("unusable/b.bin")
    fill(tmp_path / "another cache", found)
    return found


def fill(folder: Path, urls: Urls) -> None:
    with mediasql.connect(cache_dir=folder, timeout=20) as con:
        ask(con, urls)
        assert con.execute("SELECT width(?), length(content(?))", urls).fetchall() == [(123, SIZE)]
        assert con.execute("SELECT count(*) FROM media_cache").get == 2


def ask(con: mediasql.MediaConnection, urls: Urls) -> None:
    """Assert that all functions and tables that may use the cache answer, and what is right."""
    a, b = ((url,) for url in urls)
    assert con.execute("SELECT width(?), length(content(?))", urls).fetchall() == [(123, SIZE)]
    assert con.execute("SELECT name, width FROM media(?)", a).fetchall() == [("a.jpg", 123)]
    assert con.execute("SELECT error FROM media_errors").fetchall() == []
    for (path,) in con.execute("SELECT local_path(?)", b):
        assert path is None or Path(path).read_bytes() == DATA
    assert con.execute("SELECT media_prefetch(?)", b).get in (None, SIZE)
    assert con.execute("SELECT media_refresh(?)", b).get in (0, 1)
    assert len(con.execute("SELECT url, bytes, width FROM media_cache").fetchall()) <= 2
    assert len(con.execute("SELECT * FROM media_cache_stats").fetchall()) <= 1
    assert con.execute("SELECT media_cache_evict(?)", b).get in (0, SIZE)
    assert con.execute("SELECT media_cache_clear()").get in (0, SIZE)


def use(folder: Path | str | None, urls: Urls) -> list[str]:
    """Use a cache that is of no use, twice. Returns the warnings; nothing may fail in another thread either."""
    failed: list[object] = []
    threading.excepthook = failed.append
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", mediasql.CacheWarning)
        for _ in range(2):
            con = mediasql.connect(cache_dir=folder, timeout=20)
            ask(con, urls)
            con.close()
        with mediasql.filesystem(cache_dir=folder).open(urls[1]) as file:
            assert file.read() == DATA
    assert failed == []
    return [str(one.message) for one in caught]


def in_process_of_nobody(work: Callable[[], object], user: int = NOBODY) -> None:
    def begin() -> None:
        if os.geteuid() == 0:  # whom no mode keeps from anything
            os.setuid(user)
        work()

    assert os.waitpid(in_child(begin), 0)[1] == 0


def assert_one_warning(told: list[str], folder: Path | str, reason: str = "") -> None:
    (message,) = told
    assert str(folder) in message, message
    assert reason in message, message


def forbid(path: Path, mode: int = 0) -> Path:
    path.mkdir(parents=True)
    path.chmod(mode)
    return path


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def file(path: Path) -> Path:
    path.write_bytes(b"not a folder")
    return path


UNUSABLE: dict[str, tuple[Callable[[Path], Path], int]] = {
    "it cannot be searched": (lambda above: forbid(above / "cache"), errno.EACCES),
    "it can be listed only": (lambda above: forbid(above / "cache", 0o444), errno.EACCES),
    "one above it cannot be searched": (lambda above: forbid(above / "a") / "b" / "cache", errno.EACCES),
    "a file is in its place": (lambda above: file(above / "cache"), errno.EEXIST),
    "a file is in the place of one above it": (lambda above: file(above / "a") / "cache", errno.ENOTDIR),
    "a device is in its place": (lambda above: Path(os.devnull), errno.EEXIST),
    "a loop of links": (lambda above: link(above / "a", above / "a") / "cache", errno.EEXIST),
    "a link to nothing": (lambda above: link(above / "cache", above / "nothing"), errno.EEXIST),
    "its name is too long": (lambda above: above / ("x" * 300), errno.ENAMETOOLONG),
    "its path is too long": (lambda above: above.joinpath(*["x" * 200] * 30), errno.ENAMETOOLONG),
    "a file system that takes no folders": (lambda above: Path("/proc/mediasql/cache"), errno.ENOENT),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_folders_that_cannot_be_used(case: str, above: Path, urls: Urls) -> None:
    make, number = UNUSABLE[case]
    folder = make(above)
    in_process_of_nobody(lambda: assert_one_warning(use(folder, urls), folder, os.strerror(number)))


PARTS = ["", "*", "answers.db", "answers.lock", "answers.db-*"]
PARTS += ["bytes-v1" + part for part in ("", "/*", "/catalog.db", "/catalog.lock", "/files", "/files/*", "/files/*/*")]


@pytest.mark.parametrize("part", PARTS)
def test_folders_of_which_a_part_may_not_be_used_any_more(part: str, above: Path, urls: Urls) -> None:
    folder = above / "cache"
    fill(folder, urls)
    for path in folder.rglob("*"):
        path.chmod(0o777)
    for path in list(folder.glob(part)) if part else [folder]:
        path.chmod(0)
    in_process_of_nobody(lambda: assert_one_warning(use(folder, urls), folder))


@pytest.mark.parametrize("part", ["answers.db", "answers.lock", "bytes-v1/catalog.db", "bytes-v1/catalog.lock"])
def test_folders_in_the_place_of_a_file(part: str, above: Path, urls: Urls) -> None:
    (above / "cache" / part).mkdir(parents=True)
    in_process_of_nobody(lambda: assert_one_warning(use(above / "cache", urls), above / "cache"), user=os.geteuid())


@pytest.mark.parametrize("part", ["bytes-v1", "bytes-v1/files"])
def test_files_in_the_place_of_a_folder(part: str, above: Path, urls: Urls) -> None:
    path = above / "cache" / part
    path.parent.mkdir(parents=True)
    file(path)
    in_process_of_nobody(lambda: assert_one_warning(use(above / "cache", urls), above / "cache"), user=os.geteuid())


def test_a_file_system_that_is_read_only(above: Path, urls: Urls) -> None:
    fill(above / "cache", urls)
    mounted = above / "mounted"
    mounted.mkdir()
    done = subprocess.run(["mount", "--bind", above, mounted], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"NOT TESTED: `mount` is for root only: {done.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mounted], check=True)
        for name in ("cache", "another"):  # one that was filled, and one that is not there
            folder = mounted / name
            in_process_of_nobody(
                lambda folder=folder: assert_one_warning(use(folder, urls), folder, os.strerror(errno.EROFS)),  # type: ignore[misc]
                user=0,
            )
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG, errno.EIO], ids=os.strerror)
@pytest.mark.parametrize("function", ["open", "stat", "lstat", "mkdir", "scandir", "listdir", "link", "unlink"])
def test_any_call_of_the_system_may_fail(function: str, number: int, above: Path, urls: Urls) -> None:
    folder = above / "cache"
    fill(folder, urls)
    real: Callable[..., Any] = getattr(os, function)

    def fails(path: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, int) and os.fspath(path).startswith(str(folder)):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return real(path, *args, **kwargs)

    def work() -> None:
        with mock.patch.object(os, function, fails):
            told = use(folder, urls)
        assert len(told) <= 1, told

    in_process_of_nobody(work, user=os.geteuid())


def test_a_relative_folder_without_a_working_directory(above: Path, urls: Urls) -> None:
    def work() -> None:
        (above / "gone").mkdir()
        os.chdir(above / "gone")
        (above / "gone").rmdir()
        assert_one_warning(use("cache", urls), "cache", "there is no working directory: No such file or directory")

    in_process_of_nobody(work)


@pytest.mark.parametrize("call", ["local_path(?)", "fileurl(?)", "width(?)"])
def test_a_relative_path_without_a_working_directory(call: str, above: Path) -> None:
    def work() -> None:
        (above / "gone").mkdir()
        os.chdir(above / "gone")
        (above / "gone").rmdir()
        with mediasql.connect(cache_dir=above / "cache") as con:
            assert con.execute(f"SELECT {call}", ("photo.jpg",)).get is None
            assert con.execute("SELECT url, kind FROM media_errors").fetchall() == [("photo.jpg", "not found")]

            with pytest.raises(mediasql.NotFound, match=r"^media_cache_evict\('photo.jpg'\): there is no working dir"):
                con.execute("SELECT media_cache_evict('photo.jpg')").fetchall()

    with mediasql.connect() as con:  # whose imports the child may not be able to make
        con.execute(f"SELECT {call}", (str(above / "photo.jpg"),)).fetchall()
    in_process_of_nobody(work)


def test_a_user_without_a_home_directory(urls: Urls) -> None:
    def work() -> None:
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MEDIASQL_CACHE_DIR"):
            os.environ.pop(name, None)
        assert_one_warning(use(None, urls), "~", "this user has no home directory")

    if os.geteuid() != 0:
        pytest.skip("NOT TESTED: only root can be a user without an entry")
    in_process_of_nobody(work, user=54321)


def test_no_folder_for_temporary_files(above: Path, urls: Urls) -> None:
    """It is needed only for copies that find no room in the cache's folder."""

    def work() -> None:

        nowhere = FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
        with mock.patch.object(tempfile, "gettempdir", side_effect=nowhere):
            assert use(above / "cache", urls) == []
            assert_one_warning(use(file(above / "file"), urls), above / "file")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                con = mediasql.connect(cache_dir=above / "file")
                assert con.execute("SELECT local_path(?)", urls[1:]).get is None
                (error,) = con.execute("SELECT error FROM media_errors").fetchall()
                assert "no room for a local copy" in error[0]
                assert "TMPDIR" in error[0]

    in_process_of_nobody(work)


@pytest.mark.parametrize("start", [0, 4096], ids=["header", "tables"])
def test_a_damaged_database_that_cannot_be_deleted(start: int, above: Path, urls: Urls) -> None:
    """What is wrong is found when it is opened, or only when it is read."""
    folder = above / "cache"
    fill(folder, urls)
    for path in (folder / "answers.db", folder / "bytes-v1" / "catalog.db"):
        db = apsw.Connection(str(path))
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        db.close()
        with path.open("r+b") as damaged:
            damaged.seek(start)
            damaged.write(os.urandom(path.stat().st_size - start))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path in (folder, folder / "bytes-v1") else 0o777)
    in_process_of_nobody(lambda: assert_one_warning(use(folder, urls), folder, os.strerror(errno.EACCES)))


def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path, urls: Urls, http_server: HttpServer) -> None:
    """It works as any other; only no SQL text can hold the path of a file in it."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    fill(folder, urls)
    http_server.reset()
    with mediasql.connect(cache_dir=folder) as con:
        assert con.execute("SELECT width(?), length(content(?))", urls).fetchall() == [(123, SIZE)]
        assert http_server.requests() == []
        assert con.execute("SELECT folder FROM media_cache_stats").get == f"{tmp_path}/caf\\xe9"
        assert con.execute("SELECT local_path(?)", urls[1:]).get is None
        assert "its path is not UTF-8" in str(con.execute("SELECT error FROM media_errors").get)


def test_a_file_whose_name_is_not_utf_8_has_no_path_in_sql(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture(9, 8))
    con = connect()
    url = f"{tmp_path.as_uri()}/caf%E9.jpg"
    assert con.execute("SELECT width(?), local_path(?)", (url, url)).fetchall() == [(9, None)]
    assert "its path is not UTF-8" in str(con.execute("SELECT error FROM media_errors").get)


@pytest.mark.parametrize("value", ["a\0b", 7])
def test_what_is_no_path_is_refused(value: object) -> None:
    with pytest.raises(mediasql.ConfigError, match=r"^cache_dir: .* is not valid; a folder is needed"):
        mediasql.connect(cache_dir=value)


def test_a_path_may_be_bytes(tmp_path: Path, urls: Urls) -> None:
    with mediasql.connect(cache_dir=os.fsencode(tmp_path / "cache")) as con:
        assert con.execute("SELECT width(?)", urls[:1]).get == 123
    assert (tmp_path / "cache" / "answers.db").exists()


def test_a_salt_that_cannot_be_read(above: Path, http_server: HttpServer, urls: Urls) -> None:
    """Objects with secrets in their URLs are then known in this process only."""
    forbid(above / "cache" / "salt", 0o777)
    url = http_server.at("unusable/a.jpg") + "?token=secret"

    def work() -> None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with mediasql.connect(cache_dir=above / "cache") as con:
                assert con.execute("SELECT width(?)", (url,)).get == 123
        assert_one_warning([str(one.message) for one in caught], above / "cache", "'salt'")

    in_process_of_nobody(work, user=os.geteuid())
