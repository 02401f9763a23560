"""Programs and libraries that people have SQLite in, with mediasql; each gives the rows of statements as texts."""

from __future__ import annotations

import itertools
import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from traceback import clear_frames
from typing import Any

import pandas
import pytest
import sqlalchemy

import mediasql
from mediasql.sql.loadable import build
from tests import forked
from tests.servers import datasette as datasette_program

Rows = list[tuple[str | None, ...]]

PERL = r"""
use strict; use warnings; use DBI; use JSON::PP;
my ($database, $extension) = @ARGV;
my $db = DBI->connect("dbi:SQLite:dbname=$database", "", "", {RaiseError => 1, PrintError => 0, sqlite_unicode => 1});
$db->sqlite_enable_load_extension(1);
$db->do("SELECT load_extension(?)", undef, $extension);
my @found;
for my $statement (@{decode_json(do { local $/; <STDIN> })}) {
    my $prepared = $db->prepare($statement);
    $prepared->execute;
    my $rows = $prepared->{NUM_OF_FIELDS} ? $prepared->fetchall_arrayref : [];
    push @found, [map { [map { defined $_ ? "$_" : undef } @$_] } @$rows];
}
$db->disconnect;
print encode_json(\@found);
"""

C = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef struct sqlite3 sqlite3;
static int (*sqlite_open)(const char *, sqlite3 **), (*sqlite_close)(sqlite3 *), (*enable)(sqlite3 *, int);
static int (*load)(sqlite3 *, const char *, const char *, char **);
static int (*exec)(sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *, char **);
static void find_sqlite(void) {
  void *library = dlopen("libsqlite3.so.0", RTLD_NOW);
  sqlite_open = dlsym(library, "sqlite3_open"); sqlite_close = dlsym(library, "sqlite3_close");
  enable = dlsym(library, "sqlite3_enable_load_extension"); load = dlsym(library, "sqlite3_load_extension");
  exec = dlsym(library, "sqlite3_exec");
}
static sqlite3 *loaded(const char *extension) {
  sqlite3 *db; char *error = NULL;
  sqlite_open(":memory:", &db); enable(db, 1);
  if (load(db, extension, NULL, &error)) puts(error);
  return db;
}
"""


class HostError(Exception):
    """What the program says went wrong."""


def environment(**more: str) -> dict[str, str]:
    """Nothing that leads to this Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"} | more


_WARNING = re.compile(r"^\S*:\d+: MediaWarning: .*\n(?:  .*\n)?", re.MULTILINE)  # and the line of code it is about


def program(*command: str, text: str, **more: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        check=False,
        timeout=300,
        env=environment(**more),
        encoding="utf-8",
    )
    return _printed(done)


def _printed(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode or _WARNING.sub("", done.stderr):
        raise HostError(f"{done.stderr} (status {done.returncode})")
    return done.stdout


def shell(database: str, statements: list[str], **more: str) -> list[Rows]:
    """Debian's `sqlite3`."""
    script = "PRAGMA trusted_schema = ON;\n"  # newer ones begin with OFF
    script += "".join(f"{statement};\nSELECT 'end' AS marker;\n" for statement in statements)
    out = program(
        *("sqlite3", "-bail", "-json"),
        *("-cmd", f".load {mediasql.loadable_path()}"),
        database,
        text=script,
        **more,
    )
    found: list[Rows] = []
    rows: Rows = []
    decoder, at = json.JSONDecoder(object_pairs_hook=list, parse_int=str, parse_float=str), 0
    while at < len(out.rstrip()):
        part, at = decoder.raw_decode(out, at)
        at += len(out[at:]) - len(out[at:].lstrip())
        if part == [[("marker", "end")]]:
            found.append(rows)
            rows = []
        else:
            rows += [tuple(value for _, value in row) for row in part]
    return found


def perl(database: str, statements: list[str], **more: str) -> list[Rows]:
    out = program("perl", "-e", PERL, database, mediasql.loadable_path(), text=json.dumps(statements), **more)
    return [[tuple(row) for row in rows] for rows in json.loads(out)]


def newest(database: str, statements: list[str]) -> list[Rows]:
    """The extension in the SQLite that APSW brings, newer than Debian's."""
    done = forked.run("newest", database, mediasql.loadable_path(), text=json.dumps(statements))
    return [as_text(rows) for rows in json.loads(_printed(done))]


def module(database: str, statements: list[str]) -> list[Rows]:
    """The standard library's `sqlite3`, in this process."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        mediasql.load(connection)
        return [as_text(connection.execute(statement).fetchall()) for statement in statements]
    except sqlite3.Error as error:
        raise HostError(str(error)) from error
    finally:
        connection.close()


def c_program(folder: Path, source: str, *options: str) -> str:
    """The path of a program of one's own: C, and a `main` with a thing or two before it."""
    (folder / "host.c").write_text(C + source)
    path = str(folder / "host")
    subprocess.run(
        [*build.compiler(), *options, "-w", "-o", path, str(folder / "host.c"), "-ldl", "-lpthread"], check=True
    )
    return path


def as_text(rows: list[Any]) -> Rows:
    return [tuple(value if value is None else str(value) for value in row) for row in rows]


def sqlite_utils(database: str, statements: list[str]) -> list[Rows]:
    """The command `sqlite-utils`, once for each statement."""
    _need_no_connection_in_common(statements)
    found = []
    for statement in statements:
        done = forked.run("sqlite-utils", "query", database, statement, "--arrays")
        printed = _printed(done)
        gives_rows = statement.startswith(("SELECT", "WITH", "PRAGMA")) or "RETURNING" in statement
        found.append(as_text(json.loads(printed)) if gives_rows else [])  # of others it counts the rows
    return found


def datasette(database: str, statements: list[str]) -> list[Rows]:
    """The program `datasette`, over HTTP. It only reads: what writes is done by `module`."""
    _need_no_connection_in_common([each for each in statements if not _reads(each)])
    servers = re.findall(rb"http://127\.0\.0\.1:\d+", Path(database).read_bytes() + " ".join(statements).encode())
    plugin = {"allow": ["/", "s3://bucket", *sorted({server.decode() for server in servers})]}
    found: list[Rows] = []
    for reading, group in itertools.groupby(statements, _reads):
        together = list(group)
        found += _served(database, together, plugin) if reading else module(database, together)
    return found


def _served(database: str, queries: list[str], plugin: dict[str, Any]) -> list[Rows]:
    with datasette_program.start(database, plugin=plugin, forked=True, sql_time_limit_ms=300_000) as address:
        answers = [datasette_program.ask(f"{address}/{Path(database).stem}", query) for query in queries]
    for answer in answers:
        if not answer["ok"]:
            raise HostError(answer["error"])
    return [as_text(answer["rows"]) for answer in answers]


def _reads(statement: str) -> bool:
    return statement.startswith(("SELECT", "WITH")) and "_computed_column" not in statement


def _need_no_connection_in_common(statements: list[str]) -> None:
    if any("temp." in each for each in statements) or "FROM media_errors" in "".join(statements[1:]):
        pytest.skip("a connection for each statement")


def sqlalchemy_engine(database: str, statements: list[str]) -> list[Rows]:
    engine = sqlalchemy.create_engine(f"mediasql:///{database}", isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            results = (connection.exec_driver_sql(statement) for statement in statements)
            return [as_text(result.fetchall()) if result.returns_rows else [] for result in results]
    except sqlalchemy.exc.DBAPIError as error:
        raise HostError(str(error.orig)) from error
    finally:
        engine.dispose()


def pandas_frames(database: str, statements: list[str]) -> list[Rows]:
    """`pandas.read_sql` over the standard library's `sqlite3`, for all that has rows."""
    connection = sqlite3.connect(database, isolation_level=None)
    try:
        mediasql.load(connection)
        return [_frame(connection, statement) for statement in statements]
    except (sqlite3.Error, pandas.errors.DatabaseError) as error:
        clear_frames(error.__traceback__)  # a cursor in them would keep the database open
        raise HostError(str(error)) from None
    finally:
        connection.close()


def _frame(connection: sqlite3.Connection, statement: str) -> Rows:
    if not statement.startswith(("SELECT", "WITH")):
        return as_text(connection.execute(statement).fetchall())
    frame = pandas.read_sql(statement, connection, dtype_backend="numpy_nullable")  # where whole numbers stay whole
    return as_text([tuple(None if value is pandas.NA else value for value in row) for row in frame.itertuples(False)])


HOSTS: dict[str, Callable[[str, list[str]], list[Rows]]] = {
    "shell": shell,
    "perl": perl,
    "newest": newest,
    "module": module,
    "sqlite-utils": sqlite_utils,
    "datasette": datasette,
    "sqlalchemy": sqlalchemy_engine,
    "pandas": pandas_frames,
}


def apsw_rows(database: Path, statements: list[str]) -> list[Rows]:
    """The oracle: the same on a connection of `mediasql.connect`."""
    connection = mediasql.connect(database)
    try:
        return [as_text(connection.execute(statement).fetchall()) for statement in statements]
    finally:
        connection.close()
