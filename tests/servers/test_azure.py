from __future__ import annotations

import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

import adlfs
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from tests.servers import azure
from tests.servers.azure import AzureServer
from tests.servers.server import fetch

BODY = bytes(range(256)) * 4
NAME = "a/x y+ü.bin"


@pytest.fixture
def server(azure_server: AzureServer) -> AzureServer:
    azure_server.put("private", NAME, BODY, "image/jpeg")
    azure_server.reset()
    return azure_server


def signed(server: AzureServer, seconds: int = 60, key: str | None = None, **permission: bool) -> str:
    token = generate_blob_sas(
        server.account,
        "private",
        NAME,
        account_key=key or server.key,
        permission=BlobSasPermissions(**(permission or {"read": True})),
        expiry=datetime.now(UTC) + timedelta(seconds=seconds),
    )
    return f"{server.endpoint}/private/{urllib.parse.quote(NAME)}?{token}"


def test_the_account_key_opens(server: AzureServer) -> None:
    service = BlobServiceClient.from_connection_string(server.connection_string, retry_total=0)
    blob = service.get_blob_client("private", NAME)
    assert blob.download_blob().readall() == BODY
    assert blob.get_blob_properties().content_settings.content_type == "image/jpeg"


def test_another_key_does_not(server: AzureServer) -> None:
    wrong: Any = {"account_name": server.account, "account_key": "AAAA" + server.key[4:]}
    service = BlobServiceClient(server.endpoint, credential=wrong, retry_total=0)
    with pytest.raises(HttpResponseError) as caught:
        service.get_blob_client("private", NAME).download_blob()
    assert caught.value.status_code == 403


def test_shared_access_signatures(server: AzureServer) -> None:
    part = fetch(signed(server), headers={"Range": "bytes=10-19"})
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, BODY[10:20], "bytes 10-19/1024")
    refused = [
        f"{server.endpoint}/private/{urllib.parse.quote(NAME)}",
        signed(server).replace("sig=", "sig=AA"),
        signed(server, key="AAAA" + server.key[4:]),
        signed(server, seconds=-5),
        signed(server, write=True),
    ]
    assert [fetch(url).status for url in refused] == [403] * len(refused)


def test_adlfs_works(server: AzureServer) -> None:
    files = adlfs.AzureBlobFileSystem(**server.storage_options["az"], skip_instance_cache=True)
    assert files.find("private") == [f"private/{NAME}"]
    assert files.cat_file(f"private/{NAME}", start=5, end=25) == BODY[5:25]


def test_requests_are_logged(server: AzureServer) -> None:
    fetch(signed(server), headers={"Range": "bytes=10-19"})
    (request,) = server.requests()
    assert (request.method, request.status, request.bytes, request.range) == ("GET", 206, 10, "bytes=10-19")


def test_a_proxy_in_the_environment_is_not_asked_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with azure.start() as server:
        server.put("private", NAME, BODY)
        assert fetch(signed(server)).body == BODY
