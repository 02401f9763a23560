"""By what the cache knows objects: one identity for one object, another for another, and never a secret in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mediasql
from mediasql.storage.cache import scope
from mediasql.storage.cache.identity import Identity
from mediasql.storage.location import Location
from mediasql.storage.signing import profiles
from mediasql.storage.store import Store
from tests.servers.process import ROOT

URLS = {
    "s3": "s3://bucket/a.jpg",
    "gs": "gs://bucket/a.jpg",
    "abfs": "abfs://container@account.dfs.core.windows.net/a.jpg",
    "sftp": "sftp://host/a.jpg",
    "https": "https://host/a.jpg",
}


def identity(url: str, **config: Any) -> Identity:
    found = Store(mediasql.Config.load(**config)).identity(Location.parse(url))
    assert found is not None
    return found


def in_another_process(url: str, folder: Path) -> Identity:
    code = f"""
import json
from mediasql.config import Config
from mediasql.storage.location import Location
from mediasql.storage.store import Store
print(json.dumps(Store(Config.load(cache_dir={str(folder)!r})).identity(Location.parse({url!r}))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    return Identity(*json.loads(done.stdout))


def of_options(scheme: str, options: dict[str, Any]) -> Identity:
    return identity(URLS[scheme], storage_options={scheme: options})


# --- secrets ---------------------------------------------------------------------------------------------------------

SECRETS = st.text("abcdefXYZ0123456789+/._~-", min_size=4, max_size=12).map(lambda text: f"HU{text}SH")
_NAMES = """
    key secret token password passphrase proxy params headers cookies auth sig credential sas_token connection_string
    account_key client_secret endpoint_url client_kwargs config_kwargs session pkey whatever X-Api-Key
"""


@given(
    st.sampled_from(sorted(URLS)),
    st.lists(st.sampled_from(_NAMES.split()), min_size=1, max_size=3),
    SECRETS,
    st.integers(0, 4),
)
def test_no_option_gives_its_secret_away(scheme: str, names: list[str], secret: str, form: int) -> None:
    forms = [secret, f"http://user:{secret}@host:9000/x", [secret], f"http://host/x?sig={secret}", f"a={secret};b=c"]
    if names[0] == "endpoint_url" and form == 0:
        return  # that of a host is none
    options: Any = forms[form]
    for name in names:
        options = {name: options}
    found = of_options(scheme, options)
    assert secret not in str(found)
    assert found == of_options(scheme, options)


_PARAMETERS = """
    access_key api_key apikey jwt token access_token sessionid session_id SessionId code sig sig2 password passphrase
    secret client_secret X-Amz-Signature X-Amz-Security-Token AWSAccessKeyId Key-Pair-Id auth key pwd pass sid
"""
PLACES = ["https://host/a.jpg?size=3&{}={}", "http://host/a.jpg?{}={}&x=1", "https://host/a.jpg#{}={}"]


@given(st.sampled_from(_PARAMETERS.split()), st.sampled_from(PLACES), SECRETS, SECRETS)
def test_no_url_gives_its_secret_away_and_each_stays_itself(name: str, place: str, secret: str, other: str) -> None:
    if name in ("code", "pass", "sid") and "#" in place:
        return
    url = place.format(name, secret)
    found = identity(url)
    assert secret not in str(found)
    assert found == identity(url)
    # An image server may choose by `?key=123`.
    assert (found == identity(place.format(name, other))) == (secret == other)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://HUSHTOKEN@host/a.jpg",
        "https://HUSHTOKEN@host/a.jpg",
        "smb://user:HUSHTOKEN@host/a.jpg",
        "zip://a.jpg::https://user:HUSHTOKEN@host/a.zip",
        "https://host/eyJHUSHHUSH1.eyJHUSHHUSH2.HUSH/a.jpg",
        "https://host/a.jpg?t=eyJHUSHHUSH1.eyJHUSHHUSH2.HUSH",
    ],
)
def test_users_that_are_tokens_and_tokens_by_their_looks(url: str) -> None:
    assert "HUSH" not in str(identity(url))


def test_a_digest_is_of_one_cache(tmp_path: Path) -> None:
    url = "https://host/a.jpg?token=1234"
    first, second = (identity(url, cache_dir=str(tmp_path / name)) for name in "ab")
    assert first.key.startswith("https://host/a.jpg?token=***#")
    assert first.key != second.key
    assert (tmp_path / "a" / "salt").stat().st_mode & 0o077 == 0
    assert in_another_process(url, tmp_path / "a") == first
    (tmp_path / "a" / "salt").write_bytes(b"short")
    assert identity(url, cache_dir=str(tmp_path / "a")) == first  # which this process read before
    assert in_another_process(url, tmp_path / "a") != first


def test_where_no_salt_can_be_kept_there_is_one_for_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    url = "https://host/a.jpg?token=1234"
    with pytest.warns(mediasql.CacheWarning, match="its file 'salt' cannot be read or made: Not a directory"):
        here = identity(url, cache_dir=str(tmp_path / "file" / "cache"))
    assert here == identity(url, cache_dir=str(tmp_path / "file" / "cache"))
    assert "1234" not in str(here)


# --- whose objects they are ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "one", "other"),
    [
        ("s3", {"endpoint_url": "http://a:9000"}, {"endpoint_url": "http://b:9000"}),
        ("s3", {"endpoint_url": "http://u:p@a:9000"}, {"endpoint_url": "http://u:q@a:9000"}),
        ("s3", {"client_kwargs": {"endpoint_url": "http://a"}}, {"client_kwargs": {"endpoint_url": "http://b"}}),
        ("s3", {"key": "minio"}, {"key": "other"}),
        ("s3", {"client_kwargs": {"region_name": "cn-north-1"}}, {"client_kwargs": {"region_name": "eu-west-1"}}),
        ("https", {"headers": {"Authorization": "a"}}, {"headers": {"Authorization": "b"}}),
        ("sftp", {"username": "a"}, {"username": "b"}),
        ("sftp", {"password": "a"}, {"password": "b"}),
        ("gs", {"token": {"client_email": "a@x"}}, {"token": {"client_email": "b@x"}}),
        ("abfs", {"account_name": "a"}, {"account_name": "b"}),
        (
            "abfs",
            {"connection_string": "AccountName=a;AccountKey=k"},
            {"connection_string": "AccountName=b;AccountKey=k"},
        ),
    ],
)
def test_another_endpoint_or_account_is_another_scope(scheme: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of_options(scheme, one).scope != of_options(scheme, other).scope
    assert of_options(scheme, one) == of_options(scheme, json.loads(json.dumps(one)))


@pytest.mark.parametrize(
    ("scheme", "one", "other"),
    [
        # The keys of AWS's documentation belong to one account.
        ("s3", {"key": "AKIAIOSFODNN7EXAMPLE", "secret": "a"}, {"key": "AKIAIOSFODNN7EXAMPLE", "secret": "b"}),
        ("s3", {"key": "minio", "secret": "a"}, {"key": "minio", "secret": "b", "token": "c"}),
        ("abfs", {"account_name": "a", "account_key": "k"}, {"account_name": "a", "sas_token": "s"}),
    ],
)
def test_new_keys_of_an_account_change_nothing(scheme: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    assert of_options(scheme, one) == of_options(scheme, other)


class Credentials:
    """What google-auth's look like."""

    def __init__(self, refresh_token: str, token: str) -> None:
        self._refresh_token = refresh_token
        self.token = token


class Opaque:
    """Tells nothing."""


def test_credential_objects_tell_whose_they_are() -> None:
    first = of_options("gs", {"token": Credentials("mine", "hour 1")})
    assert first == of_options("gs", {"token": Credentials("mine", "hour 2")})
    assert first != of_options("gs", {"token": Credentials("yours", "hour 1")})
    assert "mine" not in str(first)
    opaque = Opaque()
    assert of_options("gs", {"token": opaque}) == of_options("gs", {"token": opaque})
    assert of_options("gs", {"token": opaque}) != of_options("gs", {"token": Opaque()})


# --- files and variables ---------------------------------------------------------------------------------------------

CONFIGS = [
    "",
    "[default]\nendpoint_url = http://127.0.0.1:1111\nregion = eu-west-1\n",
    "[default]\nservices = here\nregion=us-east-1\n[services here]\ndynamodb =\n  endpoint_url = http://no\ns3 =\n"
    "  endpoint_url = http://127.0.0.1:2222\n  addressing_style = path\n[services other]\ns3 =\n  endpoint_url = http://no\n",
    "# a comment\n[profile work]\nendpoint_url=http://127.0.0.1:3333 \nregion=x\n[default]\nregion = us-east-1\n",
    "[default]\nregion = us-east-1\n; endpoint_url = http://no\n",
]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("name", [None, "work"])
def test_the_endpoint_is_the_one_that_botocore_finds(
    environment: Path, monkeypatch: pytest.MonkeyPatch, config: str, name: str | None
) -> None:
    from botocore.session import Session

    (environment / "aws-config").write_text(config)
    (environment / "aws-credentials").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n[work]\n")
    if name is not None:
        monkeypatch.setenv("AWS_PROFILE", name)
    client = Session().create_client("s3", region_name="us-east-1")
    own = profiles.facts({}).get("endpoint")
    assert client.meta.endpoint_url == own if own else "amazonaws.com" in client.meta.endpoint_url


def test_configuration_files_choose_the_scope(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for config in CONFIGS[:4]:
        (environment / "aws-config").write_text(config)
        found.append(identity(URLS["s3"]).scope)
    assert found[:3] == ["s3", "s3 endpoint=http://127.0.0.1:1111", "s3 endpoint=http://127.0.0.1:2222"]
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert "endpoint=http://127.0.0.1:3333" in identity(URLS["s3"]).scope
    (environment / "aws-config").write_text("[profile work]\nrole_arn = arn:aws:iam::123456789012:role/x\n")
    assert "account=123456789012" in identity(URLS["s3"]).scope
    (environment / "aws-config").write_text("")
    (environment / "aws-credentials").write_text("[work]\naws_access_key_id = HUSHHUSH\n")
    first = identity(URLS["s3"]).scope
    (environment / "aws-credentials").write_text("[work]\naws_access_key_id = HUSH2\n")
    assert first != identity(URLS["s3"]).scope
    assert "HUSH" not in first


@pytest.mark.parametrize("loaded", [False, True])
def test_what_fsspec_adds_is_part_of_it(environment: Path, loaded: bool) -> None:
    """In processes of their own, since fsspec reads its configuration once."""
    folder = environment / ".config" / "fsspec"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text('{"sftp": {"username": "from-json"}}')
    (folder / "b.ini").write_text("[s3]\nendpoint_url = http://from-ini\n[sftp]\nport = 7\n")
    code = f"""
import json, sys
{"import fsspec" if loaded else ""}
from mediasql.config import Config
from mediasql.storage.location import Location
from mediasql.storage.store import Store
store = Store(Config.load())
store.identity(Location.parse({URLS["s3"]!r}))
assert ("fsspec.config" in sys.modules) == {loaded}
print(json.dumps([store.identity(Location.parse(url)).scope for url in {list(URLS.values())}]))
"""
    variables = {
        **os.environ,
        "FSSPEC_S3": '{"client_kwargs": {"region_name": "cn-north-1"}}',
        "FSSPEC_ABFS_CONNECTION_STRING": "AccountName=acc;BlobEndpoint=http://blobs;AccountKey=HUSHHUSH",
        "FSSPEC_GCS_TOKEN": "HUSHHUSH",
        "FSSPEC_HTTPS_HEADERS": '{"X-Key": "HUSHHUSH"}',
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=variables, check=True, stdout=subprocess.PIPE)
    s3, gs, abfs, sftp, https = json.loads(done.stdout)
    assert b"HUSH" not in done.stdout
    assert s3 == "s3 client_kwargs.region_name=cn-north-1 endpoint_url=http://from-ini partition=cn-"
    assert gs.startswith("gs others=")
    assert abfs == "az AccountName=acc BlobEndpoint=http://blobs"
    assert https.startswith("http others=")
    assert "sftp.username=from-json" in sftp
    assert "sftp.port=7" in sftp


def test_what_fsspec_reads_is_read_the_same(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.config import set_conf_env, set_conf_files

    folder = environment / "fsspec"
    folder.mkdir()
    (folder / "b.json").write_text('{"s3": {"anon": true, "key": "b"}, "x": {}}')
    (folder / "a.ini").write_text("[s3]\nKey = a\nanon = false\n[DEFAULT]\nz=1\n")
    (folder / "c.txt").write_text("nonsense")
    monkeypatch.setenv("FSSPEC_CONFIG_DIR", str(folder))
    monkeypatch.setenv("FSSPEC_S3_ANON", "false")
    monkeypatch.setenv("FSSPEC_S3_SOME_NAME", "a b")
    monkeypatch.setenv("FSSPEC_S3", '{"anon": 1, "other": [2]}')
    expected: dict[str, Any] = {}
    set_conf_files(str(folder), expected)
    set_conf_env(expected)
    monkeypatch.delitem(sys.modules, "fsspec.config")
    assert scope.configured() == expected
    assert scope.configured(("x", "s3")) == expected["s3"]
