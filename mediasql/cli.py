"""The `mediasql` command: APSW's shell on a connection of ours."""

from __future__ import annotations

import signal
import sys
from typing import Any

import apsw
import apsw.shell

from . import __version__
from .config import Config
from .connection import register, session_of
from .errors import MediaError
from .sql.loadable.loading import loadable_path
from .storage.paths import is_utf8, sqlite_uri

USAGE = f"""\
usage: mediasql [OPTIONS] [FILE] [SQL or .command]...
       mediasql loadable-path

Runs SQL over media in S3, GCS, Azure, HTTP and local files, in a SQLite database: FILE, or one in memory.
Without SQL it reads standard input: a prompt on a terminal, a script from a pipe.
loadable-path prints where the extension is that other SQLite tools load: sqlite3 -cmd ".load $(mediasql loadable-path)"

  -init FILE        run the commands of FILE first
  -box -csv -json -jsonl -html -line -list -tabs -tcl …   how to print rows; .help mode tells all
  -header -noheader, -separator SEP, -nullvalue TEXT, -echo, -bail, -batch, -interactive
  -version          the versions of mediasql and SQLite
  -help             this text

Configuration is in MEDIASQL_* variables; SELECT media_config('timeout') tells what is in force.
mediasql {__version__}
"""


class Shell(apsw.shell.Shell):
    """APSW's shell, which opens our connections and tells when media failed."""

    failed = False

    def usage(self) -> str:
        return USAGE

    def handle_exception(self) -> None:
        self.failed = True
        super().handle_exception()

    def process_sql(self, sql: str, bindings: Any = None, internal: bool = False, summary: Any = None) -> None:
        session = session_of(self.db)
        before = session.failures.total
        try:
            with session.transients.shown_otherwise():
                super().process_sql(sql, bindings, internal, summary)
        finally:
            failed = session.failures.total - before
            if failed and not internal:
                self.stdout.flush()
                what = "1 value failed and is" if failed == 1 else f"{failed} values failed and are"
                self.write_error(f"{what} NULL; to see why: SELECT * FROM media_errors\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the shell, and leave with status 1 when something failed."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if any(argument in ("-version", "--version") for argument in given):
        print(f"mediasql {__version__}, SQLite {apsw.sqlite_lib_version()}")
        return
    if given == ["loadable-path"]:
        try:
            print(loadable_path())
        except MediaError as error:
            sys.exit(f"mediasql: {error}")
        return
    apsw.connection_hooks.append(register)  # also for what `.open` opens
    try:
        Config.load()  # so that a variable which is not valid is told before there is a prompt
        shell = Shell()
        # Of what is no text, only FILE can be meant. SQLite takes such names in URIs alone.
        _, _, commands = shell.process_args([part if is_utf8(part) else sqlite_uri(part) for part in given])
        if not commands:
            shell.cmdloop(
                intro=f'mediasql {__version__}, SQLite {apsw.sqlite_lib_version()}\nEnter ".help" for instructions\n'
            )
            if shell.failed and not shell.interactive:
                sys.exit(1)
    except MediaError as error:
        print(f"mediasql: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("mediasql: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)  # as a shell reports a program that the signal ended
    except Exception as error:
        if not getattr(error, "_handle_exception_saw_this", False):
            print(f"mediasql: {error}", file=sys.stderr)
        sys.exit(1)
