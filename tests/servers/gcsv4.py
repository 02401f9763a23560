"""Check GCS V4 signed URLs with the signer's public key.

The canonical request is rebuilt from the received request by the specification, without the code of
google-cloud-storage: that is the signer under test.
https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

from __future__ import annotations

import datetime
import hashlib
import urllib.parse

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.servers.wire import Call

ALGORITHM = "GOOG4-RSA-SHA256"
WEEK = 7 * 24 * 3600
SKEW = datetime.timedelta(minutes=15)


class Refused(Exception):
    """Why a request is refused: the HTTP status, the code, and words for people."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message or code)
        self.status, self.code = status, code


def check(call: Call, signers: dict[str, RSAPublicKey]) -> None:
    """Raise Refused unless the URL was signed by one of `signers` (client e-mail: key) and is still valid."""
    items = (item.partition("=") for item in call.query.split("&") if item)
    pairs = [(urllib.parse.unquote(name), urllib.parse.unquote(value)) for name, _, value in items]
    given = dict(pairs)
    if len(given) != len(pairs):
        raise Refused(400, "DuplicateParameter")
    try:
        email, scope = given["X-Goog-Credential"].split("/", 1)
        day, _, service, terminator = scope.split("/")
        stamp = given["X-Goog-Date"]
        signed_at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
        expires = int(given["X-Goog-Expires"])
        signature = bytes.fromhex(given["X-Goog-Signature"])
        signed_headers = given["X-Goog-SignedHeaders"].split(";")
        algorithm = given["X-Goog-Algorithm"]
    except (KeyError, ValueError):
        raise Refused(400, "InvalidArgument") from None
    if (algorithm, service, terminator, day) != (ALGORITHM, "storage", "goog4_request", stamp[:8]):
        raise Refused(400, "InvalidArgument")
    if not 0 < expires <= WEEK:
        raise Refused(400, "InvalidArgument")
    if "host" not in signed_headers:
        raise Refused(403, "MalformedSecurityHeader")
    if email not in signers or not call.headers.keys() >= set(signed_headers):
        raise Refused(403, "SignatureDoesNotMatch")
    request = canonical_request(call, pairs, signed_headers)
    digest = hashlib.sha256(request.encode()).hexdigest()
    try:
        signers[email].verify(
            signature,
            "\n".join([ALGORITHM, stamp, scope, digest]).encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
    except InvalidSignature:
        raise Refused(403, "SignatureDoesNotMatch") from None
    now = datetime.datetime.now(datetime.UTC)
    if now > signed_at + datetime.timedelta(seconds=expires):
        raise Refused(400, "ExpiredToken")  # GCS, unlike S3, does not answer 403 here
    if signed_at - now > SKEW:
        raise Refused(403, "AccessDenied")


def canonical_request(call: Call, pairs: list[tuple[str, str]], signed_headers: list[str]) -> str:
    query = sorted((encode(name), encode(value)) for name, value in pairs if name != "X-Goog-Signature")
    path = urllib.parse.unquote_to_bytes(call.path)
    return "\n".join(
        [
            call.method,
            urllib.parse.quote(path, safe="/-_.~"),
            "&".join(f"{name}={value}" for name, value in query),
            "".join(f"{name}:{' '.join(call.headers[name].split())}\n" for name in signed_headers),
            ";".join(signed_headers),
            call.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
        ]
    )


def encode(text: str) -> str:
    return urllib.parse.quote(text, safe="-_.~")
