"""The program `datasette`, as people start it."""

from __future__ import annotations

import json
import sys
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.servers.process import running
from tests.servers.server import fetch

PROGRAM = str(Path(sys.executable).with_name("datasette"))
SETTINGS = {"sql_time_limit_ms": 60_000}


@contextmanager
def start(
    *databases: Path | str,
    plugin: dict[str, Any],
    env: dict[str, str] | None = None,
    forked: bool = False,
    **settings: int,
) -> Iterator[str]:
    """It serves these databases, mediasql has the configuration `plugin`; the address without a slash.

    forked  from a process that has imported it (see `tests.forked`)

    A query may take a minute if `settings` say nothing else: Datasette's own second is too little on a busy machine.
    """
    with tempfile.TemporaryDirectory(prefix="mediasql-datasette-") as folder:
        metadata = Path(folder) / "metadata.json"
        metadata.write_text(json.dumps({"plugins": {"mediasql": plugin}}))
        command = ["datasette" if forked else PROGRAM, *map(str, databases), "-m", str(metadata)]
        for name, value in {**SETTINGS, **settings}.items():
            command += ["--setting", name, str(value)]
        with running(lambda port: [*command, "-p", str(port)], env=env, forked=forked) as child:
            yield f"http://127.0.0.1:{child.port}"


def ask(address: str, sql: str) -> dict[str, Any]:
    """What `/database.json` answers: `rows`, or an `error`."""
    asked = urllib.parse.urlencode({"sql": sql, "_shape": "arrays"})
    answer: dict[str, Any] = json.loads(fetch(f"{address}.json?{asked}").body)
    return answer
