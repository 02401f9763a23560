"""A connection of the host's SQLite, with the methods of APSW's that the rest of the package calls.

Errors are APSW's too. What Python raises in a function that a statement of ours calls comes out of that statement as it
was, as it does with APSW.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import apsw

from .routines import Routines

_TRANSIENT = ctypes.c_void_p(-1)
_ROW, _DONE = 100, 101
_INTEGER, _FLOAT, _TEXT, _BLOB = 1, 2, 3, 4
_UTF8 = 1

# Long enough for a progress handler that is called every 10,000 instructions, and a quarter of a millisecond.
_PULSE = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT max(i) FROM n"


class Bridge:
    """The functions in C that Python calls."""

    def __init__(self, path: str) -> None:
        library = ctypes.PyDLL(path)
        pointer, number, text, anything = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p, ctypes.py_object
        self.host = self._named(library.mediasql_host, pointer, pointer)
        self.release = self._named(library.mediasql_release, None, pointer)
        self.forget = self._named(library.mediasql_forget, None, pointer)
        self.files = self._named(library.mediasql_files, anything, pointer)
        self.watch = self._named(library.mediasql_watch, None, pointer, anything)
        self.config = self._named(library.mediasql_config, number, pointer, number, number)
        self.function = self._named(library.mediasql_function, number, pointer, text, number, number, anything)
        self.module = self._named(library.mediasql_module, number, pointer, text, anything)

    @staticmethod
    def _named(function: Any, result: Any, *arguments: Any) -> Any:
        function.restype, function.argtypes = result, arguments
        return function


class Connection:
    """One connection of the host. Its methods are to be called on the thread that runs its statements.

    SQLite has one progress handler for each connection, and cannot tell whether it is the host's; so ours is called
    when functions and rows come by, instead of every so many instructions.
    """

    authorizer = None  # SQLite does not tell it

    def __init__(self, bridge: Bridge, routines: Routines, database: int) -> None:
        self.routines = routines
        self.open = True
        self.depth = 0  # of our own statements
        self.raised: BaseException | None = None  # by Python, in the innermost of them
        self._bridge = bridge
        self._database = database
        self._host = bridge.host(database)
        self._watches: dict[Any, Callable[[], bool]] = {}
        self._files: list[str] = []  # at the last look
        if not self._host:
            raise MemoryError

    def __del__(self) -> None:
        if self._host:
            self._bridge.forget(self._host)

    def attached(self) -> None:
        """From here on, SQLite decides when the connection ends."""
        self._bridge.release(self._host)

    def sqlite3_pointer(self) -> int:
        return self._database

    def cursor(self) -> Cursor:
        return Cursor(self)

    def execute(self, sql: str, bindings: Sequence[Any] | None = None, *, can_cache: bool = True) -> Cursor:
        return self.cursor().execute(sql, bindings)

    def create_scalar_function(
        self, name: str, call: Callable[..., Any], arity: int, *, deterministic: bool = False, flags: int = 0
    ) -> None:
        flags |= apsw.SQLITE_DETERMINISTIC if deterministic else 0
        self.check(self._bridge.function(self._host, name.encode(), arity, flags, call))

    def create_module(self, name: str, module: Any, **kind: Any) -> None:
        """What APSW's options say is how tables.c does it."""
        self.check(self._bridge.module(self._host, name.encode(), module))

    def vtab_config(self, option: int) -> None:
        """For the virtual table that is being connected."""
        self.check(self.routines.call.vtab_config(self._database, option))

    def set_progress_handler(self, handler: Callable[[], bool] | None, steps: int = 0, *, id: Any = None) -> None:
        """`handler` is asked now and then whether to end our own statement that runs."""
        if handler is None:
            self._watches.pop(id, None)
        else:
            self._watches[id] = handler
        self._bridge.watch(self._host, self.should_end if self._watches else None)

    def should_end(self) -> bool:
        return bool(self._watches) and any(watch() for watch in list(self._watches.values()))

    @property
    def is_interrupted(self) -> bool:
        """Whether the host wants the statement under way to end: it called sqlite3_interrupt, or its progress handler,
        which SQLite does not call while a function waits, says so."""
        if not self.open:
            return False
        flag = self.routines.call.is_interrupted
        if flag is not None and flag(self._database):
            return True
        try:
            self.execute(_PULSE).close()  # its rows would be asked whether to end, and what waits may be scouted
        except apsw.InterruptError:
            return True
        except apsw.Error:
            return False  # an authorizer does not want it
        return False

    @property
    def in_transaction(self) -> bool:
        return not self.routines.call.get_autocommit(self._database)

    def txn_state(self) -> int:
        return int(self.routines.call.txn_state(self._database, None))

    def limit(self, option: int, value: int = -1) -> int:
        return int(self.routines.call.limit(self._database, option, value))

    def config(self, option: int, value: int) -> int:
        return int(self._bridge.config(self._database, option, value))

    def db_names(self) -> list[str]:
        # The third column is the path of a file, which need not be UTF-8.
        rows = Cursor(self, errors="surrogateescape").execute("PRAGMA database_list")
        return ["main", "temp", *(str(row[1]) for row in rows if row[0] > 1)]

    def find_files(self) -> None:
        self._files = self.routines.files(self._database, self.db_names())

    @property
    def files(self) -> list[str]:
        """That are open now. Any thread may ask; while a statement runs, it is what was open at the last look."""
        found: bytes | None = self._bridge.files(self._host)
        if found is not None:
            self._files = [os.fsdecode(file) for file in found.split(b"\0")[:-1]]
        return self._files

    def check(self, code: int) -> None:
        """Raise what APSW would raise for a code of SQLite's."""
        if code:
            raise self.error(code)

    def error(self, code: int) -> apsw.Error:
        message = self.routines.call.errmsg(self._database) or b"unknown error"
        error: Any = type(apsw.exception_for(code))(message.decode(errors="replace"))
        error.result, error.extendedresult = code & 0xFF, code
        return cast("apsw.Error", error)


class Cursor:
    """Statements of ours. What is left of one when the cursor goes is given up, so that the host can always close."""

    exec_trace: Any = None
    row_trace: Any = None

    def __init__(self, connection: Connection, errors: str = "strict") -> None:
        """`errors` is what to do with text that is not UTF-8, as for `bytes.decode`."""
        self._connection = connection
        self._errors = errors
        self._call = connection.routines.call
        self._statement: int | None = None
        self._has_row = self._given = False
        self._rest = b""

    def execute(self, sql: str, bindings: Sequence[Any] | None = None, *, can_cache: bool = True) -> Cursor:
        """Run `sql` to its first row, or to its end."""
        self.close()
        self._rest = sql.encode()
        self._go_on(bindings)
        return self

    def _go_on(self, bindings: Sequence[Any] | None = None) -> None:
        while not self._has_row and (self._statement is not None or self._rest.strip()):
            if self._statement is None:
                self._prepare()
                self._bind(bindings or ())
            if self._statement is not None:
                self._has_row = self._run(lambda: self._call.step(self._statement)) == _ROW
                if not self._has_row:
                    self._finalize()

    def _prepare(self) -> None:
        text = ctypes.create_string_buffer(self._rest)
        statement, rest = ctypes.c_void_p(), ctypes.c_void_p()
        begin = ctypes.addressof(text)
        self._run(
            lambda: self._call.prepare_v2(
                self._connection.sqlite3_pointer(), begin, -1, ctypes.byref(statement), ctypes.byref(rest)
            )
        )
        self._statement = statement.value
        self._rest = self._rest[(rest.value or begin) - begin :] if self._statement else b""

    def _run(self, call: Callable[[], int]) -> int:
        """What SQLite returns; raises what one of our functions raised in it, or else the error of SQLite."""
        connection = self._connection
        before, connection.raised = connection.raised, None
        connection.depth += 1
        try:
            code = call()
            if code in (0, _ROW, _DONE):
                return code
            error = connection.raised or connection.error(code)
        finally:
            connection.depth -= 1
            connection.raised = before
        self.close()
        raise error

    def _bind(self, values: Sequence[Any]) -> None:
        call, statement = self._call, self._statement
        for at, value in enumerate(values, 1):
            if value is None:
                code = call.bind_null(statement, at)
            elif isinstance(value, int):
                code = call.bind_int64(statement, at, value)
            elif isinstance(value, float):
                code = call.bind_double(statement, at, value)
            elif isinstance(value, str):
                text = value.encode()
                code = call.bind_text64(statement, at, text, len(text), _TRANSIENT, _UTF8)
            else:
                code = call.bind_blob64(statement, at, bytes(value), len(value), _TRANSIENT)
            self._connection.check(code)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        if self._given:
            self._given = self._has_row = False
            self._go_on()
        if not self._has_row:
            raise StopIteration
        if self._connection.should_end():
            self.close()
            raise apsw.InterruptError("interrupted")
        row = tuple(map(self._value, range(self._call.column_count(self._statement))))
        self._given = True
        return row

    def _value(self, column: int) -> Any:
        call, statement = self._call, self._statement
        kind = call.column_type(statement, column)
        if kind == _INTEGER:
            return call.column_int64(statement, column)
        if kind == _FLOAT:
            return call.column_double(statement, column)
        if kind == _TEXT:
            text = call.column_text(statement, column)  # before its length, which is that of this encoding
            return ctypes.string_at(text, call.column_bytes(statement, column)).decode(errors=self._errors)
        if kind == _BLOB:
            data = call.column_blob(statement, column)
            return ctypes.string_at(data, call.column_bytes(statement, column)) if data else b""
        return None

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self)

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self, None)

    @property
    def get(self) -> Any:
        """The value of the one row with one column; None without a row."""
        rows = [row[0] if len(row) == 1 else row for row in self]
        return rows[0] if len(rows) == 1 else rows or None

    def _finalize(self) -> None:
        statement, self._statement = self._statement, None
        if statement is not None and self._connection.open:
            self._call.finalize(statement)

    def close(self, force: bool = False) -> None:
        self._has_row, self._given, self._rest = False, False, b""
        self._finalize()

    __del__ = close
