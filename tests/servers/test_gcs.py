from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import gcsfs
import google.auth.transport.requests
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.cloud.exceptions import NotFound
from google.oauth2 import service_account

from mediasql.storage.signing.goog4 import UrlSigner
from tests.servers import gcs
from tests.servers import gcs_identity as identity
from tests.servers.server import Server, fetch

BODY = bytes(range(256)) * 4
BEARER = {"Authorization": f"Bearer {identity.TOKEN}"}
ODD_NAMES = ["a/x y+ü.bin", "q?&=#%20.jpg", "日本/é.png", "a//b", "it's(1)*!~.jpg", "a:b@c,d;e$"]


@pytest.fixture
def server(gcs_server: gcs.GcsServer) -> gcs.GcsServer:
    gcs_server.put("private", "a/b.bin", BODY, "image/jpeg")
    gcs_server.put("public-read", "a/b.bin", BODY)
    gcs_server.reset()
    return gcs_server


def bucket(server: gcs.GcsServer, name: str = "private") -> Any:
    account = service_account.Credentials.from_service_account_info(server.service_account)
    options = {"api_endpoint": server.url}
    return storage.Client(identity.PROJECT, account, client_options=options).bucket(name)


def signed(server: gcs.GcsServer, name: str = "a/b.bin", seconds: int = 60, **more: Any) -> str:
    blob = bucket(server).blob(name)
    expiration = timedelta(seconds=seconds)
    return str(blob.generate_signed_url(version="v4", expiration=expiration, api_access_endpoint=server.url, **more))


def test_a_service_account_reads_and_writes(server: gcs.GcsServer) -> None:
    blob = bucket(server).blob("new/x y.jpg")
    blob.metadata = {"taken": "today"}
    blob.upload_from_string(b"ends in a newline\r\n", content_type="image/jpeg")
    again = bucket(server).get_blob("new/x y.jpg")
    assert again.download_as_bytes() == b"ends in a newline\r\n"
    assert (again.size, again.content_type, again.metadata) == (19, "image/jpeg", {"taken": "today"})
    again.delete()
    with pytest.raises(NotFound):
        again.download_as_bytes()


def test_a_user_reads(server: gcs.GcsServer) -> None:
    user = server.user()
    user.refresh(google.auth.transport.requests.Request())
    reply = fetch(f"{server.url}/private/a/b.bin", headers={"Authorization": f"Bearer {user.token}"})
    assert reply.body == BODY


PATHS = [
    "private/a/b.bin",
    "storage/v1/b/private/o/a%2Fb.bin?alt=media",
    "download/storage/v1/b/private/o/a%2Fb.bin?alt=media",
]


@pytest.mark.parametrize("path", PATHS)
def test_both_apis_answer_ranges(server: gcs.GcsServer, path: str) -> None:
    def ask(asked: str) -> Any:
        return fetch(f"{server.url}/{path}", headers={**BEARER, "Range": asked})

    part = ask("bytes=10-19")
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, BODY[10:20], "bytes 10-19/1024")
    assert part.headers["x-goog-generation"].isdigit()
    assert part.headers["ETag"]
    assert ask("bytes=-5").body == BODY[-5:]
    assert ask("bytes=1020-2000").body == BODY[1020:]
    assert (ask("bytes=1024-").status, ask("bytes=1024-").headers["Content-Range"]) == (416, "bytes */1024")


@pytest.mark.parametrize("path", PATHS)
def test_only_known_tokens_are_accepted(server: gcs.GcsServer, path: str) -> None:
    anonymous = 403 if path == PATHS[0] else 401
    assert fetch(f"{server.url}/{path}").status == anonymous
    for token in ("nonsense", identity.EXPIRED_TOKEN):
        headers = {"Authorization": f"Bearer {token}"}
        assert fetch(f"{server.url}/{path}", headers=headers).status == 401
        assert fetch(f"{server.url}/{path.replace('private', 'public-read')}", headers=headers).status == 401


def test_public_buckets_are_read_by_anyone(server: gcs.GcsServer) -> None:
    for path in PATHS:
        assert fetch(f"{server.url}/{path.replace('private', 'public-read')}").body == BODY
    client = storage.Client("p", AnonymousCredentials(), client_options={"api_endpoint": server.url})
    assert [blob.name for blob in client.list_blobs("public-read")] == ["a/b.bin"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_signed_urls_are_answered(server: gcs.GcsServer, name: str) -> None:
    server.put("private", name, name.encode())
    assert fetch(signed(server, name)).body == name.encode()
    assert fetch(signed(server, name, query_parameters={"response-content-type": "x/y"})).status == 200
    assert bucket(server).blob(name).download_as_bytes() == name.encode()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda url: url[:-4] + ("0000" if url[-4:] != "0000" else "1111"), 403),
        (lambda url: url.replace("/a/b.bin", "/a/c.bin"), 403),
        (lambda url: url.replace("Expires=60", "Expires=600"), 403),
        (lambda url: url + "&userProject=x", 403),
        (lambda url: url.replace("Expires=60", "Expires=9999999"), 400),
        (lambda url: url.replace("tester", "another"), 403),
        (lambda url: url.replace("127.0.0.1", "localhost"), 403),
    ],
)
def test_tampered_urls_are_refused(server: gcs.GcsServer, change: Callable[[str], str], status: int) -> None:
    url = signed(server)
    assert change(url) != url
    assert fetch(change(url)).status == status


def test_expired_urls_are_refused(server: gcs.GcsServer) -> None:
    """By our own signer, since Google's has no clock that can be set."""
    account = service_account.Credentials.from_service_account_info(server.service_account)
    host = server.url.removeprefix("http://")

    def made(seconds_ago: int) -> str:
        email, sign = account.signer_email, account.sign_bytes
        signer = UrlSigner(email, sign, server.url, host, clock=lambda: time.time() - seconds_ago)
        return signer.url("/private/a/b.bin", 60)

    assert fetch(made(30)).status == 200
    reply = fetch(made(61))
    assert (reply.status, b"ExpiredToken" in reply.body) == (400, True)


def test_sign_blob_signs_for_those_without_a_key(server: gcs.GcsServer) -> None:
    url = f"{server.url}/v1/projects/-/serviceAccounts/{identity.EMAIL}:signBlob"
    body = json.dumps({"payload": base64.b64encode(b"text").decode()}).encode()
    assert fetch(url, "POST", body=body).status == 401
    reply = json.loads(fetch(url, "POST", BEARER, body).body)
    account = service_account.Credentials.from_service_account_info(server.service_account)
    assert base64.b64decode(reply["signedBlob"]) == account.sign_bytes(b"text")


def test_listings_come_in_pages(server: gcs.GcsServer) -> None:
    server.seed("seeded", 2500, 10)
    server.reset()
    names = [blob.name for blob in bucket(server, "seeded").list_blobs()]
    assert (len(names), names) == (2500, sorted(names))
    assert len([r for r in server.requests() if r.path.endswith("/o")]) == 3


def test_listings_have_prefixes_and_offsets(server: gcs.GcsServer) -> None:
    for name in ("a", "b/1", "b/2", "c/1", "d", "e/1"):
        server.put("tree", name, b"x")
    tree = bucket(server, "tree")
    listing = tree.list_blobs(delimiter="/", max_results=None, page_size=2)
    seen = [(sorted(page.prefixes), [blob.name for blob in page]) for page in listing.pages]
    assert seen == [(["b/"], ["a"]), (["c/"], ["d"]), (["e/"], [])]
    assert [blob.name for blob in tree.list_blobs(prefix="b/")] == ["b/1", "b/2"]
    assert [blob.name for blob in tree.list_blobs(start_offset="b/2", end_offset="d")] == ["b/2", "c/1"]


def test_preconditions(server: gcs.GcsServer) -> None:
    first = bucket(server).get_blob("a/b.bin")
    path = f"{server.url}/{PATHS[2]}"
    assert fetch(f"{path}&ifGenerationMatch={first.generation}", headers=BEARER).status == 200
    assert fetch(path, headers={**BEARER, "If-None-Match": first.etag}).status == 304
    server.put("private", "a/b.bin", b"new")
    assert fetch(f"{path}&ifGenerationMatch={first.generation}", headers=BEARER).status == 412
    assert fetch(f"{path}&generation={first.generation}", headers=BEARER).status == 404
    assert fetch(path, headers={**BEARER, "If-None-Match": first.etag}).body == b"new"


def filesystem(server: Server) -> Any:
    return gcsfs.GCSFileSystem(**server.storage_options["gs"], skip_instance_cache=True)


def test_gcsfs_works(server: gcs.GcsServer) -> None:
    files = filesystem(server)
    files.pipe("private/piped/x y.bin", BODY)
    assert files.cat("private/piped/x y.bin") == BODY
    assert files.cat_file("private/piped/x y.bin", start=5, end=25) == BODY[5:25]
    assert files.ls("private/piped") == ["private/piped/x y.bin"]
    assert files.find("private/piped") == ["private/piped/x y.bin"]
    assert files.info("private/piped/x y.bin")["size"] == len(BODY)
    assert fetch(files.sign("private/piped/x y.bin", version="v4")).body == BODY


def test_the_emulator_works(gcs_emulator: Server) -> None:
    gcs_emulator.put("bucket", "a/x y.bin", BODY, "image/jpeg")
    files = filesystem(gcs_emulator)
    assert files.find("bucket") == ["bucket/a/x y.bin"]
    assert files.cat_file("bucket/a/x y.bin", start=5, end=25) == BODY[5:25]
    assert files.info("bucket/a/x y.bin")["contentType"] == "image/jpeg"
    assert gcs_emulator.requests()[-1].path.endswith("/a%2Fx%20y.bin")
