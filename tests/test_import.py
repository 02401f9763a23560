"""What an import costs, in a fresh interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("aiohttp", "apsw", "fsspec", "PIL", "av", "s3fs", "gcsfs", "adlfs", "botocore", "yarl", "tqdm")
REPORT = "import json, sys; print(json.dumps([sorted(sys.modules), vars().get('seconds'), vars().get('rows')]))"
NO_NETWORK = """
import socket
def refuse(*args, **kwargs): raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = refuse
"""


def python(script: str) -> tuple[set[str], float, object]:
    done = subprocess.run([sys.executable, "-c", script + REPORT], check=True, capture_output=True, text=True)
    modules, seconds, rows = json.loads(done.stdout.splitlines()[-1])
    return {name.partition(".")[0] for name in modules}, seconds, rows


def test_import_is_quick_and_light() -> None:
    script = (
        f"{NO_NETWORK}\nimport re, time\nbegun = time.process_time()\nimport mediasql\n"
        "seconds = time.process_time() - begun\n"
    )
    results = [python(script) for _ in range(3)]
    assert not results[0][0] & set(HEAVY)
    assert min(seconds for _, seconds, _ in results) < 0.15


@pytest.mark.parametrize("query", ["SELECT width('a.jpg')", "SELECT name || width FROM media('*.jpg')"])
def test_a_local_query_needs_no_network_library(query: str, tmp_path: Path) -> None:
    from tests.media.headers.pictures import picture

    (tmp_path / "a.jpg").write_bytes(picture("JPEG", size=(30, 20)))
    modules, _, rows = python(
        f"{NO_NETWORK}\nimport os\nos.chdir({str(tmp_path)!r})\nimport mediasql\n"
        f"rows = list(mediasql.connect().execute({query!r}))\n"
    )
    assert rows in ([[30]], [["a.jpg30"]])
    assert not modules & {"aiohttp", "s3fs", "gcsfs", "adlfs", "botocore", "yarl"}
