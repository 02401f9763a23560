"""The banner of a page whose statements could not read something for the moment: rows may be missing from it.

Datasette does not tell for which page a statement runs. So a page counts all that failed in its database since the
request for it came, which may include what failed for other pages at the same time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ...sql.transients import described
from .reach import known, reach_of

_COUNTED = "mediasql.unread"  # key of the request's scope: values that had failed before, by database


def counting(app: Callable[..., Awaitable[None]], datasette: Any) -> Callable[..., Awaitable[None]]:
    """Return the ASGI application `app`, with a count in each request of what had failed when it came."""

    async def counted(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            before = {database: reach.unread.added for database, reach in known(datasette).items()}
            scope = {**scope, _COUNTED: before}
        await app(scope, receive, send)

    return counted


def add_banner(datasette: Any, database: str | None, request: Any) -> None:
    """Show on the page that is about to be rendered how many values of its database failed since it was asked for."""
    if database is None or database not in datasette.databases or request is None:
        return
    unread = reach_of(datasette, database).unread.since(request.scope.get(_COUNTED, {}).get(database, 0))
    if unread:
        text = described(len(unread), unread[0])
        more = "Reload the page to ask again; “Media errors” in the menu tells of all."
        datasette.add_message(request, f"{text}. {more}", datasette.WARNING)
