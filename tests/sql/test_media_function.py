"""Functions of the application: what they receive, how they run ahead and in batches, and how they fail."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import av.container
import pytest
from PIL import Image

import mediasql
from mediasql.config import Config
from mediasql.media.probe import Want
from mediasql.sql import calls, workshop
from mediasql.sql.ahead import Wanted
from mediasql.storage import loop
from mediasql.storage.store import Store
from tests.media import make
from tests.sql.conftest import Connect, Web, picture
from tests.waiting import eventually, meanwhile, soon


def table(con: mediasql.MediaConnection, web: Web, numbers: Any = range(10), behaviour: str = "") -> None:
    con.execute("CREATE TABLE images(k INTEGER PRIMARY KEY, image)")
    con.executemany("INSERT INTO images(image) VALUES (?)", [(web.url(n, behaviour),) for n in numbers])


def many(con: mediasql.MediaConnection, web: Web, count: int, behaviour: str = "") -> None:
    con.execute("CREATE TABLE images(k INTEGER PRIMARY KEY, image)")
    urls = [(f"{web.url(n % 10, behaviour)}?n={n}",) for n in range(count)]
    con.executemany("INSERT INTO images(image) VALUES (?)", urls)


def values(con: mediasql.MediaConnection, sql: str) -> list[Any]:
    return [row[0] for row in con.execute(sql)]


def test_what_it_receives(con: mediasql.MediaConnection, web: Web, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(make.video())
    paths: list[Path] = []
    containers: list[av.container.InputContainer] = []

    @con.media_function
    def size(image: Image.Image, scale: float = 1) -> list[float]:
        return [side * scale for side in image.size]

    @con.media_function(name="keys")
    def key_frames(container: av.container.InputContainer) -> int:
        containers.append(container)
        return sum(packet.is_keyframe for packet in container.demux(video=0) if packet.size)

    @con.media_function
    def first(data: bytes) -> bytes:
        return data[:3]

    @con.media_function
    def on_disk(path: Path) -> int:
        paths.append(path)
        return path.stat().st_size

    @con.media_function
    def shout(url: str) -> str:
        return url.upper()

    url = web.url(3)
    row = con.execute(
        "SELECT size(?1), size(?1, 2), size(?2), first(?1), on_disk(?1), on_disk(?2), shout(?1), keys(?3)",
        (url, picture(7, 8), str(clip)),
    ).fetchone()
    length = len(picture(103, 50))
    blob = len(picture(7, 8))
    assert row == ("[103, 50]", "[206, 100]", "[7, 8]", b"\xff\xd8\xff", length, blob, url.upper(), 1)
    assert [path.suffix for path in paths] == [".jpg", ".jpg"]
    assert not any(path.exists() for path in paths)
    with pytest.raises(AssertionError, match="Container is not open"):  # as PyAV says it
        next(containers[0].demux())
    assert con.execute("SELECT size(NULL), size(?, NULL)", (url,)).fetchone() == (None, None)
    assert con.execute("SELECT shout(x'FF')").fetchone() == (None,)
    with pytest.raises(apsw.SQLError, match="wrong number of arguments"):
        con.execute("SELECT first('a', 1)")


class _Scalar:
    """As NumPy's numbers are."""

    def item(self) -> float:
        return 2.5


@pytest.mark.parametrize(
    ("result", "stored"),
    [
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ((1, 2), "[1, 2]"),
        (_Scalar(), 2.5),
        ({"a": _Scalar()}, '{"a": 2.5}'),
        (bytearray(b"x"), b"x"),
        (True, 1),
        (None, None),
    ],
)
def test_what_it_returns(con: mediasql.MediaConnection, result: Any, stored: Any) -> None:
    @con.media_function
    def give(data: bytes) -> Any:
        return result

    assert con.execute("SELECT give(x'00')").get == stored


def test_what_sql_cannot_hold(con: mediasql.MediaConnection) -> None:
    @con.media_function
    def give(data: bytes) -> Fraction:
        return Fraction(1, 2)

    with pytest.raises(mediasql.UsageError, match="Fraction, which SQL has no value for"):
        con.execute("SELECT give(x'00')").fetchall()


def _plain(image) -> None: ...  # type: ignore[no-untyped-def]
def _number(image: int) -> None: ...
def _none() -> None: ...
def _any_number(*images: bytes) -> None: ...
def _keyword(image: bytes, *, scale: int) -> None: ...
def _list(images: list[bytes]) -> None: ...
def _unknown(image: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def _later(image: bytes) -> None: ...
def _good(image: bytes) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (_plain, {}, "needs an annotation: PIL.Image.Image"),
        (_number, {}, "image: int; one of these is needed"),
        (_none, {}, "needs a first parameter"),
        (_any_number, {}, "which SQL cannot give"),
        (_keyword, {}, "which SQL cannot give"),
        (_list, {}, "give batch_size"),
        (_unknown, {}, "Nowhere"),
        (_later, {}, "coroutine"),
        (_good, {"batch_size": 0}, "batch_size is 0"),
        (_good, {"batch_size": 2.5}, "batch_size is 2.5"),
        (_good, {"name": "no name"}, "cannot be the name"),
        (_good, {"name": "Width"}, "a function of mediasql"),
        (lambda data: 1, {}, "cannot be the name"),
        (3, {}, "takes a function"),
    ],
)
def test_what_cannot_be_registered(
    con: mediasql.MediaConnection, function: Any, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(mediasql.UsageError, match=says):
        con.media_function(**options)(function)


def test_on_a_connection_that_was_registered(web: Web) -> None:
    con = apsw.Connection(":memory:")
    with pytest.raises(mediasql.ConfigError, match="register"):
        mediasql.media_function(con)
    mediasql.register(con)

    @mediasql.media_function(con)
    def length(data: bytes) -> int:
        return len(data)

    assert con.execute("SELECT length(x'0000') + media_version() * 0, length(?)", (b"abc",)).fetchone() == (2, 3)


def test_failures_are_null_and_told(con: mediasql.MediaConnection, web: Web) -> None:
    @con.media_function
    def odd(image: Image.Image) -> int:
        if image.width % 2 == 0:
            raise ValueError(f"{image.width} is even")
        return image.width

    table(con, web, range(3))
    con.execute(
        "INSERT INTO images(image) VALUES (?), (?)", (f"{web.server.url}/none.jpg", web.url(0)[:-6] + "text.jpg")
    )
    assert values(con, "SELECT odd(image) FROM images") == [None, 101, None, None, None]
    told = con.execute("SELECT function, kind, error FROM media_errors").fetchall()
    assert told == [
        ("odd", "damaged", "ValueError: 100 is even"),
        ("odd", "damaged", "ValueError: 102 is even"),
        ("odd", "not found", "404 Not Found"),
        ("odd", "damaged", "not an image that can be read"),
    ]
    strict = mediasql.connect(on_error="raise")
    strict.media_function(odd)
    with pytest.raises(mediasql.UnavailableError, match=r"odd\('.*p0.jpg'\): ValueError: 100 is even"):
        strict.execute("SELECT odd(?)", (web.url(0),)).fetchall()
    strict.close()


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt()])
def test_no_exception_ends_a_thread(con: mediasql.MediaConnection, ending: BaseException) -> None:
    @con.media_function
    def leave(data: bytes) -> int:
        raise ending

    assert con.execute("SELECT leave(x'00'), width(x'00')").fetchone() == (None, None)
    assert con.execute("SELECT leave(x'01')").get is None


def test_a_temporary_failure_is_not_stored(con: mediasql.MediaConnection, web: Web) -> None:
    @con.media_function
    def amount(data: bytes) -> int:
        return len(data)

    con.execute("CREATE TABLE t(u, n AS (amount(u)) STORED)")
    with pytest.raises(mediasql.TransientError, match="amount"):
        con.execute("INSERT INTO t VALUES (?)", (web.url(1, "s/500/"),))
    assert con.execute("SELECT count(*) FROM t").get == 0


@pytest.mark.parametrize("readahead", ["on", "off"])
@pytest.mark.parametrize("function", ["amount(image)", "length(content(image))", "content_hash(image)"])
def test_calls_run_ahead_of_their_rows(web: Web, readahead: str, function: str) -> None:
    con = mediasql.connect(readahead=readahead)

    @con.media_function
    def amount(data: bytes) -> int:
        return len(data)

    many(con, web, 20, "together/4/" if readahead == "on" else "slow/50/")
    started = time.monotonic()
    found = values(con, f"SELECT {function} FROM images")
    assert len(found) == 20
    assert None not in found
    assert found[:10] == found[10:]
    if readahead == "off":
        assert time.monotonic() - started > 1.0, "one after the other"
    asked = web.asked()
    assert sum(asked.values()) == 20, "each is asked for once"
    con.close()


def test_functions_run_at_the_same_time(con: mediasql.MediaConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    meeting = threading.Barrier(2, timeout=60)

    @con.media_function
    def meet(data: bytes) -> int:
        meeting.wait()  # breaks unless two are here
        return len(data)

    con.execute("CREATE TABLE t(b)")
    con.executemany("INSERT INTO t VALUES (?)", [(bytes(n + 1),) for n in range(8)])
    assert values(con, "SELECT meet(b) FROM t") == list(range(1, 9))


def test_a_call_is_made_once_for_what_a_row_repeats(con: mediasql.MediaConnection, web: Web) -> None:
    made: list[bytes] = []

    @con.media_function
    def amount(data: bytes) -> int:
        made.append(data)
        return len(data)

    many(con, web, 30)
    assert len(values(con, "SELECT amount(image) + amount(image) FROM images WHERE amount(image) > 1")) == 30
    assert len(made) == 30


def batched(con: mediasql.MediaConnection, size: int, check: Callable[[list[Image.Image]], None] = len) -> list[int]:
    sizes: list[int] = []
    running = threading.Lock()

    @con.media_function(batch_size=size)
    def model(images: list[Image.Image], scale: int = 1) -> list[int]:
        assert running.acquire(blocking=False), "one batch at a time"
        try:
            sizes.append(len(images))
            check(images)
            return [image.width * scale for image in images]
        finally:
            running.release()

    return sizes


def test_batches_are_filled(con: mediasql.MediaConnection, web: Web) -> None:
    sizes = batched(con, 32)
    many(con, web, 100)
    assert values(con, "SELECT model(image) FROM images") == [100 + n % 10 for n in range(100)]
    assert sum(sizes) == 100
    assert max(sizes) == 32
    assert len(sizes) <= 6
    sizes.clear()
    assert values(con, "SELECT model(image) FROM images WHERE k <= 3") == [100, 101, 102]
    assert sizes == [3]


def test_other_arguments_are_equal_in_a_batch(con: mediasql.MediaConnection, web: Web) -> None:
    sizes = batched(con, 4)
    many(con, web, 16)
    found = values(con, "SELECT model(image, 1 + k % 2) FROM images")
    assert found == [(100 + n % 10) * (1 + (n + 1) % 2) for n in range(16)]
    assert sorted(sizes) == [4, 4, 4, 4]


def test_without_readahead_batches_have_one(web: Web) -> None:
    con = mediasql.connect(readahead="off")
    sizes = batched(con, 4)
    many(con, web, 5)
    assert values(con, "SELECT model(image) FROM images") == [100, 101, 102, 103, 104]
    assert sizes == [1] * 5
    con.close()


def test_only_the_bad_ones_of_a_batch_fail(con: mediasql.MediaConnection, web: Web) -> None:
    def check(images: list[Image.Image]) -> None:
        if any(image.width == 103 for image in images):
            raise RuntimeError("out of memory")

    sizes = batched(con, 8, check)
    table(con, web, range(8))
    con.execute("UPDATE images SET image = ? WHERE k = 2", (f"{web.server.url}/text.jpg",))
    assert values(con, "SELECT model(image) FROM images") == [100, None, 102, None, 104, 105, 106, 107]
    assert sizes == [7] + [1] * 7
    assert values(con, "SELECT error FROM media_errors") == [
        "not an image that can be read",
        "RuntimeError: out of memory",
    ]


@pytest.mark.parametrize(
    ("returned", "says"), [([1], "a batch of 3 and returned 1 values"), (5, "returned a int; a list is needed")]
)
def test_a_batch_of_another_length(con: mediasql.MediaConnection, web: Web, returned: Any, says: str) -> None:
    @con.media_function(batch_size=3)
    def model(data: list[bytes]) -> Any:
        return returned

    table(con, web, range(3))
    with pytest.raises(mediasql.UsageError, match=says):
        con.execute("SELECT model(image) FROM images").fetchall()


def test_what_is_held_is_bounded(connect: Connect, http_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was fetched or made, and not taken by the query yet. Nothing of it is left for the next query."""
    size, bound = 200_000, 1_000_000
    monkeypatch.setattr(workshop, "MOST_HELD", bound)
    monkeypatch.setattr(calls, "MOST_RECENT", 0)
    con = connect(cache_size=0)
    http_server.put("", "big.bin", bytes(size))

    @con.media_function
    def same(data: bytes) -> bytes:
        return data

    con.execute("CREATE TABLE t(u)")
    con.executemany("INSERT INTO t VALUES (?)", [(f"{http_server.url}/big.bin?{n}",) for n in range(40)])
    for _ in range(3):
        http_server.reset()
        ahead = []
        for taken, (length,) in enumerate(con.execute("SELECT length(same(u)) FROM t"), 1):
            assert length == size
            ahead.append(len(http_server.requests()) - taken)
        assert len(ahead) == 40
        assert 1 <= max(ahead) <= bound // size + 1


def test_one_that_is_larger_than_the_bound_proceeds(
    con: mediasql.MediaConnection, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "MOST_HELD", 10)
    sizes = batched(con, 4)
    many(con, web, 6)
    assert values(con, "SELECT model(image) FROM images") == [100, 101, 102, 103, 104, 105]
    assert sum(sizes) == 6


@pytest.mark.parametrize("functions", ["model(u)", "model(u) + other(u)"])
def test_a_batch_that_takes_all_the_room_is_run(
    con: mediasql.MediaConnection, http_server: Any, monkeypatch: pytest.MonkeyPatch, functions: str
) -> None:
    """Files larger than they were expected to be: those of the batch that are to come wait for those that came."""
    monkeypatch.setattr(workshop, "MOST_HELD", 1_000_000)
    http_server.put("", "small.bin", bytes(50_000))
    http_server.put("", "big.bin", bytes(200_000))
    timer = threading.Timer(60, con.interrupt)
    timer.start()

    @con.media_function(batch_size=16)
    def model(data: list[bytes]) -> list[int]:
        return [len(each) for each in data]

    @con.media_function(batch_size=16)
    def other(data: list[bytes]) -> list[int]:
        return [0] * len(data)

    con.execute("CREATE TABLE t(u)")
    for name, size in (("small", 50_000), ("big", 200_000)):
        con.execute("DELETE FROM t")
        con.executemany("INSERT INTO t VALUES (?)", [(f"{http_server.url}/{name}.bin?{n}",) for n in range(40)])
        assert values(con, f"SELECT {functions} FROM t") == [size] * 40
    timer.cancel()


def test_a_call_that_is_given_up_before_it_began_leaves_nothing() -> None:
    """Otherwise the next would have no place, where one call may be under way."""

    async def run(ticket: workshop.Ticket) -> str:
        return "made"

    async def add_and_cancel() -> None:
        shop.add([Wanted("given up", "x", Want.OBJECT, work)])
        shop.cancel(frozenset({"given up"}))

    async def add() -> None:
        shop.add([Wanted("next", "x", Want.OBJECT, work)])
        await ended.wait()

    async def take() -> None:
        shop.taken("next")

    def deliver(item: Wanted, outcome: Any) -> None:
        delivered.append((item.key, outcome))
        ended.set()

    work: Any = SimpleNamespace(given=1000, fetches=False, together=1, gathered=None, run=run)
    delivered: list[Any] = []
    ended = asyncio.Event()
    shop = workshop.Workshop(Store(Config.load(concurrency=1)), deliver, lambda key: None, lambda: False)
    loop.run(add_and_cancel())
    loop.run(add())
    assert delivered == [("next", workshop.Result("made"))]
    loop.run(take())
    assert shop.held == 0


def test_interrupting_gives_up(con: mediasql.MediaConnection, web: Web) -> None:
    made: list[str] = []
    released = threading.Event()

    @con.media_function
    def slow(url: str) -> int:
        made.append(url)
        released.wait()
        return 1

    def interrupt() -> None:
        eventually(lambda: made)
        con.interrupt()

    many(con, web, 100)
    with soon(), meanwhile(interrupt), pytest.raises(apsw.InterruptError):
        con.execute("SELECT slow(image) FROM images").fetchall()
    released.set()
    time.sleep(0.3)
    assert len(made) <= (os.cpu_count() or 1), "those that were under way"
    assert con.execute("SELECT slow('x')").get == 1


def test_a_limit_makes_few_calls(con: mediasql.MediaConnection, web: Web) -> None:
    made: list[str] = []

    @con.media_function
    def note(url: str) -> int:
        made.append(url)
        return 1

    many(con, web, 200)
    assert len(values(con, "SELECT image FROM images WHERE note(image) = 1 LIMIT 5")) == 5
    assert len(made) <= 2 * 5 + 16


def test_a_generated_column(con: mediasql.MediaConnection, web: Web) -> None:
    made: list[int] = []

    @con.media_function
    def brightness(image: Image.Image) -> float:
        made.append(image.width)
        return float(image.width)

    table(con, web, range(5))
    con.execute("ALTER TABLE images ADD COLUMN brightness AS (brightness(image))")
    con.execute("INSERT INTO images(image) VALUES (?)", (web.url(5),))
    assert made == [], "nothing needs the value"
    con.execute("CREATE INDEX by_brightness ON images(brightness)")
    assert sorted(made) == [100, 101, 102, 103, 104, 105]
    assert values(con, "SELECT k FROM images WHERE brightness > 102") == [4, 5, 6]
    assert len(made) == 6
    assert (
        str(con.add_computed_column("images", "stored", "brightness(image)")) == "Added 6 column values with 0 errors"
    )


def test_one_that_is_not_deterministic_is_refused_there(con: mediasql.MediaConnection) -> None:
    @con.media_function(deterministic=False)
    def guess(data: bytes) -> int:
        return 1

    with pytest.raises(apsw.SQLError, match="non-deterministic"):
        con.execute("CREATE TABLE t(b, g AS (guess(b)))")
    assert con.execute("SELECT guess(x'00')").get == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k, model(image), width(image) FROM images ORDER BY model(image) DESC, k",
        "SELECT sum(model(image)), count(DISTINCT amount(image)) FROM images",
        "SELECT k FROM images WHERE model(image) % 2 AND amount(content(image)) > 0",
        "SELECT (SELECT max(model(i.image, j.k)) FROM images i WHERE i.k <= j.k) FROM images j WHERE k < 5",
        "WITH c AS MATERIALIZED (SELECT amount(image) AS a FROM images) SELECT a, count(*) FROM c GROUP BY a",
    ],
)
def test_the_same_with_and_without_readahead(web: Web, sql: str) -> None:
    found = []
    for readahead in ("on", "off"):
        con = mediasql.connect(readahead=readahead)
        batched(con, 4)

        @con.media_function
        def amount(data: bytes) -> int:
            return len(data)

        many(con, web, 12)
        con.execute("INSERT INTO images(image) VALUES (NULL), ('/nowhere'), (?)", (picture(4, 4),))
        found.append(con.execute(sql).fetchall())
        con.close()
    assert found[0] == found[1]


def test_opened_images_keep_their_exif(con: mediasql.MediaConnection) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 10)).save(file, "JPEG", exif=exif)

    @con.media_function
    def seen(image: Image.Image) -> list[int]:
        return [*image.size, image.getexif()[0x0112]]

    assert con.execute("SELECT seen(?)", (file.getvalue(),)).get == "[20, 10, 6]"
