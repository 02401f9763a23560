"""connect() and register(): an APSW connection with everything attached."""

from __future__ import annotations

import os
from typing import Any

import apsw

from .config import Config
from .errors import ConfigError
from .sql import apsw_binding
from .sql.session import Session

_ATTACHED = "_mediasql_session"


class MediaConnection(apsw.Connection):
    """An `apsw.Connection` whose SQL knows mediasql's functions and tables."""

    media: Session


def connect(path: str | os.PathLike[str] = ":memory:", **config: Any) -> MediaConnection:
    """Open a database, with all functions and tables of mediasql.

    path      file of the database, made when it does not exist
    config    options of `Config`, such as `timeout=10` or `storage_options={'s3': {'anon': True}}`;
              what is not given comes from `MEDIASQL_*` variables

    Raises ConfigError for an option that does not exist, apsw.CantOpenError for a file that cannot be opened.
    """
    options = Config.load(**config)
    connection = MediaConnection(os.fspath(path))
    connection.media = apsw_binding.attach(connection, options)
    return connection


def register(connection: apsw.Connection, **config: Any) -> None:
    """Attach mediasql to an APSW connection that you have; `config` as for `connect`.

    Doing it again changes nothing, unless a configuration is given, which a connection has only once: ConfigError.
    """
    if not isinstance(connection, apsw.Connection):
        raise ConfigError(f"register takes an apsw.Connection, not {type(connection).__module__}.{type(connection).__name__}")
    if connection.table_exists(None, "media_errors"):
        if config:
            raise ConfigError("mediasql is attached to this connection already, with its configuration")
        return
    apsw_binding.attach(connection, Config.load(**config))
