"""Small HTTP servers that hand out credentials: an AWS container role, Google's metadata server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def json_server(answer: Callable[[str], Any]) -> Iterator[tuple[str, list[str]]]:
    """Serves `answer(path)` as JSON, a number as a status; yields 'host:port' and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            found = answer(self.path)
            body = b"" if isinstance(found, int) else json.dumps(found).encode()
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Metadata-Flavor", "Google")
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def metadata_server(email: str, token: str) -> Iterator[tuple[str, list[str]]]:
    """Google's metadata server of a machine that runs as `email`."""

    def answer(path: str) -> Any:
        path = path.partition("?")[0]
        if path == "/":
            return {}
        if path.endswith("/token"):
            return {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
        if "/service-accounts/" in path:
            return {
                "email": email,
                "scopes": ["https://www.googleapis.com/auth/cloud-platform"],
                "aliases": [],
            }
        return 404

    with json_server(answer) as served:
        yield served


@contextmanager
def container_role(answers: list[Any]) -> Iterator[tuple[str, list[str]]]:
    """The credentials endpoint of an AWS container; the last answer repeats. Yields its URL."""
    left = list(answers)
    with json_server(lambda _: left.pop(0) if len(left) > 1 else left[0]) as (host, asked):
        yield f"http://{host}/role", asked
