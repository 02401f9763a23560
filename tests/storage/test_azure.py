"""The Azure provider against Azurite, which checks SAS signatures."""

from __future__ import annotations

import datetime
import sys
import time
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential
from azure.core.exceptions import ClientAuthenticationError
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from mediasql import errors
from mediasql.storage.location import Location
from mediasql.storage.providers.azure import AzureProvider
from mediasql.storage.providers.base import Request
from mediasql.storage.transport.client import Client
from mediasql.storage.transport.exchange import Exchange, Headers, Response
from tests.clock import Clock
from tests.servers.azure import ACCOUNT, KEY, AzureServer
from tests.storage.reading import ODD_KEYS, Reading

DATA = bytes(range(256)) * 8
HOST = "someaccount.blob.core.windows.net"
SOME_KEY = "c29tZSBrZXk="


@pytest.fixture
def server(azure_server: AzureServer) -> AzureServer:
    azure_server.put("private", "a/1.jpg", DATA, "image/jpeg")
    azure_server.reset()
    return azure_server


def reading(server: AzureServer, **options: Any) -> Reading:
    return Reading(AzureProvider, **(options or server.storage_options["az"]))


def sas_token(seconds: int = 3600, permissions: str = "rl") -> str:
    return str(
        generate_container_sas(
            ACCOUNT,
            "private",
            KEY,
            permission=ContainerSasPermissions.from_string(permissions),
            expiry=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds),
        )
    )


def with_sas(server: AzureServer, token: str) -> str:
    return f"BlobEndpoint={server.endpoint};SharedAccessSignature={token}"


@pytest.mark.parametrize(
    "url",
    [
        "az://private/a/1.jpg",
        "abfs://private/a/1.jpg",
        f"abfss://private@{ACCOUNT}.dfs.core.windows.net/a/1.jpg",
        f"wasbs://private@{ACCOUNT}.blob.core.windows.net/a/1.jpg",
        f"wasb://private@{ACCOUNT}.blob.core.windows.net/a/1.jpg",
    ],
)
def test_a_private_blob_is_read_with_a_range(server: AzureServer, url: str) -> None:
    with reading(server) as azure:
        assert azure.fetch(f"{server.endpoint}/private/a/1.jpg").status in (403, 404)
        answer = azure.get(url, "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        assert azure.fetch(azure.presign(url, 60)).body == DATA
        assert azure.pages(url)[0][0].url == url


def test_a_presigned_url_needs_nothing_else(server: AzureServer) -> None:
    with reading(server) as azure:
        url = azure.presign("az://private/a/1.jpg", 3600)
        assert azure.fetch(url).body == DATA
        answer = azure.fetch(url, "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        start, signature = url.split("&sig=")
        assert azure.fetch(f"{start}&sig={'A' if signature[0] != 'A' else 'B'}{signature[1:]}").status == 403
        server.put("private", "a/2.jpg", DATA)
        assert azure.fetch(url.replace("a/1.jpg", "a/2.jpg")).status == 403
        assert azure.fetch(url.replace("sp=r&", "sp=rw&")).status == 403
        assert azure.fetch(url.replace("se=20", "se=21")).status == 403
        signer = azure.signer("az://private/a/1.jpg")
        assert (signer.expires_at, signer.max_seconds) == (None, None)
        short = azure.presign("az://private/a/1.jpg", 1)
        time.sleep(2.2)
        assert azure.fetch(short).status == 403


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_names_are_read_presigned_and_listed_exactly(server: AzureServer, key: str) -> None:
    server.put("odd-names", key, key.encode())
    with reading(server) as azure:
        assert azure.get(f"az://odd-names/{key}").body == key.encode()
        assert azure.fetch(azure.presign(f"az://odd-names/{key}", 60)).body == key.encode()
        entries = [entry for page in azure.pages(f"az://odd-names/{key}") for entry in page]
        assert [(entry.path, entry.url) for entry in entries] == [(key, f"az://odd-names/{key}")]


def test_our_own_token_is_kept_for_half_of_its_life(server: AzureServer, clock: Clock) -> None:
    with reading(server) as azure:
        first = azure.request("az://private/a/1.jpg")
        clock.move(1700)
        assert azure.request("az://private/a/1.jpg") == first
        clock.move(100)
        second = azure.request("az://private/a/1.jpg")
        assert expiry_of(second) - expiry_of(first) >= datetime.timedelta(seconds=1800)
        assert azure.get("az://private/a/1.jpg").status == 200


def expiry_of(request: Request) -> datetime.datetime:
    """When the token in the URL of a request expires."""
    return datetime.datetime.fromisoformat(dict(parse_qsl(urlsplit(request.url).query))["se"])


def test_options_by_account_key_from_the_environment(server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", server.connection_string)
    with Reading(AzureProvider) as azure:
        assert azure.get("az://private/a/1.jpg").status == 200
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "someaccount")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", SOME_KEY)
    with Reading(AzureProvider) as azure:
        assert azure.request("az://photos/a b").url.startswith(f"https://{HOST}/photos/a%20b?se=")
        assert "spr=https" in azure.presign("az://photos/a b", 60)


def test_options_from_the_variables_of_fsspec(server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    options = {"connection_string": server.connection_string}
    monkeypatch.setitem(fsspec.config.conf, "abfs", options)
    with Reading(AzureProvider) as azure:
        assert azure.get("az://private/a/1.jpg").status == 200


def test_a_named_key_credential_is_a_key(server: AzureServer) -> None:
    credential = AzureNamedKeyCredential("someaccount", SOME_KEY)
    with Reading(AzureProvider, account_name="someaccount", credential=credential) as azure:
        assert "&sig=" in azure.presign("az://photos/k", 60)


def test_a_given_sas_token_reads_lists_and_is_passed_on(server: AzureServer) -> None:
    token = sas_token()
    with reading(server, connection_string=with_sas(server, token)) as azure:
        assert azure.get("az://private/a/1.jpg", "10-19").body == DATA[10:20]
        assert [entry.path for entry in azure.pages("az://private/a/1")[0]] == ["a/1.jpg"]
        url = azure.presign("az://private/a/1.jpg", 60)
        assert url == f"{server.endpoint}/private/a/1.jpg?{token}"
        assert azure.fetch(url).status == 200
    with reading(server, connection_string=with_sas(server, sas_token(-60))) as azure:
        assert azure.get("az://private/a/1.jpg").status == 403
    with reading(server, connection_string=with_sas(server, sas_token(permissions="r"))) as azure:
        assert azure.get("az://private/a/1.jpg").status == 200
        with pytest.raises(errors.MediaError, match="cannot list az://private/: 403"):
            azure.pages("az://private/")


@pytest.mark.parametrize(
    "options",
    [
        {"sas_token": "sv=1&sig=a%2Bb"},
        {"sas_token": "?sv=1&sig=a%2Bb"},
        {"credential": AzureSasCredential("?sv=1&sig=a%2Bb")},
    ],
)
def test_a_sas_token_in_every_form(options: dict[str, Any]) -> None:
    with Reading(AzureProvider, account_name="someaccount", **options) as azure:
        expected = f"https://{HOST}/photos/a%20b?sv=1&sig=a%2Bb"
        assert azure.request("az://photos/a b").url == expected
        assert azure.presign("az://photos/a b", 60) == expected


def test_anonymous_when_asked_for() -> None:
    with Reading(AzureProvider, account_name="someaccount", anon=True) as azure:
        url = f"https://{HOST}/photos/a%20b"
        assert azure.request("az://photos/a b") == Request(url, {"x-ms-version": "2022-11-02"})
        assert azure.presign("az://photos/a b", 60) == url


def test_anonymous_when_there_is_nothing_else(capfd: pytest.CaptureFixture[str]) -> None:
    with Reading(AzureProvider) as azure:
        request = azure.request("abfss://photos@someaccount.dfs.core.windows.net/a")
        assert request == Request(f"https://{HOST}/photos/a", {"x-ms-version": "2022-11-02"})
        assert azure.presign("abfss://photos@someaccount.dfs.core.windows.net/a", 60) == request.url
    assert not capfd.readouterr().err


def test_a_public_container_needs_no_credentials(server: AzureServer) -> None:
    from azure.storage.blob import BlobServiceClient, PublicAccess

    with BlobServiceClient.from_connection_string(server.connection_string) as client:
        container = client.get_container_client("public-photos")
        if not container.exists():
            container.create_container(public_access=PublicAccess.CONTAINER)
        container.upload_blob("a/1.jpg", DATA, overwrite=True)
    with reading(server, connection_string=f"BlobEndpoint={server.endpoint}") as azure:
        assert azure.get("az://public-photos/a/1.jpg").body == DATA
        assert azure.fetch(azure.presign("az://public-photos/a/1.jpg", 60)).body == DATA
        assert [entry.path for entry in azure.pages("az://public-photos/")[0]] == ["a/1.jpg"]
        assert azure.get("az://private/a/1.jpg").status in (401, 403, 404)


class Credential:
    """What azure-identity's credentials look like."""

    def __init__(self, *tokens: AccessToken) -> None:
        self.tokens = list(tokens)
        self.asked = 0

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        self.asked += 1
        if not self.tokens:
            raise ClientAuthenticationError("AADSTS7000215: invalid client")
        return self.tokens.pop(0)


class AsyncCredential(Credential):
    async def get_token(self, *scopes: str, **_: Any) -> AccessToken:  # type: ignore[override]
        return super().get_token(*scopes)


def token(name: str, seconds: int = 3600) -> AccessToken:
    return AccessToken(name, int(time.time()) + seconds)


@pytest.mark.parametrize("kind", [Credential, AsyncCredential])
def test_bearer_tokens_are_renewed_before_they_expire(kind: type[Credential], clock: Clock) -> None:
    credential = kind(token("one", 200), token("two"))
    with Reading(AzureProvider, account_name="someaccount", credential=credential) as azure:
        request = azure.request("az://photos/k")
        assert request.headers == {"Authorization": "Bearer one", "x-ms-version": "2022-11-02"}
        assert azure.request("az://photos/k") == request
        for _ in range(2):
            clock.move(10)
            assert azure.request("az://photos/k").headers["Authorization"] == "Bearer two"
        assert credential.asked == 2


def test_a_bearer_token_that_cannot_be_renewed_is_used_to_its_end(clock: Clock) -> None:
    credential = Credential(token("one", 200))
    with Reading(AzureProvider, account_name="someaccount", credential=credential) as azure:
        for _ in range(2):
            clock.move(10)
            assert azure.request("az://photos/k").headers["Authorization"] == "Bearer one"
        assert credential.asked == 2


def test_a_refused_bearer_token_is_replaced() -> None:
    credential = Credential(token("one"), token("two"))
    with Reading(AzureProvider, account_name="someaccount", credential=credential) as azure:
        location = Location.parse("az://photos/k")
        azure.request(location.url)
        assert azure.run(azure.provider.recover(location, 401, {}, b"")) is True
        assert azure.request(location.url).headers["Authorization"] == "Bearer two"
        assert azure.run(azure.provider.recover(location, 404, {}, b"")) is False


def test_credentials_that_are_refused_are_an_error() -> None:
    with (
        Reading(AzureProvider, account_name="someaccount", credential=Credential()) as azure,
        pytest.raises(errors.CredentialsError, match="Azure refuses the credentials: AADSTS7000215"),
    ):
        azure.request("az://photos/k")


DELEGATION = (
    b"<?xml version='1.0'?><UserDelegationKey><SignedOid>o</SignedOid><SignedTid>t</SignedTid>"
    b"<SignedStart>2026-11-23T17:00:00Z</SignedStart><SignedExpiry>2026-11-30T17:00:00Z</SignedExpiry>"
    b"<SignedService>b</SignedService><SignedVersion>2022-11-02</SignedVersion><Value>c29tZSBrZXk=</Value>"
    b"</UserDelegationKey>"
)


def delegation(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes) -> list[tuple[str, bytes]]:
    """Answers "Get User Delegation Key", which Azurite offers over HTTPS only."""
    asked: list[tuple[str, bytes]] = []

    async def send(self: Client, request: Request, method: str = "GET", data: bytes | None = None) -> Response:
        assert (method, request.headers["Authorization"]) == ("POST", "Bearer one")
        asked.append((request.url, data or b""))
        response = Response(status, Headers(), Exchange(request.url, {}))
        response.feed(body)
        response.finish(ended=True)
        return response

    monkeypatch.setattr(Client, "send", send)
    return asked


def test_a_credential_signs_with_a_user_delegation_key(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = delegation(monkeypatch, 200, DELEGATION)
    credential = Credential(token("one", 86400))
    with Reading(AzureProvider, account_name="someaccount", credential=credential) as azure:
        for container in ("photos", "videos"):
            signer = azure.signer(f"az://{container}/k")
            assert signer.max_seconds == 604800
            assert signer.expires_at is not None
            assert 3500 < signer.expires_at - time.time() <= 3600
            url = signer.sign("a b", 60)
            assert url.startswith(f"https://{HOST}/{container}/a%20b?se=")
            assert "&skoid=o&sktid=t&" in url
        ((url, body),) = asked
        assert url == f"https://{HOST}/?restype=service&comp=userdelegationkey"
        assert body.startswith(b"<KeyInfo><Start>20")


def test_a_credential_that_may_not_sign_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    delegation(monkeypatch, 403, b"<Error><Code>AuthorizationPermissionMismatch</Code></Error>")
    credential = Credential(token("one"))
    with (
        Reading(AzureProvider, account_name="someaccount", credential=credential) as azure,
        pytest.raises(errors.CredentialsError, match=r"Mismatch: .* role Storage Blob Delegator"),
    ):
        azure.signer("az://photos/k")


def test_keys_are_not_used_for_another_account() -> None:
    with Reading(AzureProvider, account_name="someaccount", account_key=SOME_KEY) as azure:
        url = "abfss://photos@elsewhere.dfs.core.windows.net/k"
        assert azure.request(url).url == "https://elsewhere.blob.core.windows.net/photos/k"
        with pytest.raises(errors.Forbidden, match=r"'evil\.example' is no host of Azure Blob Storage"):
            azure.request("abfss://photos@evil.example/k")


@pytest.mark.parametrize("host", ["evil.example", "a.blob.core.windows.net.evil.example", "u@evil.example"])
@pytest.mark.parametrize(
    ("options", "refusal"), [({"account_name": "someaccount"}, errors.Forbidden), ({}, errors.CredentialsError)]
)
def test_tokens_go_to_no_other_host(host: str, options: dict[str, str], refusal: type[Exception]) -> None:
    credential = Credential(token("one"))
    with Reading(AzureProvider, credential=credential, **options) as azure:
        with pytest.raises(refusal):
            azure.request(f"abfss://photos@{host}/k")
        assert not credential.asked


def test_a_container_without_an_account_says_what_is_missing() -> None:
    with Reading(AzureProvider) as azure, pytest.raises(errors.CredentialsError, match="account_name"):
        azure.request("az://photos/k")


def test_without_adlfs_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adlfs", None)
    with (
        Reading(AzureProvider) as azure,
        pytest.raises(errors.MissingExtra, match=r"pip install 'mediasql\[azure\]'"),
    ):
        azure.request("az://photos/k")


@pytest.mark.parametrize("url", ["az://", "az://photos", "az://photos/", "az://../k", "az://Photos?/k", "az://é/k"])
def test_what_names_no_blob_is_not_found(server: AzureServer, url: str) -> None:
    with reading(server) as azure, pytest.raises(errors.NotFound):
        azure.request(url)


def test_listings_are_paged_and_stop_where_the_reader_does(server: AzureServer) -> None:
    for number in range(25):
        server.put("many", f"o{number:03d}.jpg", b"x")
    server.reset()
    with reading(server) as azure:
        assert [len(page) for page in azure.pages("az://many/", page_size=10, most=1)] == [10]
        assert len(server.requests()) == 1
        server.reset()
        pages = azure.pages("az://many/", page_size=10)
        assert [len(page) for page in pages] == [10, 10, 5]
        assert len(server.requests()) == 3
        assert len({entry.path for page in pages for entry in page}) == 25


def test_the_sub_prefixes_of_a_long_listing_are_listed_at_the_same_time(
    server: AzureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mediasql.storage.providers.cloud.FULL", 10)
    keys = [f"d/{day} é/{number}.jpg" for day in range(6) for number in range(15)] + ["d/a.jpg", "d/z.jpg"]
    for key in keys:
        server.put("long", key, b"x")
    server.reset()
    with reading(server) as azure:
        pages = azure.pages("az://long/d/", page_size=10)
    assert sorted(entry.path for page in pages for entry in page) == sorted(keys)
    asked = [parse_qs(request.query) for request in server.requests() if "comp=list" in request.query]
    assert {query["prefix"][0] for query in asked} == {"d/", *(f"d/{day} é/" for day in range(6))}
    assert len([query for query in asked if "delimiter" in query]) == 1


def test_listings_tell_what_reading_tells(server: AzureServer) -> None:
    server.put("told", "a/1.jpg", DATA, "image/jpeg")
    server.put("told", "a/b/2.jpg", DATA)
    server.put("told", "a/folder/", b"")
    with reading(server) as azure:
        (page,) = azure.pages("az://told/a/")
        assert [entry.url for entry in page] == ["az://told/a/1.jpg", "az://told/a/b/2.jpg"]
        info = page[0].info
        headers = azure.get("az://told/a/1.jpg").headers
        assert (info.size, info.etag, info.mime_type) == (len(DATA), headers["ETag"].strip('"'), "image/jpeg")
        written = datetime.datetime.strptime(info.last_modified or "", "%Y-%m-%dT%H:%M:%SZ")
        assert abs(written.replace(tzinfo=datetime.UTC).timestamp() - time.time()) < 60
        (page,) = azure.pages("az://told/a/", recursive=False)
        assert [entry.path for entry in page] == ["a/1.jpg"]
        (page,) = azure.pages("az://told")
        assert [entry.url for entry in page] == ["az://told/a/1.jpg", "az://told/a/b/2.jpg"]


def test_listing_errors_say_what_happened(server: AzureServer) -> None:
    with reading(server) as azure, pytest.raises(errors.NotFound, match=r"az://nowhere/x: 404 .*NotFound"):
        azure.pages("az://nowhere/x")
    wrong = server.connection_string.replace(KEY, SOME_KEY)
    with (
        reading(server, connection_string=wrong) as azure,
        pytest.raises(errors.Forbidden, match="need the permission to list"),
    ):
        azure.pages("az://private/")


def test_a_provider_can_be_used_again_after_it_was_closed(server: AzureServer) -> None:
    with reading(server) as azure:
        for _ in range(2):
            assert azure.get("az://private/a/1.jpg").status == 200
            assert len(azure.pages("az://private/")) == 1
            azure.run(azure.provider.close())
