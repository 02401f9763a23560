"""One SQLite database of the cache: shared by threads and processes, and never in the way.

Opened by APSW only, since two SQLite libraries in one process break each other's locks. What is damaged is thrown away
and made anew: it holds nothing that cannot be had again. Where the disk fails, reads find nothing and writes are lost.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import apsw

from ...lifetime import leak
from .. import forking
from ..paths import sqlite_uri
from .file_lock import try_lock
from .strangers import is_open_elsewhere

T = TypeVar("T")

_OPEN = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE | apsw.SQLITE_OPEN_URI

APPLICATION = 0x6D736361  # 'msca', PRAGMA application_id of all databases of the cache
AHEAD = 60.0  # seconds that clocks may differ; of what is dated later than that, the age is unknown
PAUSE = 30.0  # seconds for which a database that failed is left alone
READ_WAIT = 1_000  # ms; readers wait for a checkpoint at most
WRITE_WAIT = 10_000  # ms, for writers of other processes
LOCK_WAIT = 2.0  # seconds, at least, for others who open it; one that is stopped while it does so never ends

# Mistakes of ours as a rule, and what else comes of SQL that was damaged, or of values that no SQL of ours wrote.
_OURS = (apsw.ConstraintError, apsw.SQLError, apsw.MismatchError, apsw.MisuseError, apsw.RangeError, apsw.BindingsError)


class Unusable(Exception):
    """The database is there, and not ours to use."""


class Damaged(Exception):
    """What the database says cannot be so."""


_DAMAGED = (apsw.CorruptError, apsw.NotADBError, UnicodeDecodeError, Damaged)


class Database:
    """A database at `path` with the tables of `schema`, which is version `version` of them.

    trouble  is told, once for each reason, why the database is of no use

    Any thread may call its methods; none of them raises for what is wrong with disk or database.
    """

    def __init__(self, path: Path, schema: str, version: int, trouble: Callable[[str], None]) -> None:
        self.path = path
        self._schema = schema
        self._version = version
        self.trouble = trouble
        self._reading = _Handle(self, READ_WAIT)
        self._writing = _Handle(self, WRITE_WAIT)
        self.unusable = False
        self.full = False  # the last write failed since the disk has no room

    def read(self, sql: str, bindings: Sequence[Any] | dict[str, Any] = ()) -> list[Any]:
        """All rows of a SELECT; none where the database cannot be read."""
        return self.look(lambda connection: list(connection.execute(sql, bindings)), [])

    def look(self, work: Callable[[apsw.Connection], T], otherwise: T) -> T:
        """The result of `work`, which only reads; `otherwise` where the database cannot be read.

        `work` raises Damaged for what cannot be so. It may run twice, the second time on an empty database.
        """
        return self._reading.run(work, otherwise)

    def write(self, work: Callable[[apsw.Connection], T]) -> T | None:
        """The result of `work`, run in a transaction of its own; None where nothing could be written.

        `work` raises Damaged for what cannot be so. It may run twice, the second time on an empty database.
        """

        def transaction(connection: apsw.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
                return result
            except BaseException:
                if connection.in_transaction:
                    with suppress(apsw.Error):
                        connection.execute("ROLLBACK")
                raise

        self.full = False
        return self._writing.run(transaction, None)

    def shrink(self) -> None:
        """Give the disk back what the log takes, as far as that can be done now; and write again if that had failed."""

        def work(connection: apsw.Connection) -> None:
            connection.set_busy_timeout(100)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            connection.set_busy_timeout(WRITE_WAIT)

        self._writing.resume()
        self._writing.run(work, None)

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        self._reading.close()
        self._writing.close()

    def open(self, wait: int) -> tuple[apsw.Connection, tuple[int, int]]:
        """A connection, and what tells this file from one that takes its place.

        Raises apsw.Error, OSError, Unusable.
        """
        make_private(self.path.parent)
        with locked(self.path.with_suffix(".lock"), max(wait / 1000, LOCK_WAIT)):
            with suppress(FileNotFoundError):
                if self.file() in _inherited:
                    raise Unusable("this process was forked while another thread of its parent was using the cache")
            if is_open_elsewhere(self.path, {handle.file for handle in _all_handles()}):
                raise OSError(
                    errno.EBUSY,
                    "this process has it open through another library than APSW, and two of them break each other's "
                    "locks",
                    os.fspath(self.path),
                )
            try:
                connection = self._connect(wait)
            except _DAMAGED:  # made anew under the lock, so that nobody takes the new one for the damaged
                self._delete()
                connection = self._connect(wait)
            try:
                made = connection.pragma("application_id"), connection.pragma("user_version")
                empty = made == (0, 0) and not connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").get
                if made[0] == APPLICATION and made[1] < self._version:
                    connection.close()
                    self._delete()
                    connection = self._connect(wait)
                    empty = True
                if empty:
                    connection.execute(f"BEGIN IMMEDIATE; {self._schema}; COMMIT")
                    connection.pragma("application_id", APPLICATION)
                    connection.pragma("user_version", self._version)
                elif made[0] != APPLICATION:
                    raise Unusable(f"{self.path} is not a database of mediasql's cache")
                elif made[1] > self._version:
                    raise Unusable(f"{self.path} was made by a newer version of mediasql")
                return connection, self.file()
            except BaseException:
                connection.close()
                raise

    def _connect(self, wait: int) -> apsw.Connection:
        connection = apsw.Connection(sqlite_uri(os.fspath(self.path)), flags=_OPEN)
        try:
            # Who closes last deletes the log by its name, which may be that of another database by then.
            keep = ctypes.c_int(1)
            connection.file_control("main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(keep))
            connection.set_busy_timeout(wait)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "normal")
            connection.pragma("cache_size", -16_384)
            connection.pragma("journal_size_limit", 16 * 1024 * 1024)  # with a limit the log is emptied at the end
        except BaseException:
            connection.close(True)
            raise
        return connection

    def file(self) -> tuple[int, int]:
        """What tells the file that is there now from another. Raises FileNotFoundError."""
        status = os.stat(self.path)
        return status.st_dev, status.st_ino

    def failed(self, error: Exception, connection: apsw.Connection | None, file: tuple[int, int] | None) -> str | None:
        """Decide on a failure with this file open: why it is of no use now; None when there is an empty one to try.

        The connection is closed. Raises `error` where that is a mistake of ours.
        """
        unclear = not isinstance(error, (apsw.Error, OSError, Unusable, Damaged)) or isinstance(error, _OURS)
        damaged = isinstance(error, _DAMAGED) or (unclear and (connection is None or not self._sound(connection)))
        if connection is not None:
            with suppress(apsw.Error):
                connection.close(True)
        if damaged:
            try:
                with locked(self.path.with_suffix(".lock")):
                    if file is None or self.file() == file:  # no other process made it anew meanwhile
                        self._delete()
                return None
            except FileNotFoundError:
                return None
            except OSError as refusal:
                error = refusal
        elif unclear:
            raise error
        self.unusable = isinstance(error, Unusable)
        self.full = isinstance(error, apsw.FullError)
        return (isinstance(error, OSError) and error.strerror) or str(error)

    def _sound(self, connection: apsw.Connection) -> bool:
        """Whether this is the database that `schema` makes, as far as SQLite can tell."""
        made = apsw.Connection(":memory:")
        made.execute(self._schema)
        try:
            there = set(connection.execute("SELECT type, name, sql FROM sqlite_schema"))
            return (
                there.issuperset(made.execute("SELECT type, name, sql FROM sqlite_schema"))
                and connection.execute("PRAGMA integrity_check(1)").get == "ok"
            )
        except (apsw.Error, UnicodeDecodeError):
            return False
        finally:
            made.close()

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                os.unlink(f"{self.path}{suffix}")


class _Handle:
    """One connection to a Database, opened when it is needed."""

    def __init__(self, database: Database, wait: int) -> None:
        self._database = database
        self._wait = wait
        self._lock = forking.lock()
        self._busy = False  # a call is under way
        self._connection: apsw.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._looked = 0.0
        self._paused_until = 0.0
        with _registering:
            _handles.add(self)

    def run(self, work: Callable[[apsw.Connection], T], otherwise: T) -> T:
        """The result of `work`; `otherwise` where the database is of no use."""
        if sys.is_finalizing():  # a thread that is not there any more may hold the lock
            return otherwise
        reasons: list[str] = []
        with self._lock:
            before, self._busy = self._busy, True
            try:
                result = self._run(work, otherwise, reasons)
            finally:
                self._busy = before
        for why in reasons:
            self._database.trouble(why)  # without the lock: it calls the application
        return result

    def _run(self, work: Callable[[apsw.Connection], T], otherwise: T, reasons: list[str]) -> T:
        for _ in range(2):
            if self._database.unusable or time.monotonic() < self._paused_until:
                return otherwise
            try:
                return work(self._opened())
            except UnicodeEncodeError:  # SQLite has no such text, so that it is neither there nor can be
                return otherwise
            except Exception as error:
                try:
                    why = self._database.failed(error, self._connection, self._file)
                finally:
                    self._connection = None
                if why is not None:
                    reasons.append(why)
                    self._paused_until = time.monotonic() + PAUSE
        return otherwise

    @property
    def file(self) -> tuple[int, int] | None:
        """What is open; see `Database.file`."""
        return None if self._connection is None else self._file

    def _opened(self) -> apsw.Connection:
        now = time.monotonic()
        if self._connection is not None and now - self._looked > 1.0:
            # Somebody may have deleted the folder: what is written to a file without a name is lost.
            self._looked = now
            with suppress(OSError):
                if self._database.file() == self._file:
                    return self._connection
            self._close()
        if self._connection is None:
            self._connection, self._file = self._database.open(self._wait)
            self._looked = now
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(apsw.Error):
                self._connection.close(True)
            self._connection = None

    def close(self) -> None:
        with self._lock:
            self._close()

    def resume(self) -> None:
        self._paused_until = 0.0

    def close_idle(self) -> None:
        """Close, unless a call is under way. While a process forks, nobody opens it again."""
        if not self._busy:
            self._close()

    def disown(self) -> None:
        """In a forked child: have no part in a call that was under way in the parent. Nor may anyone open that file
        here any more, since SQLite believes that this process has the locks that its parent has."""
        if self._busy:
            with suppress(OSError):
                _inherited.add(self._database.file())
        if self._connection is not None:
            leak(self._connection)
        self._connection, self._busy = None, False


_registering = forking.lock()
_handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
_inherited: set[tuple[int, int]] = set()


def _all_handles() -> list[_Handle]:
    with _registering:
        return list(_handles)


def _before_fork() -> None:
    """SQLite remembers the locks of its process, which a child does not have: it must inherit no open database."""
    for handle in _all_handles():
        handle.close_idle()


def _in_child() -> None:
    for handle in _all_handles():
        handle.disown()


forking.at_fork(before=_before_fork, in_child=_in_child)


def make_private(folder: Path) -> None:
    """Make a folder, and those above it, which only this user may look into. Raises OSError."""
    if folder.parent != folder and not os.path.exists(folder.parent):  # a drive that is not there has no parent
        make_private(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def locked(path: Path, seconds: float = LOCK_WAIT) -> Iterator[None]:
    """Hold a lock between processes, by a file that stays. The system takes it back from a process that dies.

    Raises OSError, also when another process has it for so long.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        until = time.monotonic() + seconds
        while not try_lock(handle):
            if time.monotonic() > until:
                message = f"another process, which may be stopped, has had its lock for {seconds:g} s"
                raise OSError(errno.EAGAIN, message)
            time.sleep(0.002)
        yield
    finally:
        os.close(handle)
