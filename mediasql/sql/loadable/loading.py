"""`mediasql.loadable_path()` and `mediasql.load()`."""

from __future__ import annotations

import ctypes
import importlib
import os
import sqlite3
import sys
from functools import cache
from pathlib import Path
from typing import Any

import apsw

from ...config import Config
from ...errors import ConfigError, MediaError, MissingExtra
from ..session import Session
from .build import HERE, NAME, how_to_build
from .pointer import pointer_of

_ENABLE_LOAD_EXTENSION = 1005  # SQLITE_DBCONFIG_…, for the C interface only
_NOT_AUTHORIZED = "not authorized"


def loadable_path() -> str:
    """The path of the loadable extension, as `.load` and `load_extension` take it: without its ending.

    Raises MissingExtra when it was not built at installation, for want of a C compiler mostly.
    """
    path = HERE / NAME
    if not path.exists():
        raise MissingExtra(f"the loadable extension was not built when mediasql was installed: {how_to_build(path)}")
    return str(path.with_suffix(""))


def load(connection: Any, **config: Any) -> None:
    """Give a connection of the `sqlite3` module, or of APSW, all functions and tables of mediasql.

    config    options of `Config`; what is not given comes from `MEDIASQL_*` variables

    Doing it again changes nothing. Raises ConfigError when a configuration is given then, since a connection has one,
    and for a database file that another SQLite library of this process has open; MissingExtra when the loadable
    extension was not built. Works where Python's sqlite3 module was built without `enable_load_extension` too.
    """
    if isinstance(connection, apsw.Connection):
        from ...connection import register

        register(connection, **config)
        return
    if not isinstance(connection, sqlite3.Connection) and not hasattr(connection, "load_extension"):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise ConfigError(f"load takes an sqlite3.Connection or an apsw.Connection, not a {kind}")
    attach(connection, Config.load(**config) if config else None)


def attach(connection: Any, options: Config | None) -> Session:
    """What `load` does for a connection of the `sqlite3` module. Returns the session behind it."""
    path = loadable_path()
    connection.cursor().close()  # raises for a connection that is closed, or another thread's
    from . import binding

    with binding.loading(options) as state:
        try:
            if hasattr(connection, "load_extension"):
                _load(connection, path)
            else:
                _load_through_library(connection, path)
        except Exception as error:
            if isinstance(state.error, MediaError):
                raise state.error.again() from None
            if state.error is not None:
                raise state.error from None
            raise ConfigError(f"this SQLite does not load mediasql: {error}") from error
        known = None if state.database is None else binding.connection_at(state.database)
        if known is None or known[1] is None:
            raise ConfigError(f"the extension at {path} runs in another Python than this one; load it there")
        return known[1]


def _load(connection: Any, path: str) -> None:
    """By the connection's own methods. Loading stays allowed where it was."""
    try:
        connection.load_extension(path)
    except Exception as error:
        if _NOT_AUTHORIZED not in str(error):
            raise
    else:
        return
    connection.enable_load_extension(True)
    try:
        connection.load_extension(path)
    finally:
        connection.enable_load_extension(False)


def _load_through_library(connection: sqlite3.Connection, path: str) -> None:
    """By the functions of the SQLite library that the `sqlite3` module is linked with. Raises OSError."""
    library = _library()
    database = pointer_of(connection, library)
    library.sqlite3_free.argtypes = [ctypes.c_void_p]
    was = ctypes.c_int(0)
    config = library.sqlite3_db_config
    config(database, _ENABLE_LOAD_EXTENSION, ctypes.c_int(-1), ctypes.byref(was))
    config(database, _ENABLE_LOAD_EXTENSION, ctypes.c_int(1), None)
    message = ctypes.c_char_p()
    try:
        if library.sqlite3_load_extension(database, os.fsencode(path), None, ctypes.byref(message)):
            text = (message.value or b"it gives no reason").decode(errors="replace")
            library.sqlite3_free(message)
            raise OSError(text)
    finally:
        config(database, _ENABLE_LOAD_EXTENSION, was, None)


@cache
def _library() -> ctypes.CDLL:
    """The SQLite that the `sqlite3` module calls. Raises OSError where its functions cannot be reached."""
    module = importlib.import_module("_sqlite3")
    file = getattr(module, "__file__", None)
    library = ctypes.CDLL(file and str(Path(file)))
    if not hasattr(library, "sqlite3_load_extension") or not hasattr(library, "sqlite3_db_config"):
        raise OSError("Python's sqlite3 module was built without support for extensions")
    version: Any = library.sqlite3_libversion
    version.restype = ctypes.c_char_p
    if version().decode() != sqlite3.sqlite_version or sys.platform == "darwin":  # where variable arguments differ
        raise OSError("Python's sqlite3 module was built without enable_load_extension")
    return library
