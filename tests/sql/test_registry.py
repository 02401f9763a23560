"""What a connection gains, that all of it is documented, that each example is true, and that others may add to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import apsw
import pytest

import mediasql
from mediasql.sql.registry import examples, functions, summary, tables
from tests import example_media

FUNCTIONS = {
    # any media
    *("media_type", "mime_type", "byte_size", "etag", "last_modified", "media_info", "media_error", "content"),
    "content_hash",
    # image, video
    *("width", "height", "orientation", "image_format", "image_mode", "exif"),
    # timed
    *("duration", "frame_rate", "frame_count", "video_codec", "audio_codec", "bit_rate", "sample_rate", "channels"),
    # make
    "thumbnail",
    # url
    *("fileurl", "presigned_url", "url_scheme", "url_host", "url_name", "url_ext"),
    # cache
    *("media_refresh", "media_prefetch", "local_path", "media_cache_evict", "media_cache_clear"),
    # control
    *("media_version", "media_config", "add_computed_column"),
}
TABLES = {"media", "media_streams", "media_exif", "media_errors", "media_cache", "media_cache_stats"}
# Which change something, and which tells of the owner.
NOT_FOR_SCHEMAS = {
    *("add_computed_column", "media_config"),
    *("media_refresh", "media_prefetch", "local_path", "media_cache_evict", "media_cache_clear"),
}
NOT_DETERMINISTIC = NOT_FOR_SCHEMAS
DETERMINISTIC, DIRECTONLY = 0x800, 0x80000


def listed(connection: apsw.Connection) -> tuple[dict[str, int], set[str]]:
    known = dict(connection.execute("SELECT name, flags FROM pragma_function_list"))
    return known, {name for (name,) in connection.execute("SELECT name FROM pragma_module_list")}


def test_what_a_connection_gains() -> None:
    plain, con = apsw.Connection(":memory:"), mediasql.connect()
    functions_before, modules_before = listed(plain)
    functions_after, modules_after = listed(con)
    gained = {name: functions_after[name] for name in functions_after.keys() - functions_before.keys()}
    internal = {name for name in gained if name.startswith("_mediasql")}
    assert gained.keys() - internal == FUNCTIONS == functions().keys()
    assert modules_after - modules_before == TABLES == tables().keys()
    assert functions_before.keys() <= functions_after.keys()
    assert {name for name in gained if gained[name] & DIRECTONLY} == NOT_FOR_SCHEMAS | internal
    assert {name for name in gained if not gained[name] & DETERMINISTIC} == NOT_DETERMINISTIC | internal
    con.close()


@pytest.mark.parametrize("name", sorted(FUNCTIONS - NOT_FOR_SCHEMAS - NOT_DETERMINISTIC))
def test_functions_serve_in_schemas(name: str) -> None:
    con = mediasql.connect()
    arguments = ", ".join(["image"] * functions()[name].arities[0])
    con.execute(f"CREATE TABLE t(image, value AS ({name}({arguments})))")
    con.execute(f"CREATE INDEX i ON t({name}({arguments}))")
    con.execute(f"CREATE VIEW v AS SELECT {name}({arguments}) FROM t")
    assert con.execute("SELECT * FROM t, v").fetchall() == []
    con.close()


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TABLES))
def test_everything_is_documented(name: str) -> None:
    entry = functions().get(name) or tables()[name]
    first = summary(entry.doc).partition("\n")[0]
    assert len(first) > 15, name
    assert summary(entry.doc).endswith("."), name
    assert examples(entry.doc), name
    assert entry.signature.startswith(name)
    if name in TABLES:
        assert all(column.doc and column.name.islower() for column in tables()[name].columns)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    example_media.write(folder)
    return folder


@pytest.mark.parametrize("name", sorted(FUNCTIONS | TABLES))
def test_examples(name: str, example_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(example_folder)
    con = mediasql.connect()
    for sql, expected in examples((functions().get(name) or tables()[name]).doc):
        rows = con.execute(sql).fetchall()
        assert "\n".join("|".join("" if value is None else str(value) for value in row) for row in rows) == expected
    con.close()


ADDED = '''
"""An addition of someone else."""
from collections.abc import Iterator

from mediasql.sql.registry import Column, Media, Session, function, table


@function()
def loudness(media: Media, scale: int = 1) -> int | None:
    """How loud it is.

    sql> SELECT loudness('x')
    1
    """
    return len(media.location.url) * scale


@table(Column("n", "INTEGER", "A number.", int))
def count_to(session: Session, last: int) -> Iterator[int]:
    """Numbers.

    sql> SELECT n FROM count_to(2)
    1
    2
    """
    yield from range(1, last + 1)
'''


def test_other_packages_add_theirs(tmp_path: Path) -> None:
    (tmp_path / "loud").mkdir()
    (tmp_path / "loud" / "__init__.py").write_text("")
    (tmp_path / "loud" / "sound.py").write_text(ADDED)
    information = tmp_path / "loud-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: loud\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[mediasql]\nloud = loud\n")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mediasql; con = mediasql.connect()\n"
        'print(con.execute(\'SELECT loudness("abc"), loudness("abc", 2), loudness(NULL)\').fetchall())\n'
        "print(con.execute('SELECT n FROM count_to(3) WHERE n > 1').fetchall())\n"
        "con.execute('CREATE TABLE t(a, b AS (loudness(a))); INSERT INTO t VALUES (NULL)')\n"
        "con.execute('CREATE VIRTUAL TABLE two USING count_to(2)')\n"
        "print(con.execute('SELECT * FROM two').fetchall())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[(3, 6, None)]\n[(2,), (3,)]\n[(1,), (2,)]\n", "")
