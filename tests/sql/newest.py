"""A program that loads the extension into the SQLite that APSW brings; the binding has no part in it."""

import json
import sys

import apsw


def main() -> None:
    """Print the rows of the statements on standard input, on a database, with an extension."""
    database, extension = sys.argv[1:]
    connection = apsw.Connection(database)
    connection.enable_load_extension(True)
    connection.load_extension(extension)
    statements = json.load(sys.stdin)
    try:
        print(json.dumps([connection.execute(statement).fetchall() for statement in statements]))
    except Exception as error:
        sys.exit(str(error))
