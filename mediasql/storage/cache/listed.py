"""Which of the objects that a listing names are kept."""

from __future__ import annotations

import json
from collections.abc import Collection

from .database import Database


def among(database: Database, scope: str, keys: Collection[str]) -> set[str]:
    """Those of `keys` that the catalogue knows. Where it knows nothing near them, that costs one look for all."""
    try:
        if not database.read(
            "SELECT 1 FROM objects WHERE scope = ? AND key BETWEEN ? AND ? LIMIT 1", (scope, min(keys), max(keys))
        ):
            return set()
        rows = database.read(
            "SELECT key FROM objects WHERE scope = ? AND key IN (SELECT value FROM json_each(?))",
            (scope, json.dumps(list(keys))),
        )
    except UnicodeError:  # a name that no database holds
        return set()
    return {key for (key,) in rows}
