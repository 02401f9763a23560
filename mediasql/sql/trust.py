"""Connections that trust no schema: SQLite refuses our functions in generated columns, indexes, views and triggers.

SQLite calls a function without side effects innocuous. Ours send requests, so they are not innocuous, unless the
configuration option `trust_schema` says that the schema may call them anyway. Newer versions of the `sqlite3` shell
start with PRAGMA trusted_schema=OFF, and then one generated column in the database can make every statement fail.
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


def _is_trusted(session: Session) -> bool:
    return bool(session.config.trust_schema or session.connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1))


def check_trust(session: Session, called: Collection[str]) -> None:
    """Raise UsageError if SQLite would refuse a generated column that calls these functions of mediasql."""
    if called and not _is_trusted(session):
        names = ", ".join(f"{name}()" for name in sorted(called))
        raise UsageError(
            f"this connection does not trust the schema (PRAGMA trusted_schema is OFF), so SQLite refuses {names} in a "
            f"column. {_REMEDY}"
        )


def warn_if_distrusted(session: Session) -> None:
    """Give a warning if the schema of a database calls functions or tables of mediasql and SQLite refuses these calls.

    SQLite decides it while it parses a schema, for functions that it knows then, and newer versions parse it at the
    first statement of all: so it is parsed again.
    """
    if _is_trusted(session):
        return
    # Without trust SQLite may fail to parse the schema. The calls in it are still refused after this block.
    with switched(session.connection, TRUSTED_SCHEMA=1), suppress(apsw.Error):
        if any(_calls_mediasql(session, schema) for schema in session.connection.db_names()):
            with switched(session.connection, WRITABLE_SCHEMA=0):  # as RESET leaves it
                session.statement.cursor().execute("PRAGMA writable_schema = RESET").fetchall()
            warn(
                "the schema of the database calls functions or tables of mediasql, and this connection does not trust "
                "the schema (PRAGMA trusted_schema is OFF), so statements fail with 'unsafe use of …' or 'malformed "
                f"database schema'. {_REMEDY}."
            )


def _calls_mediasql(session: Session, schema: str) -> bool:
    names = "|".join(map(re.escape, {**functions(), **tables()}))
    call = re.compile(rf"\b(?:{names})[\"`\]]?\s*\(", re.IGNORECASE)
    rows = session.statement.cursor().execute(f"SELECT sql FROM {quote(schema)}.sqlite_schema WHERE sql IS NOT NULL")
    return any(call.search(sql) for (sql,) in rows.fetchall())
