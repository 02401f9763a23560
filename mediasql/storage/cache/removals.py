"""Deletes the files that the catalogue lists for that."""

from __future__ import annotations

import time
from pathlib import Path

import apsw

from . import room
from .folders import remove

AT_ONCE = 1_000  # files after one transaction
PAUSE = 30.0  # seconds for which what could not be deleted is left alone: other programs may have it open
_MOST_STUCK = 10_000


class Removals:
    """To be used in the keeper's thread, and in its transactions."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._gone: list[str] = []  # which the catalogue does not know
        self._stuck: set[str] = set()
        self._again_at = 0.0

    def next(self, connection: apsw.Connection) -> list[str]:
        """The files that `carry_out` is to delete when this transaction is committed."""
        connection.executemany("DELETE FROM removed WHERE file = ?", [(file,) for file in self._gone])
        if time.monotonic() > self._again_at:
            self._stuck.clear()
        if len(self._stuck) > _MOST_STUCK:
            return []
        files = room.doomed(connection, AT_ONCE + len(self._stuck))
        return [file for file in files if file not in self._stuck][:AT_ONCE]

    def carry_out(self, files: list[str]) -> bool:
        """Delete them. Whether there may be more to delete now."""
        self._gone = [file for file in files if remove(self._root, file)]
        if len(self._gone) < len(files):
            if not self._stuck:
                self._again_at = time.monotonic() + PAUSE
            self._stuck.update(set(files).difference(self._gone))
        return len(files) == AT_ONCE
