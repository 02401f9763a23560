from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import botocore.auth
import botocore.session
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.servers import s3
from tests.servers.server import Reply, Server, fetch

BODY = bytes(range(256)) * 4
ODD_KEYS = [
    "a b.jpg",
    "a#b?c&d=e.jpg",
    "literal%20.jpg",
    "it's+(1)*!~.jpg",
    'say "hi".jpg',
    "日本/é.png",
    "a//b",
    "/leading",
    "x/../y",
    "folder/",
    "back\\slash",
]


@pytest.fixture
def server(s3_server: Server) -> Server:
    s3_server.put("private", "a/b.bin", BODY, "image/jpeg")
    s3_server.put("public-read", "a/b.bin", BODY)
    s3_server.put("eu-media", "a/b.bin", BODY)
    s3_server.reset()
    return s3_server


def client(
    server: Server,
    key: str = s3.KEY,
    secret: str = s3.SECRET,
    token: str | None = None,
    region: str = "us-east-1",
) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=server.url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        region_name=region,
        config=Config(signature_version="s3v4", retries={"max_attempts": 1}),
    )


def presigned(asking: Any, bucket: str = "private", key: str = "a/b.bin", seconds: int = 60) -> str:
    parameters = {"Bucket": bucket, "Key": key}
    return str(asking.generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds))


def failure(asking: Any, bucket: str = "private") -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        asking.get_object(Bucket=bucket, Key="a/b.bin")
    answer = caught.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"]


def code(reply: Reply) -> str:
    found = re.search(b"<Code>(.*)</Code>", reply.body)
    return found[1].decode() if found else ""


def test_signed_requests_are_answered(server: Server) -> None:
    answer = client(server).get_object(Bucket="private", Key="a/b.bin", Range="bytes=10-19")
    assert answer["Body"].read() == BODY[10:20]
    assert answer["ContentRange"] == f"bytes 10-19/{len(BODY)}"
    assert answer["ContentType"] == "image/jpeg"


def test_presigned_urls_are_answered(server: Server) -> None:
    url = presigned(client(server))
    assert fetch(url).body == BODY
    assert fetch(url, headers={"Range": "bytes=-5"}).body == BODY[-5:]
    assert fetch(url, headers={"Range": "bytes=99999-"}).status == 416


def test_unsigned_requests_are_refused(server: Server) -> None:
    for path in ("private/a/b.bin", "private?list-type=2", ""):
        assert fetch(f"{server.url}/{path}").status == 403


def test_wrong_credentials_are_refused(server: Server) -> None:
    assert failure(client(server, secret="WRONG")) == (403, "SignatureDoesNotMatch")
    assert failure(client(server, key="AKIDNOBODY")) == (403, "InvalidAccessKeyId")


@pytest.mark.parametrize(
    ("part", "replacement"),
    [
        ("Signature=", "Signature=00"),
        ("/a/b.bin", "/a/c.bin"),
        ("Expires=60", "Expires=600"),
        ("X-Amz-Expires", "response-content-type=text%2Fplain&X-Amz-Expires"),
    ],
)
def test_tampered_urls_are_refused(server: Server, part: str, replacement: str) -> None:
    url = presigned(client(server))
    assert part in url
    assert code(fetch(url.replace(part, replacement, 1))) == "SignatureDoesNotMatch"


def test_a_url_is_for_one_method(server: Server) -> None:
    url = presigned(client(server))
    assert fetch(url, "PUT", body=b"x").status == 403
    assert fetch(url, "HEAD").status == 403


def signed_at(moment: datetime, monkeypatch: pytest.MonkeyPatch, server: Server, signer: Any) -> Reply:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: moment.replace(tzinfo=None))
    request = AWSRequest("GET", f"{server.url}/private/a/b.bin")
    signer.add_auth(request)
    return fetch(request.prepare().url, headers=dict(request.headers))


def test_time_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = Credentials(s3.KEY, s3.SECRET)
    by_query = S3SigV4QueryAuth(credentials, "s3", "us-east-1", expires=60)
    by_header = S3SigV4Auth(credentials, "s3", "us-east-1")
    now = datetime.now(UTC)
    assert signed_at(now, monkeypatch, server, by_query).status == 200
    expired = signed_at(now - timedelta(seconds=61), monkeypatch, server, by_query)
    assert (expired.status, b"expired" in expired.body) == (403, True)
    assert signed_at(now + timedelta(hours=1), monkeypatch, server, by_query).status == 403
    assert signed_at(now, monkeypatch, server, by_header).status == 200
    skewed = signed_at(now - timedelta(hours=2), monkeypatch, server, by_header)
    assert (skewed.status, code(skewed)) == (403, "RequestTimeTooSkewed")


def test_temporary_keys_need_their_token(server: Server) -> None:
    key, secret = s3.SESSION_KEY, s3.SESSION_SECRET
    good = client(server, key, secret, s3.SESSION_TOKEN)
    assert good.get_object(Bucket="private", Key="a/b.bin")["Body"].read() == BODY
    assert fetch(presigned(good)).body == BODY
    for bad in (client(server, key, secret), client(server, key, secret, "another")):
        assert failure(bad) == (400, "InvalidToken")
        assert code(fetch(presigned(bad))) == "InvalidToken"


def test_public_buckets_are_read_without_signature(server: Server) -> None:
    url = f"{server.url}/public-read"
    assert fetch(f"{url}/a/b.bin", headers={"Range": "bytes=1-2"}).body == BODY[1:3]
    assert fetch(f"{url}/a/b.bin", "HEAD").headers["Content-Length"] == str(len(BODY))
    assert b"<Key>a/b.bin</Key>" in fetch(f"{url}?list-type=2").body
    assert fetch(f"{url}/new", "PUT", body=b"x").status == 403


def test_denied_buckets_are_forbidden_to_good_keys() -> None:
    with s3.start(["closed"]) as server:
        for bucket in ("closed", "open"):
            server.put(bucket, "a/b.bin", BODY)
        assert failure(client(server), "closed") == (403, "AccessDenied")
        assert code(fetch(presigned(client(server), "closed"))) == "AccessDenied"
        with pytest.raises(ClientError, match="AccessDenied"):
            client(server).list_objects_v2(Bucket="closed")
        assert client(server).get_object(Bucket="open", Key="a/b.bin")["Body"].read() == BODY


def test_buckets_have_regions(server: Server) -> None:
    # boto3 goes where the refusal says.
    assert client(server).get_object(Bucket="eu-media", Key="a/b.bin")["Body"].read() == BODY
    assert [request.status for request in server.requests()] == [400, 200]
    wrong = fetch(presigned(client(server), "eu-media"))
    assert (wrong.status, code(wrong)) == (400, "AuthorizationQueryParametersError")
    assert b"<Region>eu-central-1</Region>" in wrong.body
    right = client(server, region="eu-central-1")
    assert right.get_object(Bucket="eu-media", Key="a/b.bin")["Body"].read() == BODY
    for reply in (wrong, fetch(f"{server.url}/eu-media", "HEAD"), fetch(f"{server.url}/eu-media/none")):
        assert reply.headers["x-amz-bucket-region"] == "eu-central-1"


def test_what_is_not_there(server: Server) -> None:
    assert failure(client(server), "nowhere") == (404, "NoSuchBucket")
    assert code(fetch(presigned(client(server), key="none"))) == "NoSuchKey"
    assert code(fetch(f"{server.url}/nowhere/a")) == "NoSuchBucket"


@pytest.mark.parametrize("key", ODD_KEYS)
def test_keys_are_kept_as_they_are(server: Server, key: str) -> None:
    server.put("odd-keys", key, key.encode())
    asking = client(server)
    assert asking.get_object(Bucket="odd-keys", Key=key)["Body"].read() == key.encode()
    assert fetch(presigned(asking, "odd-keys", key)).body == key.encode()
    assert [o["Key"] for o in asking.list_objects_v2(Bucket="odd-keys", Prefix=key)["Contents"]] == [key]


def test_listings_come_in_pages(server: Server) -> None:
    server.seed("seeded", 2500, 10)
    pages = list(client(server).get_paginator("list_objects_v2").paginate(Bucket="seeded"))
    assert [page["KeyCount"] for page in pages] == [1000, 1000, 500]
    folders = client(server).list_objects_v2(Bucket="seeded", Delimiter="/")["CommonPrefixes"]
    assert [folder["Prefix"] for folder in folders] == ["d000/", "d001/", "d002/"]


def test_requests_are_logged(server: Server) -> None:
    fetch(f"{server.url}/public-read/a/b.bin?x=1", headers={"Range": "bytes=1-2"})
    fetch(f"{server.url}/private/a%20b")
    assert [(r.method, r.path, r.query, r.status, r.range) for r in server.requests()] == [
        ("GET", "/public-read/a/b.bin", "x=1", 206, "bytes=1-2"),
        ("GET", "/private/a%20b", "", 403, None),
    ]
    assert server.requests()[0].bytes == 2
    server.reset()
    assert server.requests() == []
