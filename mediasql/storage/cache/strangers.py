"""Other SQLite libraries in this process, which may have a database of the cache open.

What the system locks it locks for the process, and the locks are gone when any of its handles to the file is closed:
two libraries that do not know of each other must not open one file.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import apsw


def is_open_elsewhere(path: Path, ours: Collection[tuple[int, int] | None]) -> bool:
    """Whether this process has a file open through something else than APSW. `ours` are open for sure."""
    try:
        file = _identity(os.stat(path))
        handles = os.listdir("/dev/fd")
    except OSError:  # it is not there yet, or this is Windows, where locks belong to handles
        return False
    if file in ours:
        return False
    for handle in handles:
        with suppress(OSError):
            if _identity(os.fstat(int(handle))) == file:
                return file not in _of_apsw()
    return False


def _of_apsw() -> set[tuple[int, int]]:
    """The files of connections that others made with APSW."""
    found = set()
    for connection in apsw.connections():
        with suppress(apsw.Error, ValueError, OSError):
            names = [connection.db_filename(schema) for schema in connection.db_names()]
            found |= {_identity(os.stat(name)) for name in names if name}
    return found


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
