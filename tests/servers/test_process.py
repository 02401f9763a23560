from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.process import ROOT, StartError, free_port, launch, listens, python_module, running, stop
from tests.waiting import eventually


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_ends_with_its_block() -> None:
    with running(python_module("tests.servers.http")) as child:
        assert answers(child.port)
    assert not answers(child.port)
    assert child.process.returncode is not None


def test_what_a_server_printed_is_in_the_error() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no disk')"]
    with pytest.raises(StartError, match="no disk"), running(lambda port: command):
        pass


def test_a_stranger_on_the_port_is_not_our_server(tmp_path_factory: pytest.TempPathFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        sleeping = [sys.executable, "-c", "import time; time.sleep(60)"]
        child = launch(lambda _: sleeping, port, tmp_path_factory.mktemp("log") / "log", None)
        try:
            assert answers(port)
            assert not listens(child)
        finally:
            stop(child)


def test_a_taken_port_is_left_for_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        ports = [stranger.getsockname()[1], free_port()]
        command = python_module("tests.servers.http")
        with running(lambda port: [*command(port)[:-1], str(ports.pop(0)) if ports[1:] else str(port)]) as child:
            assert listens(child)


STARTS_ALL = """
import sys, time
from contextlib import ExitStack
from tests.servers import azure, gcs_emulator, nginx, s3
with ExitStack() as stack:
    servers = [stack.enter_context(module.start()) for module in (azure, gcs_emulator, nginx, s3)]
    print(*(server.port for server in servers), flush=True)
    time.sleep(600)
"""


def test_servers_end_when_the_tests_are_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", STARTS_ALL], cwd=ROOT, stdout=subprocess.PIPE) as tests:
        assert tests.stdout
        ports = [int(port) for port in tests.stdout.readline().split()]
        assert all(map(answers, ports))
        os.kill(tests.pid, signal.SIGKILL)
    eventually(lambda: not any(map(answers, ports)))


TIDIES_UP = """
import pathlib, sys
from tests.servers.wire import Service, serve
from tests.waiting import eventually
serve(Service(None, None), int(sys.argv[1]))
tidy, told = pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
tidy.write_text("begun")
eventually(told.exists)
tidy.write_text("done")
"""


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_server_tidies_up_though_it_is_told_to_end_twice(tmp_path: Path, sign: signal.Signals) -> None:
    tidy, told = tmp_path / "tidy", tmp_path / "told"
    command = [sys.executable, "-c", TIDIES_UP]
    with running(lambda port: [*command, str(port), str(tidy), str(told)]) as child:
        assert child.process.stdin
        child.process.stdin.close()
        eventually(tidy.exists)
        child.process.send_signal(sign)
        told.touch()
        assert child.process.wait(60) == 0
    assert tidy.read_text() == "done"
