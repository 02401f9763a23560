"""What extension.c calls: a connection of the host gets all of the registry, and is forgotten when it is closed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import apsw

from ...config import Config
from ...errors import ConfigError, MediaError
from ...storage import threads
from .. import apsw_binding
from ..c_api import number_of, text_of
from ..session import Session
from . import ctrl_c, index_info, mixing
from .host import Bridge, Connection
from .routines import Routines
from .statements import HostStatements

PROTOCOL = 2  # between extension.c and this file

_connections: dict[int, tuple[Connection, Session | None]] = {}
_bridges: dict[str, Bridge] = {}
_routines: dict[int, Routines] = {}


class _Loading(threading.local):
    """What `mediasql.load` gives, and gets back, on the thread that it runs on."""

    config: Config | None = None
    error: BaseException | None = None
    database: int | None = None


_loading = _Loading()


@contextmanager
def loading(config: Config | None) -> Iterator[_Loading]:
    """Connections that are attached in here get this configuration; `error` is what that raised."""
    _loading.config, _loading.error, _loading.database = config, None, None
    try:
        yield _loading
    finally:
        _loading.config = _loading.error = None


def attach(protocol: int, library: str, table: int, database: int) -> None:
    """Give `database`, an `sqlite3*`, all functions and tables; once.

    library  path of the shared library that calls
    table    its `sqlite3_api_routines`
    """
    try:
        if protocol != PROTOCOL:
            raise ConfigError(f"{library} belongs to another version of mediasql than {__file__}; load its own")
        _loading.database = database
        if database in _connections:
            if _loading.config is not None:
                raise ConfigError("mediasql is attached to this connection already, with the configuration it got then")
            return
        config = _loading.config or Config.load()
        routines = _routines.get(table) or Routines(table)
        bridge = _bridges.get(library) or _bridges.setdefault(library, Bridge(library))
        connection = Connection(bridge, routines, database)
        _connections[database] = connection, None
        try:
            connection.find_files()
            if table not in _routines and _compare_versions(connection):
                _routines[table] = routines
            mixing.refuse(connection.files, routines)
            like_apsw = cast("apsw.Connection", connection)
            statements = HostStatements(like_apsw, routines)
            _connections[database] = connection, apsw_binding.attach(like_apsw, config, statements)
        except BaseException:
            _connections.pop(database, None)
            raise
        finally:
            connection.attached()
    except BaseException as error:
        _loading.error = error
        raise


def _compare_versions(connection: Connection) -> bool:
    """Raise ConfigError when the host's SQL has another version than the library whose functions we were given.

    Returns whether it could be asked.
    """
    try:
        reported = connection.execute("SELECT sqlite_version()").get
    except apsw.Error:  # the host forbids it; or the schema, which newer versions read first, cannot be read now
        return False
    if number_of(reported) != connection.routines.version:
        raise ConfigError(
            f"the functions that mediasql was given are of SQLite {text_of(connection.routines.version)}, and "
            f"sqlite_version() of this connection is {reported!r}"
        )
    return True


def connection_at(database: int) -> tuple[Connection, Session | None] | None:
    """The connection that is an `sqlite3*`, if it is attached."""
    return _connections.get(database)


def connections() -> list[Connection]:
    """All that are attached."""
    return [connection for connection, _ in list(_connections.values())]


def released(database: int) -> None:
    """SQLite has closed it, and knows nothing of ours any more."""
    known = _connections.pop(database, None)
    if known is None:
        return
    connection, session = known
    connection.open = False
    if session is None:
        return
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        _close(session)
    else:  # the garbage collector called, perhaps on the loop that closing waits for
        threads.start(partial(_close, session), "close")


def _close(session: Session) -> None:
    with suppress(Exception):  # there is nobody to tell
        session.close()


def best_index(table: Any, information: int) -> bool:
    """A plan for a virtual table; False when it has none."""
    return index_info.best_index(table, information, next(iter(_routines.values())))


def explain(database: int, error: BaseException) -> tuple[int, str, bool]:
    """Return what SQLite tells of it, a code and a message; and whether KeyboardInterrupt has to be raised again."""
    known = _connections.get(database)
    ours = known is not None and known[0].depth > 0  # it comes out of a statement of our own
    if known is not None and ours:
        known[0].raised = error
    code = getattr(error, "result", 1) if isinstance(error, apsw.Error) else 1
    if isinstance(error, KeyboardInterrupt):
        caller = sys._getframe().f_back if not ours else None  # None in a program that is not of Python
        return apsw.SQLITE_INTERRUPT, "interrupted", caller is not None and not ctrl_c.raise_in(caller, error)
    text = str(error) if isinstance(error, MediaError | apsw.Error) else f"{type(error).__name__}: {error}"
    return code or 1, text.replace("\0", "\\0").encode(errors="replace").decode(), False
