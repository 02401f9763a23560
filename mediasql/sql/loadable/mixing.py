"""Keeps two SQLite libraries of one process from the same database file.

They do not know of each other, and what the system locks, it locks for the process: when one of them closes the file,
the other's locks are gone, and a database in WAL mode loses its log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import apsw

from ...errors import ConfigError
from ...storage.paths import path_text
from ..c_api import CApi, c_api


def refuse(files: Iterable[str], api: CApi) -> None:
    """Raise ConfigError when APSW, with a library of its own, has one of these files of a host open."""
    if _library_of_apsw() != api.library:
        _compare(files, ((file, "APSW") for other in apsw.connections() for file in files_of(other)))


def refuse_apsw(files: Iterable[str]) -> None:
    """Raise ConfigError when a host, with a library of its own, has one of these files open, which APSW would open."""
    binding: Any = sys.modules.get("mediasql.sql.loadable.binding")
    hosts = binding.connections() if binding is not None else []
    if hosts:
        others = [host for host in hosts if host.routines.library != _library_of_apsw()]
        _compare(files, ((file, "the extension") for other in others for file in other.files))


def _library_of_apsw() -> int:
    """See `CApi.library`; 0 where it cannot be reached, and is hardly one that a host uses."""
    api = c_api()
    return api.library if api is not None else 0


def files_of(connection: apsw.Connection) -> list[str]:
    """Return the paths of the databases that are open there and are in files."""
    api = c_api()
    with suppress(apsw.Error, ValueError):
        if api is not None:  # APSW itself has no names that are not UTF-8
            return api.files(connection.sqlite3_pointer(), connection.db_names())
        return [name for schema in connection.db_names() if (name := connection.db_filename(schema))]
    return []


def _compare(files: Iterable[str], others: Iterable[tuple[str, str]]) -> None:
    identities = {identity: file for file in files if (identity := _identity(file))}
    if not identities:
        return
    for other, owner in others:
        if (file := identities.get(_identity(other) or (0, 0))) is not None:
            raise ConfigError(
                f"{path_text(file)} is open in this process through {owner}, with another SQLite library, and two of "
                "them break each other's locks on a file; close one of the connections first"
            )


def _identity(file: str) -> tuple[int, int] | None:
    if file.startswith("file:"):  # as SQLite takes it where URIs are allowed, on this machine
        file = os.fsdecode(unquote_to_bytes(urlsplit(file).path))
    with suppress(OSError, ValueError):
        status = os.stat(file)
        return status.st_dev, status.st_ino
    return None
