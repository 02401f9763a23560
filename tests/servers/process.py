"""A child process that listens on a free loopback port, stopped by its own process id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.forked import Process as Forked

ROOT = Path(__file__).resolve().parents[2]
PROC = Path("/proc")


class StartError(RuntimeError):
    """A server did not start; the message ends with what it printed."""


@dataclass(frozen=True)
class Child:
    port: int
    process: subprocess.Popen[bytes] | Forked
    log: Path

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@contextmanager
def running(
    command: Callable[[int], Sequence[str]],
    *,
    env: dict[str, str] | None = None,
    timeout: float = 60,
    forked: bool = False,
) -> Iterator[Child]:
    """Run `command(port)` on a free port until the block ends; `forked` where it begins with one of `tests.forked`.

    Another program may take the port between the choice and the child's bind; then the child dies, or
    somebody else answers, and the next try takes another port.
    """
    with tempfile.TemporaryDirectory(prefix="mediasql-server-") as folder:
        for attempt in range(3):
            start = fork if forked else launch
            child = start(command, free_port(), Path(folder) / f"{attempt}.log", env)
            try:
                if ready(child, timeout):
                    yield child
                    return
            finally:
                stop(child)
        raise StartError(f"{' '.join(command(0))} did not start:\n{child.tail()}")


def python_module(name: str, *arguments: str) -> Callable[[int], list[str]]:
    """The command of one of our own servers."""
    return lambda port: [sys.executable, "-m", name, str(port), *arguments]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def launch(command: Callable[[int], Sequence[str]], port: int, log: Path, env: dict[str, str] | None) -> Child:
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(command(port)),
            cwd=ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.PIPE,  # our own servers end when it closes: no orphans if the tests are killed
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the tests; the group is what stop() signals
        )
    return Child(port, process, log)


def fork(command: Callable[[int], Sequence[str]], port: int, log: Path, env: dict[str, str] | None) -> Child:
    program, *arguments = command(port)
    return Child(port, Forked(program, arguments, {**os.environ, **(env or {})}, [Path(os.devnull), log, log]), log)


def ready(child: Child, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and child.process.poll() is None:
        if listens(child):
            return True
        time.sleep(0.02)
    return False


def listens(child: Child) -> bool:
    """Whether the port answers and the listening socket is our child's: a stranger may answer too."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", child.port)):
            return False
    if not (PROC / "net/tcp").exists():
        return child.process.poll() is None
    return not sockets_listening(child.port).isdisjoint(sockets_open(tree(child.process.pid)))


def stop(child: Child, patience: float = 15) -> None:
    if child.process.stdin:
        child.process.stdin.close()
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.process.pid, sign)
        except ProcessLookupError:
            break
        try:
            child.process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    child.process.wait(60)


def tree(root: int) -> list[int]:
    """`root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            parent = stat.read_text().rsplit(")", 1)[1].split()[1]
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(parent), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def sockets_listening(port: int) -> set[str]:
    """Inodes of the sockets in state LISTEN (0A) on this port."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        if not (PROC / table).exists():
            continue
        for line in (PROC / table).read_text().splitlines()[1:]:
            field = line.split()
            if field[3] == "0A" and int(field[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{field[9]}]")
    return inodes


def sockets_open(pids: list[int]) -> set[str]:
    names = set()
    for pid in pids:
        try:
            descriptors = list((PROC / str(pid) / "fd").iterdir())
        except OSError:
            continue
        for descriptor in descriptors:
            try:
                names.add(os.readlink(descriptor))
            except OSError:
                continue
    return names
