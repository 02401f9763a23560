"""The SQLAlchemy dialect: `create_engine('mediasql:///media.db?timeout=10')`, and column types for media.

It is SQLAlchemy's own dialect for SQLite over `mediasql.plugins.dbapi`. `name` stays 'sqlite', so that whatever is made
for SQLite (`sqlalchemy.dialects.sqlite.insert`, `with_variant`, pandas, Alembic) works with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

from ..config import Config
from ..errors import ConfigError, MissingExtra
from ..sql.tokens import group, split, text_of, tokenize

try:
    from sqlalchemy import event, exc, pool, types
    from sqlalchemy.dialects.sqlite.base import SQLiteDialect
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
    from sqlalchemy.engine import URL
    from sqlalchemy.engine.interfaces import ReflectedColumn
    from sqlalchemy.orm import Mapper
except ImportError as error:
    raise MissingExtra(
        f"mediasql.plugins.sqlalchemy needs SQLAlchemy 2 ({error}): pip install 'mediasql[sqlalchemy]'"
    ) from None

__all__ = ["Audio", "Image", "Media", "MediaDialect", "Video"]


class Media(types.Text):
    """A column with media of any kind: a URL (str) or the media itself (bytes). Declared as MEDIA."""

    __visit_name__ = "user_defined"  # rendered by get_col_spec, under whatever dialect

    def get_col_spec(self, **_: Any) -> str:
        """The declared type."""
        return type(self).__name__.upper()


class Image(Media):
    """A column with images; see `Media`."""


class Video(Media):
    """A column with videos; see `Media`."""


class Audio(Media):
    """A column with audio; see `Media`."""


@event.listens_for(Mapper, "after_mapper_constructed")
def _insert_without_requests(mapper: Mapper[Any], _: type) -> None:
    """Leave computed columns out of the RETURNING that the ORM adds to each INSERT, which would read every file.

    They are read when they are asked for. A mapper with `eager_defaults` of its own keeps that.
    """
    if any(isinstance(column.type, Media) for column in mapper.columns):
        for each in {mapper, mapper.base_mapper}:
            if each.eager_defaults == "auto":
                each.eager_defaults = False


class MediaDialect(SQLiteDialect_pysqlite):
    """SQLite with mediasql's functions, tables and column types."""

    driver = "mediasql"
    supports_statement_cache = True
    ischema_names = SQLiteDialect.ischema_names | {kind().get_col_spec(): kind for kind in (Media, Image, Video, Audio)}

    @classmethod
    def import_dbapi(cls) -> Any:
        """The DB-API module."""
        from . import dbapi

        return dbapi

    def create_connect_args(self, url: URL) -> tuple[list[str], dict[str, Any]]:
        """What `dbapi.connect` is called with: the query of the URL are options of `Config`, and `busy_timeout`.

        Raises ConfigError for an option that does not exist or is not valid, ArgumentError for a URL with a host.
        """
        if url.username or url.password or url.host or url.port:
            raise exc.ArgumentError(
                f"Invalid URL: {url}; mediasql:///relative.db, mediasql:////absolute.db or mediasql:// is needed"
            )
        options: dict[str, Any] = dict(url.query)
        own = {}
        if "busy_timeout" in options:
            own["busy_timeout"] = _seconds(options.pop("busy_timeout"))
        Config.load(**options)
        file = url.database or ":memory:"
        return [file if file == ":memory:" else os.path.abspath(file)], own | options

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Of a database in memory there is one connection, which all threads share."""
        return pool.QueuePool if url.database and url.database != ":memory:" else pool.StaticPool

    def on_connect(self) -> Callable[[Any], None]:
        """Give each connection the REGEXP operator, as SQLAlchemy does for SQLite."""

        def connect(connection: Any) -> None:
            connection.create_function("regexp", 2, _regexp, deterministic=True)

        return connect

    def get_columns(
        self, connection: Any, table_name: str, schema: str | None = None, **options: Any
    ) -> list[ReflectedColumn]:
        """As SQLAlchemy's, with the expression of each generated column, however it is written."""
        columns: list[ReflectedColumn] = super().get_columns(connection, table_name, schema, **options)
        if any("computed" in column for column in columns):
            expressions = _generated(self._get_table_sql(connection, table_name, schema, **options))
            for column in columns:
                if "computed" in column:
                    column["computed"]["sqltext"] = expressions[column["name"]]
        return columns


dialect = MediaDialect


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigError(f"busy_timeout: {value!r} is not valid; a number of seconds is needed") from None


def _regexp(pattern: str | None, text: str | None) -> bool | None:
    if pattern is None or text is None:
        return None
    return re.search(pattern, text) is not None


def _generated(sql: str) -> dict[str, str]:
    """The expressions of the generated columns in a CREATE TABLE, by the names of these."""
    tokens = tokenize(sql)
    opening = next(at for at, token in enumerate(tokens) if token.text == "(")
    definitions, _ = group(tokens, opening)
    depth = tokens[opening].depth + 1
    found = {}
    for column in split(definitions, depth):
        for at, token in enumerate(column[:-1]):
            if token.depth == depth and token.is_word("AS") and column[at + 1].text == "(":
                found[column[0].name] = text_of(sql, group(column, at + 1)[0])
    return found
