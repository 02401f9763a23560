"""The program `sqlite-utils`, forked from a process that has imported it, which saves most of the time to start."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run(*arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """What `sqlite-utils …` prints and ends with, in the environment and folder of the caller."""
    command = [str(argument) for argument in arguments]
    server = _server()
    assert server.stdin is not None
    assert server.stdout is not None
    asked = {"arguments": command, "text": text, "environment": dict(os.environ), "folder": os.getcwd()}
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    answer = json.loads(server.stdout.readline())
    return subprocess.CompletedProcess(command, answer["status"], answer["stdout"], answer["stderr"])


@cache
def _server() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.sqlite_utils_program"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    atexit.register(process.kill)
    return process


def _serve() -> int:
    from sqlite_utils.cli import cli

    # What every child would import.
    import mediasql.sql.loadable.binding
    import mediasql.storage.transport.curl  # noqa: F401
    from mediasql.sql import registry

    registry.functions()

    for line in sys.stdin:
        asked = json.loads(line)
        with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            given.write(asked["text"])
            given.seek(0)
            child = os.fork()
            if not child:
                for at, file in enumerate((given, out, error)):
                    os.dup2(file.fileno(), at)
                return _program(cli, asked)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            answer = {"status": status, "stdout": _read(out), "stderr": _read(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


def _read(file: Any) -> str:
    file.seek(0)
    return str(file.read().decode())


def _program(cli: Any, asked: dict[str, Any]) -> int:
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.argv = ["sqlite-utils", *asked["arguments"]]
    return int(cli() or 0)


if __name__ == "__main__":
    sys.exit(_serve())
