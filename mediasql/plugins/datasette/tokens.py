"""Addresses of media: signed, so that nobody asks Datasette for what none of its pages has shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from datasette import Forbidden
from itsdangerous import BadData

_NAMESPACE = "mediasql"


@dataclass(frozen=True, slots=True)
class Token:
    """A URL as a database showed it. `table` is None for the result of a query."""

    database: str
    table: str | None
    url: str

    def paths(self, datasette: Any) -> tuple[str, str]:
        """The addresses of the media and of its thumbnail."""
        signed = datasette.sign([self.database, self.table, self.url], _NAMESPACE)
        return tuple(str(datasette.urls.path(f"/-/mediasql/{route}/{signed}")) for route in ("media", "thumbnail"))  # type: ignore[return-value]


async def opened(datasette: Any, request: Any) -> Token:
    """The Token of a request. Raises datasette.Forbidden for a forged one, and for who may not see its database."""
    try:
        token = Token(*datasette.unsign(request.url_vars["token"], _NAMESPACE))
    except (BadData, TypeError):
        raise Forbidden("This address was not made by this Datasette, or before it was started anew.") from None
    if token.database not in datasette.databases:
        raise Forbidden("The database of this address is not here any more.")
    permissions: list[Any] = [("view-database", token.database), "view-instance"]
    if token.table is not None:
        permissions.insert(0, ("view-table", (token.database, token.table)))
    await datasette.ensure_permissions(request.actor, permissions)
    return token
