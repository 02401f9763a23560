"""Read-ahead: the same results as without it, no more requests than needed, and many of them at once."""

from __future__ import annotations

import gc
import os
import re
import signal
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mediasql
from mediasql.connection import session_of
from mediasql.sql import bindings, scout
from mediasql.sql.scout import Execution
from mediasql.storage import fetch
from tests.clock import Clock
from tests.servers.http import HttpServer
from tests.sql.conftest import Web, picture
from tests.waiting import eventually, meanwhile, soon

FILES = 60


@pytest.fixture(scope="module")
def _many(http_server: HttpServer) -> HttpServer:
    for number in range(FILES):
        http_server.put("many", f"m{number:02}.jpg", picture(100 + number, 50))
    return http_server


@pytest.fixture
def many(_many: HttpServer) -> HttpServer:
    _many.reset()
    return _many


def urls(server: HttpServer, count: int, behaviour: str = "") -> list[str]:
    return [f"{server.url}/{behaviour}many/m{number:02}.jpg" for number in range(count)]


def asked(server: HttpServer) -> Counter[str]:
    found = Counter(request.path for request in server.requests())
    server.reset()
    return found


def table(con: apsw.Connection, images: list[str]) -> None:
    con.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, image, w INT, v AS (width(image)))")
    con.executemany("INSERT INTO t(image) VALUES (?)", [(image,) for image in images])


# --- results ---------------------------------------------------------------------------------------------------------

COLUMNS = [
    "",
    ", w AS (width(image))",
    ", w AS (width(image)) STORED",
    ", w AS (width(image)), h AS (w + height(image))",
]
EXTRAS = [
    "CREATE INDEX i ON {t}(width(image))",
    "CREATE INDEX p ON {t}(note) WHERE width(image) > 102",
    "CREATE TRIGGER r AFTER INSERT ON {t} BEGIN INSERT INTO log VALUES (width(new.image)); END",
    "CREATE TRIGGER u AFTER UPDATE ON {t} BEGIN INSERT INTO log SELECT height(new.image) + old.k; END",
]
STATEMENTS = [
    "SELECT k, width(image) FROM {t}",
    "SELECT k, width(image), height(image), media_error(image) FROM {t} ORDER BY width(image) DESC, k",
    "SELECT * FROM {t} ORDER BY k",
    "SELECT sum(width(image)), count(height(image)) FROM {t} GROUP BY note",
    "SELECT k, rank() OVER (PARTITION BY note ORDER BY width(image)) FROM {t} ORDER BY k",
    "SELECT k FROM {t} WHERE width(image) > 102 LIMIT 3",
    "SELECT k FROM {t} WHERE width(image) > :least ORDER BY k LIMIT 2 OFFSET 1",
    "WITH c AS (SELECT k, width(image) AS x FROM {t}) SELECT a.k, b.x FROM c a JOIN c b ON a.x = b.x ORDER BY 1, 2",
    "SELECT k, (SELECT max(width(i.image)) FROM {t} i WHERE i.note IS o.note) FROM {t} o",
    "SELECT DISTINCT width(image) FROM {t} UNION SELECT height(image) FROM {t}",
    "SELECT k FROM {t} WHERE EXISTS (SELECT 1 FROM log WHERE x = width(image))",
    "SELECT k, CASE WHEN note IS NULL THEN width(image) ELSE height(image) END FROM {t}",
    "SELECT k, coalesce(width(image), -1) + height(image || '') FROM {t}",
    "SELECT note, total_of(width(image)), max(x) FROM (SELECT *, double(height(image)) AS x FROM {t}) GROUP BY note",
    "SELECT k, total_of(width(image)) OVER (ORDER BY k ROWS 1 PRECEDING) FROM {t} ORDER BY k",
    "SELECT k, double(width(image)) FROM {t} WHERE height(image) IS NOT NULL",
    "SELECT k, first_byte(image) + width(image) FROM {t} ORDER BY first_byte(image || ''), k",
    "CREATE TEMP VIEW IF NOT EXISTS q AS SELECT k, note, width(image) AS x FROM {t}; SELECT x FROM q WHERE x > 101",
    "INSERT INTO log SELECT double(k) FROM {t} WHERE first_byte(image) = 255",
    "INSERT INTO {t}(image, note) SELECT image, width(image) FROM {t} WHERE height(image) = 50 RETURNING k, note",
    "INSERT INTO log SELECT width(image) FROM {t}",
    "INSERT INTO {t}(k, image) SELECT k, image FROM {t} WHERE 1 ON CONFLICT(k) DO UPDATE SET note = width(image)",
    "INSERT OR REPLACE INTO {t}(k, image, note) SELECT k + 1, image, height(image) FROM {t} WHERE k % 2",
    "UPDATE {t} SET note = width(image) WHERE height(image) > 0 RETURNING k, note",
    "UPDATE {t} SET (note, image) = (SELECT width(image), image || '?x')",
    "UPDATE {t} AS a SET note = width(b.image) FROM {t} b WHERE b.k = a.k + 1",
    "CREATE TABLE IF NOT EXISTS made AS SELECT k, width(image) AS x FROM {t}",
    "CREATE INDEX IF NOT EXISTS j ON {t}(height(image) DESC, k)",
    "DELETE FROM {t} WHERE width(image) = 103 RETURNING k, image",
    "SAVEPOINT s; UPDATE {t} SET note = height(image); SAVEPOINT z; DELETE FROM {t} WHERE width(image) IS NULL; "
    "ROLLBACK TO z; RELEASE s",
    "BEGIN; INSERT INTO log SELECT height(image) FROM {t}; ROLLBACK",
    "many",
    "interleaved",
    "computed",
]


def outcome(readahead: str, database: tuple[Any, ...], images: list[str | None], statements: list[str]) -> list[Any]:
    """Rows of all statements, what is in the database then, and what failed."""
    columns, extras, schema, notes = database
    con = mediasql.connect("", readahead=readahead, timeout=60, cache_size=0, max_age=0)
    con.create_scalar_function("double", lambda value: value + value, 1, deterministic=True)  # raises for NULL
    con.create_aggregate_function("total_of", _Total, 1)
    con.create_window_function("total_of", _Total, 1)
    con.media_function(first_byte)
    found: list[Any] = []
    try:
        con.execute("ATTACH ':memory:' AS other")
        name = f"{schema}.t"
        con.execute(f"CREATE TABLE {name}(k INTEGER PRIMARY KEY, image, note{columns})")
        con.execute(f"CREATE TABLE {schema}.log(x)")
        for extra in extras:
            kind, _, rest = EXTRAS[extra].partition(" {t}") if "INDEX" not in EXTRAS[extra] else ("", "", "")
            text = f"{kind} t{rest}" if kind else EXTRAS[extra].format(t="t")
            head, what, rest = text.split(" ", 2)
            con.execute(f"{head} {what} {schema}.{rest.format(t='t')}")
        for pair in zip(images, notes, strict=False):
            found.append(run(con, name, "INSERT INTO {t}(image, note) VALUES (:image, :note)", pair))
        for statement in statements:
            found.append(run(con, name, statement))
        for (each,) in con.execute(f"SELECT name FROM {schema}.sqlite_schema WHERE type = 'table'").fetchall():
            found.append(sorted(con.execute(f"SELECT * FROM {schema}.{each}").fetchall(), key=repr))
        found.append(sorted(con.execute("SELECT url, function, kind FROM media_errors").fetchall()))
        found.append((con.total_changes(), con.changes(), con.last_insert_rowid()))
        _scouted.append(session_of(con).scout.noted)
    finally:
        con.close()
    return found


def run(con: mediasql.MediaConnection, name: str, statement: str, values: tuple[Any, ...] = ()) -> Any:
    try:
        if statement == "many":
            pairs = [(k, k % 3) for k in range(6)]
            con.executemany(f"UPDATE {name} SET note = width(image) + ?2 WHERE k = ?1", pairs)
            return None
        if statement == "interleaved":
            one = con.execute(f"SELECT k, width(image) FROM {name} ORDER BY k")
            two = con.execute(f"SELECT k, height(image) FROM {name} ORDER BY k DESC")
            return list(zip(one, two, strict=False))
        if statement == "computed":
            return str(con.add_computed_column(name, "added", "width(image) + 1"))
        if ":least" in statement:
            values = (101,)
        return con.execute(statement.format(t=name), values or None).fetchall()
    except (apsw.Error, mediasql.MediaError, TypeError) as error:
        return type(error).__name__, re.sub(r"after \d+", "after some", str(error))


class _Total:
    """A sum that takes no NULL."""

    def __init__(self) -> None:
        self.total = 0

    def step(self, value: int) -> None:
        self.total += value

    def inverse(self, value: int) -> None:
        self.total -= value

    def value(self) -> int:
        return self.total

    final = value


def first_byte(content: bytes) -> int:
    return content[0]


PLACES = st.sampled_from([*(f"p{number}.jpg" for number in range(10)), "none.jpg", "text.jpg", "s/500/p0.jpg", None])
_scouted: list[int] = []


def test_the_same_with_and_without(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results, and what is in the database, for windows so small that a dozen rows fill several."""
    for module in (bindings, scout):
        monkeypatch.setattr(module, "UNBOUNDED_WINDOW", 3)
    monkeypatch.setattr(scout, "SMALLEST_WINDOW", 2)
    monkeypatch.setattr(fetch, "FIRST_DELAY", 0.005)
    _scouted.clear()
    compare_with_and_without(web)
    assert sum(noted > 3 for noted in _scouted) > len(_scouted) / 6


@given(
    st.tuples(
        st.sampled_from(COLUMNS),
        st.sets(st.integers(0, len(EXTRAS) - 1), max_size=2),
        st.sampled_from(["main", "temp", "other"]),
        st.lists(st.sampled_from([None, 1, "x"]), min_size=16, max_size=16),
    ),
    st.lists(PLACES, min_size=3, max_size=16),
    st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=4),
)
@settings(max_examples=60, derandomize=True)
def compare_with_and_without(
    web: Web, database: tuple[Any, ...], places: list[str | None], statements: list[str]
) -> None:
    images = [f"{web.server.url}/{place}" if place else None for place in places]
    on, off = (outcome(readahead, database, images, statements) for readahead in ("on", "off"))
    assert on == off


# --- requests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "SELECT width(image) FROM t",
        "SELECT width(image), height(image), image_format(image) FROM t",
        "SELECT k FROM t ORDER BY width(image)",
        "SELECT avg(width(image)) FROM t",
        "SELECT v, count(*) FROM t GROUP BY v",
        "SELECT a.k FROM t a JOIN t b ON width(a.image) = width(b.image)",
        "WITH c AS (SELECT width(image) AS x FROM t) SELECT max(x) FROM c",
        "SELECT v FROM t",
        "SELECT x FROM (SELECT v AS x FROM t) WHERE x > 0",
        "INSERT INTO t(image, w) SELECT image, width(image) FROM t",
        "UPDATE t SET w = width(image)",
        "CREATE TABLE made AS SELECT width(image) FROM t",
        "CREATE INDEX i ON t(v)",
        "DELETE FROM t WHERE width(image) > 0",
    ],
)
def test_each_file_is_opened_once(many: HttpServer, con: mediasql.MediaConnection, query: str) -> None:
    table(con, urls(many, FILES))
    con.execute(query).fetchall()
    assert asked(many) == {f"/many/m{number:02}.jpg": 1 for number in range(FILES)}


def test_the_window_of_a_limit_is_no_larger_than_what_was_needed_and_16() -> None:
    execution = Execution(1, "SELECT width(image) FROM t LIMIT 1", 0.0)
    for execution.consumed in range(1, 1000):
        assert 16 <= execution.window <= execution.consumed + 16


@pytest.mark.parametrize("needed", [1, 13, 77])
def test_a_predicate_opens_no_more_than_twice_what_it_needs(
    many: HttpServer, con: mediasql.MediaConnection, needed: int
) -> None:
    table(con, [f"{url}?{turn}" for turn in range(200 // FILES + 1) for url in urls(many, FILES)])
    query = "SELECT k FROM t WHERE (width(image) > 0) * (k >= ?) LIMIT 1"  # no part of it can be tested first
    first = con.execute("SELECT min(k) FROM t").get
    assert con.execute(query, (first + needed - 1,)).get == first + needed - 1
    assert needed <= session_of(con).scout.noted <= 2 * needed + 16  # what is noted last may be given up in time
    assert needed <= sum(asked(many).values()) <= 2 * needed + 16


def test_a_limit_opens_what_it_needs(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, FILES))
    assert len(con.execute("SELECT width(image) FROM t LIMIT 10").fetchall()) == 10
    assert len(asked(many)) == 10
    assert len(con.execute("SELECT k FROM t WHERE height(image || '?q') AND width(image) LIMIT 4").fetchall()) == 4
    assert sum(asked(many).values()) <= 2 * 4 + 16


def test_a_predicate_with_a_limit(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, FILES))
    found = con.execute("SELECT k FROM t WHERE width(image) % 5 = 4 LIMIT 3").fetchall()  # the 5th, 10th, 15th
    assert len(found) == 3
    assert 15 <= sum(asked(many).values()) <= 2 * 15 + 16


def test_a_listing_is_asked_for_once(s3_server: Any) -> None:
    for number in range(30):
        s3_server.put("scouted", f"a/o{number:02}.jpg", picture(100 + number, 50))
    query = "SELECT name, width FROM media('s3://scouted/a/*.jpg')"
    for statement in (query, f"{query} ORDER BY width", f"SELECT max(width) FROM ({query})"):
        con = mediasql.connect(timeout=20, cache_size=0, storage_options=s3_server.storage_options)
        con.execute("SELECT name FROM media('s3://scouted/none/*.jpg')").fetchall()  # credentials, region
        s3_server.reset()
        rows = con.execute(statement).fetchall()
        assert rows[0] != (None,)
        log = [
            (request.path, "list" in request.query or request.path.rstrip("/") == "/scouted")
            for request in s3_server.requests()
        ]
        assert sum(listing for _, listing in log) == 1, log
        assert sorted(Counter(path for path, listing in log if not listing).values()) == [1] * 30
        con.close()


# --- at once ---------------------------------------------------------------------------------------------------------

TOGETHER = "together/4/"  # none is answered before so many were asked for

KINDS = [
    "SELECT width(image) FROM t",
    "SELECT k FROM t ORDER BY width(image)",
    "SELECT sum(v) FROM t",
    "INSERT INTO t(image, w) SELECT NULL, width(image) FROM t",
    "INSERT INTO t(k, w) SELECT k, width(image) FROM t WHERE 1 ON CONFLICT DO UPDATE SET w = excluded.w",
    "INSERT INTO t(k, image) SELECT k, image FROM t WHERE 1 ON CONFLICT(k) DO UPDATE SET w = width(excluded.image)",
    "INSERT INTO t(k, image) SELECT k, NULL FROM t WHERE 1 ON CONFLICT(k) DO UPDATE SET w = 1 WHERE width(t.image) > 0",
    "INSERT INTO checked SELECT k, image FROM t",
    "UPDATE t SET w = width(image)",
    "CREATE TABLE made AS SELECT width(image) FROM t",
    "CREATE INDEX i ON t(width(image))",
    "CREATE INDEX i ON t(v)",
    "DELETE FROM t WHERE width(image) = 101",
    "INSERT INTO t(image) SELECT image FROM t RETURNING width(image || '?r')",
    "UPDATE t SET w = 1 RETURNING width(image || '?r')",
    "DELETE FROM t RETURNING width(image || '?r')",
    "add_computed_column",
]


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_opened_at_once(many: HttpServer, con: mediasql.MediaConnection, kind: str) -> None:
    table(con, urls(many, 40, TOGETHER))
    con.execute("CREATE TABLE checked(k, image CHECK (width(image) > 0), CHECK (k > 0))")
    if kind == "add_computed_column":
        con.add_computed_column("t", "c", "width(image)")
    else:
        con.execute(kind).fetchall()
    assert len(asked(many)) == 40


def test_one_slow_file_does_not_stop_the_others(many: HttpServer) -> None:
    """The statement waits for its first file; all others are asked for before it is there."""
    con = mediasql.connect(timeout=120)
    slow = f"{many.url}/held/many/m00.jpg"
    table(con, [slow, *(f"{url}?{turn}" for turn in range(10) for url in urls(many, FILES))])

    def release() -> None:
        try:
            eventually(lambda: len(many.requests()) > 10 * FILES)
        finally:
            many.release()

    with meanwhile(release):
        assert con.execute("SELECT sum(width(image)) FROM t").get == 100 + 10 * sum(range(100, 100 + FILES))
    assert len(asked(many)) == FILES + 1
    con.close()


class _Collected:
    """An aggregate that keeps the values of all its runs, so that it would notice one too many."""

    seen: ClassVar[list[Any]] = []

    def step(self, value: int) -> None:
        self.seen.append(value + 0)  # which NULL cannot be added to

    def final(self) -> int:
        return len(self.seen)


def test_an_aggregate_of_the_application(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, 40, TOGETHER))
    con.create_aggregate_function("collected", _Collected, 1)
    _Collected.seen.clear()
    query = "SELECT collected(width(image)) FILTER (WHERE height(image) > 1), collected(DISTINCT k) FROM t"
    assert con.execute(query).get == (80, 80)
    assert sorted(_Collected.seen)[-40:] == [100 + number for number in range(40)]


@pytest.mark.parametrize("sql", ["SELECT double(width(image)) FROM t", "UPDATE t SET w = double(width(image))"])
def test_a_function_that_takes_no_null(many: HttpServer, con: mediasql.MediaConnection, sql: str) -> None:
    """It is given NULL only where the statement itself has one."""
    table(con, urls(many, 5))
    con.create_scalar_function("double", lambda value: value + value, 1, deterministic=True)
    con.execute(sql).fetchall()
    assert con.execute("SELECT sum(double(width(image))) FROM t").get == 2 * (100 + 101 + 102 + 103 + 104)


def test_a_query_inside_of_another(many: HttpServer, con: mediasql.MediaConnection) -> None:
    """For each row of one, another: both of them run ahead."""
    table(con, urls(many, 20, TOGETHER))
    found = []
    for k, width in con.execute("SELECT k, width(image) FROM t"):
        many.reset()
        others = "SELECT height(image || '?' || ?) FROM t"
        found.append((width, con.execute(others, (k,)).fetchall()))
    assert found == [(100 + number, [(50,)] * 20) for number in range(20)]


def test_two_queries_in_turn(many: HttpServer, con: mediasql.MediaConnection) -> None:
    """Neither waits for the other, to which it does not come back before it has its row."""
    table(con, [f"{url}?{turn}" for turn in range(5) for url in urls(many, FILES)])
    one, other = (
        con.execute(f"SELECT {f}(replace(image, '/many/', '/{t}/many/')) FROM t LIMIT 5000")
        for f, t in (("width", "together/3"), ("height", "together/4"))
    )
    assert list(zip(one, other, strict=True)) == 5 * [((100 + number,), (50,)) for number in range(FILES)]


def test_off_opens_one_after_the_other(many: HttpServer) -> None:
    con = mediasql.connect(readahead="off")
    table(con, urls(many, 6, "slow/100/"))
    began = time.monotonic()
    con.execute("SELECT width(image) FROM t").fetchall()
    assert time.monotonic() - began > 0.6
    con.close()


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_bad_files_among_good_ones(many: HttpServer) -> None:
    con = mediasql.connect(timeout=5)
    good, bad = urls(many, 20), {}
    for name, kind in {
        "none.jpg": "not found",
        "s/403/many/m00.jpg": "forbidden",
        "text.jpg": "damaged",
        "hang/many/m00.jpg": "transient",
        "short/many/m01.jpg": "transient",
        "s/429/many/m00.jpg": "transient",
    }.items():
        bad[f"{many.url}/{name}"] = kind
    many.put("", "text.jpg", b"This is not a picture. " * 20)
    fine = [f"{many.url}/slow/200/many/m02.jpg", f"{many.url}/flaky/2/503/many/m03.jpg"]
    mixed = [*good[:10], *bad, *fine, *good[10:]]
    table(con, mixed)
    rows = dict(con.execute("SELECT image, width(image) FROM t").fetchall())
    assert {image for image, width in rows.items() if width is None} - set(bad) == set()
    failed = dict(con.execute("SELECT url, kind FROM media_errors").fetchall())
    assert set(failed) == {image for image, width in rows.items() if width is None}
    for image, kind in bad.items():
        if "short" not in image:  # a cut answer may hold all that is needed
            assert failed[image] == kind
    con.close()


def test_a_server_that_goes_and_comes_back(many: HttpServer, fault_proxy: Callable[[int], Any]) -> None:
    proxy = fault_proxy(many.port)
    con = mediasql.connect(timeout=60)
    table(con, [url.replace(str(many.port), str(proxy.port)) for url in urls(many, FILES, "slow/50/")])
    rows = []
    for row in con.execute("SELECT width(image) FROM t"):
        rows.append(row)
        if len(rows) == 1:
            proxy.set(refuse=True, first=8)
    assert rows == [(100 + number,) for number in range(FILES)]
    con.close()


# --- giving up -------------------------------------------------------------------------------------------------------


AT_ONCE = 2


def nothing_more_is_asked_for(server: HttpServer, answered: int = 0) -> None:
    """No more than what was answered and what was on its way, though that is over now."""
    server.release()
    before = -1
    while len(server.requests()) > before:
        before = len(server.requests())
        time.sleep(0.3)
    assert before <= answered + AT_ONCE


@pytest.fixture
def narrow(many: HttpServer) -> Iterator[mediasql.MediaConnection]:
    """Few at once, so that most wait in the queue, behind the first two that are not answered."""
    con = mediasql.connect(timeout=600, concurrency=AT_ONCE)
    table(con, [*urls(many, 1), *urls(many, FILES, "held/")[1:]])
    yield con
    con.close()


def test_a_closed_cursor_wants_no_more(many: HttpServer, narrow: mediasql.MediaConnection, clock: Clock) -> None:
    """SQLite does not tell that it was closed: whoever has not asked for a while wants no more."""
    cursor = narrow.execute("SELECT width(image) FROM t")
    assert next(cursor) == (100,)
    cursor.close()
    clock.move(1)
    nothing_more_is_asked_for(many, 1)
    many.reset()
    many.release()
    assert narrow.execute("SELECT width(image) FROM t WHERE k = 40").get == 139
    assert len(many.requests()) == 1  # what the first one wanted is not wanted any more
    assert len(narrow.execute("SELECT width(image) FROM t LIMIT 20").fetchall()) == 20


def test_a_reader_that_fails(many: HttpServer, narrow: mediasql.MediaConnection, clock: Clock) -> None:
    def read() -> None:
        for _ in narrow.execute("SELECT width(image) FROM t"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    clock.move(1)
    nothing_more_is_asked_for(many, 1)


def test_a_failure_that_raises(many: HttpServer) -> None:
    con = mediasql.connect(timeout=600, concurrency=AT_ONCE, on_error="raise")
    table(con, [f"{many.url}/none.jpg", *urls(many, FILES, "held/")])
    with pytest.raises(mediasql.NotFound):
        con.execute("SELECT width(image) FROM t").fetchall()
    nothing_more_is_asked_for(many, 1)
    con.close()


def test_an_interrupt_ends_the_wait(many: HttpServer) -> None:
    con = mediasql.connect(timeout=600, concurrency=AT_ONCE)
    table(con, [f"{many.url}/hang/many/m{number:02}.jpg" for number in range(20)])

    def interrupt() -> None:
        eventually(many.requests)
        con.interrupt()

    with soon(), meanwhile(interrupt), pytest.raises(apsw.InterruptError):
        con.execute("SELECT width(image) FROM t").fetchall()
    nothing_more_is_asked_for(many)
    con.execute("UPDATE t SET image = ?", (urls(many, 1)[0],))
    assert con.execute("SELECT width(image) FROM t LIMIT 1").get == 100
    con.close()


def test_a_signal_ends_the_wait(many: HttpServer, clock: Clock) -> None:
    """Ctrl-C: Python raises wherever it is; where that is not ours, whoever has not asked for a while wants no more."""
    con = mediasql.connect(timeout=600, concurrency=AT_ONCE)
    table(con, [f"{url}?{turn}" for turn in range(20) for url in urls(many, FILES, "held/")])

    ended = threading.Event()

    def interrupt() -> None:
        eventually(many.requests)
        while not ended.is_set():  # Python drops what a signal raises in a callback of the garbage collector
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait(5)

    with soon(), meanwhile(interrupt):
        with pytest.raises(KeyboardInterrupt):
            con.execute("SELECT sum(width(image)) FROM t").fetchall()
        ended.set()
    clock.move(1)
    nothing_more_is_asked_for(many)
    assert con.execute("SELECT width(image) FROM t WHERE k = 3").get == 102
    con.close()


@pytest.mark.parametrize("call", [1, 2, 30, 60])
def test_a_signal_while_it_is_scouted(many: HttpServer, clock: Clock, call: int) -> None:
    """What was foreseen until then is given up at once, whether the statement waits for it yet or not."""
    con = mediasql.connect(timeout=600, concurrency=AT_ONCE)
    table(con, urls(many, FILES, "held/"))
    calls = iter(range(FILES * 2))

    def pressed(value: str) -> str:
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return value

    con.create_scalar_function("pressed", pressed, 1, deterministic=True)
    clock.stop()
    with soon(), pytest.raises(KeyboardInterrupt):
        con.execute("SELECT sum(width(pressed(image))) FROM t").fetchall()
    nothing_more_is_asked_for(many)
    assert con.execute("SELECT width(image) FROM t WHERE k = 3").get == 102
    con.close()


def test_what_was_given_up_and_is_wanted_again(many: HttpServer) -> None:
    """A file on its way for a cursor that was closed, asked for by the next statement at once."""
    con = mediasql.connect(timeout=20, concurrency=2, cache_size=0, failure_age=0)
    table(con, urls(many, FILES, "slow/50/"))
    for turn in range(10):
        cursor = con.execute(f"SELECT width(image || '?{turn}') FROM t")
        assert next(cursor) == (100,)
        cursor.close()
        for k in (2, 3, 4):
            assert con.execute(f"SELECT width(image || '?{turn}') FROM t WHERE k = ?", (k,)).get == 99 + k
    assert not con.execute("SELECT * FROM media_errors").fetchall()
    con.close()


@pytest.mark.filterwarnings("error")
def test_closing_with_answers_on_their_way(many: HttpServer, capfd: pytest.CaptureFixture[str]) -> None:
    con = mediasql.connect(timeout=600)
    table(con, [*urls(many, 1), *(f"{many.url}/hang/many/m{number:02}.jpg" for number in range(20))])
    assert next(con.execute("SELECT width(image) FROM t")) == (100,)
    with soon():
        con.close(True)
    con = mediasql.connect(timeout=20)
    table(con, [*urls(many, 1), *urls(many, FILES, "held/")[1:]])
    assert next(con.execute("SELECT width(image) FROM t")) == (100,)
    freed = weakref.ref(con)
    del con
    gc.collect()
    assert freed() is None
    many.release()
    time.sleep(0.5)
    gc.collect()
    assert capfd.readouterr().err == ""


# --- what must not be run twice --------------------------------------------------------------------------------------


def test_functions_with_effects_are_called_once_a_row(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, 20))
    calls = []
    con.create_scalar_function("effect", lambda k: calls.append(k) or k, 1)
    con.execute("SELECT effect(k), width(image) FROM t").fetchall()
    con.execute("INSERT INTO t(image) SELECT image || effect(k) || '?' FROM t WHERE width(image)").fetchall()
    con.execute("UPDATE t SET w = effect(k) + width(image) WHERE k < 3").fetchall()
    assert calls == [*range(1, 21), *range(1, 21), 1, 2]


def test_tracers_are_not_told_and_stay(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, 20))
    told: list[Any] = []
    con.exec_trace = lambda cursor, sql, bindings: told.append(sql) or True
    con.row_trace = lambda cursor, row: told.append(row) or row
    traced: list[Any] = []
    con.trace_v2(apsw.SQLITE_TRACE_PROFILE, traced.append)
    exec_trace, row_trace = con.exec_trace, con.row_trace
    con.execute("SELECT width(image) FROM t").fetchall()
    assert told == ["SELECT width(image) FROM t", *((100 + number,) for number in range(20))]
    assert (con.exec_trace, con.row_trace) == (exec_trace, row_trace)
    traced.clear()
    con.execute("SELECT 1").fetchall()
    assert len(traced) == 1


def test_counters_of_the_connection(many: HttpServer, con: mediasql.MediaConnection) -> None:
    table(con, urls(many, 20))
    con.execute("UPDATE t SET w = 1 WHERE k < 8")
    before = con.changes(), con.total_changes(), con.last_insert_rowid()
    query = "SELECT changes(), total_changes(), last_insert_rowid(), width(image) FROM t"
    assert {row[:3] for row in con.execute(query)} == {before}
    assert (con.changes(), con.total_changes(), con.last_insert_rowid()) == before


@pytest.mark.parametrize(
    ("query", "bindings"),
    [
        ("SELECT width(image), length(?) FROM t", (b"x" * 30_000_000,)),
        ("SELECT width(image), ? FROM t", ("a\0b",)),
        ("SELECT width(image), :a, @b, $c FROM t", {"a": 1, "b": "x'y", "c": b"z"}),
        ("SELECT width(image) + ?2 FROM t WHERE k <= ?1", (20, 1.5)),
        ("INSERT INTO t(w, image) SELECT width(image) + ?, ? FROM t WHERE k > ?", (1, b"\0" * 5, 0)),
        ("INSERT INTO t(w, image) SELECT width(image) + :one, $two FROM t", {"one": 1, "two": None}),
    ],
)
def test_bindings(many: HttpServer, con: mediasql.MediaConnection, query: str, bindings: Any) -> None:
    table(con, urls(many, 20))
    con.execute(query, bindings).fetchall()
    assert list(asked(many).values()) == [1] * 20
