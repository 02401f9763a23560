"""az://container/blob and abfss://container@account.dfs.core.windows.net/blob: Azure Blob Storage.

Options are those of adlfs.AzureBlobFileSystem (`account_name`, `account_key`, `sas_token`,
`connection_string`, `credential`, `client_id`, `client_secret`, `tenant_id`, `anon`, `account_host`), with
FSSPEC_ABFS_* and AZURE_STORAGE_* variables. Without any of them Azure's default credential is tried
(environment, workload and managed identity, az login), and where that has nothing, requests go unsigned, which
is all that a public container needs.

A URL may name its account. Keys, SAS tokens and connection strings are only ever used for their own account.
Tokens of a person or an identity are good for all of Azure Storage, and go to the account that the URL names.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from ...errors import ConfigError, CredentialsError, Forbidden, NotFound, TransientError
from ..imports import importing
from ..location import Location
from ..signing import sas, sigv4
from ..transport.exchange import RetryableError
from .base import KeyRange, ObjectInfo, Request, Signer, iso_time
from .cloud import CloudProvider, error_code, filesystem_class, is_directory_marker, need_object
from .listing import ListedPage

# Our own requests go out with one SAS token per container, made for an hour and renewed at half of it.
SAS_SECONDS = 3600
DELEGATION_SECONDS = 3600
RENEWAL_WINDOW = 300
RENEWAL_PAUSE = 5.0

_SCOPE = "https://storage.azure.com/.default"
# What a connection string says of the place, and what options say of who asks.
_PLACES = frozenset({"AccountName", "BlobEndpoint", "EndpointSuffix"})
_KEYS = frozenset({"account_key", "sas_token", "client_secret", "credential"})
_CONTAINER = re.compile(r"\$root|\$web|\$logs|[a-z0-9](?:-?[a-z0-9])+")
# The clouds that Microsoft runs. A token is sent to no other host, unless the options name it.
_HOST = re.compile(
    r"([a-z0-9]{3,24}(?:-secondary)?)\.(?:blob|dfs)\.(core\.(?:windows\.net|chinacloudapi\.cn|usgovcloudapi\.net))"
)


@dataclass(frozen=True, slots=True)
class _Account:
    """What adlfs made of the options and the environment: at most one of the credentials is there.

    endpoint    'https://account.blob.core.windows.net', or of an emulator
    key         the account key
    token       a SAS token, without its '?'
    credential  of azure-identity
    """

    name: str
    endpoint: str
    key: str | None = None
    token: str | None = None
    credential: Any = None


@dataclass(frozen=True, slots=True)
class _Target:
    """A container, ready to be read until `until` (time.time())."""

    account: _Account
    container: str
    url: str
    query: str
    headers: dict[str, str]
    until: float

    def request(self, path: str, query: str = "") -> Request:
        both = "&".join(part for part in (query, self.query) if part)
        return Request(f"{self.url}{path}?{both}" if both else f"{self.url}{path}", self.headers)


class AzureProvider(CloudProvider):
    """Reads with a SAS token or a bearer token, presigns with SAS tokens of single blobs."""

    schemes: ClassVar[tuple[str, ...]] = ("az", "abfs", "abfss", "wasb", "wasbs")
    name: ClassVar[str] = "Azure Blob Storage"
    credential_codes: ClassVar[frozenset[str]] = frozenset({"AuthenticationFailed", "InvalidAuthenticationInfo"})

    variables: ClassVar[tuple[str, ...]] = (
        "AZURE_STORAGE_ACCOUNT_NAME",
        "AZURE_TENANT_ID",
        "AZURE_CLIENT_ID",
    )

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop)
        self._accounts: dict[str, _Account] = {}
        self._targets: dict[str, _Target] = {}
        self._bearer: dict[str, tuple[str, float]] = {}
        self._delegations: dict[str, tuple[sas.DelegationKey, float]] = {}
        self._renewed = (float("-inf"), False)

    def facts(self) -> dict[str, Any]:
        """Which storage account it is, and where; whose key or token reads it makes no other objects of its blobs."""
        facts = super().facts()
        given = str(facts.pop("connection_string", None) or os.environ.get("AZURE_STORAGE_CONNECTION_STRING") or "")
        for part in given.split(";"):
            name, _, value = part.strip().partition("=")
            if name in _PLACES:
                facts[name] = value
        return {name: value for name, value in facts.items() if name not in _KEYS}

    def request_now(self, location: Location) -> Request | None:
        target = self._targets.get(location.container)
        if target is None or not location.path or time.time() >= target.until:
            return None
        return target.request(f"/{sigv4.encode_path(location.path)}")

    async def request(self, location: Location) -> Request:
        need_object(location)
        target = await self._target(location)
        return target.request(f"/{sigv4.encode_path(location.path)}")

    async def signer(self, location: Location) -> Signer:
        """A given SAS token is appended as it is: it alone decides how long the URL lives."""
        target = await self._target(location)
        account, base = target.account, target.url + "/"
        if account.credential is None and account.key is None:
            ending = f"?{account.token}" if account.token else ""
            return Signer(sign=lambda path, seconds: f"{base}{sigv4.encode_path(path)}{ending}")
        https = account.endpoint.startswith("https:")
        if account.key is not None:
            by_key = sas.SasSigner(account.name, target.container, account.key, https_only=https)
            return Signer(sign=lambda path, secs: f"{base}{sigv4.encode_path(path)}?{by_key.blob(path, secs)}")
        key, until = await self._delegation(account, target)
        delegated = sas.SasSigner(account.name, target.container, key, https_only=https)
        return Signer(
            sign=lambda path, secs: f"{base}{sigv4.encode_path(path)}?{delegated.blob(path, secs)}",
            expires_at=until,
            max_seconds=sas.DELEGATION_MAX_SECONDS,
        )

    async def page(self, prefix: Location, keys: KeyRange, delimiter: str, token: str | None, size: int) -> ListedPage:
        """After "List Blobs" of the Azure Storage REST API reference."""
        parameters = {
            "restype": "container",
            "comp": "list",
            "maxresults": str(max(1, min(size, 5000))),
            "prefix": keys.prefix,
            "delimiter": delimiter,
            "marker": token or "",
        }

        async def sign() -> Request:
            target = await self._target(prefix)
            return target.request("", sigv4.encode_query({name: value for name, value in parameters.items() if value}))

        return await self.listing(prefix, sign, _parse_page)

    def lists_ranges(self, prefix: Location) -> bool:
        """Azure lists from the beginning of a prefix, or from where a page ended."""
        return False

    async def recover(self, location: Location, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """A 401 may mean that the token was revoked, or expired by another clock."""
        target = self._targets.get(location.container)
        if status != 401 or target is None or target.account.credential is None:
            return False
        async with self._lock:
            at, changed = self._renewed
            if time.monotonic() - at >= RENEWAL_PAUSE:
                old = self._bearer.pop(target.account.endpoint, ("", 0.0))[0]
                self._targets.clear()
                token = await self._token(target.account)
                changed = token is not None and token[0] != old
                self._renewed = (time.monotonic(), changed)
            return changed

    async def close(self) -> None:
        await super().close()
        self._accounts.clear()
        self._targets.clear()
        self._bearer.clear()
        self._delegations.clear()

    async def _target(self, location: Location) -> _Target:
        target = self._targets.get(location.container)
        if target is not None and time.time() < target.until:
            return target
        container, _, host = location.container.partition("@")
        if not _CONTAINER.fullmatch(container):
            raise NotFound(f"{container!r} cannot be the name of an Azure container")
        async with self._lock:
            if host not in self._accounts:
                self._accounts[host] = await self._connect(host)
            target = await self._make_target(self._accounts[host], container)
            self._targets[location.container] = target
        return target

    async def _make_target(self, account: _Account, container: str) -> _Target:
        headers = {"x-ms-version": sas.VERSION}
        query, until = account.token or "", float("inf")
        if account.key is not None:
            until = time.time() + SAS_SECONDS / 2
            https = account.endpoint.startswith("https:")
            signer = sas.SasSigner(account.name, container, account.key, https_only=https)
            query = signer.container(time.time() + SAS_SECONDS)
        elif account.credential is not None:
            token = await self._token(account)
            if token is None:  # the default credential found nothing: not again for this account
                account = replace(account, credential=None)
                self._accounts.update(
                    {host: account for host, known in self._accounts.items() if known.endpoint == account.endpoint}
                )
            else:
                headers["Authorization"] = f"Bearer {token[0]}"
                until = max(token[1] - RENEWAL_WINDOW, time.time() + 1)
        return _Target(account, container, f"{account.endpoint}/{container}", query, headers, until)

    # Credentials

    async def _connect(self, host: str) -> _Account:
        kind = await filesystem_class("adlfs", "AzureBlobFileSystem", "'mediasql[azure]'", "azure")
        match = _HOST.fullmatch(host.lower())
        options = dict(self.options)
        if not _names_account(kind, options):
            if not match:
                raise CredentialsError(
                    f"{self.name} needs to know the account: give `account_name` or `connection_string`, "
                    "or a URL such as abfs://container@account.dfs.core.windows.net/path"
                )
            options["account_name"] = match[1]
            options.setdefault("account_host", host.lower().replace(".dfs.", ".blob.", 1))
        try:
            filesystem = await asyncio.to_thread(_make_filesystem, kind, options)
        except ImportError as error:
            raise CredentialsError(f"Azure credentials cannot be used: {error}") from None
        except (TypeError, ValueError) as error:
            raise ConfigError(f"the storage options for {self.name} are not valid: {error}") from None
        account = _account(filesystem)
        if not host or host.lower().replace(".dfs.", ".blob.", 1) == urlsplit(account.endpoint).netloc:
            return account
        if match and match[1] == account.name:  # an emulator, or a private link, of the account in the URL
            return account
        if not match:
            raise Forbidden(f"{host!r} is no host of {self.name}, and not the one in its options")
        # Another account than the one in the options: their key or SAS token is of no use there.
        endpoint = f"https://{match[1]}.blob.{match[2]}"
        return _Account(match[1].removesuffix("-secondary"), endpoint, credential=account.credential)

    async def _token(self, account: _Account) -> tuple[str, float] | None:
        """A bearer token and its expiry; None when Azure's default credential has nothing to offer."""
        token = self._bearer.get(account.endpoint)
        if token is not None and time.time() < token[1] - RENEWAL_WINDOW:
            return token
        with importing("azure.core.exceptions"):
            from azure.core.exceptions import AzureError, ClientAuthenticationError

        try:
            # azure-identity has clients of both kinds; the synchronous ones block.
            if inspect.iscoroutinefunction(account.credential.get_token):
                found = await account.credential.get_token(_SCOPE)
            else:
                found = await asyncio.to_thread(account.credential.get_token, _SCOPE)
        except ClientAuthenticationError as error:
            if token is not None and time.time() < token[1]:
                return token
            if _is_last_resort(account.credential):
                return None
            raise CredentialsError(f"Azure refuses the credentials: {error.message}") from None
        except AzureError as error:
            if token is not None and time.time() < token[1]:
                return token
            raise TransientError(f"Azure's token service does not answer: {error.message}") from None
        self._bearer[account.endpoint] = (found.token, float(found.expires_on))
        return self._bearer[account.endpoint]

    # Signing

    async def _delegation(self, account: _Account, target: _Target) -> tuple[sas.DelegationKey, float]:
        """A key to sign with in the name of the credential.

        A key lives for a week at most, and no URL outlives its key: fetched anew each hour, it costs a URL of seven
        days little more than that.
        """
        kept = self._delegations.get(account.endpoint)
        if kept is not None and time.time() < kept[1]:
            return kept
        now = time.time()
        request = Request(f"{account.endpoint}/?restype=service&comp=userdelegationkey", target.headers)
        try:
            response = await self.client.send(request, "POST", sas.DelegationKey.request(now))
        except RetryableError as error:
            raise TransientError(f"{account.endpoint} gives no user delegation key: {error}") from None
        status, answer = response.status, response.body
        if status >= 500 or status in (408, 429):
            raise TransientError(f"{account.endpoint} gives no user delegation key", status=status)
        if status != 200:
            raise CredentialsError(
                f"signing URLs of {account.endpoint} needs a user delegation key, which was refused with "
                f"{status} {error_code(answer)}: give the credential the role Storage Blob Delegator, "
                "or give `account_key` or `sas_token`",
                status=status,
            )
        kept = sas.DelegationKey.parse(answer), now + DELEGATION_SECONDS
        self._delegations[account.endpoint] = kept
        return kept


def _is_last_resort(credential: Any) -> bool:
    """Whether nobody asked for this credential: adlfs tries it where the options have none."""
    return type(credential).__name__ == "DefaultAzureCredential" and "AZURE_CLIENT_ID" not in os.environ


def _names_account(kind: Any, options: Mapping[str, Any]) -> bool:
    with importing("fsspec.config"):
        from fsspec.config import apply_config

    given = apply_config(kind, dict(options))
    names = ("account_name", "connection_string")
    return any(given.get(name) or os.environ.get(f"AZURE_STORAGE_{name.upper()}") for name in names)


def _make_filesystem(kind: Any, options: dict[str, Any]) -> Any:
    # On fsspec's own loop, since adlfs closes itself there when Python ends. Only its credentials are wanted.
    return kind(**{**options, "skip_instance_cache": True})


def _account(filesystem: Any) -> _Account:
    """What adlfs and the SDK know, once they have sorted out options, environment and connection strings."""
    service = filesystem.service_client
    parts = urlsplit(service.url)
    endpoint = f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
    account = _Account(service.account_name or parts.netloc.partition(".")[0], endpoint)
    credential = service.credential
    if key := getattr(credential, "account_key", None):
        return replace(account, name=credential.account_name, key=key)
    if signature := getattr(credential, "signature", None):  # AzureSasCredential
        return replace(account, token=signature.lstrip("?"))
    if parts.query:
        return replace(account, token=parts.query)
    if hasattr(credential, "get_token"):
        # adlfs makes its own credentials in two kinds; the asynchronous one would belong to fsspec's loop.
        return replace(account, credential=filesystem.sync_credential or credential)
    return account


def _parse_page(body: bytes) -> ListedPage:
    """The page of an EnumerationResults. Raises ValueError for anything else."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    if root.tag != "EnumerationResults":
        raise ValueError(f"<{root.tag}>")
    found = []
    for blob in root.iter("Blob"):
        name = _name(blob)
        said = {part.tag: part.text for part in blob.find("Properties") or ()}
        size = int(said.get("Content-Length") or 0)
        if is_directory_marker(name, size) or said.get("ResourceType") == "directory":
            continue
        modified = said.get("Last-Modified")
        info = ObjectInfo(
            size=size,
            last_modified=iso_time(parsedate_to_datetime(modified).timestamp()) if modified else None,
            etag=(said.get("Etag") or "").strip('"') or None,
            mime_type=said.get("Content-Type"),
        )
        found.append((name, info))
    prefixes = [_name(each) for each in root.iter("BlobPrefix")]
    return ListedPage(found, root.findtext("NextMarker") or None, prefixes=prefixes)


def _name(entry: Any) -> str:
    element = entry.find("Name")
    if element is None:
        return ""
    name = element.text or ""
    return unquote(name) if element.get("Encoded") == "true" else name  # characters that XML cannot hold
