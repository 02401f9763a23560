"""media_errors: what failed on this connection."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from ...storage.providers.base import iso_time
from ..failures import Failure
from ..registry import Column, Session, table


@table(
    Column("url", "TEXT", "The URL; for a BLOB its size and hash.", attrgetter("url")),
    Column("function", "TEXT", "The function, or table and column, that met it.", attrgetter("function")),
    Column("error", "TEXT", "What happened.", attrgetter("error")),
    Column(
        "kind",
        "TEXT",
        "'not found', 'forbidden', 'damaged', 'unsupported', 'transient' or 'setup'; 'refused' by our own policy.",
        attrgetter("kind"),
    ),
    Column("status", "INTEGER", "The HTTP status, where there was one.", attrgetter("status")),
    Column("attempts", "INTEGER", "How often it failed.", attrgetter("attempts")),
    Column("first_time", "TEXT", "When it failed first, ISO 8601 in UTC.", lambda row: iso_time(row.first_time)),
    Column("last_time", "TEXT", "When it failed last, ISO 8601 in UTC.", lambda row: iso_time(row.last_time)),
)
def media_errors(session: Session) -> Iterator[Failure]:
    """What failed on this connection, and so became NULL or was refused, and why; a later success removes it.

    sql> SELECT width('missing.jpg') IS NULL
    1
    sql> SELECT url, function, error, kind FROM media_errors WHERE function = 'width'
    missing.jpg|width|no such file|not found
    """
    yield from session.failures
