"""Signed URLs of Google Cloud Storage: V4, GOOG4-RSA-SHA256, in the query.

After "V4 signing process with your own program" and "Canonical requests" of the Cloud Storage documentation.

An RSA signature costs a millisecond, and one by the IAM service a round trip, so a URL is handed out again
for the first tenth of its life (ten minutes at most). That keeps it the same across the rows and queries of a
page, which is what lets a browser cache what it points to. Its life counts from its signing: nine tenths
remain at worst, and never more than was asked for.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import sha256
from urllib.parse import quote

from .. import forking
from .sigv4 import encode_query

ALGORITHM = "GOOG4-RSA-SHA256"
MAX_SECONDS = 604800

_REUSE_FRACTION = 10
_REUSE_SECONDS = 600
_REMEMBERED = 10_000


class UrlSigner:
    """Signs GETs of one host: `signer.url(encoded path, seconds)`.

    email  of the service account that signs
    sign   RSA-SHA256 of bytes with that account's key
    base   'https://host', as the URL begins
    host   the Host header that the URL causes
    query  more parameters to send and sign, such as userProject
    """

    def __init__(
        self,
        email: str,
        sign: Callable[[bytes], bytes],
        base: str,
        host: str,
        query: Mapping[str, str] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._email = email
        self._sign = sign
        self._base = base
        self._host = host
        self._query = dict(query or {})
        self._clock = clock
        self._lock = forking.lock()
        self._signed: OrderedDict[tuple[str, int], tuple[float, str]] = OrderedDict()

    def url(self, path: str, seconds: int) -> str:
        """A URL that anyone can GET for `seconds`, less the time since it was first handed out."""
        now = self._clock()
        key = (path, seconds)
        with self._lock:
            until, url = self._signed.get(key, (0.0, ""))
            if now < until:
                self._signed.move_to_end(key)
                return url
        # Outside of the lock: RSA releases the interpreter, and IAM may take a while.
        url = self._sign_url(path, seconds, int(now))
        with self._lock:
            self._signed[key] = (int(now) + min(seconds / _REUSE_FRACTION, _REUSE_SECONDS), url)
            self._signed.move_to_end(key)
            if len(self._signed) > _REMEMBERED:
                self._signed.popitem(last=False)
        return url

    def _sign_url(self, path: str, seconds: int, second: int) -> str:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        query = encode_query(
            {
                "X-Goog-Algorithm": ALGORITHM,
                "X-Goog-Credential": f"{self._email}/{scope}",
                "X-Goog-Date": stamp,
                "X-Goog-Expires": str(seconds),
                "X-Goog-SignedHeaders": "host",
                **self._query,
            }
        )
        request = f"GET\n{path}\n{query}\nhost:{self._host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = sha256(request.encode()).hexdigest()
        signed = self._sign(f"{ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode())
        return f"{self._base}{path}?{query}&X-Goog-Signature={signed.hex()}"


def encode_object(name: str) -> str:
    """An object name as one segment of a JSON API path: '/' is encoded too."""
    return quote(name, safe="-._~", errors="surrogatepass")
