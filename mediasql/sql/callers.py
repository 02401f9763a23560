"""What the Python code that steps a statement is doing: executing one, or reading on in another.

SQLite does not tell an open read that waits for its next row from one that is being read at this moment. The bytecode
of the frame that called does: a write runs in a call of `execute` or `executemany`, a read goes on in any other way.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType, FrameType

_EXECUTES = ("execute", "executemany")


def outside(frame: FrameType | None) -> FrameType | None:
    """The frame that called the functions of one module, of which `frame` is the last; None without one in Python."""
    module = frame.f_globals if frame is not None else None
    while frame is not None and frame.f_globals is module:
        frame = frame.f_back
    return frame


def executes(frame: FrameType | None) -> bool:
    """Whether `frame` is in a call of a method named `execute` or `executemany`; False where that cannot be seen."""
    return frame is not None and _called(frame.f_code, frame.f_lasti) in _EXECUTES


@lru_cache(10_000)
def _called(code: CodeType, at: int) -> str | None:
    """The name of the method that the instruction at offset `at` calls."""
    instructions = list(dis.get_instructions(code))
    call = next((instruction for instruction in instructions if instruction.offset == at), None)
    if call is None or not call.opname.startswith(("CALL", "PRECALL")):
        return None
    where = call.positions
    if where is None or where.lineno is None or where.end_lineno is None:
        return None
    # `a.b(…).c(…)`: of the attributes that begin where the call begins, its own is the last that ends within it.
    end = (where.end_lineno, where.end_col_offset or 0)
    found: tuple[tuple[int, int], str | None] = ((0, 0), None)
    for instruction in instructions:
        there = instruction.positions
        if not instruction.opname.startswith(("LOAD_METHOD", "LOAD_ATTR")) or there is None:
            continue
        if (there.lineno, there.col_offset) == (where.lineno, where.col_offset):
            ends = (there.end_lineno or 0, there.end_col_offset or 0)
            if found[0] < ends < end:
                found = (ends, str(instruction.argval))
    return found[1]
