"""The GCS provider against a server that checks tokens and V4 signatures."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth import impersonated_credentials
from google.oauth2.credentials import Credentials

from mediasql import errors
from mediasql.storage.providers.base import Request
from mediasql.storage.providers.gcs import GcsProvider
from tests.clock import Clock
from tests.servers.gcs import GcsServer
from tests.servers.gcs_identity import EMAIL, EXPIRED_TOKEN, TOKEN
from tests.servers.process import ROOT
from tests.servers.server import Server
from tests.storage.metadata import metadata_server
from tests.storage.reading import ODD_KEYS, Reading, tampered
from tests.waiting import soon

DATA = bytes(range(256)) * 8


@pytest.fixture
def server(gcs_server: GcsServer) -> GcsServer:
    for bucket in ("private", "public-photos"):
        gcs_server.put(bucket, "a/1.jpg", DATA, "image/jpeg")
    gcs_server.reset()
    return gcs_server


def reading(server: GcsServer, **options: Any) -> Reading:
    return Reading(GcsProvider, **{"token": server.service_account, "endpoint_url": server.url, **options})


def tokens_issued(server: GcsServer) -> int:
    return sum(request.path == "/token" for request in server.requests())


def test_a_private_object_is_read_with_a_range(server: GcsServer) -> None:
    with reading(server) as gcs:
        assert gcs.fetch(f"{server.url}/private/a/1.jpg").status == 403
        answer = gcs.get("gs://private/a/1.jpg", "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        assert gcs.get("gcs://private/a/1.jpg").body == DATA
        assert tokens_issued(server) == 1


def test_a_token_is_fetched_once(server: GcsServer, clock: Clock) -> None:
    with reading(server) as gcs:
        for _ in range(2):
            assert {answer.status for answer in gcs.get_together(["gs://private/a/1.jpg"] * 20)} == {200}
            assert tokens_issued(server) == 1
            clock.move(3000)


def with_token(server: GcsServer, token: str, seconds: int) -> Credentials:
    """A user's credentials, which can be renewed, with a token that expires in so many seconds."""
    credentials = server.user()
    credentials.token = token
    credentials.expiry = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)
    return credentials


def test_a_token_is_renewed_once_before_it_expires(server: GcsServer) -> None:
    with reading(server, token=with_token(server, TOKEN, 120)) as gcs:
        assert {answer.status for answer in gcs.get_together(["gs://private/a/1.jpg"] * 20)} == {200}
        assert gcs.request("gs://private/a/1.jpg").headers["authorization"] != f"Bearer {TOKEN}"
        assert tokens_issued(server) == 1


def test_a_token_that_cannot_be_renewed_is_used_to_its_end(server: GcsServer) -> None:
    soon = datetime.datetime.now(datetime.UTC).replace(tzinfo=None) + datetime.timedelta(seconds=60)
    with reading(server, token=Credentials(TOKEN, expiry=soon)) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 200
    past = soon - datetime.timedelta(seconds=120)
    expired = reading(server, token=Credentials(TOKEN, expiry=past))
    with expired as gcs, pytest.raises(errors.CredentialsError, match="Google refuses the credentials"):
        gcs.get("gs://private/a/1.jpg")


def test_a_refused_token_is_replaced(server: GcsServer) -> None:
    with reading(server, token=with_token(server, EXPIRED_TOKEN, 3600)) as gcs:
        assert {answer.status for answer in gcs.get_together(["gs://private/a/1.jpg"] * 5)} == {200}
        assert tokens_issued(server) == 1


def test_a_refused_token_that_nothing_replaces_is_tried_once(server: GcsServer) -> None:
    with reading(server, token=Credentials(EXPIRED_TOKEN)) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 401
        assert len(server.requests()) == 1
        with pytest.raises(errors.CredentialsError, match=r"cannot list gs://private/: 401 Unauthorized"):
            gcs.pages("gs://private/")


def test_a_signed_url_needs_nothing_else(server: GcsServer) -> None:
    with reading(server) as gcs:
        url = gcs.presign("gs://private/a/1.jpg", 3600)
        assert gcs.fetch(url).body == DATA
        answer = gcs.fetch(url, "10-19")
        assert (answer.status, answer.body) == (206, DATA[10:20])
        assert gcs.fetch(tampered(url)).status == 403
        assert gcs.fetch(url.replace("a/1.jpg", "a/2.jpg")).status == 403
        assert gcs.fetch(url.replace("Expires=3600", "Expires=7200")).status == 403
        signer = gcs.signer("gs://private/a/1.jpg")
        assert (signer.expires_at, signer.max_seconds) == (None, 604800)
        short = gcs.presign("gs://private/a/1.jpg", 1)
        time.sleep(2.1)
        assert gcs.fetch(short).status == 400


@pytest.mark.parametrize("key", ODD_KEYS)
def test_odd_names_are_read_signed_and_listed_exactly(server: GcsServer, key: str) -> None:
    server.put("odd", key, key.encode())
    with reading(server) as gcs:
        assert gcs.get(f"gs://odd/{key}").body == key.encode()
        assert gcs.fetch(gcs.presign(f"gs://odd/{key}", 60)).body == key.encode()
        entries = [entry for page in gcs.pages(f"gs://odd/{key}") for entry in page]
        assert [(entry.path, entry.url) for entry in entries] == [(key, f"gs://odd/{key}")]


def test_without_credentials_requests_are_anonymous(server: GcsServer) -> None:
    with Reading(GcsProvider, endpoint_url=server.url) as gcs:
        expected = f"{server.url}/download/storage/v1/b/public-photos/o/a%2Fb%20c.jpg?alt=media"
        assert gcs.request("gs://public-photos/a/b c.jpg") == Request(expected)
        assert gcs.get("gs://public-photos/a/1.jpg").body == DATA
        assert gcs.get("gs://private/a/1.jpg").status == 401
        assert gcs.fetch(gcs.presign("gs://public-photos/a/1.jpg", 60)).body == DATA
        assert [entry.path for entry in gcs.pages("gs://public-photos/")[0]] == ["a/1.jpg"]


def test_anonymous_urls_are_those_of_google(server: GcsServer) -> None:
    with Reading(GcsProvider, token="anon") as gcs:
        assert gcs.presign("gs://b/a/b c.jpg", 60) == "https://storage.googleapis.com/b/a/b%20c.jpg"
        url = "https://storage.googleapis.com/download/storage/v1/b/b/o/a%2Fb%20c.jpg?alt=media"
        assert gcs.request("gs://b/a/b c.jpg") == Request(url)


def test_no_metadata_server_costs_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_GCE_CHECK")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    with Reading(GcsProvider) as gcs, soon():
        assert not gcs.request("gs://b/k").headers


def test_credentials_from_the_environment(server: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "credentials.json"
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    path.write_text(json.dumps(server.service_account))
    for options in ({}, {"token": str(path)}):
        with Reading(GcsProvider, **options) as gcs:
            assert gcs.get("gs://private/a/1.jpg").status == 200
    path.write_text("{}")
    with Reading(GcsProvider) as gcs, pytest.raises(errors.CredentialsError, match=r"credentials\.json"):
        gcs.get("gs://private/a/1.jpg")


def test_credentials_of_gcloud(server: GcsServer, environment: Path) -> None:
    folder = environment / ".config/gcloud"
    folder.mkdir(parents=True)
    (folder / "application_default_credentials.json").write_text(json.dumps(server.service_account))
    with Reading(GcsProvider, endpoint_url=server.url) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 200


def test_options_from_the_variables_of_fsspec(server: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec.config

    options = {"token": server.service_account, "endpoint_url": server.url}
    monkeypatch.setitem(fsspec.config.conf, "gs", options)
    with Reading(GcsProvider) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 200


def test_unknown_options_are_a_configuration_error(server: GcsServer) -> None:
    with (
        reading(server, access="all") as gcs,
        pytest.raises(errors.ConfigError, match="access must be one of"),
    ):
        gcs.get("gs://private/a/1.jpg")


def test_user_credentials_cannot_sign_and_say_what_could(server: GcsServer) -> None:
    with reading(server, token=server.user()) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 200
        with pytest.raises(errors.CredentialsError, match=r"iam\.serviceAccounts\.signBlob"):
            gcs.presign("gs://private/a/1.jpg", 60)


@contextmanager
def iam_at(url: str) -> Iterator[None]:
    """What google-auth sends to IAM goes to a server of ours."""
    real = requests.Session.request

    def request(session: requests.Session, method: str, address: str, *args: Any, **kwargs: Any) -> requests.Response:
        return real(session, method, address.replace("https://iamcredentials.googleapis.com", url), *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "request", request)
        yield


def signatures_asked(server: GcsServer) -> int:
    return sum(request.path.endswith(":signBlob") for request in server.requests())


def impersonating(email: str) -> Any:
    return impersonated_credentials.Credentials(Credentials(TOKEN), email, ["devstorage.read_only"])


def test_impersonated_accounts_sign_through_iam(server: GcsServer) -> None:
    with iam_at(server.url), reading(server, token=impersonating(EMAIL)) as gcs:
        signer = gcs.signer("gs://private/a/1.jpg")
        assert signer.max_seconds == 43200
        assert gcs.fetch(signer.sign("a/1.jpg", 600)).body == DATA
        for _ in range(5):
            assert signer.sign("a/1.jpg", 600)
        assert signatures_asked(server) == 2  # whether it can sign at all, and the URL


def test_missing_permission_to_sign_is_named(server: GcsServer) -> None:
    other = reading(server, token=impersonating("other@test-project.iam.gserviceaccount.com"))
    expected = r"as other@test-project\.iam.* needs the permission iam\.serviceAccounts\.signBlob"
    with iam_at(server.url), other as gcs, pytest.raises(errors.CredentialsError, match=expected):
        gcs.signer("gs://private/a/1.jpg")


def read_on_google(url: str) -> None:
    with iam_at(url), Reading(GcsProvider, endpoint_url=url) as gcs:
        assert gcs.get("gs://private/a/1.jpg").status == 200
        assert gcs.fetch(gcs.presign("gs://private/a/1.jpg", 600)).body == DATA
    print("it was read and presigned")


def test_on_google_the_metadata_server_gives_tokens_and_iam_signs(
    server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with metadata_server(EMAIL, TOKEN) as (host, asked):
        monkeypatch.delenv("NO_GCE_CHECK")
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        monkeypatch.setenv("GCE_METADATA_IP", host)
        # In a process of its own, since google-auth reads the variables when it is imported.
        code = f"from tests.storage.test_gcs import read_on_google; read_on_google({server.url!r})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "it was read and presigned\n"), done.stderr
        assert any(path.startswith("/computeMetadata/v1/instance/service-accounts/") for path in asked)


def test_the_requester_pays_when_asked_to(server: GcsServer) -> None:
    with reading(server, requester_pays="who-pays") as gcs:
        assert gcs.request("gs://private/a/1.jpg").headers["x-goog-user-project"] == "who-pays"
        url = gcs.presign("gs://private/a/1.jpg", 60)
        assert "&userProject=who-pays&" in url
        assert gcs.fetch(url).status == 200
    with reading(server, requester_pays=True, project="test-project") as gcs:
        assert gcs.request("gs://private/a/1.jpg").headers["x-goog-user-project"] == "test-project"


def test_listings_are_paged_and_stop_where_the_reader_does(server: GcsServer) -> None:
    server.seed("many", 2500, 1)
    with reading(server, token=Credentials(TOKEN)) as gcs:
        assert [len(page) for page in gcs.pages("gs://many/", most=1)] == [1000]
        assert len(server.requests()) == 1
        server.reset()
        pages = gcs.pages("gs://many/")
        assert [len(page) for page in pages] == [1000, 1000, 500]
        assert len(server.requests()) == 3
        assert len({entry.path for page in pages for entry in page}) == 2500
        assert [len(page) for page in gcs.pages("gs://many/d001/o0011", page_size=99)] == [99, 1]


def test_listings_tell_what_reading_tells(server: GcsServer) -> None:
    server.put("told", "a/1.jpg", DATA, "image/jpeg")
    server.put("told", "a/b/2.jpg", DATA)
    server.put("told", "a/folder/", b"")
    with reading(server) as gcs:
        (page,) = gcs.pages("gcs://told/a/")
        assert [entry.url for entry in page] == ["gcs://told/a/1.jpg", "gcs://told/a/b/2.jpg"]
        info = page[0].info
        headers = gcs.get("gs://told/a/1.jpg").headers
        assert (info.size, info.etag, info.mime_type) == (len(DATA), headers["ETag"], "image/jpeg")
        written = datetime.datetime.strptime(info.last_modified or "", "%Y-%m-%dT%H:%M:%SZ")
        assert abs(written.replace(tzinfo=datetime.UTC).timestamp() - time.time()) < 60
        (page,) = gcs.pages("gs://told/a/", recursive=False)
        assert [entry.path for entry in page] == ["a/1.jpg"]
        (page,) = gcs.pages("gs://told")
        assert [entry.url for entry in page] == ["gs://told/a/1.jpg", "gs://told/a/b/2.jpg"]


def test_listing_errors_say_what_happened(server: GcsServer) -> None:
    with reading(server) as gcs, pytest.raises(errors.NotFound, match=r"cannot list gs://nowhere/x: 404"):
        gcs.pages("gs://nowhere/x")
    dead = reading(server, token=Credentials(TOKEN), endpoint_url="http://127.0.0.1:1")
    with dead as gcs, pytest.raises(errors.TransientError, match=r"cannot list gs://private/: .* 4 attempts"):
        gcs.pages("gs://private/")


def test_another_emulator_is_read_and_listed(gcs_emulator: Server) -> None:
    gcs_emulator.put("photos", "a/1 2.jpg", DATA, "image/jpeg")
    with Reading(GcsProvider, **gcs_emulator.storage_options["gs"]) as gcs:
        assert gcs.get("gs://photos/a/1 2.jpg", "10-19").body == DATA[10:20]
        assert [entry.path for entry in gcs.pages("gs://photos/a/")[0]] == ["a/1 2.jpg"]


def test_a_provider_can_be_used_again_after_it_was_closed(server: GcsServer) -> None:
    with reading(server) as gcs:
        for _ in range(2):
            assert gcs.get("gs://private/a/1.jpg").status == 200
            assert len(gcs.pages("gs://private/")) == 1
            gcs.run(gcs.provider.close())


@pytest.mark.parametrize("url", ["gs://", "gs://b", "gs://b/", "gs://../b/k", "gs:///k"])
def test_what_names_no_object_is_not_found(server: GcsServer, url: str) -> None:
    with reading(server) as gcs, pytest.raises(errors.NotFound):
        gcs.request(url)
