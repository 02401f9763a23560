"""Check AWS Signature Version 4 the way S3 does: botocore recomputes it over the request as received.

What S3 answers is reproduced with its codes and statuses, so that a client's handling of them can be tested.
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-auth-using-authorization-header.html
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import urllib.parse
from dataclasses import dataclass

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.servers.wire import Call

SKEW = datetime.timedelta(minutes=15)
WEEK = 7 * 24 * 3600


class Denied(Exception):
    """Why a request is refused: the HTTP status, S3's code, a message, and further XML elements."""

    def __init__(self, status: int, code: str, message: str, **elements: str) -> None:
        super().__init__(message)
        self.status, self.code, self.elements = status, code, elements


@dataclass(frozen=True)
class Key:
    secret: str
    token: str | None = None


@dataclass(frozen=True)
class Signature:
    """The parts of a signature, from the Authorization header or from a presigned URL's query."""

    algorithm: str
    credential: str
    signed_headers: str
    signature: str
    date: str
    expires: str | None
    token: str | None

    @property
    def presigned(self) -> bool:
        return self.expires is not None

    @classmethod
    def of(cls, call: Call) -> Signature | None:
        asked = call.parameters
        if "X-Amz-Signature" in asked or "X-Amz-Algorithm" in asked:
            names = ("Algorithm", "Credential", "SignedHeaders", "Signature", "Date", "Expires")
            return cls(*(asked.get(f"X-Amz-{name}", "") for name in names), asked.get("X-Amz-Security-Token"))
        algorithm, _, rest = call.headers.get("authorization", "").partition(" ")
        if not algorithm:
            return None
        part = dict(item.strip().partition("=")[::2] for item in rest.split(","))
        return cls(
            algorithm,
            *(part.get(name, "") for name in ("Credential", "SignedHeaders", "Signature")),
            call.headers.get("x-amz-date", ""),
            None,
            call.headers.get("x-amz-security-token"),
        )


def check(call: Call, keys: dict[str, Key], region: str | None) -> None:
    """Raise Denied unless the request is signed with one of `keys` for `region` (None: any region)."""
    given = Signature.of(call)
    if given is None:
        raise Denied(403, "AccessDenied", "Access Denied")
    malformed = "AuthorizationQueryParametersError" if given.presigned else "AuthorizationHeaderMalformed"
    try:
        access, day, scope_region, service, terminator = given.credential.split("/")
        signed_at = datetime.datetime.strptime(given.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        raise Denied(400, malformed, "the credential or the date cannot be read") from None
    if (given.algorithm, service, terminator, day) != (
        "AWS4-HMAC-SHA256",
        "s3",
        "aws4_request",
        given.date[:8],
    ):
        raise Denied(400, malformed, "the algorithm or the credential scope is wrong")
    if region and scope_region != region:
        message = f"the region '{scope_region}' is wrong; expecting '{region}'"
        raise Denied(400, malformed, message, Region=region)
    if access not in keys:
        raise Denied(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist.")
    if given.token != keys[access].token:
        raise Denied(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")
    check_time(given, signed_at)
    check_headers(call, given)
    expected = signature(call, given, Credentials(access, keys[access].secret), scope_region)
    if not hmac.compare_digest(expected, given.signature):
        raise Denied(403, "SignatureDoesNotMatch", "The request signature we calculated does not match.")


def check_time(given: Signature, signed_at: datetime.datetime) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if not given.presigned:
        if abs(now - signed_at) > SKEW:
            raise Denied(403, "RequestTimeTooSkewed", "The request time and the current time differ too much.")
        return
    if not str(given.expires).isdigit() or not 0 < int(str(given.expires)) <= WEEK:
        raise Denied(400, "AuthorizationQueryParametersError", "X-Amz-Expires must be less than a week")
    if now > signed_at + datetime.timedelta(seconds=int(str(given.expires))):
        raise Denied(403, "AccessDenied", "Request has expired")
    if signed_at - now > SKEW:
        raise Denied(403, "AccessDenied", "Request is not yet valid")


def check_headers(call: Call, given: Signature) -> None:
    signed = set(given.signed_headers.split(";"))
    if "host" not in signed or not signed <= call.headers.keys():
        raise Denied(403, "SignatureDoesNotMatch", "a signed header is missing")
    loose = {name for name in call.headers if name.startswith("x-amz-")} - signed - {"x-amz-content-sha256"}
    if loose:
        raise Denied(403, "AccessDenied", "There were headers present in the request which were not signed")
    declared = call.headers.get("x-amz-content-sha256")
    if declared is None and not given.presigned:
        raise Denied(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if re.fullmatch("[0-9a-f]{64}", declared or "") and declared != hashlib.sha256(call.body).hexdigest():
        raise Denied(400, "XAmzContentSHA256Mismatch", "The body is not what x-amz-content-sha256 says.")


def signature(call: Call, given: Signature, credentials: Credentials, region: str) -> str:
    signer = S3SigV4Auth(credentials, "s3", region)
    request = AWSRequest(call.method, f"http://{call.headers['host']}/")
    request.context["timestamp"] = given.date
    return str(signer.signature(signer.string_to_sign(request, canonical_request(call, given)), request))


def canonical_request(call: Call, given: Signature) -> str:
    """From the raw request: botocore would normalise the URL, and so hide a path that was wrongly encoded."""
    path = urllib.parse.quote(urllib.parse.unquote_to_bytes(call.path), safe="/-_.~")
    pairs = (item.partition("=")[::2] for item in call.query.split("&") if item)
    query = sorted((encode(name), encode(value)) for name, value in pairs if name != "X-Amz-Signature")
    headers = [f"{name}:{' '.join(call.headers[name].split())}\n" for name in given.signed_headers.split(";")]
    payload = "UNSIGNED-PAYLOAD" if given.presigned else call.headers["x-amz-content-sha256"]
    return "\n".join(
        [
            call.method,
            path,
            "&".join(f"{name}={value}" for name, value in query),
            "".join(headers),
            given.signed_headers,
            payload,
        ]
    )


def encode(raw: str) -> str:
    return urllib.parse.quote(urllib.parse.unquote_to_bytes(raw.replace("+", " ")), safe="-_.~")
