"""The host's SQLite as Python calls it, through the `sqlite3_api_routines` that the extension was given."""

from __future__ import annotations

import ctypes
from typing import Any

from ..c_api import CApi

_POINTER, _INT, _INT64, _TEXT = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p

# Places in sqlite3_api_routines (sqlite3ext.h), result, arguments, and the version that has it, where not all have.
_QUICK: dict[str, tuple[int, Any, tuple[Any, ...], int]] = {
    "bind_blob64": (193, _INT, (_POINTER, _INT, _TEXT, ctypes.c_uint64, _POINTER), 0),
    "bind_double": (3, _INT, (_POINTER, _INT, ctypes.c_double), 0),
    "bind_int64": (5, _INT, (_POINTER, _INT, _INT64), 0),
    "bind_null": (6, _INT, (_POINTER, _INT), 0),
    "bind_text64": (194, _INT, (_POINTER, _INT, _TEXT, ctypes.c_uint64, _POINTER, ctypes.c_ubyte), 0),
    "column_blob": (19, _POINTER, (_POINTER, _INT), 0),
    "column_bytes": (20, _INT, (_POINTER, _INT), 0),
    "column_count": (22, _INT, (_POINTER,), 0),
    "column_double": (27, ctypes.c_double, (_POINTER, _INT), 0),
    "column_int64": (29, _INT64, (_POINTER, _INT), 0),
    "column_text": (36, _POINTER, (_POINTER, _INT), 0),
    "column_type": (38, _INT, (_POINTER, _INT), 0),
    "errmsg": (53, _TEXT, (_POINTER,), 0),
    "get_autocommit": (60, _INT, (_POINTER,), 0),
    "limit": (151, _INT, (_POINTER, _INT, _INT), 0),
    "malloc64": (197, _POINTER, (ctypes.c_uint64,), 0),
    "txn_state": (252, _INT, (_POINTER, _TEXT), 0),
    "vtab_collation": (224, _TEXT, (_POINTER, _INT), 0),
    "vtab_in": (259, _INT, (_POINTER, _INT, _INT), 0),
    "is_interrupted": (266, _INT, (_POINTER,), 3_041_000),
}
# What may take long, wait for a lock or call functions of Python: without the interpreter's lock.
_SLOW: dict[str, tuple[int, Any, tuple[Any, ...]]] = {
    "finalize": (57, _INT, (_POINTER,)),
    "prepare_v2": (116, _INT, (_POINTER, _POINTER, _INT, _POINTER, _POINTER)),
    "step": (94, _INT, (_POINTER,)),
}


class Routines(CApi):
    """SQLite's C interface, by name; None stands for what its version does not have yet."""

    call: Any

    def __init__(self, table: int) -> None:
        super().__init__(table)
        places = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))
        self.call = self
        for name, (place, result, arguments, since) in _QUICK.items():
            there = self.version >= since
            setattr(self, name, ctypes.PYFUNCTYPE(result, *arguments)(places[place] or 0) if there else None)
        for name, (place, result, arguments) in _SLOW.items():
            setattr(self, name, ctypes.CFUNCTYPE(result, *arguments)(places[place] or 0))
