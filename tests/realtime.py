"""A check that no process of a test run is real-time: one that spins would take a core from all others for ever.

A library may do that to the process that loads it: PyAV's `libsvtav1`, as root, gives the thread that opens an
encoder SCHED_FIFO with priority 99, and every process and thread that this thread starts afterwards inherits it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

PROC = Path("/proc")
POLICIES = {1: "SCHED_FIFO", 2: "SCHED_RR", 6: "SCHED_DEADLINE"}
# In the environment of all that this process starts, so that they are known when their parent has gone.
MARK = "MEDIASQL_TEST_PROCESS"


def mark() -> str:
    """Mark what this process starts from now on; return the mark as it stands in /proc/…/environ."""
    os.environ[MARK] = uuid.uuid4().hex
    return f"{MARK}={os.environ[MARK]}"


def real_time_threads(root: int, mark: str, proc: Path = PROC) -> list[str]:
    """Describe each real-time thread of process `root`, of its descendants and of processes with `mark`.

    Where there is no /proc (macOS), none is found.
    """
    return [
        f"{policy} with priority {priority}: thread {thread} of {command or 'a process'} ({process})"
        for process in sorted(_processes(root, mark, proc))
        for command in [_read(proc / str(process) / "cmdline").replace("\0", " ").strip()]
        for thread, fields in _stats(proc / str(process) / "task")
        for priority, policy in [(fields[37], POLICIES.get(int(fields[38])))]
        if policy
    ]


@pytest.fixture(scope="module", autouse=True)
def nothing_is_real_time() -> Iterator[None]:
    """Fail after the module in which a process or thread of ours became real-time, servers included."""
    yield
    found = real_time_threads(os.getpid(), _OURS)
    assert not found, "real-time, and so is all that they start:\n" + "\n".join(found)


def _processes(root: int, mark: str, proc: Path) -> set[int]:
    children: dict[int, list[int]] = {}
    queue = [root]
    for process, fields in _stats(proc):
        children.setdefault(int(fields[1]), []).append(process)
        if mark in _read(proc / str(process) / "environ").split("\0"):
            queue.append(process)
    found: set[int] = set()
    while queue:
        process = queue.pop()
        if process not in found:
            found.add(process)
            queue += children.get(process, [])
    return found


def _stats(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of `stat`, from the state on, of each process or thread in a folder of /proc."""
    names = os.listdir(folder) if folder.is_dir() else []
    for name in names:
        # The second field, the command, may hold spaces and parentheses.
        if name.isdigit() and (fields := _read(folder / name / "stat").rpartition(")")[2].split()):
            yield int(name), fields


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # it ended meanwhile, or is somebody else's
        return ""


_OURS = mark()
