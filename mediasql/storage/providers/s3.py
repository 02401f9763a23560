"""s3://bucket/key: Amazon S3, and everything that speaks its protocol.

Options are those of s3fs.S3FileSystem (`key`, `secret`, `token`, `profile`, `anon`, `endpoint_url`,
`requester_pays`, `client_kwargs`, `config_kwargs`), FSSPEC_S3_* variables included. Credentials are found as
botocore finds them: environment, ~/.aws files and profiles, assumed roles, SSO, container and instance roles.
Where there are none, requests go unsigned, which is all that a public bucket needs.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote_plus, urlsplit

from ...errors import ConfigError, CredentialsError, NotFound, TransientError
from ..imports import importing
from ..location import Location
from ..signing import profiles, sigv4
from ..transport import certificates
from ..transport.exchange import RetryableError, Tls
from .base import KeyRange, ObjectInfo, Request, Signer
from .cloud import (
    LOOKUP_TIMEOUT,
    CloudProvider,
    error_code,
    filesystem_class,
    is_directory_marker,
    need_object,
)
from .listing import ListedPage

# botocore renews temporary credentials when less than this is left of them, if asked.
RENEWAL_WINDOW = 900
# Stores refuse in bursts when a token expires; one look for new credentials serves them all.
RENEWAL_PAUSE = 5.0

# What botocore takes for a bucket name. Nothing else may get near a host name or a path.
_BUCKET = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:-]{1,255}")
# A bucket name that can be a label of a host name, and is covered by a wildcard certificate (it has no dots).
_LABEL = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
# Hosts of AWS itself, for which any region's host name is known. Others (PrivateLink too) are taken as they
# are.
_AWS_HOST = re.compile(r"(s3(?:-fips)?(?:\.dualstack)?)\.(?:[a-z0-9-]+\.)?(amazonaws\.(?:com|com\.cn|eu))")
# Where AWS serves a bucket, in whichever region: as a label of the host, or in the path.
_AWS_BUCKET = re.compile(
    r"(?:(?P<label>[a-z0-9.-]+)\.)?s3(?:-fips)?[.-](?:dualstack\.)?(?:[a-z0-9-]+\.)?amazonaws\.(?:com|com\.cn|eu)"
)
_REGION = re.compile(rb"<Region>([a-z0-9-]{3,40})</Region>")
_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired", "InvalidToken"}
)


@dataclass(frozen=True, slots=True)
class _Account:
    """What s3fs and botocore made of the options, the environment and the configuration files.

    credentials  botocore's, which renew themselves; None: requests go unsigned
    region       the one configured; `region_is_given` when it was in the options
    aws_host     'https://s3.{region}.amazonaws.com' on AWS itself; None for another endpoint
    """

    filesystem: Any
    credentials: Any
    endpoint: str
    aws_host: str | None
    region: str
    region_is_given: bool
    style: str
    requester_pays: bool
    tls: Tls | None


@dataclass(frozen=True, slots=True)
class _Target:
    """A bucket, ready to be read until `until` (time.time())."""

    base: str
    root: str
    region: str
    keys: sigv4.Keys | None
    signer: sigv4.HeaderSigner | None
    until: float
    tls: Tls | None

    def request(self, path: str, query: str = "") -> Request:
        url = f"{self.base}{path}?{query}" if query else f"{self.base}{path}"
        return Request(url, self.signer.headers(path, query) if self.signer else {}, self.tls)


class S3Provider(CloudProvider):
    """Reads with Signature V4 in headers, presigns with Signature V4 in the query."""

    schemes: ClassVar[tuple[str, ...]] = ("s3", "s3a")
    name: ClassVar[str] = "S3"
    credential_codes: ClassVar[frozenset[str]] = _EXPIRED | {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "RequestTimeTooSkewed",
    }

    variables: ClassVar[tuple[str, ...]] = (
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    )

    def __init__(self, options: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(options, loop)
        self._account: _Account | None = None
        self._retired: list[Any] = []
        self._keys: tuple[sigv4.Keys | None, float] = (None, 0.0)
        self._regions: dict[str, str] = {}
        self._targets: dict[str, _Target] = {}
        self._renewed = (float("-inf"), False)

    def facts(self) -> dict[str, Any]:
        """The endpoint and the AWS account, so that new keys of that change nothing; else the ID of the key."""
        return profiles.facts(super().facts())

    def request_now(self, location: Location) -> Request | None:
        target = self._targets.get(location.container)
        if target is None or not location.path or time.time() >= target.until:
            return None
        return target.request(f"{target.root}/{sigv4.encode_path(location.path)}")

    async def request(self, location: Location) -> Request:
        need_object(location)
        target = await self._target(location)
        return target.request(f"{target.root}/{sigv4.encode_path(location.path)}")

    async def signer(self, location: Location) -> Signer:
        """Presigned URLs of temporary credentials end with those, however long they were asked to live."""
        target = await self._target(location)
        account = await self._connected()
        root = f"{target.root}/"
        if target.keys is None:
            base = target.base + root
            return Signer(sign=lambda path, seconds: base + sigv4.encode_path(path))
        payer = {"x-amz-request-payer": "requester"} if account.requester_pays else None
        host = urlsplit(target.base).netloc
        presigned = sigv4.QuerySigner(target.keys, target.region, target.base, host, payer)
        return Signer(
            sign=lambda path, seconds: presigned.url(root + sigv4.encode_path(path), seconds),
            expires_at=None if target.until == float("inf") else target.until,
            max_seconds=sigv4.MAX_SECONDS,
        )

    async def page(self, prefix: Location, keys: KeyRange, delimiter: str, token: str | None, size: int) -> ListedPage:
        """After ListObjectsV2 of the Amazon S3 API Reference; after ListObjects where a store knows no other."""
        parameters = {
            "list-type": "2",
            "encoding-type": "url",  # XML cannot hold every key
            "max-keys": str(max(1, min(size, 1000))),
            "prefix": keys.prefix,
            "delimiter": delimiter,
            "start-after": keys.after,
        }
        if token is not None:
            kind, _, value = token.partition(":")
            parameters["continuation-token" if kind == "token" else "marker"] = value

        async def sign() -> Request:
            target = await self._target(prefix)
            given = {name: value for name, value in parameters.items() if value}
            return target.request(target.root or "/", sigv4.encode_query(given))

        return await self.listing(prefix, sign, _parse_page)

    def lists_ranges(self, prefix: Location) -> bool:
        """Not the directory buckets of S3 Express, which list in no order."""
        return not prefix.container.endswith("--x-s3")

    def is_own(self, location: Location, first: str, target: str) -> bool:
        """AWS redirects to the region that a bucket is in."""
        if super().is_own(location, first, target):
            return True
        here, there = urlsplit(first), urlsplit(target)
        place = _AWS_BUCKET.fullmatch(there.netloc.lower())
        if here.scheme != there.scheme or place is None or not _AWS_BUCKET.fullmatch(here.netloc.lower()):
            return False
        return location.container == (place["label"] or there.path.lstrip("/").partition("/")[0])

    async def recover(self, location: Location, status: int, headers: Mapping[str, str], body: bytes) -> bool:
        """A wrong region is learnt from the answer, expired credentials are looked for anew."""
        if status not in (301, 307, 400, 401, 403):
            return False
        if error_code(body) in _EXPIRED:
            return await self._renew()
        said = _REGION.search(body)
        region = headers.get("x-amz-bucket-region") or (said[1].decode() if said else "")
        bucket = location.container
        target = self._targets.get(bucket)
        if not region or (target is not None and target.region == region):
            return False
        self._regions[bucket] = region
        self._targets.pop(bucket, None)
        return True

    async def close(self) -> None:
        await super().close()
        retired, self._retired = self._retired, []
        if self._account is not None:
            retired.append(self._account.filesystem)
        self._account = None
        self._keys = (None, 0.0)
        self._targets.clear()
        for filesystem in retired:
            # s3fs closes its client only when it is collected, and then from a loop of its own.
            await filesystem._s3creator.__aexit__(None, None, None)

    async def _target(self, location: Location) -> _Target:
        bucket = location.container
        target = self._targets.get(bucket)
        if target is not None and time.time() < target.until:
            return target
        if not _BUCKET.fullmatch(bucket):
            raise NotFound(f"{bucket!r} cannot be the name of an S3 bucket")
        account = await self._connected()
        keys, until = await self._fresh_keys(account)
        region = await self._region(account, bucket, keys)
        base, root = _address(account, bucket, region)
        signer = None
        if keys is not None:
            payer = {"x-amz-request-payer": "requester"} if account.requester_pays else None
            signer = sigv4.HeaderSigner(keys, region, urlsplit(base).netloc, payer)
        target = self._targets[bucket] = _Target(base, root, region, keys, signer, until, account.tls)
        return target

    # Credentials

    async def _connected(self) -> _Account:
        if self._account is None:
            async with self._lock:
                if self._account is None:
                    self._account = await self._connect()
        return self._account

    async def _connect(self) -> _Account:
        kind = await filesystem_class("s3fs", "S3FileSystem", "s3fs")
        with importing("botocore.exceptions"):
            from botocore.exceptions import BotoCoreError

        try:
            filesystem = kind(asynchronous=True, loop=self.loop, skip_instance_cache=True, **self.options)
            client = await filesystem.set_session()
        except BotoCoreError as error:
            raise CredentialsError(f"S3 cannot be set up: {error}") from None
        except (TypeError, ValueError, KeyError) as error:
            raise ConfigError(f"the storage options for S3 are not valid: {error}") from None
        given = {**filesystem.config_kwargs, **filesystem.client_kwargs}.get("region_name")
        endpoint = urlsplit(client.meta.endpoint_url)
        host = endpoint.netloc.lower().removesuffix(":443" if endpoint.scheme == "https" else ":80")
        aws = _AWS_HOST.fullmatch(host)
        return _Account(
            filesystem=filesystem,
            credentials=None if filesystem.anon else client._request_signer._credentials,
            endpoint=f"{endpoint.scheme}://{host}{endpoint.path.rstrip('/')}",
            aws_host=f"{endpoint.scheme}://{aws[1]}.{{region}}.{aws[2]}" if aws else None,
            region="us-east-1" if client.meta.region_name == "aws-global" else client.meta.region_name,
            region_is_given=bool(given),
            style=(client.meta.config.s3 or {}).get("addressing_style") or "auto",
            requester_pays=bool(filesystem.requester_pays),
            tls=certificates.of_store(
                filesystem.client_kwargs.get("verify"), filesystem.session.get_config_variable("ca_bundle")
            ),
        )

    async def _fresh_keys(self, account: _Account) -> tuple[sigv4.Keys | None, float]:
        """The keys to sign with, and until when to do so without asking botocore again."""
        if time.time() < self._keys[1]:
            return self._keys
        async with self._lock:
            if time.time() >= self._keys[1]:
                self._keys = await self._ask_keys(account)
        return self._keys

    async def _ask_keys(self, account: _Account) -> tuple[sigv4.Keys | None, float]:
        if account.credentials is None:
            return None, float("inf")
        with importing("botocore.exceptions"):
            from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

        try:
            frozen = await account.credentials.get_frozen_credentials()
        except HTTPClientError as error:
            raise TransientError(f"the source of S3 credentials does not answer: {error}") from None
        except (BotoCoreError, ClientError, RuntimeError) as error:
            raise CredentialsError(f"there are no S3 credentials: {error}") from None
        keys = sigv4.Keys(frozen.access_key, frozen.secret_key, frozen.token)
        expiry = getattr(account.credentials, "_expiry_time", None)
        if expiry is None:
            return keys, float("inf")
        # Inside of the window botocore decides at each call, so it is asked, but not for every request.
        return keys, max(expiry.timestamp() - RENEWAL_WINDOW, time.time() + 1)

    async def _renew(self) -> bool:
        """Look for credentials from the start: files and variables may hold new ones.

        True when they differ.
        """
        async with self._lock:
            at, changed = self._renewed
            if time.monotonic() - at < RENEWAL_PAUSE:
                return changed
            old = self._keys[0]
            account = await self._connect()
            if self._account is not None:
                self._retired.append(self._account.filesystem)
            self._account = account
            self._keys = await self._ask_keys(account)
            self._targets.clear()
            changed = self._keys[0] != old
            self._renewed = (time.monotonic(), changed)
            return changed

    # Regions

    async def _region(self, account: _Account, bucket: str, keys: sigv4.Keys | None) -> str:
        if bucket in self._regions:
            return self._regions[bucket]
        if account.aws_host is None and (account.region_is_given or keys is None):
            return account.region
        async with self._lock:
            if bucket not in self._regions:
                region = await self._look_up_region(account, bucket)
                if region is None:
                    return account.region
                self._regions[bucket] = region
        return self._regions[bucket]

    async def _look_up_region(self, account: _Account, bucket: str) -> str | None:
        """What the bucket tells anyone; None when it does not answer, so that it is asked again."""
        base, root = _address(account, bucket, account.region)
        try:
            response = await self.client.send(
                Request(base + (root or "/"), {}, account.tls), "HEAD", seconds=LOOKUP_TIMEOUT
            )
        except RetryableError:
            return None
        if region := response.headers.get("x-amz-bucket-region"):
            return str(region)
        return None if response.status >= 500 or response.status == 429 else account.region


def _address(account: _Account, bucket: str, region: str) -> tuple[str, str]:
    """('https://host', path of the bucket); see "Virtual hosting of buckets" of the S3 User Guide."""
    endpoint = account.aws_host.format(region=region) if account.aws_host else account.endpoint
    scheme, host, path, *_ = urlsplit(endpoint)
    as_host = account.style == "virtual" or (account.style == "auto" and account.aws_host is not None)
    if as_host and _LABEL.fullmatch(bucket):
        return f"{scheme}://{bucket}.{host}", path
    return f"{scheme}://{host}", f"{path}/{bucket.replace(':', '%3A')}"


def _parse_page(body: bytes) -> ListedPage:
    """The page of a ListBucketResult. Raises ValueError for anything else."""
    from xml.etree import ElementTree  # a streaming parser in C

    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from None
    namespace, _, name = root.tag.rpartition("}")
    tag = (namespace + "}" if namespace else "").__add__
    if name != "ListBucketResult":
        raise ValueError(f"<{name}>")
    decode = unquote_plus if root.findtext(tag("EncodingType")) == "url" else str
    wanted = {tag(field): field for field in ("Key", "Size", "LastModified", "ETag")}
    found = []
    key = ""
    for element in root.iter(tag("Contents")):
        told = {wanted[child.tag]: child.text or "" for child in element if child.tag in wanted}
        key, size = decode(told.get("Key", "")), int(told.get("Size") or 0)
        if is_directory_marker(key, size):
            continue
        modified = told.get("LastModified")
        info = ObjectInfo(
            size=size,
            last_modified=f"{modified[:19]}Z" if modified else None,  # '2026-11-23T17:50:52.000Z', always UTC
            etag=told.get("ETag", "").strip('"') or None,
        )
        found.append((key, info))
    path = f"{tag('CommonPrefixes')}/{tag('Prefix')}"
    prefixes = [decode(element.text or "") for element in root.iterfind(path)]
    last = max([key, *prefixes[-1:]])
    return ListedPage(found, _next_page(root, tag, last), last, prefixes)


def _next_page(root: Any, tag: Callable[[str], str], last: str) -> str | None:
    """What names the page behind this one; version 1 of the listing has markers, and mostly the last name is one."""
    if root.findtext(tag("IsTruncated")) != "true":
        return None
    if token := root.findtext(tag("NextContinuationToken")):
        return f"token:{token}"
    if (marker := root.findtext(tag("NextMarker"))) or (root.find(tag("Marker")) is not None and last):
        return f"marker:{marker or last}"
    raise ValueError("it says that there is more, and not how to go on")
