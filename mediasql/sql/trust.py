"""Connections on which SQLite trusts no schema, and so refuses our functions in columns, indexes, views and triggers.

SQLite calls a function innocuous that has no side effects. Ours ask stores, so they are not, unless whoever loads
mediasql says that the schema may call them all the same (`trust_schema`). Newer versions of the `sqlite3` shell begin
with PRAGMA trusted_schema=OFF, where one generated column in the database can make every statement fail.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress

import apsw

from ..errors import UsageError
from ..warning import warn
from .definitions import quote
from .registry import functions, tables
from .schema import switched
from .session import Session

_REMEDY = (
    "If you trust the database, run PRAGMA trusted_schema=ON, or load mediasql with MEDIASQL_TRUST_SCHEMA=1 "
    "(in Python trust_schema=True)"
)


def _trusts(session: Session) -> bool:
    return bool(session.config.trust_schema or session.connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1))


def check_trust(session: Session, functions: Collection[str]) -> None:
    """Raise UsageError where SQLite would refuse a column that calls these functions of ours."""
    if functions and not _trusts(session):
        called = ", ".join(f"{name}()" for name in sorted(functions))
        raise UsageError(
            f"this connection trusts no schema (PRAGMA trusted_schema is OFF), so that SQLite refuses {called} there. "
            f"{_REMEDY}"
        )


def tell_of_distrust(session: Session) -> None:
    """Give a warning where a schema calls our functions, and SQLite refuses them, be it now or once it reads it anew.

    A schema that was read before the functions were there passes until another connection changes it.
    """
    if _trusts(session):
        return
    # Otherwise the schema might not be read at all. What it calls is refused all the same once this is over.
    with switched(session.connection, TRUSTED_SCHEMA=1), suppress(apsw.Error):
        if any(_mentions(session, schema) for schema in session.connection.db_names()):
            warn(
                "the schema of the database calls functions or tables of mediasql, and this connection trusts no "
                "schema (PRAGMA trusted_schema is OFF), so that statements fail with 'unsafe use of …' or 'malformed "
                f"database schema'. {_REMEDY}."
            )


def _mentions(session: Session, schema: str) -> bool:
    names = "|".join(map(re.escape, {**functions(), **tables()}))
    calls = re.compile(rf"\b(?:{names})[\"`\]]?\s*\(", re.IGNORECASE).search
    rows = session.statement.cursor().execute(f"SELECT sql FROM {quote(schema)}.sqlite_schema WHERE sql IS NOT NULL")
    return any(calls(row[0]) for row in rows.fetchall())
