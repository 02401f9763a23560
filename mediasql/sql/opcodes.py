"""What the instructions of SQLite's virtual machine do with their operands, for those of statements that write.

https://www.sqlite.org/opcode.html describes them; src/vdbe.c decides. An opcode that is not here, and has no method in
`liveness`, is taken to read every register. `Permutation` is left out on purpose: the Compare behind it may read
registers that its own operands do not tell.
"""

from __future__ import annotations

# Letters: rN reads register PN; wN overwrites it; jN may jump to PN; RN:K reads PK registers from PN on (4 for K is the
# number in P4). "pure" marks an instruction whose only effect is on the registers it writes; "end" one that does not
# go on to the next. Changes of a register in place (Affinity, Cast) read nothing: what reads it later decides.
_LINES = """
Integer Int64 Real String8 String Blob Variable: w2
SoftNull CollSeq: w1
SCopy IntCopy IsTrue Not BitNot: r1 w2 pure
Concat Add Subtract Multiply Divide Remainder BitAnd BitOr ShiftLeft ShiftRight And Or: r1 r2 w3 pure
ZeroOrNull: r1 r3 w2 pure
GetSubtype: r1 w2 pure
SetSubtype: r1 r2
Affinity Cast RealAffinity ClrSubtype:
AddImm: r1
OffsetLimit: r1 r3 w2
Eq Ne Lt Le Gt Ge: r1 r3 j2
If IfNot IsNull NotNull IfPos IfNotZero DecrJumpZero MustBeInt: r1 j2
IsType: r3 j2
HaltIfNull: r3
Halt: r3 end
ResultRow: R1:2
MakeRecord: R1:2 w3 pure
SeekLT SeekLE SeekGE SeekGT NotFound Found NoConflict IfNoHope: R3:4 j2
IdxLE IdxGT IdxLT IdxGE: R3:4 j2
Filter: r1 R3:4 j2
FilterAdd: r1 R3:4
SeekRowid NotExists: r3 j2
RowSetTest: r1 r3 j2
RowSetAdd: r1 r2
RowSetRead: r1 w3 j2
Insert: r2 r3
Delete RowCell: r3
IdxInsert: r2 R3:4
IdxDelete: R2:3
SorterInsert: r2
SorterCompare: r3 j2
NewRowid: r3 w2
MemMax: r2
Column Offset VColumn: w3
Rowid IdxRowid RowData SorterData Sequence Count Param ReadCookie: w2
Once ElseEq SeekScan IfNotOpen IfNullRow SequenceTest IfSizeBetween FkIfZero: j2
Last Rewind Sort SorterSort IfEmpty Next Prev SorterNext VNext: j2
Jump: end j1 j2 j3
Noop Explain Trace ReleaseReg Transaction TableLock FkCheck FkCounter ResetCount:
Close ColumnsUsed OpenRead OpenWrite ReopenIdx OpenDup SorterOpen:
OpenEphemeral OpenAutoindex NullRow SeekEnd SeekHit DeferredSeek FinishSeek Expire:
ResetSorter CursorHint CursorLock CursorUnlock Abortable VOpen VBegin:
OpenPseudo: r2
Clear: r3
VInitIn: r3 w2
VUpdate: R3:2
"""

OPCODES: dict[str, str] = {
    name: meaning.strip()
    for names, _, meaning in (line.partition(":") for line in _LINES.strip().splitlines())
    for name in names.split()
}
