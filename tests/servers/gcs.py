"""Google Cloud Storage: JSON and XML APIs over objects in memory, with credentials that are checked.

A request needs a bearer token from this server's `/token` (so a service account or a user's credentials with
their `token_uri` pointing here work) or a V4 signed URL. Buckets named `public-…` may be read by anyone. The
IAM method signBlob signs with the service account's key. V2 signatures and resumable uploads are not there.
"""

from __future__ import annotations

import base64
import json
import re
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import format_datetime
from xml.sax.saxutils import escape

from google.oauth2.credentials import Credentials as UserCredentials

from tests.servers import gcsv4
from tests.servers.gcs_identity import EMAIL, PROJECT, REFRESH_TOKEN, Identity, as_json
from tests.servers.gcs_objects import Blob, Bucket
from tests.servers.gcsv4 import Refused
from tests.servers.process import python_module, running
from tests.servers.server import Server
from tests.servers.wire import Answer, Call, Service, ranged, serve


@dataclass(frozen=True)
class GcsServer(Server):
    """`service_account` is the content of a credential file."""

    service_account: dict[str, str]

    def user(self) -> UserCredentials:
        """A user's credentials: they read, but have no key to sign with.

        There is no file for them, since google-auth ignores the token_uri of an authorized user's.
        """
        return UserCredentials(
            None,
            refresh_token=REFRESH_TOKEN,
            client_id="tester",
            client_secret="secret",
            token_uri=f"{self.url}/token",
        )


@contextmanager
def start() -> Iterator[GcsServer]:
    with running(python_module("tests.servers.gcs")) as child:
        account = json.loads(Server(child.port, {}).control("GET", "/_account"))
        options = {"token": account, "endpoint_url": f"http://127.0.0.1:{child.port}", "project": PROJECT}
        yield GcsServer(child.port, {"gs": options, "gcs": options}, account)


class Gcs(Identity):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.buckets: dict[str, Bucket] = {}

    async def handle(self, call: Call) -> Answer:
        for pattern, action, is_json in ROUTES:
            if match := re.fullmatch(pattern, f"{call.method} {call.path}"):
                try:
                    return action(self, call, *map(urllib.parse.unquote, match.groups()))
                except Refused as refused:
                    return failure(refused, is_json)
        return failure(Refused(404, "notFound", "Not Found"), is_json=True)

    def put(self, bucket: str, key: str, data: bytes, content_type: str | None) -> None:
        self.buckets.setdefault(bucket, Bucket(bucket)).put(key, data, content_type)

    def bucket(self, call: Call, name: str) -> Bucket:
        """The bucket, if the caller may do to it what the request says."""
        if "authorization" in call.headers:
            self.check_token(call)
        elif "X-Goog-" in call.query:
            gcsv4.check(call, {EMAIL: self.key.public_key()})
        elif not (name.startswith("public-") and call.method in ("GET", "HEAD")):
            raise Refused(401, "required", "Anonymous caller does not have storage.objects.get access")
        if name not in self.buckets:
            raise Refused(404, "notFound", "The specified bucket does not exist.")
        return self.buckets[name]

    def list_buckets(self, call: Call) -> Answer:
        self.check_token(call)
        return as_json({"items": [bucket.resource() for bucket in self.buckets.values()]})

    def create_bucket(self, call: Call) -> Answer:
        self.check_token(call)
        name = json.loads(call.body)["name"]
        self.buckets.setdefault(name, Bucket(name))
        return as_json(self.bucket(call, name).resource())

    def show_bucket(self, call: Call, bucket: str) -> Answer:
        return as_json(self.bucket(call, bucket).resource())

    def list_objects(self, call: Call, bucket: str) -> Answer:
        return as_json(self.bucket(call, bucket).page(**call.parameters))

    def find(self, call: Call, bucket: str, name: str) -> Blob:
        blob = self.bucket(call, bucket).blobs.get(name)
        asked = call.parameters
        if blob is None or asked.get("generation", str(blob.generation)) != str(blob.generation):
            raise Refused(404, "notFound", f"No such object: {bucket}/{name}")
        wanted = asked.get("ifGenerationMatch") or call.headers.get("x-goog-if-generation-match")
        if wanted and wanted != str(blob.generation):
            raise Refused(412, "conditionNotMet", "At least one of the pre-conditions did not hold.")
        return blob

    def show_object(self, call: Call, bucket: str, name: str) -> Answer:
        if call.parameters.get("alt") == "media":
            blob = self.find(call, bucket, name)
            return media(call, blob, blob.etag)
        return as_json(self.find(call, bucket, name).resource())

    def xml_object(self, call: Call, bucket: str, name: str) -> Answer:
        blob = self.find(call, bucket, name)
        return media(call, blob, f'"{base64.b64decode(blob.md5).hex()}"')

    def upload(self, call: Call, bucket: str) -> Answer:
        target = self.bucket(call, bucket)
        name, kind = call.parameters.get("name"), call.headers.get("content-type")
        if call.parameters.get("uploadType") != "multipart":
            return as_json(target.put(str(name), call.body, kind).resource())
        (_, about), (head, data) = parts(call.body, str(kind))
        said = json.loads(about)
        inner = re.search(rb"(?i)content-type:\s*([^\r\n]+)", head)
        stored = target.put(
            said.get("name") or name,
            data,
            said.get("contentType") or (inner[1].decode() if inner else None),
            said.get("metadata"),
        )
        return as_json(stored.resource())

    def delete_object(self, call: Call, bucket: str, name: str) -> Answer:
        self.find(call, bucket, name)
        self.buckets[bucket].delete(name)
        return Answer(204)


def media(call: Call, blob: Blob, etag: str) -> Answer:
    headers = {
        "Content-Type": blob.content_type or "application/octet-stream",
        "ETag": etag,
        "Last-Modified": format_datetime(blob.updated, usegmt=True),
        "x-goog-generation": str(blob.generation),
        "x-goog-metageneration": "1",
        "x-goog-hash": f"crc32c={blob.crc32c},md5={blob.md5}",
        "x-goog-stored-content-length": str(len(blob.data)),
        "x-goog-stored-content-encoding": "identity",
    }
    if call.headers.get("if-none-match") == etag:
        return Answer(304, b"", headers)
    if call.headers.get("if-match", etag) != etag:
        return Answer(412, b"", headers)
    return ranged(blob.data, call.headers.get("range"), headers)


def parts(body: bytes, content_type: str) -> Iterator[tuple[bytes, bytes]]:
    """The two parts of a multipart upload, each as head and content. Some clients end lines with LF alone."""
    found = re.search('boundary="?([^";]+)', content_type)
    boundary = b"--" + (found[1].encode() if found else b"")
    newline = b"\r\n" if boundary + b"\r\n" in body else b"\n"
    for part in body.split(boundary)[1:3]:
        head, _, content = part.partition(newline * 2)
        yield head, content.removesuffix(newline)


def failure(refused: Refused, is_json: bool) -> Answer:
    if is_json:
        reasons = [{"message": str(refused), "domain": "global", "reason": refused.code}]
        return as_json({"error": {"code": refused.status, "message": str(refused), "errors": reasons}}, refused.status)
    # The XML API has no 401 for anonymous callers, and capitalises its codes.
    status, code = (403, "AccessDenied") if refused.code == "required" else (refused.status, refused.code)
    body = f"<Error><Code>{code}</Code><Message>{escape(str(refused))}</Message></Error>"
    return Answer(
        status,
        b"<?xml version='1.0' encoding='UTF-8'?>" + body.encode(),
        {"Content-Type": "application/xml; charset=UTF-8"},
    )


JSON = "/storage/v1/b"
# (method and raw path, what answers, whether errors are JSON); the first that matches counts.
ROUTES: list[tuple[str, Callable[..., Answer], bool]] = [
    ("POST /token", Gcs.token, True),
    ("POST /v1/projects/-/serviceAccounts/([^/]+):signBlob", Gcs.sign_blob, True),
    (f"GET {JSON}", Gcs.list_buckets, True),
    (f"POST {JSON}", Gcs.create_bucket, True),
    (f"GET {JSON}/([^/]+)", Gcs.show_bucket, True),
    (f"GET {JSON}/([^/]+)/o/?", Gcs.list_objects, True),
    (f"GET (?:/download)?{JSON}/([^/]+)/o/(.+)", Gcs.show_object, True),
    (f"POST /upload{JSON}/([^/]+)/o", Gcs.upload, True),
    (f"DELETE {JSON}/([^/]+)/o/(.+)", Gcs.delete_object, True),
    ("(?:GET|HEAD) /(?!storage/v1/)([^/]+)/(.+)", Gcs.xml_object, False),
]


if __name__ == "__main__":
    gcs = Gcs(f"http://127.0.0.1:{sys.argv[1]}")
    serve(Service(gcs.handle, gcs.put, {"/_account": gcs.account}), int(sys.argv[1]))
