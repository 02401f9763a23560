"""The folders that files of the cache lie in: one for each process, which alone makes files there.

A process holds a lock in its folder for as long as it lives. What lies in the folder of a dead one and is not in the
catalogue was written by halves, and is removed. No name is used twice, so that a name stands for one version of one
object, and whoever deletes a file by it never deletes another.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .database import make_private
from .file_lock import try_lock

_LOCK = "lock"
_NAME = re.compile(r"[0-9a-f-]+/[0-9]+(\.[^/\0]*)?", re.ASCII)
_ATTEMPTS = 10
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)


class Folder:
    """This process's folder below `root`, made when it is first needed. Any thread may use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.name: str | None = None
        self._lock: int | None = None
        self._numbers = itertools.count(1)
        self._opening = threading.RLock()

    def create(self, suffix: str) -> tuple[str, int]:
        """A new file: its name from `root` on, and a handle to it. Raises OSError."""
        for attempt in range(2):
            name = f"{self.opened()}/{next(self._numbers)}{suffix}"
            try:
                return name, os.open(self.root / name, _FLAGS | os.O_EXCL, 0o600)
            except FileNotFoundError:  # somebody deleted the folder
                if attempt:
                    raise
                self.abandon()
        raise AssertionError

    def link(self, file: str, suffix: str) -> str:
        """Another name, in this folder, for a file: its name from `root` on. Raises OSError."""
        name = f"{self.opened()}/{next(self._numbers)}{suffix}"
        os.link(self.root / file, self.root / name)
        return name

    def opened(self) -> str:
        """The name of the folder, which is there and locked. Raises OSError."""
        with self._opening:
            return self.name or self._open()

    def _open(self) -> str:
        for _ in range(_ATTEMPTS):
            name = f"{time.time_ns():x}-{os.getpid():x}-{secrets.token_hex(3)}"
            make_private(self.root / name)
            path = self.root / name / _LOCK
            try:
                handle = os.open(path, _FLAGS | os.O_EXCL, 0o600)
            except (FileExistsError, FileNotFoundError):
                if not os.path.exists(self.root):
                    raise
                continue  # who cleans took it for a dead one
            try:
                if try_lock(handle) and _is_at(handle, path):
                    self.name, self._lock = name, handle
                    return name
            except OSError:  # of a disk without locks: what is made there nobody could tell from what the dead left
                Dead(self.root, name, handle).close()
                raise
            os.close(handle)
        raise OSError(errno.EAGAIN, "others take each new folder for that of a dead process", os.fspath(self.root))

    def abandon(self) -> None:
        """Leave the folder to whoever cleans; the next file is made in another."""
        with self._opening:
            if self._lock is not None:
                os.close(self._lock)
            self.name = self._lock = None

    def let_go(self) -> None:
        """In a forked child: it is the parent's, and locked for as long as that lives."""
        if self._lock is not None:
            os.close(self._lock)

    def leave(self) -> None:
        """Leave it for good: nothing in it needs cleaning."""
        with self._opening:
            if self.name is not None and self._lock is not None:
                Dead(self.root, self.name, self._lock).close()
            self.name = self._lock = None

    def others(self) -> Iterator[str]:
        """The names of all other folders, as far as they can be listed."""
        try:
            with os.scandir(self.root) as found:
                names = [item.name for item in found if item.is_dir(follow_symlinks=False)]
        except OSError:
            return
        yield from (name for name in names if name != self.name)


class Dead:
    """The folder of a process that has ended, held so that nobody else cleans it meanwhile."""

    def __init__(self, root: Path, name: str, handle: int) -> None:
        self._path = root / name
        self._name = name
        self._handle = handle

    @classmethod
    def take(cls, root: Path, name: str) -> Dead | None:
        """The folder, if its process is dead. Raises OSError."""
        path = root / name / _LOCK
        try:
            handle = os.open(path, _FLAGS, 0o600)
        except FileNotFoundError:
            return None
        try:
            if try_lock(handle) and _is_at(handle, path):
                return cls(root, name, handle)
        except OSError:
            os.close(handle)
            raise
        os.close(handle)
        return None

    def files(self) -> list[str]:
        """The names of its files, from the root on."""
        return [f"{self._name}/{name}" for name in os.listdir(self._path) if name != _LOCK]

    def close(self) -> None:
        """Leave it, with no folder where no file remains."""
        with suppress(OSError):
            try:
                os.unlink(self._path / _LOCK)
                os.close(self._handle)
            except PermissionError:  # Windows deletes no file that is open
                os.close(self._handle)
                os.unlink(self._path / _LOCK)
        with suppress(OSError):
            self._path.rmdir()


def remove(root: Path, name: str) -> bool:
    """Delete a file, and its folder when that was the last. Whether it is gone."""
    if (
        not isinstance(name, str) or _NAME.fullmatch(name) is None
    ):  # of a damaged database: it may name no file elsewhere
        return True
    try:
        os.unlink(root / name)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    with suppress(OSError):
        (root / name).parent.rmdir()
    return True


def is_gone(path: Path) -> bool:
    """Return whether there is nothing at `path`; False where that cannot be told."""
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, FileNotFoundError)
    return False


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False
