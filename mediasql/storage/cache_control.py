"""What `Cache-Control` of an HTTP answer forbids to a private cache, which that on disk is (RFC 9111 section 5.2.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multidict import MultiMapping

_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


def forbids_storing(headers: MultiMapping[str]) -> bool:
    """Return whether neither the answer nor what it tells may be kept: it says `no-store`.

    `private` and `no-cache` do not forbid that: this cache has one user, and asks again when `max_age` is over.
    """
    if "Cache-Control" not in headers:
        return False
    directives = _QUOTED.sub("", ",".join(headers.getall("Cache-Control"))).split(",")
    if "no-store" not in (directive.partition("=")[0].strip().lower() for directive in directives):
        return False
    return not _is_of_google_api(headers)


def _is_of_google_api(headers: MultiMapping[str]) -> bool:
    """Whether it is what Google's JSON API says of each object that not everybody may read, whatever its owner says.

    Of answers with an owner's `Cache-Control`, none is dated 1990.
    """
    return "X-Goog-Storage-Class" in headers and headers.get("Expires", "").startswith("Mon, 01 Jan 1990")
