"""Stores that all of a process shares, for what is made anew for each URL."""

from __future__ import annotations

import os
import threading

from ..config import Config
from .store import Store

_shared: dict[str, Store] = {}
_sharing = threading.Lock()


def shared(name: str, config: Config) -> Store:
    """The one Store of this process under that name."""
    with _sharing:
        store = _shared.get(name)
        if store is None:
            store = _shared[name] = Store(config)
        return store


def _forget() -> None:
    """In a forked child: what the parent opened is the parent's."""
    global _sharing
    _sharing = threading.Lock()
    _inherited.append(dict(_shared))
    _shared.clear()


_inherited: list[object] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
