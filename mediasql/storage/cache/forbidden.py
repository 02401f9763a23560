"""Tells all who keep something of an object that its store forbids that now (Cache-Control: no-store)."""

from __future__ import annotations

from typing import Protocol
from weakref import WeakSet

from .. import forking
from .identity import Identity


class Keeper(Protocol):
    """Keeps something of objects, in memory or on disk."""

    def forbidden(self, identity: Identity, url: str) -> None:
        """Forget what is known of this object. Called on the loop, for each answer that forbids it."""


_lock = forking.lock()
_keepers: WeakSet[Keeper] = WeakSet()


def tell(keeper: Keeper) -> None:
    """Tell it from now on, as long as it is there."""
    with _lock:
        _keepers.add(keeper)


def forbid(identity: Identity, url: str) -> None:
    """Have everybody in this process forget an object."""
    with _lock:
        keepers = list(_keepers)
    for keeper in keepers:
        keeper.forbidden(identity, url)
