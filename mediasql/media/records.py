"""How an answer lies in the database: one record, with seals that tell whether it still is as it was written.

What is damaged in a way that SQLite does not see, by the disk or by somebody's hand, is like what is not there. The
seals are CRCs that begin with the scope and the key, so that no record is taken for that of another object.
"""

from __future__ import annotations

import marshal
import zlib
from array import array
from collections.abc import Sequence
from functools import cache
from itertools import repeat
from operator import itemgetter
from typing import Any

from ..storage.cache.database import AHEAD
from .info import PARSERS
from .kept import COLUMNS, VALUES, Kept

LAYOUT = 4  # of the database
SCHEMA = f"""
CREATE TABLE scopes(id INTEGER PRIMARY KEY, scope TEXT NOT NULL UNIQUE);
CREATE TABLE answers(
  id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never given again, which `Scopes` relies on
  scope INTEGER NOT NULL, key TEXT NOT NULL,
  parsers INTEGER NOT NULL, first_use REAL NOT NULL, last_use REAL NOT NULL, hits INTEGER NOT NULL DEFAULT 0,
  seal INTEGER NOT NULL,  -- of all columns that follow
  seals BLOB NOT NULL,    -- of each value with `checked`, four bytes each; both stand here, since what is
                          -- behind a long EXIF is read slowly
  {", ".join(COLUMNS)},
  UNIQUE(scope, key));
CREATE INDEX by_use ON answers(last_use);
CREATE TABLE total(answers INTEGER NOT NULL);
INSERT INTO total VALUES (0);
CREATE TRIGGER one_more AFTER INSERT ON answers BEGIN UPDATE total SET answers = answers + 1; END;
CREATE TRIGGER one_less AFTER DELETE ON answers BEGIN UPDATE total SET answers = answers - 1; END
"""
_WRITTEN = (*COLUMNS, "seal", "seals")
_INSERT = f"""
INSERT INTO answers(parsers, first_use, last_use, scope, key, {", ".join(_WRITTEN)})
VALUES %s
ON CONFLICT(scope, key) DO UPDATE SET parsers = {PARSERS}, last_use = excluded.last_use,
  {", ".join(f"{name} = excluded.{name}" for name in _WRITTEN)}
WHERE excluded.checked >= answers.checked OR answers.checked > ?1 + {AHEAD}
"""
TOGETHER = (64, 8, 1)  # records of one INSERT; SQLite gives the GIL away, and has to get it back, for each statement
ROW = f"id, key, {', '.join(COLUMNS)}, seal"
_VALUE = {name: f"id, key, checked, {name}, seals" for name in VALUES}
_THIS = f"FROM answers WHERE key = ? AND scope = (SELECT id FROM scopes WHERE scope = ?) AND parsers = {PARSERS}"
# Those that were written after one lie behind it, and a statement that asks again mostly asks in the same order.
# The plus keeps SQLite from going through the index of all keys, and sorting them.
_RUN = f"""
FROM answers
WHERE id >= (SELECT id FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = ?1) AND key = ?2)
AND id <= ?3 + (SELECT id FROM answers WHERE scope = (SELECT id FROM scopes WHERE scope = ?1) AND key = ?2)
AND +scope = (SELECT id FROM scopes WHERE scope = ?1) AND parsers = {PARSERS} AND version IS NULL
"""
_GOOD = "AND {name} IS NOT NULL AND checked BETWEEN ? AND ?"
_SOME = "ORDER BY id LIMIT ?"

# Bindings: key and scope; of runs scope, key, how far to look, and how many; of values the times between, before that.
ANSWER = f"SELECT {ROW} {_THIS}"
ANSWERS = f"SELECT {ROW} {_RUN} {_SOME}"
VALUE = {
    name: f"SELECT {columns} {_THIS} AND version IS NULL {_GOOD.format(name=name)}" for name, columns in _VALUE.items()
}
VALUES_OF = {name: f"SELECT {columns} {_RUN} {_GOOD.format(name=name)} {_SOME}" for name, columns in _VALUE.items()}

_CHECKED = COLUMNS.index("checked")
_SEALED = itemgetter(slice(1, 4))  # of a row of VALUE: key, checked and value
_PLACES = [COLUMNS.index(name) for name in VALUES]


@cache
def insert(count: int) -> str:
    """The INSERT of so many records; its bindings are the time, and for each its scope and what `sealed` gives."""
    record = f"({PARSERS}, ?1, ?1, {', '.join('?' * (2 + len(_WRITTEN)))})"
    return _INSERT % ", ".join([record] * count)


def sealed(scope: str, key: str, columns: Kept) -> tuple[Any, ...]:
    """A record of `columns`, as INSERT takes it behind its scope."""
    start, crc, dumps = _start(scope), zlib.crc32, marshal.dumps
    # Of (key, checked, value) each, of which only the end is different.
    begun = crc(dumps((key, columns[_CHECKED], None), 2)[:-1], start)
    values = [columns[place] for place in _PLACES]
    seals = array("I", [0 if value is None else crc(dumps(value, 2), begun) for value in values])
    return key, *columns, _crc(start, (key, *columns)), seals.tobytes()


def sound(scope: str, rows: Sequence[Any]) -> list[Any]:
    """Those of the rows of ANSWER or ANSWERS that are as they were written."""
    start = _start(scope)
    return [row for row in rows if _crc(start, row[1:-1]) == row[-1]]


def sound_values(scope: str, column: str, rows: Sequence[Any]) -> list[Any]:
    """Those of the rows of VALUE or VALUES_OF that are."""
    start = _start(scope)
    try:
        seals = array("I", b"".join([row[4] for row in rows]))
    except (TypeError, ValueError):
        return []
    if len(seals) != len(rows) * len(VALUES):
        return []
    seals = seals[VALUES.index(column) :: len(VALUES)]
    # As `_crc`, without a step of Python's own for each.
    real = array("I", map(zlib.crc32, map(marshal.dumps, map(_SEALED, rows), repeat(2)), repeat(start)))
    if real == seals:
        return list(rows)
    return [row for row, right, seal in zip(rows, real, seals, strict=True) if right == seal]


def _start(scope: str) -> int:
    return zlib.crc32(scope.encode(errors="surrogatepass"), PARSERS)


def _crc(start: int, values: tuple[Any, ...]) -> int:
    # Its second version has neither references nor interned strings: equal values are equal bytes.
    return zlib.crc32(marshal.dumps(values, 2), start)
