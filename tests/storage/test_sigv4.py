"""Our Signature V4 against botocore's, for keys, tokens, regions and expiries that hypothesis makes up."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.signing.sigv4 import HeaderSigner, Keys, QuerySigner, encode_path, encode_query

NOW = 1795456252  # 2026-11-23T17:50:52Z

paths = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
secrets = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S"]), min_size=1, max_size=60)
access_keys = st.from_regex(r"[A-Z0-9]{16,20}", fullmatch=True)
tokens = st.none() | st.text("ABCxyz019+/=", min_size=1, max_size=400)
regions = st.sampled_from(["us-east-1", "eu-central-1", "ap-southeast-4", "auto", "cn-north-1"])
hosts = st.sampled_from(["bucket.s3.us-east-1.amazonaws.com", "127.0.0.1:9000", "minio.example"])
moments = st.integers(0, 4102444800)
credentials = st.builds(Keys, access_keys, secrets, tokens)


@contextmanager
def botocore_at(second: int) -> Iterator[None]:
    at = datetime.datetime.fromtimestamp(second, datetime.UTC).replace(tzinfo=None)
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=at):
        yield


@given(credentials, regions, hosts, paths, moments)
def test_header_signatures_are_those_of_botocore(keys: Keys, region: str, host: str, path: str, second: int) -> None:
    encoded = "/bucket/" + encode_path(path)
    ours = HeaderSigner(keys, region, host, clock=lambda: second).headers(encoded)
    request = AWSRequest("GET", f"https://{host}{encoded}")
    with botocore_at(second):
        signer = botocore.auth.S3SigV4Auth(Credentials(keys.access_key, keys.secret_key, keys.token), "s3", region)
        signer.add_auth(request)
    assert ours == {name.lower(): value for name, value in request.headers.items()}


@given(credentials, regions, hosts, paths, moments, st.integers(1, 604800))
def test_presigned_urls_are_those_of_botocore(
    keys: Keys, region: str, host: str, path: str, second: int, seconds: int
) -> None:
    encoded = "/" + encode_path(path)
    ours = QuerySigner(keys, region, f"https://{host}", host, clock=lambda: second).url(encoded, seconds)
    request = AWSRequest("GET", f"https://{host}{encoded}")
    with botocore_at(second):
        botocore.auth.S3SigV4QueryAuth(
            Credentials(keys.access_key, keys.secret_key, keys.token), "s3", region, expires=seconds
        ).add_auth(request)
    theirs = urlsplit(request.url)
    assert urlsplit(ours)[:3] == theirs[:3]
    assert sorted(parse_qsl(urlsplit(ours).query)) == sorted(parse_qsl(theirs.query))


@given(credentials, st.dictionaries(st.text("abcxyz-", min_size=1), st.text(max_size=10), max_size=4), moments)
def test_queries_and_more_headers_are_signed_as_botocore_does(keys: Keys, query: dict[str, str], second: int) -> None:
    more = {"x-amz-request-payer": "requester"}
    text = encode_query(query)
    ours = HeaderSigner(keys, "us-east-1", "h:1", more, clock=lambda: second).headers("/b", text)
    request = AWSRequest("GET", f"http://h:1/b?{text}", headers=dict(more))
    with botocore_at(second):
        botocore.auth.S3SigV4Auth(
            Credentials(keys.access_key, keys.secret_key, keys.token), "s3", "us-east-1"
        ).add_auth(request)
    assert ours == {name.lower(): value for name, value in request.headers.items()}


def test_the_requester_who_pays_is_part_of_a_presigned_url() -> None:
    keys = Keys("AKID", "secret", "token")
    payer = {"x-amz-request-payer": "requester"}
    ours = QuerySigner(keys, "us-east-1", "https://h", "h", payer, clock=lambda: NOW).url("/k", 60)
    request = AWSRequest("GET", "https://h/k?x-amz-request-payer=requester")
    with botocore_at(NOW):
        botocore.auth.S3SigV4QueryAuth(Credentials("AKID", "secret", "token"), "s3", "us-east-1", expires=60).add_auth(
            request
        )
    assert sorted(parse_qsl(urlsplit(ours).query)) == sorted(parse_qsl(urlsplit(request.url).query))


def test_the_example_of_the_documentation() -> None:
    """ "Authenticating Requests: Using Query Parameters", the example at its end."""
    keys = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    host = "examplebucket.s3.amazonaws.com"
    signer = QuerySigner(keys, "us-east-1", f"https://{host}", host, clock=lambda: 1369353600)
    expected = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    assert signer.url("/test.txt", 86400).endswith(f"&X-Amz-Signature={expected}")


def test_a_new_day_brings_a_new_signing_key() -> None:
    moment = [NOW]
    lasting = QuerySigner(Keys("AKID", "secret"), "us-east-1", "https://h", "h", clock=lambda: moment[0])
    for step in (0, 1, 6 * 3600, 86400, 400 * 86400, -86400):
        moment[0] += step
        at = moment[0]
        fresh = QuerySigner(Keys("AKID", "secret"), "us-east-1", "https://h", "h", clock=lambda at=at: at)
        assert lasting.url("/k", 60) == fresh.url("/k", 60)
        assert lasting.url("/k", 61) == fresh.url("/k", 61)


@pytest.mark.parametrize(
    ("path", "encoded"),
    [
        ("a//b/./../c", "a//b/./../c"),
        ("q?u#a%20b +.jpg", "q%3Fu%23a%2520b%20%2B.jpg"),
        ("it's(1)*!~\".jpg", "it%27s%281%29%2A%21~%22.jpg"),
        ("日本/é", "%E6%97%A5%E6%9C%AC/%C3%A9"),
    ],
)
def test_paths_are_encoded_once_and_never_normalised(path: str, encoded: str) -> None:
    assert encode_path(path) == encoded


def test_lone_surrogates_make_no_error() -> None:
    assert encode_path("a\ud800") == "a%ED%A0%80"


def test_secrets_are_not_in_the_repr() -> None:
    assert "s3cr3t" not in repr(Keys("AKID", "s3cr3t", "t-s3cr3t"))
