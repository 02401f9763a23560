"""Our shared access signatures against those of azure-storage-blob, in the version that we write."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from azure.storage.blob import generate_blob_sas, generate_container_sas
from hypothesis import given
from hypothesis import strategies as st

from mediasql.storage.signing.sas import VERSION, DelegationKey, SasSigner

NOW = 1795456252  # 2026-11-23T17:50:52Z
KEY = base64.b64encode(b"not a key but long enough to be one").decode()
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def expiry(second: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(second, datetime.UTC)


def of_sdk(generate: Callable[..., str], *names: str, **options: Any) -> list[tuple[str, str]]:
    """The fields of a token of the SDK, which only writes its newest version: signed for ours, by hand."""
    signed: list[str] = []
    token = generate("account", *names, account_key=KEY, sts_hook=signed.append, **options)
    fields = dict(parse_qsl(token))
    (text,) = signed
    newest, fields["sv"] = fields["sv"], VERSION
    assert text.count(f"\n{newest}\n") == 1
    text = text.replace(f"\n{newest}\n", f"\n{VERSION}\n")
    fields["sig"] = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
    return sorted(fields.items())


@given(names, st.integers(1, 10**8), st.booleans())
def test_blob_tokens_are_those_of_the_sdk(name: str, seconds: int, https: bool) -> None:
    ours = SasSigner("account", "photos", KEY, https_only=https, clock=lambda: NOW).blob(name, seconds)
    protocol = {"protocol": "https"} if https else {}
    expected = of_sdk(generate_blob_sas, "photos", name, permission="r", expiry=expiry(NOW + seconds), **protocol)
    assert sorted(parse_qsl(ours)) == expected


def test_container_tokens_are_those_of_the_sdk() -> None:
    ours = SasSigner("account", "photos", KEY, clock=lambda: NOW).container(NOW + 3600)
    lasting = expiry(NOW + 3600)
    expected = of_sdk(generate_container_sas, "photos", permission="rl", expiry=lasting, protocol="https")
    assert sorted(parse_qsl(ours)) == expected


def test_part_of_a_second_is_not_taken_from_the_life_of_a_token() -> None:
    ours = SasSigner("account", "photos", KEY, clock=lambda: NOW + 0.001).blob("k", 10)
    assert dict(parse_qsl(ours))["se"] == "2026-11-23T17:51:03Z"


def test_a_user_delegation_token_is_signed_as_the_specification_says() -> None:
    """The SDK only writes its newest layout; this is "Create a user delegation SAS" by hand."""
    key = DelegationKey("oid", "tid", "2026-11-23T17:00:00Z", "2026-11-30T17:00:00Z", "b", "2022-11-02", KEY)
    token = SasSigner("account", "photos", key, clock=lambda: NOW).blob("a b/é.jpg", 60)
    given = dict(parse_qsl(token))
    to_sign = [
        "r",  # signedPermissions
        "",  # signedStart
        "2026-11-23T17:51:52Z",  # signedExpiry
        "/blob/account/photos/a b/é.jpg",  # canonicalizedResource
        *("oid", "tid", "2026-11-23T17:00:00Z", "2026-11-30T17:00:00Z", "b", "2022-11-02"),
        *("", "", ""),  # signedAuthorizedUserObjectId, signedUnauthorizedUserObjectId, signedCorrelationId
        "",  # signedIP
        "https",  # signedProtocol
        VERSION,
        "b",  # signedResource
        *("", ""),  # signedSnapshotTime, signedEncryptionScope
        *("", "", "", "", ""),  # rscc, rscd, rsce, rscl, rsct
    ]
    digest = hmac.new(base64.b64decode(KEY), "\n".join(to_sign).encode(), hashlib.sha256).digest()
    assert given.pop("sig") == base64.b64encode(digest).decode()
    assert given == {
        "se": "2026-11-23T17:51:52Z",
        "sp": "r",
        "spr": "https",
        "sv": VERSION,
        "sr": "b",
        "skoid": "oid",
        "sktid": "tid",
        "skt": key.start,
        "ske": key.expiry,
        "sks": "b",
        "skv": key.version,
    }


def test_keys_are_not_in_the_repr() -> None:
    assert KEY not in repr(DelegationKey("o", "t", "s", "e", "b", "v", KEY))
    assert unquote(KEY) not in repr(SasSigner("account", "photos", KEY))
