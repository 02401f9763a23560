"""The S3 provider against a server that checks signatures, regions and session tokens."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any

import pytest

from mediasql import errors
from mediasql.storage.providers.base import Request
from mediasql.storage.providers.s3 import S3Provider
from mediasql.storage.transport.client import Client
from mediasql.storage.transport.exchange import Exchange, Headers, Response
from tests.clock import Clock
from tests.servers.s3 import KEY, SECRET, SESSION_KEY, SESSION_SECRET, SESSION_TOKEN
from tests.servers.server import Server
from tests.storage.metadata import container_role
from tests.storage.reading import ODD_KEYS, Reading, tampered

DATA = bytes(range(256)) * 8


@pytest.fixture
def server(s3_server: Server) -> Server:
    for bucket in ("private", "public-photos", "eu-photos"):
        s3_server.put(bucket, "a/1.jpg", DATA)
    s3_server.reset()
    return s3_server


def reading(server: Server, **options: Any) -> Reading:
    return Reading(S3Provider, **{**server.storage_options["s3"], **options})


def test_a_private_object_is_read_with_a_range(server: Server) -> None:
    with reading(server) as s3:
        assert s3.fetch(f"{server.url}/private/a/1.jpg").status == 403
        answer = s3.get("s3://private/a/1.jpg", "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        assert s3.get("s3a://private/a/1.jpg").body == DATA


def test_a_presigned_url_needs_nothing_else(server: Server) -> None:
    with reading(server) as s3:
        url = s3.presign("s3://private/a/1.jpg", 3600)
        assert s3.fetch(url).body == DATA
        answer = s3.fetch(url, "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        assert s3.fetch(tampered(url)).status == 403
        assert s3.fetch(url.replace("a/1.jpg", "a/2.jpg")).status == 403
        assert s3.fetch(url.replace("Expires=3600", "Expires=7200")).status == 403
        assert s3.fetch(s3.presign("s3://private/a/1.jpg", 604800)).status == 200
        short = s3.presign("s3://private/a/1.jpg", 1)
        time.sleep(2.1)
        assert s3.fetch(short).status == 403


def test_a_signer_lasts_as_long_as_its_credentials(server: Server) -> None:
    with reading(server) as s3:
        signer = s3.signer("s3://private/a/1.jpg")
        assert (signer.expires_at, signer.max_seconds) == (None, 604800)


@pytest.mark.parametrize("key", [*ODD_KEYS, "./a/../b.jpg", "/leading.jpg", "trailing..", "\u0001control\t.jpg"])
def test_odd_keys_are_read_presigned_and_listed_exactly(server: Server, key: str) -> None:
    server.put("odd", key, key.encode())
    with reading(server) as s3:
        assert s3.get(f"s3://odd/{key}").body == key.encode()
        assert s3.fetch(s3.presign(f"s3://odd/{key}", 60)).body == key.encode()
        entries = [entry for page in s3.pages(f"s3://odd/{key}") for entry in page]
        assert [(entry.path, entry.url) for entry in entries] == [(key, f"s3://odd/{key}")]


def test_without_credentials_requests_are_anonymous(server: Server) -> None:
    with Reading(S3Provider, endpoint_url=server.url) as s3:
        assert s3.request("s3://public-photos/a b.jpg") == Request(f"{server.url}/public-photos/a%20b.jpg")
        assert s3.get("s3://public-photos/a/1.jpg").body == DATA
        assert s3.get("s3://private/a/1.jpg").status == 403
        assert s3.presign("s3://public-photos/a b.jpg", 60) == f"{server.url}/public-photos/a%20b.jpg"
        assert [entry.path for entry in s3.pages("s3://public-photos/")[0]] == ["a/1.jpg"]
        with pytest.raises(errors.Forbidden, match="cannot list s3://private/: 403 Forbidden"):
            s3.pages("s3://private/")


def test_anonymous_on_request_whatever_credentials_there_are(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    with Reading(S3Provider, endpoint_url=server.url, anon=True) as s3:
        assert not s3.request("s3://private/a/1.jpg").headers
        assert s3.get("s3://public-photos/a/1.jpg").status == 200


def lookups(server: Server) -> int:
    return sum(request.method == "HEAD" for request in server.requests())


def test_a_buckets_region_is_asked_for_once(server: Server) -> None:
    with reading(server) as s3:
        answers = s3.get_together(["s3://eu-photos/a/1.jpg"] * 20)
        assert {answer.status for answer in answers} == {200}
        assert s3.fetch(s3.presign("s3://eu-photos/a/1.jpg", 60)).status == 200
        assert len(s3.pages("s3://eu-photos/")) == 1
        assert lookups(server) == 1
        assert "/eu-central-1/" in s3.request("s3://eu-photos/a/1.jpg").headers["authorization"]


def test_a_region_given_for_an_endpoint_is_not_asked_for(server: Server) -> None:
    with reading(server, client_kwargs={"region_name": "eu-central-1"}) as s3:
        assert s3.get("s3://eu-photos/a/1.jpg").status == 200
        assert lookups(server) == 0


def test_a_wrong_region_is_mended_by_the_refusal(server: Server) -> None:
    with reading(server, client_kwargs={"region_name": "us-west-2"}) as s3:
        assert s3.get("s3://eu-photos/a/1.jpg").status == 200
        assert s3.get("s3://eu-photos/a/1.jpg").status == 200
        assert [request.status for request in server.requests()] == [400, 200, 200]


def test_recovery_only_when_something_changed(server: Server) -> None:
    with reading(server) as s3:
        assert s3.get("s3://private/missing.jpg").status == 404
        wrong = "wrong"
    with reading(server, secret=wrong) as s3:
        assert s3.get("s3://private/a/1.jpg").status == 403
        assert [request.status for request in server.requests() if request.method == "GET"] == [404, 403]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (301, {"x-amz-bucket-region": "eu-west-3"}, b""),
        (307, {"x-amz-bucket-region": "eu-west-3"}, b""),
        (400, {}, b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>"),
        (403, {"x-amz-bucket-region": "eu-west-3"}, b""),
    ],
)
def test_regions_are_learnt_from_every_refusal(
    server: Server, status: int, headers: dict[str, str], body: bytes
) -> None:
    from mediasql.storage.location import Location

    with reading(server) as s3:
        location = Location.parse("s3://private/a/1.jpg")
        s3.request(location.url)
        assert s3.run(s3.provider.recover(location, status, headers, body)) is True
        assert "/eu-west-3/s3/" in s3.request(location.url).headers["authorization"]
        assert s3.run(s3.provider.recover(location, status, headers, body)) is False


def test_session_tokens_are_sent_in_headers_and_urls(server: Server) -> None:
    with reading(server, key=SESSION_KEY, secret=SESSION_SECRET, token=SESSION_TOKEN) as s3:
        assert s3.get("s3://private/a/1.jpg").status == 200
        url = s3.presign("s3://private/a/1.jpg", 60)
        assert s3.fetch(url).status == 200
        assert s3.fetch(url.replace("X-Amz-Security-Token=session", "X-Amz-Security-Token=Xession")).status in (
            400,
            403,
        )


def test_credentials_and_endpoint_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SESSION_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SESSION_SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION_TOKEN)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    with Reading(S3Provider) as s3:
        assert s3.get("s3://private/a/1.jpg").status == 200


def test_options_from_the_variables_of_fsspec(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "s3", {"key": KEY, "secret": SECRET, "endpoint_url": server.url})
    with Reading(S3Provider) as s3:
        assert s3.get("s3://private/a/1.jpg").status == 200


def write_profile(environment: Path, name: str, **values: str) -> None:
    lines = "".join(f"{key} = {value}\n" for key, value in values.items())
    (environment / "aws-credentials").write_text(f"[{name}]\n{lines}")


def test_credentials_from_a_profile(server: Server, environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_profile(environment, "media", aws_access_key_id=KEY, aws_secret_access_key=SECRET)
    (environment / "aws-config").write_text(f"[profile media]\nregion = us-east-1\nendpoint_url = {server.url}\n")
    with Reading(S3Provider, profile="media") as s3:
        assert s3.get("s3://private/a/1.jpg").status == 200
    monkeypatch.setenv("AWS_PROFILE", "media")
    with Reading(S3Provider) as s3:
        assert s3.get("s3://private/a/1.jpg").status == 200


def test_an_unknown_profile_is_named(server: Server) -> None:
    with reading(server, profile="nobody") as s3, pytest.raises(errors.CredentialsError, match="nobody"):
        s3.get("s3://private/a/1.jpg")


def test_unknown_options_are_a_configuration_error(server: Server) -> None:
    with (
        reading(server, client_kwargs={"nonsense": 1}) as s3,
        pytest.raises(errors.ConfigError, match="nonsense"),
    ):
        s3.get("s3://private/a/1.jpg")


def test_an_expired_token_makes_the_credentials_be_read_again(server: Server, environment: Path) -> None:
    session = {"aws_access_key_id": SESSION_KEY, "aws_secret_access_key": SESSION_SECRET}
    write_profile(environment, "media", **session, aws_session_token="old")
    with Reading(S3Provider, profile="media", endpoint_url=server.url) as s3:
        s3.request("s3://private/a/1.jpg")
        write_profile(environment, "media", **session, aws_session_token=SESSION_TOKEN)
        assert {answer.status for answer in s3.get_together(["s3://private/a/1.jpg"] * 5)} == {200}


def test_an_expired_token_that_nothing_replaces_is_tried_once(server: Server) -> None:
    with reading(server, key=SESSION_KEY, secret=SESSION_SECRET, token="old") as s3:
        assert s3.get("s3://private/a/1.jpg").status == 400
        assert [request.status for request in server.requests() if request.method == "GET"] == [400]
        with pytest.raises(errors.CredentialsError, match=r"InvalidToken.*check the credentials for S3") as caught:
            s3.pages("s3://private/")
        assert "old" not in str(caught.value)


def temporary(key: str, secret: str, token: str, seconds: int) -> dict[str, str]:
    expiry = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return {
        "AccessKeyId": key,
        "SecretAccessKey": secret,
        "Token": token,
        "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def test_a_container_role_is_asked_again_before_its_credentials_expire(
    server: Server, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = temporary(SESSION_KEY, SESSION_SECRET, SESSION_TOKEN, 3600)
    with container_role([temporary("ASIAOLD", "old", "old", 300), good]) as (url, asked):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        with Reading(S3Provider, endpoint_url=server.url) as s3:
            assert {answer.status for answer in s3.get_together(["s3://private/a/1.jpg"] * 10)} == {200}
            assert len(asked) == 2
            signer = s3.signer("s3://private/a/1.jpg")
            assert signer.expires_at is not None
            assert 2600 < signer.expires_at - time.time() < 2800
            clock.move(2800)  # botocore is asked, by whose own clock nothing has to be renewed
            assert s3.get("s3://private/a/1.jpg").status == 200
            assert len(asked) == 2


def test_a_role_that_gives_nothing_is_a_credentials_error(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with container_role([404]) as (url, _):
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)
        with (
            Reading(S3Provider, endpoint_url=server.url) as s3,
            pytest.raises(errors.CredentialsError, match="S3 cannot be set up"),
        ):
            s3.get("s3://private/a/1.jpg")


def test_listings_are_paged_and_stop_where_the_reader_does(server: Server) -> None:
    server.seed("many", 2500, 1)
    with reading(server, client_kwargs={"region_name": "us-east-1"}) as s3:
        assert [len(page) for page in s3.pages("s3://many/", most=1)] == [1000]
        assert len(server.requests()) == 1
        server.reset()
        pages = s3.pages("s3://many/")
        assert [len(page) for page in pages] == [1000, 1000, 500]
        assert len(server.requests()) == 3
        assert len({entry.path for page in pages for entry in page}) == 2500
        assert [len(page) for page in s3.pages("s3://many/", page_size=10, most=2)] == [10, 10]
        assert [len(page) for page in s3.pages("s3://many/d001/o0011", page_size=99)] == [99, 1]


def test_listings_tell_size_time_and_etag(server: Server) -> None:
    server.put("told", "a/1.jpg", DATA)
    server.put("told", "a/b/2.jpg", DATA)
    server.put("told", "a/folder/", b"")
    with reading(server) as s3:
        (page,) = s3.pages("s3a://told/a/")
        assert [entry.url for entry in page] == ["s3a://told/a/1.jpg", "s3a://told/a/b/2.jpg"]
        info = page[0].info
        answer = s3.get("s3a://told/a/1.jpg")
        assert (info.size, info.etag, info.mime_type) == (len(DATA), answer.headers["ETag"].strip('"'), None)
        written = datetime.datetime.strptime(info.last_modified or "", "%Y-%m-%dT%H:%M:%SZ")
        assert abs(written.replace(tzinfo=datetime.UTC).timestamp() - time.time()) < 60
        (page,) = s3.pages("s3://told/a/", recursive=False)
        assert [entry.path for entry in page] == ["a/1.jpg"]
        (page,) = s3.pages("s3://told")
        assert [entry.url for entry in page] == ["s3://told/a/1.jpg", "s3://told/a/b/2.jpg"]


def test_listing_errors_say_what_happened(server: Server) -> None:
    with (
        reading(server) as s3,
        pytest.raises(errors.NotFound, match=r"cannot list s3://nowhere/x: 404 Not Found \(NoSuchBucket\)"),
    ):
        s3.pages("s3://nowhere/x")
    wrong = reading(server, secret="wrong")
    with wrong as s3, pytest.raises(errors.CredentialsError, match="SignatureDoesNotMatch"):
        s3.pages("s3://private/")
    with (
        reading(server, endpoint_url="http://127.0.0.1:1") as s3,
        pytest.raises(errors.TransientError, match=r"cannot list s3://private/: .* \(after 4 attempts\)"),
    ):
        s3.pages("s3://private/")


def test_a_provider_can_be_used_again_after_it_was_closed(server: Server) -> None:
    with reading(server) as s3:
        for _ in range(2):
            assert s3.get("s3://private/a/1.jpg").status == 200
            assert len(s3.pages("s3://private/")) == 1
            s3.run(s3.provider.close())


def on_aws(monkeypatch: pytest.MonkeyPatch, region: str, **options: Any) -> Reading:
    """A provider for AWS itself, whose buckets say that they are in `region`."""
    asked: list[str] = []

    async def send(self: Client, request: Request, method: str = "GET", *, seconds: float = 60) -> Response:
        asked.append(request.url)
        assert not request.headers
        assert len(asked) == 1
        return Response(403, Headers({"x-amz-bucket-region": region}), Exchange(request.url, {}))

    monkeypatch.setattr(Client, "send", send)
    return Reading(S3Provider, **{"key": KEY, "secret": SECRET, **options})


@pytest.mark.parametrize(
    ("bucket", "region", "options", "expected"),
    [
        ("photos", "eu-west-1", {}, "https://photos.s3.eu-west-1.amazonaws.com/k%20y"),
        ("my.photos", "eu-west-1", {}, "https://s3.eu-west-1.amazonaws.com/my.photos/k%20y"),
        ("Photos", "us-east-1", {}, "https://s3.us-east-1.amazonaws.com/Photos/k%20y"),
        (
            "photos",
            "us-east-2",
            {"config_kwargs": {"s3": {"addressing_style": "path"}}},
            "https://s3.us-east-2.amazonaws.com/photos/k%20y",
        ),
        (
            "photos",
            "us-east-2",
            {"config_kwargs": {"s3": {"use_dualstack_endpoint": True}}},
            "https://photos.s3.dualstack.us-east-2.amazonaws.com/k%20y",
        ),
        (
            "photos",
            "cn-northwest-1",
            {"client_kwargs": {"region_name": "cn-north-1"}},
            "https://photos.s3.cn-northwest-1.amazonaws.com.cn/k%20y",
        ),
        ("photos", "eu-west-1", {"anon": True}, "https://photos.s3.eu-west-1.amazonaws.com/k%20y"),
    ],
)
def test_addresses_on_aws(
    monkeypatch: pytest.MonkeyPatch, bucket: str, region: str, options: dict[str, Any], expected: str
) -> None:
    with on_aws(monkeypatch, region, **options) as s3:
        request = s3.request(f"s3://{bucket}/k y")
        assert request.url == expected
        assert s3.presign(f"s3://{bucket}/k y", 60).partition("?")[0] == expected
        if not options.get("anon"):
            assert f"/{region}/s3/aws4_request" in request.headers["authorization"]


def test_virtual_hosts_on_another_endpoint_when_asked_for() -> None:
    style = {"s3": {"addressing_style": "virtual"}}
    with Reading(S3Provider, endpoint_url="https://Store.example:443", anon=True, config_kwargs=style) as s3:
        assert s3.request("s3://photos/k").url == "https://photos.store.example/k"


def test_the_requester_pays_when_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    with on_aws(monkeypatch, "us-east-1", requester_pays=True) as s3:
        headers = s3.request("s3://photos/k").headers
        assert headers["x-amz-request-payer"] == "requester"
        assert "x-amz-request-payer" in headers["authorization"]
        assert "&x-amz-request-payer=requester&" in s3.presign("s3://photos/k", 60)


@pytest.mark.parametrize("bucket", ["evil.example#", "a?b", "u@evil.example", "..", ".", "a\\b", "é", "a%2Fb", ""])
def test_what_is_no_bucket_name_reaches_no_host(server: Server, bucket: str) -> None:
    with reading(server) as s3:
        with pytest.raises(errors.NotFound):
            s3.request(f"s3://{bucket}/key")
        assert not server.requests()


def test_a_bucket_alone_is_no_object(server: Server) -> None:
    with reading(server) as s3, pytest.raises(errors.NotFound, match="no object"):
        s3.request("s3://private/")
