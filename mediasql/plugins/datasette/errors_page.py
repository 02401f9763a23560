"""`/-/mediasql/errors`: what failed in the databases that a visitor may see."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from datasette import Response

from ...errors import redact
from ...storage.providers.base import iso_time
from .reach import reach_of

MOST = 1000  # rows of one database


async def errors(datasette: Any, request: Any) -> Any:
    """A table of the latest failures; `media_errors` has those of one database."""
    await datasette.ensure_permissions(request.actor, ["view-instance"])
    rows = []
    for database in datasette.databases:
        if database == "_internal":
            continue
        visible, _ = await datasette.check_visibility(
            request.actor, permissions=[("view-database", database), "view-instance"]
        )
        if visible:
            latest = sorted(reach_of(datasette, database).failures, key=attrgetter("last_time"), reverse=True)
            for failure in latest[:MOST]:
                when = iso_time(failure.last_time)
                url = redact(failure.url)
                rows.append((database, url, failure.function, failure.kind, failure.error, failure.attempts, when))
    html = await datasette.render_template("mediasql_errors.html", {"rows": rows}, request=request)
    return Response.html(html, headers={"Cache-Control": "no-store"})
