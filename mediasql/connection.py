"""connect() and register(): an APSW connection with everything attached."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, overload

import apsw

from .config import Config
from .errors import ConfigError
from .sql import apsw_binding
from .sql.bindings import Bindings, rows_ahead
from .sql.computed import Added, add_computed_column
from .sql.loadable.mixing import refuse_apsw
from .sql.media_function import describe
from .sql.refresh import Refreshed, refresh_computed_columns
from .sql.session import Session
from .storage.paths import is_utf8, sqlite_uri

if TYPE_CHECKING:
    from .plugins.notebook import Shown

F = TypeVar("F", bound=Callable[..., Any])

_OPEN_URI = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI
_sessions: weakref.WeakKeyDictionary[apsw.Connection, Session] = weakref.WeakKeyDictionary()


def _ahead(connection: apsw.Connection, statements: str, given: Iterable[Any], asked: int | None) -> Iterable[Any]:
    """Return `given`, read ahead where calls of the statement wait for files and that does no harm."""
    most = rows_ahead(given, asked)
    session = _sessions.get(connection)
    if not most or session is None or session.scout.executions is None:
        return given
    return Bindings(session, statements, given, most)


class MediaCursor(apsw.Cursor):
    """A cursor whose `executemany` reads ahead in the bindings, as that of a MediaConnection does.

    `connection.cursor_factory = mediasql.MediaCursor` makes it that of any connection with mediasql, for which each
    `execute` pays some 40 ns; so it is not the default.
    """

    __slots__ = ()

    def executemany(
        self, statements: str, sequenceofbindings: Iterable[Any], *, readahead_rows: int | None = None, **options: Any
    ) -> apsw.Cursor:
        """Execute `statements` with each of the bindings; see `MediaConnection.executemany`."""
        given = _ahead(self.connection, statements, sequenceofbindings, readahead_rows)
        return apsw.Cursor.executemany(self, statements, given, **options)


class MediaConnection(apsw.Connection):
    """An `apsw.Connection` whose SQL knows mediasql's functions and tables."""

    def executemany(
        self, statements: str, sequenceofbindings: Iterable[Any], *, readahead_rows: int | None = None, **options: Any
    ) -> apsw.Cursor:
        """Execute `statements` with each of the bindings, with many files at a time; otherwise as `apsw.Connection`.

        readahead_rows   how many bindings may be looked at ahead of the one that is executed, where the statement waits
                         for files. By default as many as are of use in what stands still: lists, tuples and other
                         sequences, sets, mappings and their views, arrays. Of iterators and generators none: the next
                         is asked for when the rows of the one before are written. 0: none of anything.

        The statement is executed with each in its turn, and what an iterator raises is raised in its turn. An iterator
        that is read ahead has, when it is asked for the next bindings, up to `readahead_rows` that are not written yet.

        Raises UsageError for `readahead_rows` that is no number of rows, and what `apsw.Connection.executemany` raises.
        """
        given = _ahead(self, statements, sequenceofbindings, readahead_rows)
        return apsw.Connection.executemany(self, statements, given, **options)

    def close(self, force: bool = False) -> None:
        """Close the database, and the network connections that queries of it opened."""
        super().close(force)
        if (session := _sessions.get(self)) is not None:
            session.close()

    def add_computed_column(
        self, table: str, name: str, expression: str, *, stored: bool = True, type: str | None = None
    ) -> Added:
        """Add a generated column with the value of `expression` to `table` ('images', or 'schema.images').

        stored   True: computed now, and for each row when it is written; readable without mediasql.
                 False: computed when read
        type     declared type; by default that of the function which the expression calls

        Rows, rowids, indexes, triggers, views and foreign keys stay as they are, and so does everything when it fails
        or is interrupted half-way. Raises UsageError for a table that does not exist, an expression that cannot be
        stored, or a transaction that is open with foreign keys enforced; MediaError when a value cannot be had for the
        moment; apsw.Error for what SQLite refuses.
        """
        return add_computed_column(session_of(self), table, name, expression, stored=stored, type=type)

    def refresh_computed_columns(self, table: str) -> Refreshed:
        """Update STORED columns of `table` ('images', or 'schema.images') and indexes on VIRTUAL ones for objects that
        changed since the values were computed.

        All objects are checked at their stores, many at a time, with conditional requests where a version is known.
        Then only the rows whose values differ are updated and only outdated indexes are rebuilt, in one transaction.
        Values of missing and damaged objects become NULL. An object that cannot be checked (a transient failure, or
        access is refused) counts as an error, and its rows are not updated; `media_errors` has the reason. Triggers do
        not fire and foreign keys are not checked, since no other column changes.

        Raises UsageError for a table that does not exist; TransientError when an index is outdated and cannot be
        rebuilt, because a value cannot be computed at the moment; apsw.Error when SQLite refuses the update, such as
        BusyError, or ConstraintError when a new value violates a constraint. Nothing has changed then.
        """
        return refresh_computed_columns(session_of(self), table)

    def show(self, sql: str, bindings: Sequence[Any] | Mapping[str, Any] | None = None, *, rows: int = 50) -> Shown:
        """The rows of the last statement of `sql` that has any, as a table for notebooks: with thumbnails of at most
        10 KB, players for video and audio, and the reason where there is nothing to see or hear.

        What is media is told by the declared types of columns (IMAGE, VIDEO, AUDIO, MEDIA), else by the extensions
        of URLs, and by the first bytes of BLOBs. Videos and audio in S3, GCS and Azure are played through URLs signed
        for an hour, of the web through their own; a local file is written into the page if it has 1 MB or less.

        rows   how many to read and show; the table tells how many more there are, where SQLite counts them at once

        Elsewhere it prints as a table of text. Raises apsw.Error and MediaError as `execute` does.
        """
        from .plugins.notebook import show

        return show(self, sql, bindings, rows=rows)

    @overload
    def media_function(self, function: F) -> F: ...

    @overload
    def media_function(
        self, *, name: str | None = None, deterministic: bool = True, batch_size: int | None = None
    ) -> Callable[[F], F]: ...

    def media_function(
        self,
        function: Any = None,
        *,
        name: str | None = None,
        deterministic: bool = True,
        batch_size: int | None = None,
    ) -> Any:
        """Make a Python function an SQL function of this connection: `@con.media_function`, with or without options.

        Its first parameter takes a URL or a BLOB in SQL. Its annotation says what the function receives:
        `PIL.Image.Image` (loaded, EXIF untouched), `av.container.InputContainer` (closed afterwards), `bytes`,
        `pathlib.Path` (a temporary file with all bytes, removed afterwards), or `str` for the URL itself. The other
        parameters are SQL values, optional where they have defaults. NULL in any gives NULL.

        name           in SQL; by default that of the function
        deterministic  the same media give the same value, so that generated columns and indexes may use it
        batch_size     call it with a list of up to so many, for which it returns as many values

        It runs in threads, for several media at a time and ahead of the rows, so it must not use this connection, and
        must be safe to run in several threads; of a batched function one batch runs at a time. It may return what SQL
        has, lists and dicts (JSON), and NumPy's numbers and arrays. What it raises makes the value NULL and stands in
        `media_errors`, as for damaged media.

        Raises UsageError for a signature, a name or an option that cannot be used.
        """
        add: Callable[[Any], Any] = media_function(self, name=name, deterministic=deterministic, batch_size=batch_size)
        return add if function is None else add(function)


def connect(path: str | bytes | os.PathLike[str] | os.PathLike[bytes] = ":memory:", **config: Any) -> MediaConnection:
    """Open a database, with all functions and tables of mediasql.

    path      file of the database, made when it does not exist; its name need not be UTF-8
    config    options of `Config`, such as `timeout=10` or `storage_options={'s3': {'anon': True}}`;
              what is not given comes from `MEDIASQL_*` variables

    Raises ConfigError for an option that does not exist, apsw.CantOpenError for a file that cannot be opened.
    """
    options = Config.load(**config)
    file = os.fsdecode(path)
    refuse_apsw([file])  # before the file is opened, since closing it does the harm
    connection = MediaConnection(file) if is_utf8(file) else MediaConnection(sqlite_uri(file), flags=_OPEN_URI)
    # A hook of apsw.connection_hooks may have attached mediasql already, with a configuration of its own.
    if connection not in _sessions or config:
        _sessions[connection] = apsw_binding.attach(connection, options)
    return connection


def register(connection: apsw.Connection, **config: Any) -> None:
    """Attach mediasql to an APSW connection that you have; `config` as for `connect`.

    Doing it again changes nothing. Raises ConfigError when a configuration is given then, since a connection has one.
    """
    if not isinstance(connection, apsw.Connection):
        kind = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise ConfigError(f"register takes an apsw.Connection, not a {kind}")
    if connection not in _sessions:
        _sessions[connection] = apsw_binding.attach(connection, Config.load(**config))
    elif config:
        raise ConfigError("mediasql is attached to this connection already, with the configuration it got then")


def media_function(
    connection: apsw.Connection,
    *,
    name: str | None = None,
    deterministic: bool = True,
    batch_size: int | None = None,
) -> Callable[[F], F]:
    """As `MediaConnection.media_function`, for a connection that `register` attached to.

    Raises ConfigError when mediasql is not attached.
    """
    session = session_of(connection)

    def add(function: F) -> F:
        described = describe(session, function, name, deterministic, batch_size)
        session.functions[described.name.lower()] = described
        apsw_binding.add_function(connection, session, described)
        return function

    return add


def session_of(connection: apsw.Connection) -> Session:
    """The session behind a connection. Raises ConfigError when mediasql is not attached."""
    try:
        return _sessions[connection]
    except KeyError:
        raise ConfigError("mediasql is not attached to this connection; call mediasql.register first") from None
