"""`sqlite3_index_info` with the methods of APSW's IndexInfo that `vtable` calls."""

from __future__ import annotations

import ctypes
from typing import Any

from .routines import Routines

_MOST_LISTED = 31  # arguments that the bits of idxNum can tell to be lists; see `filter` in tables.c


class _Constraint(ctypes.Structure):
    _fields_ = (
        ("iColumn", ctypes.c_int),
        ("op", ctypes.c_ubyte),
        ("usable", ctypes.c_ubyte),
        ("iTermOffset", ctypes.c_int),
    )


class _Usage(ctypes.Structure):
    _fields_ = (("argvIndex", ctypes.c_int), ("omit", ctypes.c_ubyte))


class _Info(ctypes.Structure):
    _fields_ = (
        ("nConstraint", ctypes.c_int),
        ("aConstraint", ctypes.POINTER(_Constraint)),
        ("nOrderBy", ctypes.c_int),
        ("aOrderBy", ctypes.c_void_p),
        ("aConstraintUsage", ctypes.POINTER(_Usage)),
        ("idxNum", ctypes.c_int),
        ("idxStr", ctypes.c_void_p),
        ("needToFreeIdxStr", ctypes.c_int),
        ("orderByConsumed", ctypes.c_int),
        ("estimatedCost", ctypes.c_double),
        ("estimatedRows", ctypes.c_int64),
    )


class IndexInfo:
    """To be used while SQLite asks for a plan, and no longer. `commit` writes the plan down."""

    idxStr: str = ""
    estimatedCost: float = 1e6
    estimatedRows: int = 25

    def __init__(self, address: int, routines: Routines) -> None:
        self._address = address
        self._info = _Info.from_address(address)
        self._call = routines.call
        self._listed: list[int] = []
        self._chosen = 0

    @property
    def nConstraint(self) -> int:
        return int(self._info.nConstraint)

    @property
    def nOrderBy(self) -> int:
        return int(self._info.nOrderBy)

    def get_aConstraint_op(self, at: int) -> int:
        return int(self._info.aConstraint[at].op)

    def get_aConstraint_iColumn(self, at: int) -> int:
        return int(self._info.aConstraint[at].iColumn)

    def get_aConstraint_usable(self, at: int) -> bool:
        return bool(self._info.aConstraint[at].usable)

    def get_aConstraint_collation(self, at: int) -> str:
        name: bytes = self._call.vtab_collation(self._address, at)
        return name.decode()

    def get_aConstraintUsage_in(self, at: int) -> bool:
        return self._chosen < _MOST_LISTED and bool(self._call.vtab_in(self._address, at, -1))

    def set_aConstraintUsage_in(self, at: int, all_at_once: bool) -> None:
        self._call.vtab_in(self._address, at, int(all_at_once))
        self._listed.append(at)

    def set_aConstraintUsage_argvIndex(self, at: int, index: int) -> None:
        self._info.aConstraintUsage[at].argvIndex = index
        self._chosen = max(self._chosen, index)

    def set_aConstraintUsage_omit(self, at: int, omit: bool) -> None:
        self._info.aConstraintUsage[at].omit = int(omit)

    def commit(self) -> None:
        """Raises MemoryError."""
        info, text = self._info, self.idxStr.encode() + b"\0"
        memory = self._call.malloc64(len(text))
        if not memory:
            raise MemoryError
        ctypes.memmove(memory, text, len(text))
        info.idxStr, info.needToFreeIdxStr = memory, 1
        info.idxNum = sum(1 << info.aConstraintUsage[at].argvIndex - 1 for at in self._listed)
        info.estimatedCost, info.estimatedRows = self.estimatedCost, self.estimatedRows


def best_index(table: Any, address: int, routines: Routines) -> bool:
    """Let `table` choose a plan; False when it has none."""
    info = IndexInfo(address, routines)
    chosen = bool(table.BestIndexObject(info))
    if chosen:
        info.commit()
    return chosen
