"""The plugin of sqlite-utils: functions and tables on its connections, and the commands `sqlite-utils media …`.

sqlite-utils finds it by itself. What runs SQL is its own connection, through the loadable extension: a second SQLite
library must not open the same file (see `mediasql.sql.loadable.mixing`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import click
from sqlite_utils import hookimpl

from ..errors import MediaError, MissingExtra, UsageError
from ..sql.loadable.loading import load

_TYPES = ("IMAGE", "VIDEO", "AUDIO", "MEDIA")
_SHOWN = 10  # failures, where a column had more


@hookimpl
def prepare_connection(conn: Any) -> None:
    """Give a connection of sqlite-utils all functions and tables; without the loadable extension, only a warning.

    Raises ConfigError for variables that are not valid, and for a file that mediasql.connect has open in this process.
    A command of sqlite-utils ends with its message.
    """
    command = click.get_current_context(silent=True) is not None
    try:
        load(conn)
    except MissingExtra as error:  # sqlite-utils has much to do that needs no media
        if command:
            click.echo(f"Warning: no media functions: {error}", err=True)
        else:
            warnings.warn(f"no media functions: {error}", stacklevel=2)
    except MediaError as error:
        if command:
            raise click.ClickException(str(error)) from None
        raise


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Add `sqlite-utils media`."""
    cli.add_command(media)


@click.group()
def media() -> None:
    """Tables of images, videos and audio

    Configuration is in MEDIASQL_* environment variables.
    """


@media.command(name="add")
@click.argument("path", type=click.Path(file_okay=True, dir_okay=False, allow_dash=False), required=True)
@click.argument("table")
@click.argument("patterns", metavar="PATTERN...", nargs=-1, required=True)
@click.option("-c", "--column", help="Column for the URLs, by default the table's one media column")
@click.option(
    "--type",
    "media_type",
    type=click.Choice(_TYPES, case_sensitive=False),
    default="MEDIA",
    help="Type of that column, if the table is created",
)
@click.option("--ignore", is_flag=True, help="Ignore URLs that the column has already")
def add(path: str, table: str, patterns: tuple[str, ...], column: str | None, media_type: str, ignore: bool) -> None:
    """Add the URLs that match patterns to a table

    The table is created if it does not exist. Objects are listed, and not opened.

    Example:

    \b
        sqlite-utils media add my.db photos 's3://bucket/2026/**.jpg' --type image
    """
    with _connected(path) as connection:
        connection.execute("BEGIN")  # or SQLite would keep a table made for URLs that cannot be listed
        column = _media_column(connection, table, column, media_type.upper())
        of = _quote(table)
        new = f"WHERE url NOT IN (SELECT {column} FROM {of} WHERE {column} IS NOT NULL)" if ignore else ""
        insert = f"INSERT INTO {of}({column}) SELECT url FROM media(?) {new}"
        added = sum(connection.execute(insert, (pattern,)).rowcount for pattern in patterns)
        connection.commit()
    click.echo(f"Added {added} row{'' if added == 1 else 's'} to {table}")


@media.command(name="add-column")
@click.argument("path", type=click.Path(exists=True, file_okay=True, dir_okay=False, allow_dash=False), required=True)
@click.argument("table")
@click.argument("column")
@click.argument("expression")
@click.option("--virtual", is_flag=True, help="Compute values when they are read, instead of now")
@click.option("--type", "column_type", help="Column type, by default that of the function")
def add_column(path: str, table: str, column: str, expression: str, virtual: bool, column_type: str | None) -> None:
    """Add a computed column to a table

    Its values are computed now, many at a time, and for each row when it is written. They are kept in the table, where
    any tool can read and index them. If media cannot be read for the moment, such as after a timeout, nothing is kept.

    Example:

    \b
        sqlite-utils media add-column my.db photos width 'width(image)'
        sqlite-utils media add-column my.db photos link 'presigned_url(image)' --virtual
    """
    arguments = [table, column, expression, int(not virtual), *([column_type] if column_type else [])]
    with _connected(path) as connection:
        sql = f"SELECT add_computed_column({', '.join('?' * len(arguments))})"
        added = connection.execute(sql, arguments).fetchone()[0]
        failed = connection.execute("SELECT DISTINCT url, error FROM media_errors").fetchall()
    click.echo(added)
    for url, error in failed[:_SHOWN]:
        click.echo(f"{url}: {error}", err=True)
    if len(failed) > _SHOWN:
        click.echo(f"… and {len(failed) - _SHOWN} more", err=True)


@contextmanager
def _connected(path: str) -> Iterator[Any]:
    """A connection of sqlite-utils; what goes wrong with it becomes the message with which the command ends."""
    from sqlite_utils import Database  # versions before 4 import plugins while they are imported themselves
    from sqlite_utils.utils import sqlite3

    try:
        with closing(Database(path).conn) as connection:
            load(connection)
            yield connection
    except (MediaError, sqlite3.Error) as error:
        raise click.ClickException(str(error)) from None


def _media_column(connection: Any, table: str, column: str | None, media_type: str) -> str:
    """The quoted name of the column for URLs, of a table that exists then. Raises UsageError."""
    columns = connection.execute("SELECT name, upper(type) FROM pragma_table_xinfo(?)", (table,)).fetchall()
    if not columns:
        column = _quote(column or media_type.lower())
        connection.execute(f"CREATE TABLE {_quote(table)} ({column} {media_type})")
        return column
    if column is not None:
        return _quote(column)
    found = [name for name, declared in columns if declared in _TYPES]
    if len(found) != 1:
        has = f"the columns {', '.join(found)}" if found else f"no column of type {', '.join(_TYPES)}"
        raise UsageError(f"{table} has {has}; say with --column where the URLs belong")
    return _quote(found[0])


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
