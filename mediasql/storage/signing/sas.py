"""Shared access signatures of Azure Blob Storage, by account key and by user delegation key.

After "Create a service SAS" and "Create a user delegation SAS" of the Azure Storage REST API reference, in
the layout of `VERSION`: both documents give the string to sign by version, and the service checks by the `sv`
it is sent.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

VERSION = "2022-11-02"
DELEGATION_MAX_SECONDS = 604800


@dataclass(frozen=True, slots=True)
class DelegationKey:
    """What `Get User Delegation Key` answers. Times as it wrote them."""

    object_id: str
    tenant_id: str
    start: str
    expiry: str
    service: str
    version: str
    value: str = field(repr=False)

    @staticmethod
    def request(now: float) -> bytes:
        """The body that asks for a key as long-lived as there are, with room for clocks that differ."""
        start, expiry = timestamp(now - 300), timestamp(now + DELEGATION_MAX_SECONDS - 600)
        return f"<KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>".encode()

    @classmethod
    def parse(cls, body: bytes) -> DelegationKey:
        """The key in the answer."""
        from xml.etree import ElementTree

        root = ElementTree.fromstring(body)
        names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion", "Value")
        return cls(*(root.findtext(name) or "" for name in names))


def timestamp(seconds: float) -> str:
    """Seconds since the epoch as SAS wants them: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class SasSigner:
    """Makes SAS tokens for one account and container.

    key         the account key (base64), or a user delegation key
    https_only  whether the token is refused over plain HTTP
    """

    def __init__(
        self,
        account: str,
        container: str,
        key: str | DelegationKey,
        *,
        https_only: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._secret = base64.b64decode(key.value if isinstance(key, DelegationKey) else key)
        self._resource = f"/blob/{account}/{container}"
        self._clock = clock
        protocol = "https" if https_only else ""
        if isinstance(key, DelegationKey):
            parts = [key.object_id, key.tenant_id, key.start, key.expiry, key.service, key.version]
            # Behind the key: authorised and unauthorised object id, correlation id, then IP.
            self._identity = "\n".join([*parts, "", "", "", ""])
            names = ("skoid", "sktid", "skt", "ske", "sks", "skv")
            self._parameters = "".join(
                f"&{name}={quote(part, safe='')}" for name, part in zip(names, parts, strict=True)
            )
        else:
            # A stored policy's identifier, then IP.
            self._identity = "\n"
            self._parameters = ""
        # Snapshot time, encryption scope and five response headers, all unset.
        self._ending = f"{protocol}\n{VERSION}\n%s\n" + "\n" * 6
        self._spr = "&spr=https" if https_only else ""
        self._blob_ending = self._ending % "b"
        self._last: tuple[int, str, str] = (-1, "", "")

    def blob(self, path: str, seconds: int) -> str:
        """A token to read one blob for `seconds`. `path` is its name, not encoded."""
        expiry = -int(-self._clock() // 1) + seconds
        last = self._last
        if last[0] != expiry:
            text = timestamp(expiry)
            self._last = last = (expiry, text, text.replace(":", "%3A"))
        text = f"r\n\n{last[1]}\n{self._resource}/{path}\n{self._identity}\n{self._blob_ending}"
        return f"se={last[2]}&sp=r{self._spr}&sv={VERSION}&sr=b{self._parameters}&sig={self._sign(text)}"

    def container(self, expiry: float, permissions: str = "rl") -> str:
        """A token to read and list the whole container until `expiry`, for our own requests."""
        text = timestamp(expiry)
        signed = self._sign(f"{permissions}\n\n{text}\n{self._resource}\n{self._identity}\n{self._ending % 'c'}")
        shown = text.replace(":", "%3A")
        return f"se={shown}&sp={permissions}{self._spr}&sv={VERSION}&sr=c{self._parameters}&sig={signed}"

    def _sign(self, text: str) -> str:
        digest = hmac.digest(self._secret, text.encode("utf-8", "surrogatepass"), "sha256")
        return quote(base64.b64encode(digest), safe="")
