"""AWS Signature Version 4 for GETs on S3: in headers for our own reads, in the query for presigned URLs.

After "Authenticating Requests: Using the Authorization Header (AWS Signature Version 4)" and "Authenticating
Requests: Using Query Parameters (AWS Signature Version 4)" of the Amazon S3 API Reference.

botocore builds and walks a request object for each signature. Here all but the path and the time is prepared
once per bucket, and the signing key lives for its day, so that a signature is one SHA-256 and one HMAC.
"""

from __future__ import annotations

import hmac
import re
import time
from base64 import b32decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import quote

ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY_SHA256 = sha256(b"").hexdigest()
MAX_SECONDS = 604800

# Unreserved characters of RFC 3986: the only ones that the canonical request leaves as they are.
_UNRESERVED = "-._~"


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials at one moment. Secrets stay out of the repr, which ends up in logs and tracebacks."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


_KEY_ID = re.compile(r"A[KS]IA[Q-Z2-7][A-Z2-7]{15}")


def account_of(access_key: str) -> str | None:
    """The 12 digits of the AWS account that an access key ID belongs to; None where it does not tell.

    Key IDs made since 2019 hold it: 40 bits from the second on of what Base32 makes of the part behind 'AKIA' or
    'ASIA'. No specification says so; `GetAccessKeyInfo` of the AWS STS API answers the same.
    """
    if not _KEY_ID.fullmatch(access_key):
        return None
    return f"{int.from_bytes(b32decode(access_key[4:])[:6]) >> 7 & (1 << 40) - 1:012d}"


def encode_path(path: str) -> str:
    """`path` percent-encoded once, '/' kept. S3 paths are not normalised: 'a//b' and 'a/../b' are keys.

    Lone surrogates, which no key can hold, become bytes that no key matches instead of an error.
    """
    return quote(path, safe="/" + _UNRESERVED, errors="surrogatepass")


def encode_query(parameters: Mapping[str, str]) -> str:
    """`parameters` as a canonical query string: encoded, then sorted."""
    pairs = sorted(
        (quote(name, safe=_UNRESERVED), quote(value, safe=_UNRESERVED, errors="surrogatepass"))
        for name, value in parameters.items()
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def signing_key(secret_key: str, day: str, region: str, service: str = "s3") -> bytes:
    """The key derived from the secret for one day, region and service."""
    key = ("AWS4" + secret_key).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


class _Scope:
    """Keys bound to a region: what changes once a second and once a day, and the signature itself."""

    def __init__(self, keys: Keys, region: str, clock: Callable[[], float]) -> None:
        self.keys = keys
        self.region = region
        self.clock = clock
        # One tuple, replaced as a whole, since SQL threads sign concurrently: no thread sees the key of one
        # day with the date of another.
        self._moment: tuple[int, str, str, bytes] = (-1, "", "", b"")

    def moment(self) -> tuple[int, str, str, bytes]:
        """(second, '20261123T175052Z', credential scope, signing key) of now."""
        second = int(self.clock())
        moment = self._moment
        if moment[0] != second:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            day = stamp[:8]
            scope = f"{day}/{self.region}/s3/aws4_request"
            key = moment[3] if scope == moment[2] else signing_key(self.keys.secret_key, day, self.region)
            self._moment = moment = (second, stamp, scope, key)
        return moment


def signature(key: bytes, stamp: str, scope: str, canonical_request: str) -> str:
    """The signature of a canonical request."""
    digest = sha256(canonical_request.encode()).hexdigest()
    return hmac.digest(key, f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()


class HeaderSigner:
    """Signs GETs of one host in their headers: `signer.headers(encoded path)`.

    host     as the HTTP client will send it: lower case, with the port unless that is the scheme's own
    headers  more `x-amz-…` headers to send and sign, names in lower case
    """

    def __init__(
        self,
        keys: Keys,
        region: str,
        host: str,
        headers: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scope = _Scope(keys, region, clock)
        self._fixed = {"x-amz-content-sha256": EMPTY_SHA256, **(headers or {})}
        if keys.token is not None:
            self._fixed["x-amz-security-token"] = keys.token
        names = sorted(["host", "x-amz-date", *self._fixed])
        values = {"host": host, **self._fixed}
        self._names = ";".join(names)
        # Everything before and after the date, which is the only header that changes.
        cut = names.index("x-amz-date")
        self._before = "".join(f"{name}:{' '.join(values[name].split())}\n" for name in names[:cut])
        self._after = "".join(f"{name}:{' '.join(values[name].split())}\n" for name in names[cut + 1 :])

    def headers(self, path: str, query: str = "") -> dict[str, str]:
        """The headers for a GET of `path`?`query`, both encoded, the query in canonical order."""
        _, stamp, scope, key = self._scope.moment()
        signed = signature(
            key,
            stamp,
            scope,
            f"GET\n{path}\n{query}\n{self._before}x-amz-date:{stamp}\n{self._after}\n{self._names}\n{EMPTY_SHA256}",
        )
        return {
            **self._fixed,
            "x-amz-date": stamp,
            "authorization": f"{ALGORITHM} Credential={self._scope.keys.access_key}/{scope}, "
            f"SignedHeaders={self._names}, Signature={signed}",
        }


class QuerySigner:
    """Presigns GETs of one host: `signer.url(encoded path, seconds)`. Range is not signed.

    base   'https://host', as the URL begins
    host   the Host header that the URL causes
    query  more parameters to send and sign; their names must sort behind 'X-Amz-', as lower-case names do
    """

    def __init__(
        self,
        keys: Keys,
        region: str,
        base: str,
        host: str,
        query: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._scope = _Scope(keys, region, clock)
        self._base = base
        self._host = host
        self._credential = f"X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={quote(keys.access_key, safe=_UNRESERVED)}"
        token = f"X-Amz-Security-Token={quote(keys.token, safe=_UNRESERVED)}&" if keys.token is not None else ""
        extra = f"&{encode_query(query)}" if query else ""
        self._tail = f"&{token}X-Amz-SignedHeaders=host{extra}"
        self._last: tuple[int, int, str] = (-1, -1, "")

    def url(self, path: str, seconds: int) -> str:
        """A URL that anyone can GET for `seconds`, or until temporary credentials expire."""
        second, stamp, scope, key = self._scope.moment()
        last = self._last
        if last[0] != second or last[1] != seconds:
            encoded = scope.replace("/", "%2F")
            query = f"{self._credential}%2F{encoded}&X-Amz-Date={stamp}&X-Amz-Expires={seconds}{self._tail}"
            self._last = last = (second, seconds, query)
        query = last[2]
        signed = signature(key, stamp, scope, f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD")
        return f"{self._base}{path}?{query}&X-Amz-Signature={signed}"
