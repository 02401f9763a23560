"""Python programs, forked from a process that has imported them, which saves most of the time that they take.

They end without taking their modules apart, which takes longer than what they do; `test_exit` is about that.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
# The function of each, and what a child of it would import beside what `ALSO` names.
PROGRAMS = {
    "sqlite-utils": ("sqlite_utils.cli:cli", ()),
    "datasette": ("datasette.cli:cli", ("uvicorn", "uvicorn.lifespan.on")),
    "newest": ("tests.sql.newest:main", ()),
}
ALSO = ("mediasql.sql.loadable.binding", "mediasql.storage.transport.curl")


def run(program: str, *arguments: object, text: str = "") -> subprocess.CompletedProcess[str]:
    """What `program …` prints and ends with, in the environment and folder of the caller."""
    command = [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as folder:
        given, out, error = (Path(folder, name) for name in ("in", "out", "error"))
        given.write_text(text)
        status = Process(program, command, dict(os.environ), [given, out, error]).wait()
        return subprocess.CompletedProcess(command, status, out.read_text(), error.read_text())


class Process:
    """A program under way, in a group of its own, with as much of `subprocess.Popen` as is needed.

    `files` are what it reads and where it writes and tells of errors.
    """

    stdin = None

    def __init__(self, program: str, arguments: list[str], environment: dict[str, str], files: list[Path]) -> None:
        self._server = _server(program)
        asked = {"arguments": arguments, "environment": environment, "folder": os.getcwd()}
        self.pid = int(_ask(self._server, asked | {"files": [str(file) for file in files]}))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """What it ended with; None while it runs."""
        if self.returncode is None:
            self.returncode = _ask(self._server, {"ended": self.pid, "wait": False})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """What it ends with. Raises TimeoutExpired where that takes longer than `timeout` seconds."""
        if timeout is None and self.returncode is None:
            self.returncode = _ask(self._server, {"ended": self.pid, "wait": True})
        deadline = time.monotonic() + (timeout or 0)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.01)
        return status


def _ask(server: subprocess.Popen[str], asked: dict[str, Any]) -> Any:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@cache
def _server(program: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    atexit.register(_end, process)
    return process


def _end(server: subprocess.Popen[str]) -> None:
    with server:
        server.kill()


def _serve(name: str) -> None:
    place, more = PROGRAMS[name]
    module, _, function = place.partition(":")
    program = getattr(importlib.import_module(module), function)
    for imported in (*ALSO, *more):
        importlib.import_module(imported)
    from mediasql.sql import registry

    registry.functions()
    gc.collect()
    gc.freeze()

    for line in sys.stdin:
        asked = json.loads(line)
        if "ended" in asked:
            ended, status = os.waitpid(asked["ended"], 0 if asked["wait"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if ended else None
        else:
            answer = os.fork()
            if not answer:
                _become(program, name, asked)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(program: Any, name: str, asked: dict[str, Any]) -> None:
    os.setsid()
    given, out, error = asked["files"]
    for at, file, mode in (
        (0, given, os.O_RDONLY),
        (1, out, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
        (2, error, os.O_WRONLY | os.O_CREAT | os.O_APPEND),
    ):
        os.dup2(os.open(file, mode), at)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.argv = [name, *asked["arguments"]]
    status = _status(program)
    # What Python does at its end, as far as that.
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001
    atexit._run_exitfuncs()  # noqa: SLF001
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status(program: Any) -> int:
    """What Python would end with."""
    try:
        return int(program() or 0)
    except SystemExit as end:
        if isinstance(end.code, int | None):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        return 1


if __name__ == "__main__":
    _serve(sys.argv[1])
