"""By what the cache knows an object: its whole URL, the endpoint and the account, and never a credential."""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qsl

from ...errors import redact
from ..location import Location

# Query parameters that sign a URL, and do not say which object it is of. They are left out only where all of these are
# there, which no other URL has by chance. AWS Signature V4, Google's V4, and Azure's service SAS, after the
# specifications that `storage/signing` names; other parameters may choose a version or a part, and are kept.
_SIGNING: tuple[tuple[re.Pattern[str], set[str], set[str]], ...] = (
    (
        re.compile(r""),
        {
            "x-amz-algorithm",
            "x-amz-credential",
            "x-amz-date",
            "x-amz-expires",
            "x-amz-signedheaders",
            "x-amz-signature",
        },
        {"x-amz-security-token", "x-amz-content-sha256"},
    ),
    (
        re.compile(r""),
        {
            "x-goog-algorithm",
            "x-goog-credential",
            "x-goog-date",
            "x-goog-expires",
            "x-goog-signedheaders",
            "x-goog-signature",
        },
        set(),
    ),
    (
        re.compile(r"\.blob\.(core\.windows\.net|core\.chinacloudapi\.cn|core\.usgovcloudapi\.net)(:\d+)?$"),
        {"sv", "sig", "sp"},
        {
            "se",
            "st",
            "sr",
            "spr",
            "sip",
            "si",
            "skoid",
            "sktid",
            "skt",
            "ske",
            "sks",
            "skv",
            "sdd",
            "ses",
            "saoid",
            "suoid",
            "scid",
        },
    ),
)


class Identity(NamedTuple):
    """Which object: `scope` is the endpoint and the account, `key` the URL without secrets."""

    scope: str
    key: str


def is_plain(url: str) -> bool:
    """Whether there is nothing in a URL that may be a secret, so that it is its own key."""
    return not ("@" in url or "?" in url or "=" in url or "::" in url or "eyJ" in url)


def identify(location: Location, scope: str, salt: Callable[[], bytes]) -> Identity:
    """The identity of what `location` names for the provider whose `identity` is `scope`."""
    url = location.url
    if is_plain(url):
        return Identity(scope, url)
    if location.scheme in ("http", "https"):
        url = _without_signature(url, location.container.rpartition("@")[2].lower())
    shown = redact(url)
    if shown == url:
        return Identity(scope, url)
    # What was taken out may tell one object from another: a digest of it, in its place, does so too. The scope is
    # another, since someone may spell a URL like this.
    digest = blake2b(url.encode(errors="surrogatepass"), digest_size=8, key=salt()).hexdigest()
    return Identity(f"{scope} redacted", f"{shown}#{digest}")


def _without_signature(url: str, host: str) -> str:
    rest, fragment_mark, fragment = url.partition("#")
    path, mark, query = rest.partition("?")
    if not mark:
        return url
    names = {name.lower() for name, _ in parse_qsl(query, keep_blank_values=True)}
    for wanted_host, needed, allowed in _SIGNING:
        if needed <= names and wanted_host.search(host):
            signing = needed | allowed
            kept = "&".join(part for part in query.split("&") if part.partition("=")[0].lower() not in signing)
            return path + (f"?{kept}" if kept else "") + fragment_mark + fragment
    return url
