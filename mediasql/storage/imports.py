"""Packages that take long to import, or are seldom needed: imported when they are needed first, one at a time.

Where one thread imports a package and another one a part of it, or two packages that need each other's parts, each may
wait for a module that the other is about to make. Python sees that, and raises in one of them. The loop needs aiohttp
while a thread imports s3fs, which needs it too; so whatever imports these packages does it in `with importing(…):`.
"""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from . import forking

_lock = forking.lock()  # or a child would wait for an import that its parent was in the middle of
_imported: set[str] = set()
_NOTHING_TO_WAIT_FOR = nullcontext()


class _Importing:
    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names

    def __enter__(self) -> None:
        _lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _lock.release()
        if error is None:
            _imported.update(self._names)


def importing(*names: str) -> AbstractContextManager[None]:
    """For statements that import these modules: no other thread imports any here meanwhile.

    Where all of them have been imported so before, nobody is waited for.
    """
    return _NOTHING_TO_WAIT_FOR if _imported.issuperset(names) else _Importing(names)


def module(name: str) -> Any:
    """Return the module of that name. Raises ImportError."""
    with importing(name):
        return importlib.import_module(name)
