"""Which function results a statement uses, read off its bytecode.

SQLite evaluates every VIRTUAL generated column for each row that it writes, and mostly throws the values away: only
STORED columns, indexes, CHECK constraints, triggers, RETURNING and the statement's own expressions use them. `EXPLAIN`
lists the program that will run, so ordinary liveness analysis of its registers tells which results are used, whatever
the schema: a result that no later instruction reads need not be computed.

The list of opcodes is not a stable interface of SQLite. An opcode that is not in the table below counts as one that
reads every register, so that what is not understood is computed, never left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

_FUNCTION = re.compile(r"([^(]+)\((-?\d+)\)")

# What opcodes do with their operands (https://www.sqlite.org/opcode.html), for the ones that occur in statements which
# write. Letters: rN reads register PN; wN overwrites it; jN may jump to PN; xN jumps there always; RN:K reads PK
# registers from PN on ('4' for K is the number in P4, where 0 or nothing means one); "pure" marks an instruction whose
# only effect is on the registers it writes, so that it matters no more than those do.
_OPCODES: dict[str, str] = {
    **dict.fromkeys(("Init", "Goto"), "x2"),
    **dict.fromkeys(("Integer", "Int64", "Real", "String8", "String", "Blob", "Variable"), "w2"),
    **dict.fromkeys(("SoftNull", "CollSeq"), "w1"),
    **dict.fromkeys(("SCopy", "IntCopy", "IsTrue", "Not", "BitNot"), "r1 w2 pure"),
    **dict.fromkeys(
        (
            "Concat",
            "Add",
            "Subtract",
            "Multiply",
            "Divide",
            "Remainder",
            "BitAnd",
            "BitOr",
            "ShiftLeft",
            "ShiftRight",
        ),
        "r1 r2 w3 pure",
    ),
    **dict.fromkeys(("And", "Or"), "r1 r2 w3 pure"),
    # Changes of type in place: what reads the register afterwards decides whether the value matters.
    **dict.fromkeys(("Affinity", "Cast", "RealAffinity", "ClrSubtype"), ""),
    **dict.fromkeys(("Eq", "Ne", "Lt", "Le", "Gt", "Ge"), "r1 r3 j2"),
    **dict.fromkeys(("If", "IfNot", "IsNull", "NotNull", "IfPos", "IfNotZero", "DecrJumpZero", "MustBeInt"), "r1 j2"),
    "IsType": "r3 j2",
    "AddImm": "r1",
    "ZeroOrNull": "r1 r3 w2",
    "OffsetLimit": "r1 r3 w2",
    "HaltIfNull": "r3",
    "Halt": "r3 end",
    "ResultRow": "R1:2",
    "MakeRecord": "R1:2 w3 pure",
    **dict.fromkeys(
        (
            "SeekLT",
            "SeekLE",
            "SeekGE",
            "SeekGT",
            "NotFound",
            "Found",
            "NoConflict",
            "IfNoHope",
            "IdxLE",
            "IdxGT",
        ),
        "R3:4 j2",
    ),
    **dict.fromkeys(("IdxLT", "IdxGE", "Filter"), "R3:4 j2"),
    **dict.fromkeys(("SeekRowid", "NotExists", "RowSetTest"), "r3 j2"),
    **dict.fromkeys(("Insert",), "r2 r3"),
    "Delete": "r3",
    **dict.fromkeys(("IdxInsert",), "r2 R3:4"),
    "SorterInsert": "r2",
    "IdxDelete": "R2:3",
    "FilterAdd": "R3:4",
    "RowSetAdd": "r1 r2",
    "NewRowid": "r3 w2",
    **dict.fromkeys(("Column", "Offset"), "w3"),
    **dict.fromkeys(("Rowid", "IdxRowid", "RowData", "SorterData", "Sequence", "Count", "Param", "ReadCookie"), "w2"),
    "RowSetRead": "w3 j2",
    **dict.fromkeys(
        ("Once", "ElseEq", "SeekScan", "IfNotOpen", "IfNullRow", "SequenceTest", "IfSizeBetween", "FkIfZero"),
        "j2",
    ),
    **dict.fromkeys(
        (
            "Last",
            "Rewind",
            "Sort",
            "SorterSort",
            "IfEmpty",
            "Next",
            "Prev",
            "SorterNext",
            "VNext",
            "SorterCompare",
        ),
        "j2",
    ),
    "Jump": "end j1 j2 j3",
    **dict.fromkeys(
        (
            "Noop",
            "Explain",
            "Trace",
            "ReleaseReg",
            "Transaction",
            "TableLock",
            "FkCheck",
            "FkCounter",
            "ResetCount",
        ),
        "",
    ),
    **dict.fromkeys(("Close", "ColumnsUsed", "OpenRead", "OpenWrite", "ReopenIdx", "OpenDup", "SorterOpen"), ""),
    **dict.fromkeys(
        (
            "OpenEphemeral",
            "OpenAutoindex",
            "NullRow",
            "SeekEnd",
            "SeekHit",
            "DeferredSeek",
            "FinishSeek",
            "Expire",
        ),
        "",
    ),
    **dict.fromkeys(("ResetSorter", "CursorHint", "CursorLock", "CursorUnlock", "Abortable", "MemMax"), ""),
    "OpenPseudo": "r2",
    "Clear": "r3",
    "VOpen": "",
    "VColumn": "w3",
    "VInitIn": "r3 w2",
    "VUpdate": "R3:2",
}
_OPEN_BY_REGISTER = 0x10  # P5 of OpenWrite: P2 is a register (OPFLAG_P2ISREG)


@dataclass(slots=True)
class _Instruction:
    """One row of EXPLAIN, understood."""

    opcode: str
    p1: int
    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    next: set[int] = field(default_factory=set)
    pure: bool = False
    unknown: bool = False
    function: str | None = None
    arguments_from: int | None = None  # of a function with any number of arguments: the register of the first


def live_functions(explained: Iterable[tuple[object, ...]]) -> frozenset[str] | None:
    """Lower-case names of the functions whose result the explained statement uses; None when all may be used.

    `explained` has the rows of `EXPLAIN`: addr, opcode, p1, p2, p3, p4, p5, … A trigger's program follows that of the
    statement and starts at address 0 again.
    """
    programs: list[list[tuple[object, ...]]] = []
    for row in explained:
        if row[0] == 0:
            programs.append([])
        programs[-1].append(row)
    if not programs:
        return None
    # An instruction Param of a trigger reads the register of its caller that lies P1 behind P1 of Program.
    parameters = {_int(row[2]) for program in programs[1:] for row in program if row[1] == "Param"}
    live: set[str] = set()
    for program in programs:
        instructions = [_understand(row, program, parameters) for row in program]
        if any(not 0 <= to < len(program) for instruction in instructions for to in instruction.next):
            return None
        _find_arguments(instructions)
        live |= _used_functions(instructions)
    return frozenset(live)


def called_functions(explained: Iterable[tuple[object, ...]]) -> set[str]:
    """Lower-case names of all functions that the explained statement calls."""
    names = (_FUNCTION.fullmatch(str(row[5])) for row in explained if row[1] in ("Function", "PureFunc"))
    return {match[1].lower() for match in names if match}


def _find_arguments(program: list[_Instruction]) -> None:
    """Settle what functions with any number of arguments read, since EXPLAIN does not tell their number.

    An argument was written on every path to the call; the first register behind P2 that was not is none. (Forward
    analysis of definite assignment, to its fixed point; nothing is certain behind an unknown instruction, and there
    every register may be an argument.)
    """
    if all(instruction.arguments_from is None for instruction in program):
        return
    everything = set().union(*(i.reads | i.writes for i in program))
    everything.update(range(max(everything, default=0) + 1))
    before: list[set[int] | None] = [None] * len(program)
    before[0] = set()
    pending = [0]
    while pending:
        at = pending.pop()
        known, instruction = before[at], program[at]
        assert known is not None
        after = everything if instruction.unknown else known | instruction.writes
        for to in instruction.next:
            then = before[to]
            now = after if then is None else then & after
            if now != then:
                before[to] = set(now)
                pending.append(to)
    for at, instruction in enumerate(program):
        register = instruction.arguments_from
        known = before[at] or set()
        while register is not None and register in known:
            instruction.reads.add(register)
            register += 1


def _used_functions(program: list[_Instruction]) -> set[str]:
    """Backward liveness over the control flow graph, to its fixed point."""
    before: list[set[int]] = [set() for _ in program]
    everything = set().union(*(i.reads | i.writes for i in program))
    callers: list[list[int]] = [[] for _ in program]
    for at, instruction in enumerate(program):
        for to in instruction.next:
            callers[to].append(at)
    used: set[str] = set()
    pending = set(range(len(program)))
    while pending:
        at = pending.pop()
        instruction = program[at]
        after: set[int] = set().union(*(before[to] for to in instruction.next))
        matters = not instruction.pure or bool(instruction.writes & after)
        now = (after - instruction.writes) | (instruction.reads if matters else set())
        if instruction.unknown:
            now = set(everything)
        if instruction.function and instruction.writes & after:
            used.add(instruction.function)
        if now != before[at]:
            before[at] = now
            pending.update(callers[at])
    return used


def _understand(row: tuple[object, ...], program: list[tuple[object, ...]], parameters: set[int]) -> _Instruction:
    at, opcode, p4 = _int(row[0]), str(row[1]), str(row[5] or "")
    p = {
        1: _int(row[2]),
        2: _int(row[3]),
        3: _int(row[4]),
        4: int(p4) if p4.isdecimal() else 1,
        5: _int(row[6]),
    }
    found = _Instruction(opcode, p[1])
    after = at + 1
    if special := _SPECIAL.get(opcode):
        special(found, p, p4, after, program, parameters)
        return found
    meaning = _OPCODES.get(opcode)
    found.next.add(after)
    if meaning is None:
        found.unknown = True
        if 0 < p[2] < len(program):
            found.next.add(p[2])
        return found
    for word in meaning.split():
        if word == "pure":
            found.pure = True
        elif word == "end":
            found.next.discard(after)
        elif word[0] == "r":
            found.reads.add(p[int(word[1])])
        elif word[0] == "R":
            first, count = p[int(word[1])], p[int(word[3])]
            found.reads.update(range(first, first + max(count, 1)))
        elif word[0] == "w":
            found.writes.add(p[int(word[1])])
        elif word[0] == "x":
            found.next = {p[int(word[1])]}
        elif word[0] == "j":
            found.next.add(p[int(word[1])])
    if opcode.startswith("Open") and p[5] & _OPEN_BY_REGISTER:
        found.reads.add(p[2])
    return found


def _call(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """Function and PureFunc: P3 = f(P2, P2+1, …)."""
    found.next.add(after)
    found.writes.add(p[3])
    match = _FUNCTION.fullmatch(p4)
    if match is None:
        found.unknown = True
        return
    found.pure = True
    found.function = match[1].lower()
    count = int(match[2])
    if count < 0:
        found.arguments_from = p[2]
    found.reads.update(range(p[2], p[2] + count))


def _filter(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """VFilter: a plan in P3, the number of arguments in P3 + 1, and these from there on."""
    found.next.update({after, p[2]})
    found.reads.update({p[3], p[3] + 1})
    found.arguments_from = p[3] + 2


def _type_check(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """TypeCheck of a STRICT table reads P2 columns from P1 on. P3 of 2 and more names a single generated column, which
    is VIRTUAL or will be read by MakeRecord; NULL passes for any type, so this alone is no reason to compute it."""
    found.next.add(after)
    if p[3] < 2:
        found.reads.update(range(p[1], p[1] + p[2]))


def _null(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """Null and BeginSubrtn: P2 to P3."""
    found.next.add(after)
    found.writes.update(range(p[2], max(p[2], p[3]) + 1))


def _copy(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """Copy copies P3 + 1 registers, Move P3 of them."""
    count = p[3] + (found.opcode == "Copy")
    found.next.add(after)
    found.pure = count == 1
    found.reads.update(range(p[1], p[1] + count))
    found.writes.update(range(p[2], p[2] + count))


def _compare(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    found.next.add(after)
    found.reads.update(range(p[1], p[1] + p[3]))
    found.reads.update(range(p[2], p[2] + p[3]))


def _aggregate(found: _Instruction, p: Mapping[int, int], p4: str, after: int, *_: object) -> None:
    """AggStep and its kin read P5 registers from P2 on; the accumulator P3 lives until AggFinal."""
    found.next.add(after)
    found.reads.update({p[1], p[3], *range(p[2], p[2] + p[5])})
    found.writes.update({p[1], p[3]})


def _coroutine(
    found: _Instruction,
    p: Mapping[int, int],
    p4: str,
    after: int,
    program: list[tuple[object, ...]],
    _: set[int],
) -> None:
    """Yield swaps with the coroutine of register P1, and lands behind any other instruction that names it."""
    if found.opcode == "InitCoroutine":
        found.next.update({p[2] or after, p[3]})
        return
    for row in program:
        at, opcode, p1, p2, p3 = _int(row[0]), str(row[1]), _int(row[2]), _int(row[3]), _int(row[4])
        if p1 != p[1]:
            continue
        if opcode == "Yield":
            found.next.add(at + 1)
            if p2:
                found.next.add(p2)
        elif opcode == "InitCoroutine":
            found.next.add(p3)


def _subroutine(
    found: _Instruction,
    p: Mapping[int, int],
    p4: str,
    after: int,
    program: list[tuple[object, ...]],
    _: set[int],
) -> None:
    """Gosub calls P2; Return goes back behind any Gosub of its register, or falls through."""
    if found.opcode == "Gosub":
        found.next.add(p[2])
        return
    found.next.add(after if after < len(program) else 0)
    if p[2]:
        found.next.add(p[2])
    found.next.update(_int(row[0]) + 1 for row in program if row[1] == "Gosub" and row[2] == p[1])


def _program(found: _Instruction, p: Mapping[int, int], p4: str, after: int, _: object, parameters: set[int]) -> None:
    """Program runs a trigger, which reads what its Params name."""
    found.next.update({after, p[2]} if p[2] else {after})
    found.reads.update(p[1] + offset for offset in parameters)


_SPECIAL: dict[str, Callable[..., None]] = {
    **dict.fromkeys(("Function", "PureFunc"), _call),
    "VFilter": _filter,
    "TypeCheck": _type_check,
    **dict.fromkeys(("Null", "BeginSubrtn"), _null),
    **dict.fromkeys(("Copy", "Move"), _copy),
    "Compare": _compare,
    **dict.fromkeys(("AggStep", "AggStep1", "AggInverse", "AggFinal", "AggValue"), _aggregate),
    **dict.fromkeys(("InitCoroutine", "Yield", "EndCoroutine"), _coroutine),
    **dict.fromkeys(("Gosub", "Return"), _subroutine),
    "Program": _program,
}


def _int(value: object) -> int:
    return int(value)  # type: ignore[call-overload, no-any-return]
