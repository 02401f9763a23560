"""A running server, as a test sees it."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
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
        # urllib would label a body as a form, which would then be stored as its content type.
        headers = {"Content-Type": "", **(headers or {})}
        request = urllib.request.Request(self.url + target, data, headers, method=method)
        with open_directly(request) as answer:
            return bytes(answer.read())


def open_directly(request: urllib.request.Request | str, timeout: float = 60) -> Any:
    """Open without the proxies that the environment may name: the servers are on this machine."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout)
