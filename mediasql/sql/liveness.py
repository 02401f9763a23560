"""Which function results a statement uses, read off its bytecode.

SQLite evaluates every VIRTUAL generated column for each row that it writes, and mostly throws the values away: only
STORED columns, indexes, CHECK constraints, triggers, RETURNING and the statement's own expressions use them. `EXPLAIN`
lists the program that will run, so ordinary liveness analysis of its registers tells which results are used, whatever
the schema: a result that no later instruction reads need not be computed.

Every doubt is settled in favour of computing. The list of opcodes is not a stable interface of SQLite, so one that is
not in `opcodes.py` counts as reading every register, and a version of SQLite that was not tested has to pass
`self_test`; paths that cannot be taken are followed all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from .opcodes import OPCODES

_FUNCTION = re.compile(r"(.+)\((-?\d+)\)", re.DOTALL)
_CALLS = frozenset({"Function", "PureFunc", "AggStep", "AggStep1", "AggInverse", "AggValue", "AggFinal"})
_OPEN_BY_REGISTER = 0x10  # P5 of OpenRead and OpenWrite: P2 is a register (OPFLAG_P2ISREG)


class Row(NamedTuple):
    """What matters of one row of EXPLAIN."""

    at: int
    opcode: str
    p1: int
    p2: int
    p3: int
    p4: str
    p5: int

    @classmethod
    def of(cls, explained: tuple[object, ...]) -> Row:
        at, opcode, p1, p2, p3, p4, p5 = explained[:7]
        return cls(int(str(at)), str(opcode), int(str(p1)), int(str(p2)), int(str(p3)), str(p4 or ""), int(str(p5)))

    @property
    def registers(self) -> int:
        """P4 where it is a number of registers; 0 and nothing stand for one."""
        return max(int(self.p4), 1) if self.p4.isdecimal() else 1

    @property
    def function(self) -> tuple[str, int] | None:
        """Lower-case name and number of arguments of the function that is called; -1 stands for any number."""
        if self.opcode not in ("Function", "PureFunc"):
            return None
        match = _FUNCTION.fullmatch(self.p4)
        return (match[1].lower(), int(match[2])) if match else ("", -1)


@dataclass(slots=True)
class _Instruction:
    """One row of EXPLAIN, understood. A pure one matters no more than the registers that it writes."""

    reads: set[int] = field(default_factory=set)
    writes: set[int] = field(default_factory=set)
    next: set[int] = field(default_factory=set)
    pure: bool = False
    unknown: bool = False


class _Program:
    """One program: the statement's, or that of a trigger.

    `parameters` are the P1 of the Param instructions of all triggers: Param reads the register of its caller that lies
    P1 behind P1 of the caller's Program instruction.
    """

    def __init__(self, rows: list[Row], parameters: set[int]) -> None:
        self.rows = rows
        self._parameters = parameters
        self._constants_from = next((row.p2 for row in rows if row.opcode == "Init" and row.p2), len(rows))
        self.instructions = [_Instruction() for _ in rows]
        for row, instruction in zip(rows, self.instructions, strict=True):
            self._understand(row, instruction)
        named = (register for i in self.instructions for register in i.reads | i.writes)
        self._everything = set(range(max(named, default=0) + 1))
        self._find_arguments()
        # A pseudo cursor reads its register whenever a column of it is read: that register is always in use.
        self.pinned = {row.p2 for row in rows if row.opcode == "OpenPseudo"}

    def _understand(self, row: Row, found: _Instruction) -> None:
        special = getattr(self, f"_{row.opcode.lower()}", None)
        after = row.at + 1
        if special is not None:
            found.next.add(after)
            special(row, found)
            return
        meaning = OPCODES.get(row.opcode)
        found.next.add(after)
        if meaning is None:
            found.unknown = True
            found.next.update({row.p2} if 0 < row.p2 < len(self.rows) else ())
            return
        p = {"1": row.p1, "2": row.p2, "3": row.p3, "4": row.registers}
        for word in meaning.split():
            if word == "pure":
                found.pure = True
            elif word == "end":
                found.next.discard(after)
            elif word[0] == "r":
                found.reads.add(p[word[1]])
            elif word[0] == "R":
                found.reads.update(range(p[word[1]], p[word[1]] + max(p[word[3]], 1)))
            elif word[0] == "w":
                found.writes.add(p[word[1]])
            elif word[0] == "j":
                found.next.add(p[word[1]])
        if row.opcode.startswith("Open") and row.p5 & _OPEN_BY_REGISTER:
            found.reads.add(row.p2)

    def _function(self, row: Row, found: _Instruction) -> None:
        """Function and PureFunc: P3 = f(P2, P2+1, …)."""
        found.writes.add(row.p3)
        found.pure = True
        assert row.function is not None
        found.reads.update(range(row.p2, row.p2 + row.function[1]))

    _purefunc = _function

    def _init(self, row: Row, found: _Instruction) -> None:
        """Init and Goto jump to P2."""
        found.next = {row.p2 or row.at + 1}

    _goto = _init

    def _typecheck(self, row: Row, found: _Instruction) -> None:
        """TypeCheck of a STRICT table reads P2 columns from P1 on. P3 of 2 and more names a single generated column,
        which is VIRTUAL or will be read by MakeRecord; NULL passes for any type, so this alone is no reason to compute
        it."""
        if row.p3 < 2:
            found.reads.update(range(row.p1, row.p1 + row.p2))

    def _null(self, row: Row, found: _Instruction) -> None:
        """Null and BeginSubrtn: P2 to P3."""
        found.writes.update(range(row.p2, max(row.p2, row.p3) + 1))

    _beginsubrtn = _null

    def _copy(self, row: Row, found: _Instruction) -> None:
        """Copy copies P3 + 1 registers, Move P3 of them."""
        count = row.p3 + (row.opcode == "Copy")
        found.pure = count == 1
        found.reads.update(range(row.p1, row.p1 + count))
        found.writes.update(range(row.p2, row.p2 + count))

    _move = _copy

    def _compare(self, row: Row, found: _Instruction) -> None:
        found.reads.update(range(row.p1, row.p1 + row.p3))
        found.reads.update(range(row.p2, row.p2 + row.p3))

    def _aggstep(self, row: Row, found: _Instruction) -> None:
        """AggStep and its kin read P5 registers from P2 on; the accumulator, P1 or P3, lives until AggFinal."""
        found.reads.update({row.p1, row.p3, *range(row.p2, row.p2 + row.p5)})

    _aggstep1 = _agginverse = _aggfinal = _aggvalue = _aggstep

    def _initcoroutine(self, row: Row, found: _Instruction) -> None:
        found.next.add(row.p3)
        if row.p2:
            found.next.add(row.p2)

    def _yield(self, row: Row, found: _Instruction) -> None:
        """Yield swaps with the coroutine of register P1, and lands behind any other instruction that names it."""
        for other in self.rows:
            if other.p1 != row.p1:
                continue
            if other.opcode == "Yield":
                found.next.update({other.at + 1, other.p2} if other.p2 else {other.at + 1})
            elif other.opcode == "InitCoroutine":
                found.next.add(other.p3)

    _endcoroutine = _yield

    def _gosub(self, row: Row, found: _Instruction) -> None:
        found.next = {row.p2}

    def _return(self, row: Row, found: _Instruction) -> None:
        """Return goes back behind any Gosub of its register, or falls through."""
        found.next.update(other.at + 1 for other in self.rows if other.opcode == "Gosub" and other.p1 == row.p1)

    def _program(self, row: Row, found: _Instruction) -> None:
        """Program runs a trigger, which reads what its Params name."""
        if row.p2:
            found.next.add(row.p2)
        found.reads.update(row.p1 + offset for offset in self._parameters)

    def _vfilter(self, row: Row, found: _Instruction) -> None:
        """VFilter: a plan in P3, the number of arguments in P3 + 1, and these from there on."""
        found.next.add(row.p2)
        counts = [other.p1 for other in self.rows if other.opcode == "Integer" and other.p2 == row.p3 + 1]
        found.reads.update(range(row.p3, row.p3 + 2 + max(counts, default=0)))
        found.unknown = not counts

    def _find_arguments(self) -> None:
        """Settle what functions with any number of arguments read, since EXPLAIN does not tell their number.

        Arguments lie in adjacent registers, and SQLite writes their code in front of the call, constants aside, which
        it may compute once, where the program starts: behind the address that Init jumps to. So the first register
        that is written in neither place is no argument.
        """
        written = set().union(*map(self._written_by, self.instructions[self._constants_from :]))
        for row, instruction in zip(self.rows, self.instructions, strict=True):
            if row.function is not None and row.function[1] < 0:
                register = row.p2
                while register in written:
                    instruction.reads.add(register)
                    register += 1
            written |= self._written_by(instruction)

    def _written_by(self, instruction: _Instruction) -> set[int]:
        return self._everything if instruction.unknown else instruction.writes

    def leads_outside(self) -> bool:
        return any(not 0 <= to <= len(self.rows) for instruction in self.instructions for to in instruction.next)

    def used_and_called(self) -> tuple[set[str], set[str]]:
        """Names of functions whose result is used, and of all that are called: backward liveness to its fixed point."""
        program = self.instructions
        before: list[set[int]] = [set() for _ in program]
        callers: list[list[int]] = [[] for _ in program]
        for at, instruction in enumerate(program):
            instruction.next.discard(len(program))  # behind the last instruction
            for to in instruction.next:
                callers[to].append(at)
        used: set[str] = set()
        called: set[str] = set()
        pending = list(range(len(program)))  # the last comes first, since it is read behind where it is written
        waiting = set(pending)
        while pending:
            at = pending.pop()
            waiting.remove(at)
            instruction, function = program[at], self.rows[at].function
            after = self.pinned.union(*(before[to] for to in instruction.next))
            matters = not instruction.pure or bool(instruction.writes & after)
            now = (after - instruction.writes) | (instruction.reads if matters else set())
            if instruction.unknown:
                now = self._everything
            if function is not None:
                called.add(function[0])
                if instruction.writes & after:
                    used.add(function[0])
            if now != before[at]:
                before[at] = now
                pending += [caller for caller in callers[at] if caller not in waiting]
                waiting.update(callers[at])
        return used, called


def unused_functions(explained: Iterable[tuple[object, ...]]) -> frozenset[str]:
    """Lower-case names of the functions that the explained statement calls without using any of their results.

    `explained` has the rows of `EXPLAIN`: addr, opcode, p1, p2, p3, p4, p5, … A trigger's program follows that of the
    statement and starts at address 0 again. A function that is not called at all is not among them: where it is called
    nevertheless, another program runs.
    """
    used: set[str] = set()
    called: set[str] = set()
    programs = list(_split(explained))
    parameters = {row.p1 for program in programs[1:] for row in program if row.opcode == "Param"}
    for rows in programs:
        if [row.at for row in rows] != list(range(len(rows))):
            return frozenset()
        program = _Program(rows, parameters)
        if program.leads_outside():
            return frozenset()
        found_used, found_called = program.used_and_called()
        used |= found_used
        called |= found_called
    return frozenset(called - used)


def called_functions(explained: Iterable[tuple[object, ...]]) -> set[str]:
    """Lower-case names of all functions, aggregates and window functions that the explained statement calls."""
    found = set()
    for row in map(Row.of, explained):
        if row.opcode in _CALLS:
            match = _FUNCTION.fullmatch(row.p4)
            found.add(match[1].lower() if match else "")
    return found


def _split(explained: Iterable[tuple[object, ...]]) -> Iterator[list[Row]]:
    rows: list[Row] = []
    for row in map(Row.of, explained):
        if row.at == 0 and rows:
            yield rows
            rows = []
        rows.append(row)
    if rows:
        yield rows
