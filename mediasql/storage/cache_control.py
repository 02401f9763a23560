"""What `Cache-Control` of an HTTP answer forbids to a private cache, which that on disk is (RFC 9111 section 5.2.2)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def forbids_storing(headers: Mapping[str, str]) -> bool:
    """Return whether neither the answer nor what it tells may be kept: it says `no-store`.

    `headers` are by name in lower case, the values of repeated ones joined.

    `private` and `no-cache` do not forbid that: this cache has one user, and asks again when `max_age` is over.
    """
    value = headers.get("cache-control")
    if not value:
        return False
    directives = _QUOTED.sub("", value).split(",")
    if "no-store" not in (directive.partition("=")[0].strip().lower() for directive in directives):
        return False
    return not _is_of_google_api(headers)


def _is_of_google_api(headers: Mapping[str, str]) -> bool:
    """Whether it is what Google's JSON API says of each object that not everybody may read, whatever its owner says.

    Of answers with an owner's `Cache-Control`, none is dated 1990.
    """
    return "x-goog-storage-class" in headers and (headers.get("expires") or "").startswith("Mon, 01 Jan 1990")
