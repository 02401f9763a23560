"""One run: a function in a fresh process with empty caches, and what it made the server send."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.corpus import Corpus
from tests.servers import nginx
from tests.servers.authority import Authority

LOGGED = 0.1  # seconds after which the requests that a run gave up at its end are in the log
ROOT = Path(__file__).resolve().parents[1]
Result = dict[str, Any]
Function = Callable[..., Result]


@dataclass(frozen=True)
class Bench:
    """The running server, the corpus behind it, and how it is measured.

    repeat   runs of each figure
    sizes    what the options of the command line say: `images`, `slow`, `rows` …
    authority the file of what signed the server's certificate
    """

    server: nginx.NginxServer
    corpus: Corpus
    repeat: int
    sizes: dict[str, Any]
    say: Callable[[str], None] = field(default=lambda text: None)
    authority: Path | None = None

    def base(self, latency: float, scheme: str = "http") -> str:
        """The URL of the corpus as seen through so many milliseconds, over 'http', 'https' or 'http2'."""
        server = {"http": self.server.url, "https": self.server.tls_url, "http2": self.server.http2_url}[scheme]
        return server + (f"/lat/{latency / 1000:g}" if latency else "") + "/bench"

    def run(
        self, function: Function, cache: str | None = None, python: Path | str = sys.executable, **arguments: Any
    ) -> Result:
        """The result of `function(**arguments)` in a process of its own, with what the server logged of it.

        `cache` is a folder for mediasql's cache that outlives the run; without it, it starts empty.
        """
        self.server.reset()
        with tempfile.TemporaryDirectory() as empty:
            environment = {k: v for k, v in os.environ.items() if not foreign(k)}
            done = subprocess.run(
                [str(python), "-m", "benchmarks.child", function.__module__, function.__name__],
                input=json.dumps({"folder": str(self.corpus.folder), **arguments}),
                env=environment | self._settings(cache or empty),
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
            )
        if done.returncode:
            raise RuntimeError(f"{function.__name__}({arguments}) ended with {done.returncode}:\n{done.stderr}")
        result: Result = json.loads(done.stdout.splitlines()[-1])
        time.sleep(LOGGED)
        # What an interrupted run left behind is logged when its latency is over, and has another path.
        prefix = urlsplit(arguments.get("base", "")).path + "/"
        asked = [request for request in self.server.requests() if request.path.startswith(prefix)]
        return result | {
            "requests": len(asked),
            "bytes": sum(request.bytes for request in asked),
            "touched": len({(request.path, request.query) for request in asked}),
        }

    def _settings(self, cache: str) -> dict[str, str]:
        believed = (
            {"SSL_CERT_FILE": str(self.authority), "REQUESTS_CA_BUNDLE": str(self.authority)}
            if self.authority is not None
            else {}
        )
        return {"MEDIASQL_CACHE_DIR": cache, "MEDIASQL_PROGRESS": "off", **believed}


def foreign(variable: str) -> bool:
    return variable.startswith("MEDIASQL_") or variable.lower().endswith("_proxy")


@contextmanager
def serving(corpus: Corpus) -> Iterator[tuple[nginx.NginxServer, Path]]:
    """The server of a corpus, and the file of the authority behind its certificate."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        with nginx.start(authority) as server:
            (server.folder / "bench").symlink_to(corpus.folder)
            yield server, authority.file


def summary(results: list[Result], files: int) -> Result:
    """Medians over the runs of one figure, per file where that makes sense."""
    seconds = statistics.median(result["seconds"] for result in results)
    return {
        "files": files,
        "seconds": seconds,
        "spread": [min(result["seconds"] for result in results), max(result["seconds"] for result in results)],
        "per_second": files / seconds,
        "requests_per_file": statistics.median(result["requests"] for result in results) / files,
        "kb_per_file": statistics.median(result["bytes"] for result in results) / files / 1024,
        "cpu_us_per_file": statistics.median(result["cpu"] for result in results) / files * 1e6,
        "correct": all(result["wrong"] == 0 for result in results),
    }
