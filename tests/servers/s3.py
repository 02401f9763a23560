"""S3: moto's object store behind a gate that checks signatures, regions and session tokens.

Buckets named `public-…` may be read and listed unsigned. Buckets named `eu-…` live in eu-central-1, all others in
us-east-1. Those that `start` is told to deny are forbidden to everyone. Moto alone accepts any credentials. It is moto
that limits the speed, so this is not for benchmarks.
"""

from __future__ import annotations

import asyncio
import io
import sys
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.process import python_module, running
from tests.servers.server import Server
from tests.servers.sigv4 import Denied, Key, check
from tests.servers.wire import Answer, Call, Service, serve

KEY, SECRET = "AKIDTEST", "SECRETTEST"
SESSION_KEY, SESSION_SECRET, SESSION_TOKEN = "ASIATEST", "SESSIONSECRET", "session/token+with=signs"
KEYS = {KEY: Key(SECRET), SESSION_KEY: Key(SESSION_SECRET, SESSION_TOKEN)}
ACCOUNT = "123456789012"
# Moto refuses an unsigned read by the object's ACL; the gate has already decided.
TRUSTED = f"AWS4-HMAC-SHA256 Credential={KEY}/20000101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@contextmanager
def start(denied: Iterable[str] = ()) -> Iterator[Server]:
    with running(python_module("tests.servers.s3", *denied)) as child:
        options = {"key": KEY, "secret": SECRET, "endpoint_url": f"http://127.0.0.1:{child.port}"}
        yield Server(child.port, {"s3": options})


def region_of(bucket: str) -> str:
    return "eu-central-1" if bucket.startswith("eu-") else "us-east-1"


class Gate:
    def __init__(self, denied: Iterable[str] = ()) -> None:
        # Moto takes half a second to import, and only the server process needs it.
        from moto.moto_server.werkzeug_app import create_backend_app
        from moto.s3.models import s3_backends

        self.denied = frozenset(denied)
        self.moto = create_backend_app("s3")
        self.store = s3_backends[ACCOUNT]["aws"]

    async def handle(self, call: Call) -> Answer:
        bucket = call.path.split("/")[1]
        try:
            self.admit(call, bucket)
            answer = await asyncio.to_thread(self.forward, call)
        except Denied as denied:
            answer = refusal(denied)
        if bucket in self.store.buckets:
            answer.headers["x-amz-bucket-region"] = region_of(bucket)
        return answer

    def admit(self, call: Call, bucket: str) -> None:
        unsigned = "authorization" not in call.headers and "X-Amz-" not in call.query
        if unsigned and bucket and bucket not in self.store.buckets:
            raise Denied(404, "NoSuchBucket", "The specified bucket does not exist")
        if unsigned and bucket.startswith("public-") and call.method in ("GET", "HEAD"):
            return
        check(call, KEYS, region_of(bucket) if bucket else None)
        if bucket in self.denied:
            raise Denied(403, "AccessDenied", "Access Denied")

    def forward(self, call: Call) -> Answer:
        """Hand the request to moto, a WSGI application, with its path untouched."""
        environ: dict[str, Any] = {
            "REQUEST_METHOD": call.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote_to_bytes(call.path).decode("latin-1"),
            "QUERY_STRING": call.query,
            "RAW_URI": call.target,
            "REQUEST_URI": call.target,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(call.body)),
            "CONTENT_TYPE": call.headers.get("content-type", ""),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(call.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in {"authorization": TRUSTED, **call.headers}.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        answer = Answer()

        def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
            answer.status = int(status.split()[0])
            answer.headers = dict(headers)

        answer.body = b"".join(self.moto(environ, start_response))
        return answer

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None) -> None:
        self.make(bucket)
        stored = self.store.put_object(bucket, key, data)
        if content_type:
            stored.set_metadata({"Content-Type": content_type})

    def make(self, bucket: str) -> None:
        if bucket not in self.store.buckets:
            self.store.create_bucket(bucket, region_of(bucket))


def refusal(denied: Denied) -> Answer:
    elements = {"Code": denied.code, "Message": str(denied), **denied.elements, "RequestId": "TEST"}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in elements.items())
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()
    return Answer(denied.status, body, {"Content-Type": "application/xml"})


if __name__ == "__main__":
    gate = Gate(sys.argv[2:])
    serve(Service(gate.handle, gate.put), int(sys.argv[1]))
