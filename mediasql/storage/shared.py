"""Stores that all of a process shares, for what is made anew for each URL."""

from __future__ import annotations

from ..config import Config
from ..lifetime import leak
from . import forking
from .store import Store

_shared: dict[str, Store] = {}
_sharing = forking.lock()


def shared(name: str, config: Config) -> Store:
    """The one Store of this process under that name."""
    with _sharing:
        store = _shared.get(name)
        if store is None:
            store = _shared[name] = Store(config)
        return store


def _forget() -> None:
    """In a forked child: what the parent opened is the parent's."""
    leak(dict(_shared))
    _shared.clear()


forking.at_fork(in_child=_forget)
