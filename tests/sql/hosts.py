"""Programs with an SQLite of their own, which load mediasql; each gives the rows of statements as texts."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mediasql

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


class HostError(Exception):
    """What the program says went wrong."""


def environment(**more: str) -> dict[str, str]:
    """Nothing that leads to this Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return kept | {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"} | more


def program(*command: str, text: str, **more: str) -> str:
    done = subprocess.run(
        command, input=text.encode(), capture_output=True, check=False, timeout=60, env=environment(**more)
    )
    if done.returncode or done.stderr:
        raise HostError(f"{done.stderr.decode()} (status {done.returncode})")
    return done.stdout.decode()


def shell(database: str, statements: list[str], **more: str) -> list[Rows]:
    """Debian's `sqlite3`."""
    script = "".join(f"{statement};\nSELECT 'end' AS marker;\n" for statement in statements)
    out = program(
        "sqlite3", "-bail", "-json", "-cmd", f".load {mediasql.loadable_path()}", database, text=script, **more
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


def as_text(rows: list[Any]) -> Rows:
    return [tuple(value if value is None else str(value) for value in row) for row in rows]


HOSTS: dict[str, Callable[[str, list[str]], list[Rows]]] = {"shell": shell, "perl": perl, "module": module}


def apsw_rows(database: Path, statements: list[str]) -> list[Rows]:
    """The oracle: the same on a connection of `mediasql.connect`."""
    connection = mediasql.connect(database)
    try:
        return [as_text(connection.execute(statement).fetchall()) for statement in statements]
    finally:
        connection.close()
