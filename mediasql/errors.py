"""Everything that mediasql raises.

MediaError
├── UsageError            a wrong call: raised in every context
│   ├── UnknownScheme     no provider serves this URL scheme
│   ├── ConfigError       a configuration name or value is not valid
│   ├── MissingExtra      an optional dependency is not installed
│   ├── CredentialsError  credentials are missing or cannot do what was asked
│   ├── SigningError      an expiry outside the provider's limits
│   └── ForbiddenByPolicy the profile, `allow` or `deny` of this connection forbids it
├── UnavailableError      this media cannot be had; asking again gives the same answer
│   ├── NotFound          404, 410, no such file
│   ├── Forbidden         401, 403, no permission
│   ├── DecodeError       the bytes are not media, or are damaged
│   └── Unsupported       the source cannot do this (signing a local path)
└── TransientError        a timeout, 429, 5xx or broken connection that outlived its retries
    └── SetupError        the caller's set-up is at fault: a certificate, a proxy

Warnings are raised only where Python is told to raise them (`python -W error`):

MediaWarning              queries go on, but give or do less than was asked for
└── CacheWarning          the cache on disk cannot be used

In a query, UnavailableError and TransientError become NULL and a row in `media_errors` (unless
`on_error='raise'`); while writing, TransientError aborts the statement so that nothing wrong is stored.
"""

from __future__ import annotations

import re
from typing import Self


class MediaError(Exception):
    """Base of all errors. `status` is the HTTP status where one was received.

    `no_store` is True where the server forbids to keep its answer, even such a one (Cache-Control: no-store).
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(redact(message))
        self.status = status
        self.no_store = False

    def again(self, message: str | None = None) -> Self:
        """The same error anew, to keep or to raise: one that was raised holds on to all the frames it went through."""
        error = type(self)(str(self) if message is None else message, status=self.status)
        error.no_store = self.no_store
        return error


class MediaWarning(UserWarning):
    """Base of all warnings: queries go on, but give or do less than was asked for."""


class CacheWarning(MediaWarning):
    """The cache on disk cannot be used for the moment; queries are answered without it."""


class UsageError(MediaError):
    """A wrong call: it raises wherever it happens, since no retry and no other row can mend it."""


class UnknownScheme(UsageError):
    """No provider serves this URL scheme."""


class ConfigError(UsageError):
    """A configuration name or value is not valid."""


class MissingExtra(UsageError):
    """An optional dependency is not installed; the message names the `pip install` line."""


class CredentialsError(UsageError):
    """Credentials are missing, or cannot do what was asked (such as sign)."""


class SigningError(UsageError):
    """An expiry outside the limits of the provider."""


class ForbiddenByPolicy(UsageError):
    """The profile, `allow` or `deny` of this connection forbids it. Nothing was asked of anyone."""


class UnavailableError(MediaError):
    """This media cannot be had, and asking again gives the same answer."""


class NotFound(UnavailableError):
    """The object does not exist."""


class Forbidden(UnavailableError):
    """The store refuses access to the object."""


class DecodeError(UnavailableError):
    """The bytes are not media, or are damaged."""


class Unsupported(UnavailableError):
    """The source cannot do what was asked."""


class TransientError(MediaError):
    """A failure of the moment, which outlived its retries; the same call may succeed later."""


class SetupError(TransientError):
    """The set-up of the caller is at fault, and not the object: a certificate authority that is not known, a proxy that
    refuses. Asking again gives the same answer until that is mended, and says nothing about the object."""


# Parameters that grant access, by the end of their names: X-Amz-Signature and -Security-Token, AWSAccessKeyId (V2),
# GoogleAccessId, X-Goog-Credential, CloudFront's Key-Pair-Id, and what APIs and sessions call theirs; Azure's `sig` and
# the like only as a whole name, and what is a common word only within a URL.
_SECRET = re.compile(
    r"((?:(?:^|[?&#;\s'\"(])(?:[\w.%-]*(?:signature|token|secret|password|passwd|passphrase|credential|accesskeyid|accessid"
    r"|(?:access|api|private)[_-]?key|key-pair-id|sess(?:ion)?[_-]?id|jwt|bearer)|sig\d?|auth|authorization|hmac|key|pwd)"
    r"|[?&](?:code|pass|sid))=)[^&#\s'\"]+",
    re.IGNORECASE,
)
# `user:password@`; the password of a URL that was not encoded may hold another '@'.
_PASSWORD = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^/?#\s:@]*:)[^/?#\s]+@", re.IGNORECASE)
# What stands alone before the '@' of a web or FTP address is a token. (Elsewhere it is an Azure container, or a user.)
_LONE_TOKEN = re.compile(r"(\b(?:https?|ftps?|webdavs?|davs?)://)[^/?#\s:@*]+@", re.IGNORECASE)
# A JSON Web Token, whatever it is called.
_JWT = re.compile(r"\beyJ[\w-]{8,}\.eyJ[\w-]{8,}(?:\.[\w-]*)?")


def redact(text: str) -> str:
    """`text` with passwords, signatures and tokens of URLs replaced by `***`."""
    shown = _LONE_TOKEN.sub(r"\1***@", _PASSWORD.sub(r"\1***@", _SECRET.sub(r"\1***", text)))
    return _JWT.sub("***", shown) if "eyJ" in shown else shown
