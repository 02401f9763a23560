"""SQLite versions that nobody has tested: what they tell is believed when they answer as the tested ones do."""

from __future__ import annotations

import itertools
import sqlite3
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import apsw
import pytest

import mediasql
from mediasql.config import Config
from mediasql.sql import apsw_binding, routines_of_apsw, self_test
from mediasql.sql.c_api import CApi, Running, c_api
from mediasql.sql.loadable import binding
from mediasql.sql.statements import Statements
from tests.sql.test_liveness import NAMES, Database, value_of

Rows = list[tuple[Any, ...]]
_libraries = itertools.count(1)


class Newer(CApi):
    """A library that is APSW's in all but the version that it reports."""

    version = 3_999_000

    def __init__(self) -> None:
        super().__init__(routines_of_apsw.address())
        self.library = -next(_libraries)


class Alone(Newer):
    """One that never says that a statement is executed inside of another one."""

    def executes_alone(self, statements: Any) -> bool:
        return True


class Numberless(Newer):
    """One that does not say how often a statement was started."""

    def running(self, database: int) -> list[Running]:
        return [each._replace(execution=each.pointer) for each in super().running(database)]


class Silent(Newer):
    """One that does not say what it executes."""

    def running(self, database: int) -> list[Running]:
        return []


class Older(Newer):
    version = 3_037_002


class NewerDatabase(Database):
    def __init__(self, api: CApi) -> None:
        self.fetches = Counter()
        self.connection: Any = apsw.Connection(":memory:")
        session = apsw_binding.attach(self.connection, Config.load(), Statements(self.connection, api))
        for name in NAMES:
            apsw_binding.add_function(self.connection, session, self._function(name))
        self.run("CREATE TABLE t(url, v AS (f(url)), s AS (g(url)) STORED)")


def fetches_of_writes(api: CApi) -> Counter[str]:
    """What two connections fetch for an INSERT and an UPDATE, neither of which uses f."""
    fetches: Counter[str] = Counter()
    for _ in range(2):
        database = NewerDatabase(api)
        assert database.run("INSERT INTO t(url) VALUES ('a')") == []
        assert database.run("UPDATE t SET url = 'b'") == []
        fetches += database.fetches
        assert database.run("SELECT url, v, s FROM t") == [("b", value_of("f", "b"), value_of("g", "b"))]
        database.close()
    return fetches


def test_the_libraries_of_today_pass(loadable: str) -> None:
    api = c_api()
    assert api is not None
    con = sqlite3.connect(":memory:")
    mediasql.load(con)
    routines = binding.connections()[-1].routines
    assert (self_test.mistake(api), self_test.mistake(routines)) == (None, None)
    oldest, newest = self_test.TESTED
    assert oldest <= routines.version <= newest, "run test_loadable_liveness with it, then it is a tested one"
    assert oldest <= api.version <= newest, "run test_liveness with it, then it is a tested one"
    con.close()


@pytest.mark.parametrize("kind", [Newer, Older])
def test_an_unknown_version_that_answers_well(kind: type[CApi], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched that is not used; it was asked once, when a write called a function."""
    asked: list[CApi] = []
    mistake = self_test.mistake
    monkeypatch.setattr(self_test, "mistake", lambda api: (asked.append(api), mistake(api))[1])
    api = kind()
    NewerDatabase(api).run("SELECT f('a')")
    assert asked == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(fetches_of_writes(api)) == {"g"}
    assert asked == [api]


def test_a_tested_version_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "mistake", lambda api: pytest.fail("it was asked"))
    api = Newer()
    api.version = apsw.SQLITE_VERSION_NUMBER
    assert set(fetches_of_writes(api)) == {"g"}


def without(opcode: str) -> Callable[[Rows], Rows]:
    """Bytecode in which an opcode does something else."""
    return lambda rows: [(row[0], "Noop" if row[1] == opcode else row[1], *row[2:]) for row in rows]


def renumbered(rows: Rows) -> Rows:
    """Functions that write another register."""
    return [(*row[:4], "1" if row[1] in ("Function", "PureFunc") else row[4], *row[5:]) for row in rows]


FALSIFIED: dict[str, Callable[[Rows], Rows]] = {
    "records": without("MakeRecord"),
    "constraints": without("HaltIfNull"),
    "checks": without("Ne"),
    "triggers": without("Program"),
    "copies": without("SCopy"),
    "registers": renumbered,
    "unknown": lambda rows: [(row[0], f"New{row[1]}", *row[2:]) for row in rows],
    "nothing": lambda rows: [],
    "words": lambda rows: [("one", *row[1:]) for row in rows],
    "columns": lambda rows: [row[:3] for row in rows],
}


@pytest.mark.parametrize("falsified", FALSIFIED)
def test_an_unknown_version_with_another_bytecode(falsified: str, monkeypatch: pytest.MonkeyPatch) -> None:
    explain = self_test.Scratch.explain
    monkeypatch.setattr(self_test.Scratch, "explain", lambda *given: FALSIFIED[falsified](explain(*given)))
    with pytest.warns(mediasql.MediaWarning, match=r"SQLite 3\.999, and computes all .* tested with 3\.38 to ") as said:
        assert set(fetches_of_writes(Newer())) == {"f", "g"}
    assert len(said) == 1


@pytest.mark.parametrize("kind", [Alone, Numberless, Silent])
def test_an_unknown_version_that_tells_otherwise_what_it_executes(kind: type[CApi]) -> None:
    api = kind()
    assert self_test.mistake(api) is not None
    with pytest.warns(mediasql.MediaWarning) if kind is not Silent else warnings.catch_warnings():
        assert set(fetches_of_writes(api)) == {"f", "g"}
