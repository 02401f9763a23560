"""Which statements of a host are under way; see `sql.statements`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

from ..c_api import Running
from ..programs import UNKNOWN
from ..statements import Statements


class HostStatements(Statements):
    """Statements that are run by programs of which nothing is known.

    One that found the database locked is under way until it is tried again, finished or reset. APSW resets it at once;
    other programs may go on with a read first, and nothing tells such a write from one that is being executed.
    """

    def _calls(self, write: Running, others: list[Running], function: str) -> bool:
        name = function.lower()
        return super()._calls(write, others, function) and all(self._cannot_call(other, name) for other in others)

    def _cannot_call(self, statement: Running, name: str) -> bool:
        program = self.program(statement)
        return program is not UNKNOWN and name not in program.called

    def cursors(self) -> list[Any]:
        """The cursors of Python's `sqlite3`, of whatever connection: SQLite tells its own objects, not Python's."""
        module = sys.modules.get("sqlite3")
        return [] if module is None else [found for found in gc.get_objects() if isinstance(found, module.Cursor)]

    def trace(self, began: Callable[[], None], closes: Callable[[], None]) -> bool:
        """SQLite has one tracer for each connection, and cannot tell whether the host set one."""
        return False
