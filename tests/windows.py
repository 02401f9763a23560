"""Makes this process lack what Python lacks on Windows: `simulate()` before mediasql is imported.

The system stays what it is: paths, sockets and SQLite are this machine's. What cannot be had here is left to a runner.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.abc
import os
import select
import shutil
import signal
import socket
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What `os` of CPython has there, beside names that begin with an underscore; the rest is "Availability: Unix".
OS = _names("""
    DirEntry EX_OK F_OK GenericAlias Mapping MutableMapping O_APPEND O_BINARY O_CREAT O_EXCL O_NOINHERIT
    O_RANDOM O_RDONLY O_RDWR O_SEQUENTIAL O_SHORT_LIVED O_TEMPORARY O_TEXT O_TRUNC O_WRONLY P_DETACH P_NOWAIT
    P_NOWAITO P_OVERLAY P_WAIT PathLike R_OK SEEK_CUR SEEK_END SEEK_SET TMP_MAX W_OK X_OK abc abort access
    add_dll_directory altsep chdir chmod close closerange cpu_count curdir defpath device_encoding devnull dup
    dup2 environ error execl execle execlp execlpe execv execve execvp execvpe extsep fchmod fdopen fsdecode
    fsencode fspath fstat fsync ftruncate get_blocking get_exec_path get_handle_inheritable get_inheritable
    get_terminal_size getcwd getcwdb getenv getlogin getpid getppid isatty kill lchmod linesep link listdir
    listdrives listmounts listvolumes lseek lstat makedirs mkdir name open pardir path pathsep pipe popen
    process_cpu_count putenv read readinto readlink reload_environ remove removedirs rename renames replace
    rmdir scandir sep set_blocking set_handle_inheritable set_inheritable spawnl spawnle spawnv spawnve st
    startfile stat stat_result statvfs_result strerror supports_bytes_environ supports_dir_fd
    supports_effective_ids supports_fd supports_follow_symlinks symlink sys system terminal_size times
    times_result truncate umask uname_result unlink unsetenv urandom utime waitpid waitstatus_to_exitcode walk
    write
""")
MODULES = _names(
    "crypt curses fcntl grp nis ossaudiodev posix pty pwd readline resource spwd syslog termios tty uvloop"
)
SIGNALS = _names("SIGABRT SIGBREAK SIGFPE SIGILL SIGINT SIGSEGV SIGTERM")


class _Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def simulate() -> None:
    """What the standard library took hold of before it keeps, and so do those that ask `sys.platform` what there is."""
    importlib.import_module("pandas")
    fcntl = importlib.import_module("fcntl")
    sys.modules["msvcrt"] = _msvcrt(fcntl)
    shutil.disk_usage = _disk_usage(os.statvfs)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Absent())
    for name in [name for name in vars(os) if name[0] != "_" and name not in OS]:
        delattr(os, name)
    for name in [name for name in vars(signal) if name.startswith("SIG") and name not in SIGNALS and name.isalnum()]:
        delattr(signal, name)
    for name in ("setitimer", "getitimer", "pthread_kill", "pthread_sigmask", "alarm", "pause", "siginterrupt"):
        delattr(signal, name)
    socket.socketpair = partial(socket.socketpair, socket.AF_UNIX)
    for name in ("epoll", "poll"):
        delattr(select, name)
    for name in ("AF_UNIX", "SO_REUSEPORT", "CMSG_LEN", "SCM_RIGHTS"):
        delattr(socket, name)
    for name in ("add_reader", "add_writer", "add_signal_handler"):
        setattr(asyncio.SelectorEventLoop, name, _not_implemented)  # as of the loop that Windows has by default
    ctypes.CDLL.__init__ = _only_with_a_name(ctypes.CDLL.__init__)  # type: ignore[method-assign]
    for name in ("remove", "unlink", "replace", "rename"):
        setattr(os, name, _only_closed(getattr(os, name)))


def _msvcrt(fcntl: Any) -> types.ModuleType:
    made: Any = types.ModuleType("msvcrt")
    made.LK_NBLCK = 2

    def locking(handle: int, mode: int, count: int) -> None:
        assert mode == made.LK_NBLCK
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(13, "Permission denied") from None

    made.locking = locking
    return made


def _disk_usage(statvfs: Callable[[Any], os.statvfs_result]) -> Callable[[Any], Any]:
    """The standard library's, which asks Windows in another way."""
    usage: Any = type(shutil.disk_usage(os.curdir))

    def disk_usage(path: Any) -> Any:
        found = statvfs(path)
        total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        return usage(total, total - free, free)

    return disk_usage


def _not_implemented(self: Any, *arguments: Any) -> Any:
    raise NotImplementedError


def _only_with_a_name(load: Callable[..., None]) -> Callable[..., None]:
    def init(self: Any, name: Any = "", *arguments: Any, **options: Any) -> None:
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        load(self, name, *arguments, **options)

    return init


def _only_closed(change: Callable[..., None]) -> Callable[..., None]:
    """Files that are open are not deleted or renamed there, nor replaced."""

    def changed(*paths: Any, **options: Any) -> None:
        if open_files := _open_files():
            for path in paths:
                if os.path.realpath(path) in open_files:
                    raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
        change(*paths, **options)

    return changed


def _open_files() -> set[str]:
    return {os.path.realpath(f"/proc/self/fd/{handle}") for handle in os.listdir("/proc/self/fd")}
