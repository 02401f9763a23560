"""Files that SQL was given the paths of: they stay as long as the statements run that asked for them."""

from __future__ import annotations

from ..storage import forking
from ..storage.cache.leases import Lease


class Leases:
    """The leases of one session. `add` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = forking.lock()
        self._held: list[Lease] = []

    def add(self, lease: Lease) -> None:
        """Hold one more."""
        with self._lock:
            self._held.append(lease)

    def end(self) -> None:
        """Let all go."""
        with self._lock:
            held, self._held = self._held, []
        for lease in held:
            lease.release()
