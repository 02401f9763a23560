"""Answers on their way, and what SQLite is asked about its statements."""

from __future__ import annotations

import copy
import threading
from typing import Any

import apsw
import pytest

import mediasql
from mediasql.config import Config
from mediasql.media.probe import Want
from mediasql.sql import c_api
from mediasql.sql.ahead import Ahead, Wanted
from mediasql.storage.store import Store
from tests.sql.conftest import Web
from tests.waiting import eventually, soon


def wanted(url: str) -> Wanted:
    return Wanted(url, url, Want.HEADER)


def nothing() -> None:
    pass


def test_what_is_given_up_leaves_nothing(web: Web) -> None:
    ahead = Ahead(Store(Config.load(timeout=600, concurrency=2)))
    hanging = [f"{web.server.url}/hang/p{number}.jpg" for number in range(5)]
    ahead.start([wanted(url) for url in hanging], "owner")
    with pytest.raises(ZeroDivisionError):
        ahead.take(hanging[0], lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    ahead.give_up("owner")
    ahead.start([wanted(web.url(1))], "other")
    with soon():  # those that hang make room
        ahead.take(web.url(1), nothing)
    ahead.close()
    assert not any(ahead.has(url) for url in hanging)


def test_leftovers(web: Web) -> None:
    ahead = Ahead(Store(Config.load()))
    urls = [web.url(number) for number in range(4)]
    ahead.start([wanted(url) for url in urls[:2]], "gone")
    ahead.start([wanted(url) for url in urls[2:]], "here")
    ahead.take(urls[3], nothing)
    eventually(lambda: all(map(ahead.peek, urls[:3])))
    assert sorted(key for key, _, _ in ahead.leftovers({"here"})) == urls[:2]
    assert [ahead.has(url) for url in urls] == [False, False, True, False]
    ahead.close()


def api() -> c_api.CApi:
    found = c_api.c_api()
    assert found is not None
    return found


def test_sqlite_tells_its_statements() -> None:
    con = apsw.Connection(":memory:")
    con.execute("CREATE TABLE t(a)")
    one = con.execute("SELECT ?1, 'ä' UNION ALL SELECT 2, :b", (1, "x'y"))
    next(one)
    (running,) = api().running(con.sqlite3_pointer())
    assert (running.readonly, running.gave_a_row) == (True, True)
    assert api().parameters(running) == 2
    cursor: Any = one
    assert api().text(running) == "SELECT ?1, 'ä' UNION ALL SELECT 2, :b"
    assert api().expanded(running) == cursor.expanded_sql == "SELECT 1, 'ä' UNION ALL SELECT 2, 'x''y'"
    one.close()
    assert api().running(con.sqlite3_pointer()) == []
    con.close()


def test_executions_have_numbers_of_their_own() -> None:
    """The same at each look, for whoever looks; another for the same statement anew, and for one in its place."""
    con = apsw.Connection(":memory:")
    other = copy.copy(api())

    def number(which: c_api.CApi) -> int:
        (running,) = which.running(con.sqlite3_pointer())
        return running.execution

    numbers, places = set(), set()
    for turn in range(60):
        # APSW keeps two of three statements for the next turn; the third is gone, and its place is free.
        cursor = con.execute("SELECT ? UNION ALL SELECT 2", (turn,), can_cache=turn % 3 < 2)
        look, again = (api(), other) if turn % 2 else (other, api())
        next(cursor)
        if turn % 5 == 4:
            continue  # nobody looks at it
        numbers.add(number(look))
        places.add(api().running(con.sqlite3_pointer())[0].pointer)
        assert next(cursor) == (2,)
        assert number(again) in numbers
    assert len(numbers) == 48
    assert len(places) < 48
    con.close()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_asking_keeps_no_memory() -> None:
    con = apsw.Connection(":memory:")
    cursor = con.execute("SELECT ? UNION ALL SELECT 2", ("x" * 2000,))
    next(cursor)
    (running,) = api().running(con.sqlite3_pointer())
    for count in (1000, 30_000):
        before = resident()
        for _ in range(count):
            api().expanded(running)
            api().text(running)
    assert resident() - before < 10_000_000
    con.close(True)


def test_threads_with_their_own_connections(web: Web) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            con = mediasql.connect()
            con.execute("CREATE TABLE t(image)")
            con.executemany("INSERT INTO t VALUES (?)", [(web.url(number),) for number in range(10)])
            assert con.execute("SELECT sum(width(image)) FROM t").get == 1045
            con.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
