"""gs://bucket/object: Google Cloud Storage.

Options are those of gcsfs.GCSFileSystem (`token`, `project`, `endpoint_url`, `requester_pays`), FSSPEC_GCS_*
and STORAGE_EMULATOR_HOST included. Credentials are application default credentials
(GOOGLE_APPLICATION_CREDENTIALS, gcloud's file, the metadata server), or what `token` gives: a service account
file, a dictionary, google-auth credentials, 'anon'. Where there are none, requests go unsigned, which is all
that a public bucket needs.

Reads use the JSON API and not the XML one because its ETags are those of its listings.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from typing import Any, ClassVar
from urllib.parse import urlsplit

from ...errors import ConfigError, CredentialsError, TransientError
from ..imports import importing
from ..location import Location
from ..signing import goog4, sigv4
from .base import KeyRange, ObjectInfo, Request, Signer
from .cloud import CloudProvider, filesystem_class, is_directory_marker, need_container, need_object
from .listing import ListedPage

# A token is renewed when less than this is left of it. google-auth thinks so below 225 s, gcsfs below 300.
RENEWAL_WINDOW = 330
RENEWAL_PAUSE = 5.0
# Signatures of the IAM service are made with keys that Google rotates: its own tools allow them 12 hours.
IAM_MAX_SECONDS = 43200
METADATA_TIMEOUT = 1.0

_PERMISSION = "the permission iam.serviceAccounts.signBlob (role Service Account Token Creator)"
# What gcsfs takes for `token` besides a file and a token itself.
_TOKEN_KINDS = ("anon", "google_default", "cache", "cloud", "browser")
_REMEDY = "give `token` a service account's key file, or impersonate a service account"


@dataclass(frozen=True, slots=True)
class _Account:
    """What gcsfs and google-auth made of the options and the environment.

    credentials  google-auth's; None: requests go unsigned
    endpoint     'https://storage.googleapis.com', or of an emulator
    payer        the project that pays for requests, if not the bucket's
    """

    credentials: Any
    endpoint: str
    payer: str | None


class GcsProvider(CloudProvider):
    """Reads with a bearer token, presigns with V4 signatures by a service account."""

    schemes: ClassVar[tuple[str, ...]] = ("gs", "gcs")
    name: ClassVar[str] = "Google Cloud Storage"

    variables: ClassVar[tuple[str, ...]] = (
        "STORAGE_EMULATOR_HOST",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "CLOUDSDK_CONFIG",
    )

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop)
        self._account: _Account | None = None
        self._signing: tuple[str, Callable[[bytes], bytes], bool] | None = None
        # Headers that authorise, and until when (time.time()) to send them without looking at the
        # credentials.
        self._headers: tuple[dict[str, str], float] = ({}, 0.0)
        self._renewed = (float("-inf"), False)

    def condition(self, version: ObjectInfo) -> dict[str, str]:
        """The tags of the JSON API have no quotes, and are compared as text."""
        return {"If-None-Match": version.etag} if version.etag else super().condition(version)

    def facts(self) -> dict[str, Any]:
        """The service account, or the file that names it."""
        facts = super().facts()
        token = facts.get("token")
        account = None
        if isinstance(token, Mapping):
            account = token.get("client_email") or token.get("client_id")
        elif isinstance(token, str) and (token in _TOKEN_KINDS or os.path.exists(token)):
            account = token
        if account:
            facts["account"] = account
            del facts["token"]
        return facts

    def request_now(self, location: Location) -> Request | None:
        if self._account is None or not (location.container and location.path) or time.time() >= self._headers[1]:
            return None
        return self._get(self._account, location)

    async def request(self, location: Location) -> Request:
        need_object(location)
        await self._authorised()
        return self._get(await self._connected(), location)

    def _get(self, account: _Account, location: Location) -> Request:
        headers = self._headers[0]
        bucket, name = goog4.encode_object(location.container), goog4.encode_object(location.path)
        return Request(f"{account.endpoint}/download/storage/v1/b/{bucket}/o/{name}?alt=media", headers)

    async def signer(self, location: Location) -> Signer:
        """Signing takes a millisecond with a key file, and a request to Google for each URL without one."""
        need_container(location)
        account = await self._connected()
        bucket = f"/{goog4.encode_object(location.container)}/"
        if account.credentials is None:
            base = account.endpoint + bucket
            return Signer(sign=lambda path, seconds: base + sigv4.encode_path(path))
        email, sign, by_iam = await self._signing_account(account)
        endpoint = urlsplit(account.endpoint)
        payer = {"userProject": account.payer} if account.payer else None
        signer = goog4.UrlSigner(email, sign, f"{endpoint.scheme}://{endpoint.netloc}", endpoint.netloc, payer)
        root = endpoint.path + bucket
        return Signer(
            sign=lambda path, seconds: signer.url(root + sigv4.encode_path(path), seconds),
            max_seconds=IAM_MAX_SECONDS if by_iam else goog4.MAX_SECONDS,
        )

    async def page(self, prefix: Location, keys: KeyRange, delimiter: str, token: str | None, size: int) -> ListedPage:
        """After "Objects: list" of the Cloud Storage JSON API."""
        need_container(prefix)
        parameters = {
            "prefix": keys.prefix,
            "maxResults": str(max(1, min(size, 1000))),
            "fields": "kind,prefixes,items(name,size,updated,etag,contentType),nextPageToken",
            "delimiter": delimiter,
            # Names from the first on, and before the second.
            "startOffset": f"{keys.after}\0" if keys.after else "",
            "endOffset": f"{keys.until}\0" if keys.until else "",
            "pageToken": token or "",
        }
        bucket = goog4.encode_object(prefix.container)

        async def sign() -> Request:
            headers = await self._authorised()
            endpoint = (await self._connected()).endpoint
            given = {name: value for name, value in parameters.items() if value}
            return Request(f"{endpoint}/storage/v1/b/{bucket}/o?{sigv4.encode_query(given)}", headers)

        return await self.listing(prefix, sign, _parse_page)

    async def recover(self, location: Location, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """A 401 may mean that the token was revoked, or expired by another clock."""
        account = self._account
        if status != 401 or account is None or account.credentials is None:
            return False
        async with self._lock:
            at, changed = self._renewed
            if time.monotonic() - at < RENEWAL_PAUSE:
                return changed
            old = account.credentials.token
            try:
                await self._renew(account)
            except (CredentialsError, TransientError):
                return False
            finally:
                changed = bool(account.credentials.token != old)
                self._renewed = (time.monotonic(), changed)
            return changed

    async def close(self) -> None:
        await super().close()
        self._account = None
        self._signing = None
        self._headers = ({}, 0.0)

    # Credentials

    async def _connected(self) -> _Account:
        if self._account is None:
            async with self._lock:
                if self._account is None:
                    self._account = await self._connect()
        return self._account

    async def _connect(self) -> _Account:
        # Not gcsfs.GCSFileSystem, which asks for each bucket's type over gRPC, on its own connections.
        kind = await filesystem_class("gcsfs.core", "GCSFileSystem", "gcsfs", "google")
        with importing("fsspec.config", "google.auth.exceptions"):
            from fsspec.config import apply_config
            from google.auth.exceptions import GoogleAuthError

        options = apply_config(kind, dict(self.options))
        try:
            filesystem = await asyncio.to_thread(_make_filesystem, kind, options, self.loop)
        except GoogleAuthError as error:
            raise CredentialsError(f"Google credentials cannot be used: {error.args[0]}") from None
        except (TypeError, ValueError, OSError) as error:
            raise ConfigError(f"the storage options for {self.name} are not valid: {error}") from None
        payer = filesystem.requester_pays
        return _Account(
            credentials=filesystem.credentials.credentials,
            endpoint=filesystem.base.removesuffix("/").removesuffix("/storage/v1").rstrip("/"),
            payer=(payer if isinstance(payer, str) else filesystem.project) if payer else None,
        )

    async def _authorised(self) -> dict[str, str]:
        """The headers that authorise a request; empty for anonymous ones."""
        if time.time() < self._headers[1]:
            return self._headers[0]
        account = await self._connected()
        async with self._lock:
            if time.time() >= self._headers[1]:
                await self._authorise(account)
        return self._headers[0]

    async def _authorise(self, account: _Account) -> None:
        credentials = account.credentials
        if credentials is None:
            self._headers = ({}, float("inf"))
            return
        left = _seconds_left(credentials)
        if credentials.token and left > RENEWAL_WINDOW:
            self._use_token(account)
            return
        try:
            await self._renew(account)
        except (CredentialsError, TransientError):
            # What is left of the old token is better than nothing.
            if not credentials.token or left <= 0:
                raise
            self._use_token(account)

    async def _renew(self, account: _Account) -> None:
        """Fetch a new token. google-auth blocks, hence the thread."""
        with importing("google.auth.exceptions", "google.auth.transport.requests"):
            from google.auth.exceptions import GoogleAuthError, TransportError
            from google.auth.transport.requests import Request as Transport

        try:
            await asyncio.to_thread(account.credentials.refresh, Transport())
        except TransportError as error:
            raise TransientError(f"Google's token service does not answer: {error.args[0]}") from None
        except GoogleAuthError as error:
            if error.retryable:
                raise TransientError(f"Google's token service failed: {error.args[0]}") from None
            raise CredentialsError(f"Google refuses the credentials: {error.args[0]}") from None
        self._use_token(account)

    def _use_token(self, account: _Account) -> None:
        credentials = account.credentials
        headers: dict[str, str] = {}
        credentials.apply(headers)  # with the quota project, if the credentials have one
        if account.payer:
            headers["x-goog-user-project"] = account.payer
        until = time.time() + max(_seconds_left(credentials) - RENEWAL_WINDOW, 1)
        self._headers = (headers, until)

    # Signing

    async def _signing_account(self, account: _Account) -> tuple[str, Callable[[bytes], bytes], bool]:
        """(e-mail of the service account, what signs with its key, whether each signature is a request)."""
        if self._signing is None:
            self._signing = await asyncio.to_thread(_find_signing_account, account.credentials)
        return self._signing


def _parse_page(body: bytes) -> ListedPage:
    """The page of a listing. Raises ValueError for anything else."""
    try:
        page = json.loads(body)
        items = page.get("items", ())
        names = [item["name"] for item in items]
        found = [
            (item["name"], _info(item))
            for item in items
            if not is_directory_marker(item["name"], int(item.get("size", 0)))
        ]
        if "error" in page or not isinstance(page.get("prefixes", []), list):
            raise ValueError(str(page.get("error"))[:100])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a listing: {error!r}") from None
    prefixes = page.get("prefixes", [])
    return ListedPage(found, page.get("nextPageToken") or None, max([*names[-1:], *prefixes[-1:], ""]), prefixes)


def _make_filesystem(kind: Any, options: dict[str, Any], loop: asyncio.AbstractEventLoop) -> Any:
    fixed = {**options, "asynchronous": True, "loop": loop, "skip_instance_cache": True}
    if options.get("token") is not None:
        return kind(**fixed)
    if _has_default_credentials() or _on_google():
        # By name, so that credentials that are there and broken are an error, and not an anonymous request.
        return kind(**{**fixed, "token": "google_default"})
    # gcsfs alone would now try the metadata server several times, for ten seconds where it does not exist.
    try:
        return kind(**{**fixed, "token": "cache"})
    except ValueError:
        return kind(**{**fixed, "token": "anon"})


def _has_default_credentials() -> bool:
    with importing("google.auth._cloud_sdk", "google.auth.environment_vars"):
        from google.auth import _cloud_sdk, environment_vars

    if os.environ.get(environment_vars.CREDENTIALS):
        return True
    return os.path.exists(_cloud_sdk.get_application_default_credentials_path())  # type: ignore[no-untyped-call]


def _on_google() -> bool:
    """Whether Google's metadata server answers, asked once and with little patience.

    The header tells, as google-auth does it; the address would not do, since other clouds use it too.
    """
    import http.client

    if os.environ.get("NO_GCE_CHECK") == "true":
        return False
    host = os.environ.get("GCE_METADATA_HOST") or os.environ.get("GCE_METADATA_IP") or "169.254.169.254"
    try:
        connection = http.client.HTTPConnection(host, timeout=METADATA_TIMEOUT)
        try:
            connection.request("GET", "/", headers={"Metadata-Flavor": "Google"})
            return connection.getresponse().getheader("Metadata-Flavor") == "Google"
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False


def _find_signing_account(credentials: Any) -> tuple[str, Callable[[bytes], bytes], bool]:
    """Who can sign with these credentials, found out by signing something. Blocks."""
    with importing(
        "google.auth.iam", "google.auth.credentials", "google.auth.transport.requests", "google.oauth2.service_account"
    ):
        from google.auth import iam
        from google.auth.credentials import Scoped, Signing
        from google.auth.transport.requests import Request as Transport
        from google.oauth2.service_account import Credentials as KeyFile

    if isinstance(credentials, KeyFile):
        return credentials.signer_email, credentials.sign_bytes, False
    if isinstance(credentials, Signing):  # impersonated: signs through IAM by itself
        email, sign = credentials.signer_email, credentials.sign_bytes
    else:
        # The metadata server names its account ('default' until then) with the first token.
        if getattr(credentials, "service_account_email", None) == "default":
            _translated(lambda _: credentials.refresh(Transport()), b"", "default")
        email = getattr(credentials, "service_account_email", None)
        if not email:
            raise CredentialsError(
                f"{type(credentials).__module__}.{type(credentials).__name__} cannot sign URLs: that takes "
                f"a service account's key, or {_PERMISSION}; {_REMEDY}"
            )
        if isinstance(credentials, Scoped):  # a token for storage alone is not let in at the IAM service
            scoped: Any = credentials
            credentials = scoped.with_scopes(["https://www.googleapis.com/auth/iam"])
        sign = iam.Signer(Transport(), credentials, email).sign  # type: ignore[no-untyped-call]
    _translated(sign, b"mediasql", email)
    return email, lambda message: _translated(sign, message, email), True


def _translated(sign: Callable[[bytes], Any], message: bytes, email: str) -> bytes:
    """`sign(message)`, with errors of google-auth as ours."""
    with importing("google.auth.exceptions"):
        from google.auth.exceptions import GoogleAuthError, RefreshError

    try:
        return sign(message)  # type: ignore[no-any-return]
    except RefreshError as error:
        raise CredentialsError(f"Google refuses the credentials of {email}: {error.args[0]}") from None
    except GoogleAuthError as error:
        text = str(error.args[0]) if error.args else ""
        # google-auth has no other way to tell a refusal of signBlob from an outage than its text.
        if "PERMISSION_DENIED" in text or "403" in text or "denied" in text.lower():
            raise CredentialsError(f"signing URLs as {email} needs {_PERMISSION} on that account; {_REMEDY}") from None
        raise TransientError(f"the IAM service did not sign as {email}: {text}") from None


def _seconds_left(credentials: Any) -> float:
    expiry = credentials.expiry
    return float("inf") if expiry is None else expiry.replace(tzinfo=UTC).timestamp() - time.time()


def _info(item: Mapping[str, Any]) -> ObjectInfo:
    updated = item.get("updated")
    return ObjectInfo(
        size=int(item["size"]) if "size" in item else None,
        last_modified=f"{updated[:19]}Z" if updated else None,  # '2026-11-23T17:50:52.123Z', always UTC
        etag=str(item.get("etag", "")).strip('"') or None,
        mime_type=item.get("contentType"),
    )
