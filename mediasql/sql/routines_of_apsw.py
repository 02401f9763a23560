"""Finds `sqlite3_api_routines` of the SQLite library that APSW calls.

SQLite passes the table to the entry point of each extension that it loads. No library is loaded for it here: SQLite
opens libraries with RTLD_GLOBAL, so that other SQLite libraries and extensions of the process, which use the same names
as the one that is loaded, would call its functions, and it theirs. SQLite leaves the opening of libraries to the VFS of
the connection, and the one below answers with a function of Python's as the entry point.
"""

from __future__ import annotations

import ctypes

import apsw

_NAME = "mediasql-routines"  # of the VFS
_OK = 0
_ENTRY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class _NoLibrary(apsw.VFS):
    """The default VFS, in which every library can be opened and has its entry point at `entry`."""

    def __init__(self, entry: int) -> None:
        super().__init__(_NAME, "")
        self._entry = entry

    def xDlOpen(self, filename: str) -> int:
        return 1  # a handle; NULL is for failure

    def xDlSym(self, handle: int, symbol: str) -> int:
        return self._entry

    def xDlClose(self, handle: int) -> None:
        pass


def address() -> int:
    """Return the address of the table, which is valid for as long as the process lives.

    Raises LookupError, with the reason, where APSW loads no extensions, as when it was built without them.
    """
    found: list[int] = []

    def enter(database: int, message: int, table: int) -> int:
        found.append(table)
        return _OK

    try:
        entry = _ENTRY(enter)
        vfs = _NoLibrary(ctypes.cast(entry, ctypes.c_void_p).value or 0)
        try:
            connection = apsw.Connection(":memory:", vfs=_NAME)
            try:
                connection.enable_load_extension(True)
                connection.load_extension(_NAME, _NAME)
            finally:
                connection.close()
        finally:
            vfs.unregister()
    except (AttributeError, MemoryError, apsw.Error) as error:  # MemoryError: systems that forbid callbacks of ctypes
        raise LookupError(f"APSW cannot load an extension here ({type(error).__name__}: {error})") from error
    return found[0]
