"""The check that no process of the test run is real-time finds one, wherever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.realtime import mark, real_time_threads

ROOT = Path(__file__).parents[1]


def process(proc: Path, number: int, parent: int, *, environ: str = "", threads: dict[int, int] | None = None) -> None:
    """Write what Linux shows of a process in /proc; `threads` gives the scheduling policy of each thread."""

    def stat(folder: Path, number: int, policy: int) -> None:
        folder.mkdir(parents=True)
        fields = [number, "(a (strange) name)", "S", parent, *[0] * 35, 99 if policy else 0, policy]
        (folder / "stat").write_text(" ".join(map(str, fields)))

    stat(proc / str(number), number, 0)
    (proc / str(number) / "cmdline").write_text(f"program\0{number}\0")
    (proc / str(number) / "environ").write_text(environ)
    for thread, policy in (threads or {number: 0}).items():
        stat(proc / str(number) / "task" / str(thread), thread, policy)


def test_threads_of_descendants_and_of_orphans_are_found(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, threads={10: 0, 11: 1})
    process(tmp_path, 20, 10, threads={20: 2})
    process(tmp_path, 30, 20, threads={30: 6})
    process(tmp_path, 40, 1, environ="HOME=/\0MARK=1\0", threads={40: 1})
    process(tmp_path, 41, 40, threads={41: 1})
    process(tmp_path, 50, 1, environ="MARK=12\0", threads={50: 1})
    process(tmp_path, 60, 1, threads={60: 1})
    assert real_time_threads(10, "MARK=1", tmp_path) == [
        "SCHED_FIFO with priority 99: thread 11 of program 10 (10)",
        "SCHED_RR with priority 99: thread 20 of program 20 (20)",
        "SCHED_DEADLINE with priority 99: thread 30 of program 30 (30)",
        "SCHED_FIFO with priority 99: thread 40 of program 40 (40)",
        "SCHED_FIFO with priority 99: thread 41 of program 41 (41)",
    ]


def test_ordinary_processes_and_those_that_ended_are_not(tmp_path: Path) -> None:
    process(tmp_path, 10, 1, threads={10: 0, 11: 3, 12: 5})  # SCHED_BATCH and SCHED_IDLE take from nobody
    (tmp_path / "20").mkdir()  # ended between the listing and the reading
    (tmp_path / "uptime").write_text("1 1")
    assert real_time_threads(10, "MARK=1", tmp_path) == []
    assert real_time_threads(10, "MARK=1", tmp_path / "none") == []


@pytest.fixture
def permitted() -> None:
    """Real-time scheduling is for root and for whom the system lets."""
    code = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"
    if subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this user may not make a process real-time")


@pytest.mark.usefixtures("permitted")
def test_a_child_is_found_while_it_lives() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        try:
            assert real_time_threads(os.getpid(), "MARK=1") == []
            os.sched_setscheduler(child.pid, os.SCHED_RR, os.sched_param(7))
            [found] = real_time_threads(os.getpid(), "MARK=1")
            assert found.startswith(f"SCHED_RR with priority 7: thread {child.pid} of ")
            assert found.endswith(f" -c input() ({child.pid})")
        finally:
            child.communicate(b"\n")
    assert real_time_threads(os.getpid(), "MARK=1") == []


@pytest.mark.usefixtures("permitted")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_in_which_a_thread_becomes_real_time_fails(workers: int, tmp_path: Path) -> None:
    """As libsvtav1 does it: in the process of the tests, which passes for itself."""
    (tmp_path / "conftest.py").write_text("from tests.realtime import nothing_is_real_time\n")
    (tmp_path / "test_first.py").write_text("def test_it():\n    pass\n")
    (tmp_path / "test_second.py").write_text(
        "import os\n\ndef test_it():\n    os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(3))\n"
    )
    run = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), str(tmp_path)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert "2 passed, 1 error" in done.stdout
    assert "ERROR at teardown of test_it" in done.stdout
    assert "test_second.py" in done.stdout
    assert "SCHED_RR with priority 3" in done.stdout


def test_what_this_process_starts_bears_its_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MEDIASQL_TEST_PROCESS", raising=False)
    own = mark()
    shown = subprocess.run(["env", "-0"], capture_output=True, text=True, check=True).stdout.split("\0")
    assert own in shown
    assert mark() != own
