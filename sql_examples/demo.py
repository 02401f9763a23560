"""Runs the SQL files given, the recipe by default, and prints each statement with its result, as the shell would.

`make demo` runs it against sample stores on this machine. Against your own bucket, change the URLs in a copy of
01_recipe.sql and run `mediasql < copy.sql`.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw

import mediasql
from mediasql.cli import Shell

HERE = Path(__file__).parent

WHAT_NEXT = """\
That was SQL over S3, Google Cloud Storage, a web server and local files, all on this machine.

Next, with your own media (credentials are found as the AWS, Google and Azure tools find them):

  .venv/bin/mediasql                                      a prompt
  SELECT name, size FROM media('s3://YOUR-BUCKET/**') LIMIT 20;
  SELECT name, width, height FROM media('s3://YOUR-BUCKET/**.jpg') LIMIT 20;
  SELECT name, duration FROM media('*.mp4');              what lies in this directory
  SELECT * FROM media_errors;                             what could not be read, and why

More to try: sql_examples/. All functions and tables: README.md.
"""


def transcript(sql: str) -> Iterator[tuple[str, str]]:
    """Each statement of `sql`, with the comment above it, and what the shell prints for it."""
    output = io.StringIO()
    shell = Shell(stdin=io.StringIO(), stdout=output, stderr=output, db=mediasql.connect(progress="off"))
    shell.process_command(".mode box")
    shell.box_options["text_width"] = 120
    for statement in statements(sql):
        output.seek(0)
        output.truncate()
        shell.process_complete_line(statement)
        yield statement, output.getvalue()


def statements(sql: str) -> Iterator[str]:
    """The statements of a script; a blank line after one belongs to neither."""
    lines: list[str] = []
    for line in sql.splitlines():
        lines.append(line)
        if line.rstrip().endswith(";") and apsw.complete("\n".join(lines)):
            yield "\n".join(lines).strip("\n")
            lines = []


def main() -> None:
    files = [Path(name).resolve() for name in sys.argv[1:]] or [HERE / "01_recipe.sql"]
    if folder := os.environ.get("SAMPLES_FOLDER"):
        os.chdir(Path(folder).parent)  # the examples say local/…
    for file in files:
        start = time.perf_counter()
        for statement, output in transcript(file.read_text()):
            print(statement, output, sep="\n")
        print(f"-- {file.name}: {time.perf_counter() - start:.2f} s\n")
    print(WHAT_NEXT)


if __name__ == "__main__":
    main()
