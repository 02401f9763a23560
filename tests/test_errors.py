from __future__ import annotations

import pickle
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mediasql import errors
from mediasql.errors import MediaError, redact

S3_V4 = (
    "https://b.s3.amazonaws.com/a%20b.jpg?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}%2F20261123&"
    "X-Amz-Date=20261123T000000Z&X-Amz-Expires=3600&X-Amz-Security-Token={}&X-Amz-SignedHeaders=host&X-Amz-Signature={}"
)
S3_V2 = "https://b.s3.amazonaws.com/a.jpg?AWSAccessKeyId={}&Expires=1&Signature={}"
GCS = (
    "https://storage.googleapis.com/b/a?X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential={}&X-Goog-Signature={}&x=1"
)
GCS_V2 = "https://storage.googleapis.com/b/a?GoogleAccessId={}&Expires=1&Signature={}"
AZURE = "https://a.blob.core.windows.net/c/a.jpg?sv=2024-01-01&se=2026-11-24&sr=b&sp=r&sig={}"
OTHERS = [
    "https://user:{}@host/a.jpg",
    "https://{}@host/a.jpg",
    "sftp://user:{}@host/a",
    "https://host/a?token={}&v=2",
    "https://host/a?v=2&access_token={}#f",
    "https://host/a#access_token={}",
    "https://host/a?api_key={}",
    "https://host/a;key={}",
    "password={}",
]
SECRETS = st.text("abcXYZ019-_.~+/=", min_size=4).map(lambda text: "S" + quote(text, safe="") + "!")


ROOTS = ("MediaError", "MediaWarning")


def tree() -> dict[str, str | None]:
    """The classes that the docstring draws, and the base of each."""
    found: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"((?:│   |    )*(?:├── |└── )?)([A-Z]\w+)(?:\s|$)", line):
            depth = len(match[1]) // 4
            if depth == 0 and match[2] not in ROOTS:
                continue
            del above[depth:]
            found[match[2]] = above[-1] if above else None
            above.append(match[2])
    return found


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    real = {
        name: value.__base__.__name__ if name not in ROOTS else None
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, MediaError | errors.MediaWarning)
    }
    assert tree() == real


@pytest.mark.parametrize("kind", sorted(kind for kind in tree() if issubclass(getattr(errors, kind), MediaError)))
def test_every_error_is_public_and_travels(kind: str) -> None:
    import mediasql

    error = getattr(mediasql, kind)("no", status=404)
    assert kind in mediasql.__all__
    for same in (pickle.loads(pickle.dumps(error)), error.again()):
        assert (type(same), str(same), same.status) == (type(error), "no", 404)
    assert str(error.again("maybe")) == "maybe"


@given(st.sampled_from([S3_V4, S3_V2, GCS, GCS_V2, AZURE, *OTHERS]), SECRETS)
def test_secrets_are_hidden_and_the_rest_is_left(url: str, secret: str) -> None:
    text = f"width('{url}'): 403 Forbidden".replace("{}", secret)
    shown = redact(text)
    assert secret not in shown
    # What is between the secrets is all there, in order.
    rest = [re.escape(part) for part in re.split(r"\{\}(?:%2F\d+)?", f"width('{url}'): 403 Forbidden")]
    assert re.fullmatch(r"\*\*\*".join(rest), shown)
    assert redact(shown) == shown
    assert secret not in str(MediaError(text))


@given(st.text(st.characters(exclude_characters="=@")))
def test_text_without_secrets_is_left_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b.jpg",
        "400 Bad Request (code=InvalidArgument, pass=2)",
        "s3://bucket/eyJ.jpg",
        "abfs://container@account.dfs.core.windows.net/a",
        "sftp://user@host/a",
        "https://host:80/a@b?size=3&page=2&keyword=x&design=y&monkey=z",
        "https://host/user:name@2x.png",
        "timeout: 'x' is not valid; a positive number of seconds is needed",
    ],
)
def test_what_only_looks_like_a_secret_is_shown(text: str) -> None:
    assert redact(text) == text


def test_a_password_may_hold_an_at_sign() -> None:
    assert redact("https://user:p@ss@host/a") == "https://user:***@host/a"
