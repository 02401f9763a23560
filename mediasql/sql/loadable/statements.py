"""Which statements of a host are under way; see `sql.statements`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from ..c_api import Running
from ..computed import ROW
from ..liveness import called_functions
from ..registry import functions
from ..statements import Statements


class HostStatements(Statements):
    """Statements that may be run by other programs than Python's, of whose callers nothing can be seen."""

    _known: tuple[Any, dict[str, bool]] = (None, {})

    def _reads_wait(self, write: Running, caller: FrameType | None) -> bool:
        if caller is not None:
            return super()._reads_wait(write, caller)
        # Only a function of the host's, called by the write, could read on meanwhile.
        assert self._api is not None
        self.unused(write)  # looks whether the schema is still the one that is known
        if self._known[0] is not self._state:
            self._known = self._state, {}
        sql = self._api.text(write)
        if sql not in self._known[1]:
            with self.unwatched():
                self._known[1][sql] = self._calls_nobody(sql, self._api.parameters(write))
        return self._known[1][sql]

    def cursors(self) -> list[Any]:
        """The cursors of Python's `sqlite3`, of whatever connection: SQLite tells its own objects, not Python's."""
        module = sys.modules.get("sqlite3")
        return [] if module is None else [found for found in gc.get_objects() if isinstance(found, module.Cursor)]

    def trace(self, began: Callable[[], None], closes: Callable[[], None]) -> bool:
        """SQLite has one tracer for each connection, and cannot tell whether the host set one."""
        return False

    def _calls_nobody(self, sql: str, parameters: int) -> bool:
        """Whether all functions that a statement calls are SQLite's own or ours."""
        execute = self.cursor().execute
        called = called_functions(execute(f"EXPLAIN {sql}", (None,) * parameters)) - functions().keys() - {ROW}
        return all(
            execute("SELECT min(builtin) FROM pragma_function_list WHERE name = ?", (name,)).get == 1 for name in called
        )
