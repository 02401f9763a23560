"""Cache-Control: no-store: neither bytes nor what they tell are on disk, and each statement asks anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import fsspec
import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings

import mediasql
from mediasql.storage.filesystem import MediaFileSystem
from tests.servers.azure import AzureServer
from tests.servers.http import HttpServer
from tests.servers.server import Server
from tests.sql.conftest import Connect, picture
from tests.waiting import eventually

NAME = "classified"
SECRET = picture(123, 45) + b"These bytes are for nobody's disk."
READS = [
    "SELECT width(?)",
    "SELECT length(content(?))",
    "SELECT content_hash(?)",
    "SELECT length(thumbnail(?, 20))",
    "SELECT json(exif(?))",
    "SELECT media_error(?)",
    "SELECT local_path(?) IS NOT NULL",
    "SELECT width FROM media(?)",
]


@pytest.fixture
def server(http_server: HttpServer) -> HttpServer:
    http_server.put("", f"{NAME}.jpg", SECRET)
    http_server.reset()
    return http_server


class Disk:
    """The cache folder and that for temporary files, in which the secret is looked for."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def finds(self) -> set[str]:
        """What of the secret is there: 'bytes', or its name in a database."""
        found = set()
        for folder in self._folders:
            for path in folder.rglob("*"):
                if path.suffix == ".db":  # of what was deleted, bytes may be left in its pages
                    with closing(apsw.Connection(os.fspath(path), apsw.SQLITE_OPEN_READONLY)) as database:
                        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
                        rows = [row for (name,) in tables for row in database.execute(f"SELECT * FROM {name}")]
                    found |= {"name" for row in rows if NAME in str(row)}
                elif path.is_file() and not path.name.endswith(("-wal", "-shm")) and SECRET[-20:] in path.read_bytes():
                    found.add("bytes")
        return found


@pytest.fixture
def disk(environment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return Disk(Path(os.environ["MEDIASQL_CACHE_DIR"]), tmp_path)


@pytest.fixture
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another cache folder."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture
def ask(connect: Connect) -> Callable[..., Any]:
    """The value of a query on a connection of its own; then all is written that will be, which media_cache shows."""

    def ask(sql: str, url: str, **config: Any) -> Any:
        con = connect(**config)
        value = con.execute(sql, (url,)).get
        assert con.execute("SELECT count(*) FROM media_cache").get is not None
        con.close()
        return value

    return ask


@pytest.mark.parametrize("sql", READS)
@pytest.mark.parametrize("path", ["nostore/1/", "nostore/1/norange/", "nostore/1/novalidators/", "nostore/1/nolength/"])
def test_nothing_is_on_disk(
    ask: Callable[..., Any], server: HttpServer, disk: Disk, elsewhere: Path, path: str, sql: str
) -> None:
    expected = ask(sql, server.at(f"{path.removeprefix('nostore/1/')}{NAME}.jpg"), cache_dir=elsewhere)
    if not ("nolength" in path or "novalidators" in path):
        assert Disk(elsewhere).finds(), "this test would see it"
    server.reset()
    for _ in range(2):
        assert ask(sql, server.at(f"{path}{NAME}.jpg")) == expected
        assert disk.finds() == set()
        assert server.requests(), "and it is asked again"
        server.reset()


def test_what_is_missing_is_not_remembered_either(
    ask: Callable[..., Any], server: HttpServer, disk: Disk, elsewhere: Path
) -> None:
    assert ask("SELECT width(?)", server.at(f"no-{NAME}.jpg"), cache_dir=elsewhere) is None
    assert Disk(elsewhere).finds() == {"name"}
    con = mediasql.connect()
    for _ in range(2):
        server.reset()
        assert con.execute("SELECT width(?1), height(?1)", (server.at(f"nostore/1/no-{NAME}.jpg"),)).get == (None, None)
        assert len(server.requests()) == 1
    con.close()
    assert disk.finds() == set()


def test_a_statement_asks_once_and_the_next_one_again(connect: Connect, server: HttpServer) -> None:
    con, url = connect(), server.at(f"nostore/1/{NAME}.jpg")
    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(url,)] * 3)
    for _ in range(2):
        server.reset()
        rows = con.execute("SELECT width(u), height(u), byte_size(u) FROM t").fetchall()
        assert rows == [(123, 45, len(SECRET))] * 3
        assert len(server.requests()) == 1
    # As new as the statement: what the server has now.
    server.put("", f"{NAME}.jpg", picture(77, 45))
    assert con.execute("SELECT width(?)", (url,)).get == 77


@pytest.mark.parametrize("sql", ["SELECT width(?)", "SELECT length(content(?))"])
@pytest.mark.parametrize("changed", [False, True])
def test_what_was_kept_before_goes(
    ask: Callable[..., Any], server: HttpServer, disk: Disk, sql: str, changed: bool
) -> None:
    url = server.at(f"nostore/2/{NAME}.jpg")
    assert ask("SELECT length(content(?))", url) == len(SECRET)
    assert ask("SELECT width(?)", url) == 123
    assert eventually(lambda: disk.finds() == {"bytes", "name"})
    if changed:
        server.put("", f"{NAME}.jpg", picture(77, 88))
    expected = ask(sql, url, max_age=0)  # answered with 304, or the new bytes
    assert expected is not None
    assert {request.status for request in server.requests()} & ({200, 206} if changed else {304})
    assert eventually(lambda: disk.finds() == set())
    assert ask("SELECT count(*) FROM media_cache WHERE url = ?", url) == 0
    assert ask(sql, url) == expected


def test_a_refresh_removes_it_too(ask: Callable[..., Any], server: HttpServer, disk: Disk) -> None:
    url = server.at(f"nostore/2/{NAME}.jpg")
    assert ask("SELECT media_prefetch(?)", url) == len(SECRET)
    assert ask("SELECT width(?)", url) == 123
    assert eventually(lambda: disk.finds() == {"bytes", "name"})
    assert ask("SELECT media_refresh(?)", url) is not None
    assert eventually(lambda: disk.finds() == set())


def test_a_local_path_is_there_for_its_statement(connect: Connect, server: HttpServer, disk: Disk) -> None:
    con = connect()
    seen = []

    def read(path: str) -> bool:
        seen.append(path)
        return Path(path).read_bytes() == SECRET

    con.create_scalar_function("reads", read)
    assert con.execute("SELECT reads(local_path(?))", (server.at(f"nostore/1/{NAME}.jpg"),)).get == 1
    con.close()
    assert not Path(seen[0]).exists()
    assert disk.finds() == set()


def test_it_is_not_prefetched(connect: Connect, server: HttpServer, disk: Disk) -> None:
    con = connect()
    assert con.execute("SELECT media_prefetch(?)", (server.at(f"nostore/1/{NAME}.jpg"),)).get is None
    error = con.execute("SELECT error FROM media_errors").get
    assert isinstance(error, str)
    assert "its server forbids to keep it (Cache-Control: no-store)" in error
    assert disk.finds() == set()


@pytest.fixture
def filesystem() -> Iterator[MediaFileSystem]:
    MediaFileSystem.clear_instance_cache()
    yield mediasql.filesystem()
    MediaFileSystem.clear_instance_cache()


def test_the_filesystem_keeps_nothing(
    filesystem: MediaFileSystem, server: HttpServer, disk: Disk, tmp_path: Path
) -> None:
    url = server.at(f"nostore/1/{NAME}.jpg")
    assert filesystem.cat_file(url) == SECRET
    with filesystem.open(url) as file:
        assert file.read(10) + file.read() == SECRET
    assert filesystem.info(url)["size"] == len(SECRET)
    filesystem.get_file(url, str(tmp_path / "mine"))
    assert disk.finds() == {"bytes"}, "only where it was asked for"
    (tmp_path / "mine").unlink()
    assert disk.finds() == set()


def test_s3_may_say_so_of_an_object(connect: Connect, s3_server: Server, disk: Disk) -> None:
    s3 = fsspec.filesystem("s3", skip_instance_cache=True, **s3_server.storage_options["s3"])
    s3.makedirs("no-store", exist_ok=True)
    s3.pipe_file(f"no-store/{NAME}.jpg", SECRET, CacheControl="no-store")
    s3.pipe_file("no-store/plain.jpg", SECRET, CacheControl="private")
    _reads(connect(storage_options=s3_server.storage_options), "s3://no-store/", disk)


def test_azure_may_say_so_of_a_blob(connect: Connect, azure_server: AzureServer, disk: Disk) -> None:
    with BlobServiceClient.from_connection_string(azure_server.connection_string) as service:
        container = service.create_container("no-store")
        for name, value in ((f"{NAME}.jpg", "no-store"), ("plain.jpg", "private")):
            container.upload_blob(name, SECRET, content_settings=ContentSettings(cache_control=value))
    _reads(connect(storage_options=azure_server.storage_options), "az://no-store/", disk)


def _reads(con: mediasql.MediaConnection, container: str, disk: Disk) -> None:
    ask = "SELECT width(?1), length(content(?1))"
    assert con.execute(ask, (f"{container}{NAME}.jpg",)).get == (123, len(SECRET))
    assert con.execute(ask, (f"{container}plain.jpg",)).get == (123, len(SECRET))
    assert con.execute("SELECT count(*) FROM media(?)", (container,)).get == 2
    (kept,) = con.execute("SELECT DISTINCT url FROM media_cache").fetchall()
    assert kept == (f"{container}plain.jpg",)
    con.close()
    assert disk.finds() == {"bytes"}
