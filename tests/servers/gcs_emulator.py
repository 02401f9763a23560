"""gcp-storage-emulator: somebody else's idea of GCS, as a second opinion beside `gcs`.

It checks no credentials, does not page listings, ignores preconditions, and its uploads are quadratic:
keep to a few hundred objects.
"""

from __future__ import annotations

import http.client
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager

from tests.servers.gcs_identity import PROJECT
from tests.servers.process import python_module, running
from tests.servers.relay import Relay
from tests.servers.server import Server
from tests.servers.wire import Service, serve


@contextmanager
def start() -> Iterator[Server]:
    with running(python_module("tests.servers.gcs_emulator")) as child:
        options = {"token": "anon", "endpoint_url": f"http://127.0.0.1:{child.port}", "project": PROJECT}
        yield Server(child.port, {"gs": options, "gcs": options})


class Emulator(Relay):
    def put(self, bucket: str, key: str, data: bytes, content_type: str | None) -> None:
        self.post(f"/storage/v1/b?project={PROJECT}", b'{"name": "%s"}' % bucket.encode(), "application/json")
        name = urllib.parse.quote(key, safe="")
        kind = content_type or "application/octet-stream"
        status = self.post(f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data, kind)
        if status != 200:
            raise RuntimeError(f"the emulator answered {status} to the upload of {key}")

    def post(self, target: str, body: bytes, content_type: str) -> int:
        upstream = http.client.HTTPConnection("127.0.0.1", self.port)
        upstream.request("POST", target, body, {"Content-Type": content_type})
        return upstream.getresponse().status


if __name__ == "__main__":
    command = [
        "-m",
        "gcp_storage_emulator",
        "start",
        "--host",
        "127.0.0.1",
        "--in-memory",
        "--quiet",
        "--port",
    ]
    with running(lambda port: [sys.executable, *command, str(port)]) as child:
        emulator = Emulator(child.port)
        serve(Service(emulator.handle, emulator.put), int(sys.argv[1]))
