"""The host's SQLite as Python calls it, through the `sqlite3_api_routines` that the extension was given."""

from __future__ import annotations

import ctypes
from typing import Any

from ..c_api import CApi, Signature, functions_at

_POINTER, _INT, _INT64, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p

_QUICK: dict[str, Signature] = {
    "bind_blob64": (_INT, (_POINTER, _INT, _TEXT, ctypes.c_uint64, _POINTER)),
    "bind_double": (_INT, (_POINTER, _INT, ctypes.c_double)),
    "bind_int64": (_INT, (_POINTER, _INT, _INT64)),
    "bind_null": (_INT, (_POINTER, _INT)),
    "bind_text64": (_INT, (_POINTER, _INT, _TEXT, ctypes.c_uint64, _POINTER, ctypes.c_ubyte)),
    "column_blob": (_POINTER, (_POINTER, _INT)),
    "column_bytes": (_INT, (_POINTER, _INT)),
    "column_count": (_INT, (_POINTER,)),
    "column_double": (ctypes.c_double, (_POINTER, _INT)),
    "column_int64": (_INT64, (_POINTER, _INT)),
    "column_text": (_POINTER, (_POINTER, _INT)),
    "column_type": (_INT, (_POINTER, _INT)),
    "errmsg": (_TEXT, (_POINTER,)),
    "get_autocommit": (_INT, (_POINTER,)),
    "is_interrupted": (_INT, (_POINTER,)),
    "limit": (_INT, (_POINTER, _INT, _INT)),
    "malloc64": (_POINTER, (ctypes.c_uint64,)),
    "txn_state": (_INT, (_POINTER, _TEXT)),
    "vtab_collation": (_TEXT, (_POINTER, _INT)),
    "vtab_config": (_INT, (_POINTER, _INT)),  # of an option that has no argument
    "vtab_in": (_INT, (_POINTER, _INT, _INT)),
}
# What may take long, wait for a lock or call functions of Python: without the interpreter's lock.
_SLOW: dict[str, Signature] = {
    "finalize": (_INT, (_POINTER,)),
    "prepare_v2": (_INT, (_POINTER, _POINTER, _INT, _POINTER, _POINTER)),
    "step": (_INT, (_POINTER,)),
}


class Routines(CApi):
    """SQLite's C interface, by name; None stands for what its version does not have yet."""

    call: Any

    def __init__(self, table: int) -> None:
        """Read the `sqlite3_api_routines` at the address `table`. Raises ConfigError as `functions_at` does."""
        super().__init__(table)
        self._add(functions_at(table, _QUICK, ctypes.PYFUNCTYPE))
        self._add(functions_at(table, _SLOW, ctypes.CFUNCTYPE))
        self.call = self
