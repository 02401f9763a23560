"""`%load_ext mediasql`: the magics `%mediasql` and `%%mediasql`."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

import apsw

from ...connection import MediaConnection, connect
from ...errors import MediaError, UsageError
from ...sql.call import sql_value
from .results import ROWS, Shown, show

USAGE = "%mediasql [DATABASE] switches to a database; %%mediasql [DATABASE] [--rows N] runs the SQL below it"
_NAME = re.compile(r"[^\W\d]\w*")


class Magic:
    """`%mediasql` and `%%mediasql` of one shell, and the connections that they opened."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._opened: dict[str, MediaConnection] = {}
        self._current: tuple[str, apsw.Connection] | None = None

    def __call__(self, line: str, cell: str | None = None) -> Shown | str | None:
        """Run SQL on media, and show the result of the last statement: %%mediasql [DATABASE] [--rows N]

        DATABASE   path of a SQLite database, made when it does not exist; or a variable with a connection. It is
                   kept for the cells that follow; the first one is :memory:
        --rows N   how many rows to show, 50 if not given

        `:name` in the SQL is the variable `name` of the notebook. %mediasql DATABASE, on a line, only switches;
        %mediasql alone tells which database is in use.
        """
        try:
            database, rows = _options(line)
            if database is not None:
                self._switch(database)
            name, connection = self._current or self._switch(":memory:")
            if cell is None:
                return name if database is None else None
            return show(connection, cell, self._bindings, rows=rows)
        except (apsw.Error, MediaError, KeyboardInterrupt) as error:
            line = _line(error)
            # What IPython asks an exception for, instead of the traceback through all this.
            error._render_traceback_ = lambda: [line]  # type: ignore[union-attr]
            raise error.with_traceback(None) from None

    def _switch(self, database: str) -> tuple[str, apsw.Connection]:
        variable = self._shell.user_ns.get(database) if _NAME.fullmatch(database) else None
        if isinstance(variable, apsw.Connection):
            self._current = database, variable
            return self._current
        if _NAME.fullmatch(database) and not os.path.exists(database):
            what = "no connection is in the variable" if variable is not None else "there is no variable and no file"
            raise UsageError(f"{what} {database}; for a new database write ./{database}")
        key = database if database == ":memory:" else os.path.abspath(os.path.expanduser(database))
        if key not in self._opened:
            self._opened[key] = connect(key)
        self._current = database, self._opened[key]
        return self._current

    def _bindings(self, names: tuple[str | None, ...]) -> Mapping[str, Any]:
        """The notebook's variables that a statement names."""
        found = {}
        for name in names:
            if name is None or not _NAME.fullmatch(name):
                raise UsageError("a '?' has no value here; write :name for the variable of that name")
            if name not in self._shell.user_ns:
                raise UsageError(f"the SQL has :{name}, and there is no variable {name}")
            value = self._shell.user_ns[name]
            try:
                found[name] = sql_value(os.fspath(value) if isinstance(value, os.PathLike) else value)
            except TypeError as error:
                raise UsageError(f"the variable {name} is of type {type(value).__name__}: {error}") from None
        return found

    def close(self) -> None:
        """Close the connections that were opened here."""
        for connection in self._opened.values():
            connection.close()
        self._opened.clear()
        self._current = None


def _options(line: str) -> tuple[str | None, int]:
    """The database and the number of rows that a magic's line names."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{error}; {USAGE}") from None
    database: str | None = None
    rows = ROWS
    given = iter(words)
    for word in given:
        option, _, value = word.partition("=")
        if option == "--rows":
            value = value or next(given, "")
            if not value.isascii() or not value.isdigit() or not int(value):
                raise UsageError(f"--rows {value}: a whole number of 1 or more is needed")
            rows = int(value)
        elif word.startswith("-") or database is not None:
            raise UsageError(f"{word!r} is not understood; {USAGE}")
        else:
            database = word
    return database, rows


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text or 'interrupted'}"


_loaded: dict[int, Magic] = {}


def load_ipython_extension(ipython: Any) -> None:
    """What `%load_ext mediasql` calls: add the magics `%mediasql` and `%%mediasql` to this shell."""
    magic = _loaded.setdefault(id(ipython), Magic(ipython))
    run: Callable[..., Any] = magic.__call__  # a function, whose docstring `%mediasql?` shows
    ipython.register_magic_function(run, magic_kind="line_cell", magic_name="mediasql")


def unload_ipython_extension(ipython: Any) -> None:
    """What `%unload_ext mediasql` calls: take the magics away, and close what they opened."""
    if (magic := _loaded.pop(id(ipython), None)) is not None:
        magic.close()
        for kind in ("line", "cell"):
            ipython.magics_manager.magics[kind].pop("mediasql", None)
