"""Of which stores something is kept: a first scan of a store need not look on disk for each of its files.

What this process wrote itself is known by the hashes of its keys. What others write meanwhile is told from it by the
numbers of the records, none of which is given again: it is found when this process writes the next time, or a second
later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import apsw

from ..storage.cache.identity import Identity

LOOK = 1.0  # seconds between looks at what others wrote
MOST = 100_000  # keys that are held in memory

LAST = "SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'answers'), 0)"
_SINCE = "SELECT DISTINCT scopes.scope FROM answers CROSS JOIN scopes ON scopes.id = answers.scope WHERE answers.id > ?"
_ALL = f"SELECT scope, ({LAST}) FROM scopes"


class Scopes:
    """Which answers may be in the database, as far as that can be said without a look-up.

    read  gives the rows of a SELECT
    """

    def __init__(self, read: Callable[..., list[Any]]) -> None:
        self._read = read
        self._shared: set[str] = set()  # scopes of which another process may keep something
        self._ours: dict[str, set[int]] = {}  # those of which only this one does, and the hashes of the keys
        self._last = 0  # the number of the last record that was there at the last look
        self._looked: float | None = None

    def may_hold(self, identity: Identity) -> bool:
        """Whether there may be an answer."""
        if identity.scope in self._shared:
            return True
        if self._looked is None or time.monotonic() - self._looked > LOOK:
            self._look(self._read)
        return identity.scope in self._shared or hash(identity.key) in self._ours.get(identity.scope, ())

    def _look(self, read: Callable[..., Iterable[Any]]) -> None:
        if self._ours:
            self._shared.update(scope for (scope,) in read(_SINCE, (self._last,)))
        else:
            kept = list(read(_ALL))
            self._shared.update(scope for scope, _ in kept)
            self._last = kept[0][1] if kept else 0
        self._looked = time.monotonic()

    def expect(self, connection: apsw.Connection, identities: Iterable[Identity]) -> None:
        """Take note of what is about to be written in the transaction of this connection."""
        # Not through another connection: who forks waits for both, in any order.
        self._look(connection.execute)
        anew = connection.execute(LAST).get < self._last  # the database was made
        if anew or sum(map(len, self._ours.values())) > MOST:
            self._shared.update(self._ours)
            self._ours.clear()
        for identity in identities:
            if identity.scope not in self._shared:
                self._ours.setdefault(identity.scope, set()).add(hash(identity.key))

    def written(self, last: int) -> None:
        """That transaction was committed; `last` is the number of the last record."""
        self._last = last
