"""mediasql itself: its version and configuration."""

from __future__ import annotations

from typing import Any

from ... import __version__
from ...config import Config
from ...errors import ConfigError, redact
from ...storage.transport.engines import resolve
from .. import computed, refresh
from ..registry import Session, function


@function()
def media_version() -> str:
    """The version of mediasql.

    sql> SELECT media_version() GLOB '[0-9]*.[0-9]*.[0-9]*'
    1
    """
    return __version__


@function(deterministic=False, directonly=True)
def add_computed_column(
    session: Session, table: str, name: str, expression: str, stored: int = 1, type: str = ""
) -> str:
    """Add a generated column to a table, for hosts that have only SQL; `SELECT` it by itself, outside of a query.

    `stored` 1 computes all values now and keeps them, so that any SQLite tool can read and index them; 0 computes them
    when they are read. `type` is the declared type, if that of the function which the expression calls does not do.
    Everything else of the table stays as it is.

    sql> CREATE TABLE images(image IMAGE)
    sql> INSERT INTO images VALUES ('photo.jpg'), ('missing.jpg')
    sql> SELECT add_computed_column('images', 'width', 'width(image)')
    Added 2 column values with 1 error
    sql> SELECT image, width FROM images
    photo.jpg|640
    missing.jpg|
    """
    added = computed.add_computed_column(session, table, name, expression, stored=bool(stored), type=type or None)
    return str(added) if stored else f"Added column {name}, computed when it is read"


@function(deterministic=False, directonly=True)
def refresh_computed_columns(session: Session, table: str) -> str:
    """Update STORED computed columns of a table, and indexes on VIRTUAL ones, for objects that changed.

    All objects are checked at their stores, many at a time. Then only the rows whose values differ are updated and only
    outdated indexes are rebuilt, in one transaction. Values of missing objects become NULL. An error is an object that
    cannot be checked at the moment; its rows are not updated. Triggers do not fire.

    sql> CREATE TABLE images(image IMAGE, width INT AS (width(image)) STORED)
    sql> INSERT INTO images VALUES ('photo.jpg'), ('missing.jpg')
    sql> SELECT refresh_computed_columns('images')
    Checked 2 objects: 0 changed, 0 errors
    """
    return str(refresh.refresh_computed_columns(session, table))


@function(deterministic=False, directonly=True)
def media_config(session: Session, name: str) -> Any:
    """One option of this connection's configuration. Credentials in `storage_options` are not shown. Where `readahead`
    is on, and APSW does not let mediasql see the statements to read ahead of, it is 'off: ' with the reason.
    `transport` is what makes requests where it is 'auto'.

    sql> SELECT media_config('timeout'), media_config('on_error')
    60.0|null
    """
    if name not in Config.describe():
        raise ConfigError(f"there is no option {name!r}; there are: {', '.join(Config.describe())}")
    value = getattr(session.config, name)
    if name == "storage_options":
        return {redact(prefix): sorted(options) for prefix, options in value.items()}
    if isinstance(value, tuple):
        return [redact(part) for part in value]
    if name == "readahead" and value != "off" and session.statement.unseen is not None:
        return f"off: {session.statement.unseen}"
    if name == "transport":
        return resolve(value)
    return redact(value) if isinstance(value, str) else value
