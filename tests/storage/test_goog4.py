"""Our V4 signatures against those of google-cloud-storage, and checked with the public key."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import google.auth.credentials
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from google.oauth2 import service_account
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.signing.goog4 import UrlSigner, encode_object
from mediasql.storage.signing.sigv4 import encode_path
from tests.storage.reading import ODD_KEYS

NOW = 1795456252  # 2026-11-23T17:50:52Z
EMAIL = "signer@project.iam.gserviceaccount.com"
HOST = "storage.googleapis.com"
CLIENT = storage.Client("project", AnonymousCredentials())
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def sign(message: bytes) -> bytes:
    return KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())


def signer(at: float = NOW, **more: Any) -> UrlSigner:
    return UrlSigner(EMAIL, more.pop("sign", sign), f"https://{HOST}", HOST, clock=lambda: at, **more)


class Signing(google.auth.credentials.Signing):
    """Credentials that sign in the way that a test gives."""

    signer_email = EMAIL
    signer = None

    def __init__(self, sign: Callable[[bytes], bytes]) -> None:
        self.sign = sign

    def sign_bytes(self, message: bytes) -> bytes:
        return self.sign(message)


def of_google(credentials: Any, name: str, seconds: int, **more: Any) -> str:
    """The URL that google-cloud-storage signs, now."""
    blob = CLIENT.bucket("bucket").blob(name)
    expiration = datetime.timedelta(seconds=seconds)
    endpoint = f"https://{HOST}"
    signed = blob.generate_signed_url(
        version="v4", expiration=expiration, api_access_endpoint=endpoint, credentials=credentials, **more
    )
    return str(signed)


def time_of(url: str) -> float:
    """When a URL was signed."""
    (stamp,) = parse_qs(urlsplit(url).query)["X-Goog-Date"]
    return datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()


@pytest.fixture(scope="module")
def credentials() -> Any:
    private = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return service_account.Credentials.from_service_account_info(
        {"client_email": EMAIL, "private_key": private.decode(), "token_uri": "http://127.0.0.1:1/token"}
    )


@pytest.mark.parametrize("payer", [{}, {"userProject": "who-pays"}])
@pytest.mark.parametrize("name", ODD_KEYS)
def test_signed_urls_are_those_of_google(credentials: Any, name: str, payer: dict[str, str]) -> None:
    path = "/bucket/" + encode_path(name)
    theirs = of_google(credentials, name, 3600, query_parameters=dict(payer))
    assert signer(at=time_of(theirs), query=payer).url(path, 3600) == theirs


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40), st.integers(1, 604800))
def test_signed_urls_verify_for_any_name(name: str, seconds: int) -> None:
    path = "/bucket/" + encode_path(name)
    seen: list[bytes] = []

    def fake(message: bytes) -> bytes:
        seen.append(message)
        return b"\x01\x02"

    theirs = of_google(Signing(fake), name, seconds)
    assert signer(at=time_of(theirs), sign=fake).url(path, seconds) == theirs
    assert seen[0] == seen[1]


def test_a_url_is_signed_again_after_a_tenth_of_its_life() -> None:
    now = [float(NOW)]
    signed: list[bytes] = []

    def counted(message: bytes) -> bytes:
        signed.append(message)
        return b"signature"

    lasting = UrlSigner(EMAIL, counted, "https://h", "h", clock=lambda: now[0])
    first = lasting.url("/b/k", 100)
    now[0] += 9.9
    assert lasting.url("/b/k", 100) == first
    assert lasting.url("/b/k", 101) != first
    assert lasting.url("/b/l", 100) != first
    assert len(signed) == 3
    now[0] += 0.1
    again = lasting.url("/b/k", 100)
    date = dict(parse_qsl(urlsplit(again).query))["X-Goog-Date"]
    assert date == datetime.datetime.fromtimestamp(NOW + 10, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    lasting.url("/b/k", 604800)
    now[0] += 599
    lasting.url("/b/k", 604800)
    assert len(signed) == 5
    now[0] += 2
    lasting.url("/b/k", 604800)
    assert len(signed) == 6


def test_not_every_url_is_remembered() -> None:
    signed: list[bytes] = []

    def count(message: bytes) -> bytes:
        signed.append(message)
        return b"signature"

    lasting = signer(sign=count)
    for number in range(10_050):
        lasting.url(f"/b/{number}", 3600)
    for number in range(50, 10_050):
        lasting.url(f"/b/{number}", 3600)
    assert len(signed) == 10_050
    lasting.url("/b/0", 3600)
    assert len(signed) == 10_051


def test_object_names_are_one_segment_of_a_path() -> None:
    assert encode_object("a/b c/../é") == "a%2Fb%20c%2F..%2F%C3%A9"
