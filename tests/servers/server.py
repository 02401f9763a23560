"""A running server, as a test sees it."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request that the server answered. `path` and `query` are as they came over the wire."""

    method: str
    path: str
    query: str
    status: int
    bytes: int
    range: str | None
    at: float


@dataclass(frozen=True)
class Server:
    """`storage_options` is what one hands to `mediasql.connect(storage_options=...)` to reach this server."""

    port: int
    storage_options: dict[str, dict[str, Any]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None = None) -> None:
        """Store an object; the bucket or container is made when it is not there. Not logged."""
        query = urllib.parse.urlencode({"bucket": bucket, "key": key})
        headers = {"Content-Type": content_type} if content_type else {}
        self.control("PUT", f"/_object?{query}", data, headers)

    def seed(self, bucket: str, n: int, size: int = 1024) -> None:
        """Store n objects `d000/o000000.jpg` … of x's, a thousand to a folder."""
        self.control("POST", f"/_seed?bucket={bucket}&n={n}&size={size}")

    def requests(self) -> list[Request]:
        """Every request since the start or the last `reset`, in the order of the answers."""
        return [Request(**entry) for entry in json.loads(self.control("GET", "/_log"))]

    def reset(self) -> None:
        """Forget the requests (and the counters of misbehaviours); objects stay."""
        self.control("DELETE", "/_log")

    def control(
        self, method: str, target: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> bytes:
        reply = fetch(self.url + target, method, headers, data)
        if reply.status >= 400:
            raise RuntimeError(f"{method} {target}: {reply.status} {reply.body.decode(errors='replace')}")
        return reply.body


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes


def fetch(url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None) -> Reply:
    """One request, sent as it is: no proxies, no redirects, no tidying of the path."""
    _, _, host, *path = url.split("/", 3)
    connection = http.client.HTTPConnection(host, timeout=60)
    try:
        connection.request(method, "/" + "".join(path), body, headers or {})
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()
