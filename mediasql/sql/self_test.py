"""Whether a SQLite library works as the tested ones do, in what is concluded from it and is no promise of SQLite's.

That is: the bytecode of programs, which says what results are used, and how SQLite tells what it executes. For versions
that the tests of this package have run with, they are the proof. Others have to answer a few questions with known
answers, once per process, when a write first calls a function; where one answer is another, every result is computed.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from ..errors import ConfigError
from ..storage import forking
from ..warning import warn
from .c_api import CApi, Running, Signature, functions_at, text_of
from .liveness import called_functions, unused_functions

# The first and the last version of SQLite with which test_liveness or test_loadable_liveness were run.
TESTED = 3_038_000, 3_054_999

_POINTER, _INT, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
_CALLBACK = ctypes.PYFUNCTYPE(None, _POINTER, _INT, _POINTER)
_FUNCTIONS: dict[str, Signature] = {
    "open_v2": (_INT, (_TEXT, _POINTER, _INT, _TEXT)),
    "close_v2": (_INT, (_POINTER,)),
    "exec": (_INT, (_POINTER, _TEXT, _POINTER, _POINTER, _POINTER)),
    "prepare_v2": (_INT, (_POINTER, _TEXT, _INT, _POINTER, _POINTER)),
    "step": (_INT, (_POINTER,)),
    "reset": (_INT, (_POINTER,)),
    "finalize": (_INT, (_POINTER,)),
    "column_text": (_TEXT, (_POINTER, _INT)),
    "create_function_v2": (
        _INT,
        (_POINTER, _TEXT, _INT, _INT, _POINTER, _CALLBACK, _POINTER, _POINTER, _POINTER),
    ),
}
_OPEN = 0x2 | 0x4 | 0x80  # SQLITE_OPEN_READWRITE, _CREATE and _MEMORY
_UTF8, _OK, _ROW, _DONE = 1, 0, 100, 101

# Tables, a statement, and those of its functions whose results it does not use. They stand for functions of media.
_T = "CREATE TABLE t(k INTEGER PRIMARY KEY, url TEXT, note TEXT, v TEXT AS (upper(url)))"
_INSERT = "INSERT INTO t(url) VALUES (?)"
_UPSERT = "INSERT INTO t(k, url) VALUES (1, ?) ON CONFLICT(k) DO UPDATE SET note = excluded."
_NAME = re.compile("upper|lower|hex|printf|quote")
_CASES: list[tuple[str, str, str]] = [
    (_T, _INSERT, "upper"),
    (_T, "INSERT INTO t(url) VALUES ('a'), (?) RETURNING url", "upper"),
    (_T, f"{_INSERT} RETURNING v", ""),
    (_T, f"{_UPSERT}url", "upper"),
    (_T, f"{_UPSERT}v", ""),
    (_T, "REPLACE INTO t(k, url) VALUES (1, lower(?))", "upper"),
    (_T, "INSERT INTO t(url) SELECT url FROM t WHERE note > 1 ORDER BY url LIMIT 3", "upper"),
    (_T, "INSERT INTO t(url, note) SELECT url, v FROM t", ""),
    (_T, "UPDATE t SET note = ? WHERE k = 1", "upper"),
    (_T, "UPDATE t SET note = hex(v) WHERE url > 'a'", ""),
    (f"{_T} STRICT", _INSERT, "upper"),
    (f"{_T} WITHOUT ROWID", "INSERT INTO t(k, url) VALUES (1, ?)", "upper"),
    (f"{_T}; CREATE INDEX i ON t(v)", _INSERT, ""),
    (f"{_T}; CREATE INDEX i ON t(note) WHERE v > 'A'", _INSERT, ""),
    (f"{_T}; CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT new.note; END", _INSERT, "upper"),
    (f"{_T}; CREATE TRIGGER r AFTER INSERT ON t BEGIN SELECT new.v; END", _INSERT, ""),
    (f"{_T}; CREATE TRIGGER r BEFORE DELETE ON t WHEN old.v = 'A' BEGIN SELECT 1; END", "DELETE FROM t", ""),
    ("CREATE TABLE t(url, v AS (upper(url)) CHECK (v <> 'A'), x AS (lower(url)))", _INSERT, "lower"),
    ("CREATE TABLE t(url, v AS (upper(url)) NOT NULL)", _INSERT, ""),
    (
        "CREATE TABLE t(url, v AS (upper(url)), x AS (hex(v)), y AS (printf('%s%s', url, quote(url))))",
        _INSERT,
        "hex printf quote upper",
    ),
    (
        "CREATE TABLE t(url, v AS (upper(url)), x AS (hex(v)) STORED, y AS (printf('%s%s', url, quote(url))) STORED)",
        _INSERT,
        "",
    ),
]


class Scratch:
    """A database in memory, by the functions of some library. Raises ConfigError for what that refuses."""

    def __init__(self, functions: SimpleNamespace) -> None:
        self._call = functions
        self._database = ctypes.c_void_p()
        self._callbacks: list[Any] = []  # for as long as SQLite may call them
        self._check(self._call.open_v2(b":memory:", ctypes.byref(self._database), _OPEN, None))

    @property
    def pointer(self) -> int:
        return self._database.value or 0

    def close(self) -> None:
        self._call.close_v2(self._database)

    def add_function(self, name: str, function: Callable[[], None]) -> None:
        """Make `function` an SQL function that returns NULL. It must not raise."""
        callback = _CALLBACK(lambda context, count, values: function())
        self._callbacks.append(callback)
        code = self._call.create_function_v2(self._database, name.encode(), 0, _UTF8, None, callback, None, None, None)
        self._check(code)

    def execute(self, script: str) -> None:
        self._check(self._call.exec(self._database, script.encode(), None, None, None))

    def prepare(self, sql: str) -> ctypes.c_void_p:
        statement = ctypes.c_void_p()
        self._check(self._call.prepare_v2(self._database, sql.encode(), -1, ctypes.byref(statement), None))
        return statement

    def step(self, statement: ctypes.c_void_p) -> bool:
        """Return whether there is a row; the statement starts anew after the last one."""
        code = self._call.step(statement)
        if code == _ROW:
            return True
        self._check(_OK if code == _DONE else code)
        self._call.reset(statement)
        return False

    def finalize(self, statement: ctypes.c_void_p) -> None:
        self._call.finalize(statement)

    def explain(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the first columns of EXPLAIN, to p5, as texts."""
        statement, rows = self.prepare(f"EXPLAIN {sql}"), []
        text = self._call.column_text
        while self.step(statement):
            values = [text(statement, column) for column in range(7)]
            rows.append(tuple([None if value is None else value.decode() for value in values]))
        self._call.finalize(statement)
        return rows

    def _check(self, code: int) -> None:
        if code != _OK:
            raise ConfigError(f"error {code} in a database in memory")


def mistake(api: CApi) -> str | None:
    """Return what the library behind `api` does otherwise than the tested ones; None where nothing was found."""
    try:
        functions = SimpleNamespace(**functions_at(api.table, _FUNCTIONS, ctypes.PYFUNCTYPE))
        return _mistake_in_programs(functions) or _mistake_in_executions(functions, api)
    except (ConfigError, ValueError, TypeError) as error:  # what it gives may be anything
        return f"{type(error).__name__}: {error}"


def _mistake_in_programs(functions: SimpleNamespace) -> str | None:
    for tables, statement, unused in _CASES:
        database = Scratch(functions)
        try:
            database.execute(tables)
            explained = database.explain(statement)
        finally:
            database.close()
        called, found = called_functions(explained), unused_functions(explained)
        expected = set(unused.split())
        named = set(_NAME.findall(f"{tables} {statement}"))
        if called - found != named - expected or not found <= expected:  # a later version may call fewer of the unused
            return f"EXPLAIN of {statement!r} with {tables!r}"
    return None


def _mistake_in_executions(functions: SimpleNamespace, api: CApi) -> str | None:
    """Look, in the middle of a write, at what SQLite tells of it, of a read that waits, and of one inside of it."""
    seen: list[tuple[bool, list[Running]]] = []

    def look() -> None:
        running = api.running(database.pointer)
        seen.append((bool(running) and api.executes_alone(running), running))

    def look_inside() -> None:
        look()
        while database.step(inner):
            pass

    database = Scratch(functions)
    try:
        database.add_function("look", look)
        database.add_function("look_inside", look_inside)
        database.execute("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)")
        inner = database.prepare("SELECT look()")
        read = database.prepare("SELECT a FROM t WHERE a < 3")
        database.step(read)
        write = database.prepare("INSERT INTO t VALUES (look_inside())")
        for _ in range(2):
            database.step(write)
        for statement in (inner, read, write):
            database.finalize(statement)
    finally:
        database.close()
    told = [
        (alone, {(each.pointer, each.readonly, each.gave_a_row) for each in running if each.pointer != inner.value})
        for alone, running in seen
    ]
    expected = {(read.value, True, True), (write.value, False, False)}
    if told != [(True, expected), (False, expected)] * 2:
        return "what it tells of the statements that it executes"
    first, _, second, _ = ({each.pointer: each.execution for each in running} for _, running in seen)
    if [pointer for pointer in first if first[pointer] != second[pointer]] != [write.value]:
        return "how often it says that a statement was started"
    return None


_lock = forking.lock()
_understood: dict[int, bool] = {}


def is_understood(api: CApi) -> bool:
    """Return whether conclusions may be drawn from what the library behind `api` tells.

    Where not, one warning for each library says so (MediaWarning).
    """
    if (known := _understood.get(api.library)) is not None:
        return known
    found = None
    with _lock:
        if api.library not in _understood:
            found = None if TESTED[0] <= api.version <= TESTED[1] else mistake(api)
            _understood[api.library] = found is None
    if found is not None:  # the application, which is told, may fork
        _warn(api.version, found)
    return _understood[api.library]


def _warn(version: int, found: str) -> None:
    oldest, newest = map(text_of, TESTED)
    warn(
        f"mediasql cannot tell which values a write uses in SQLite {text_of(version)}, and computes all of them, so "
        f"that INSERT makes requests. It was tested with {oldest} to {newest}; this one differs in: {found}. "
        "A later version of mediasql may know it",
    )
