"""A URL, parsed once and kept exactly as given.

The scheme decides the provider; nothing is decoded, normalised or dropped, since `?`, `#` and `%41` are
legal in an S3 key, and a query string may carry the token that makes a URL work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# RFC 3986 section 3.1, but two characters at least.
_PROTOCOL = r"[A-Za-z][A-Za-z0-9+.-]+"
_SCHEME = re.compile(rf"({_PROTOCOL})://")
# fsspec's chaining: `zip://member::s3://bucket/a.zip`, `simplecache::s3://…`.
_CHAIN = re.compile(rf"({_PROTOCOL})(?:://.*?)?::{_PROTOCOL}(?:://|::)", re.DOTALL)
_AUTHORITY = re.compile(r"[^/?#]*")
# Stores that hold objects, and never something inside of another file: a `::http://` in their keys is just text.
_STORES = frozenset(
    ["file", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "wasb", "wasbs", "adl", "memory"]
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object is.

    url        as it was given
    scheme     in lower case; 'file' for local paths
    container  bucket, Azure container or host; '' for local files, for data: and for chained URLs
    path       the key: all that follows `container/`, untouched; the whole URL where the scheme has no container
    """

    url: str
    scheme: str
    container: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Split `url`. Never fails: what has no scheme is a local path."""
        if "::" in url and (chain := _CHAIN.match(url)) and chain[1].lower() not in _STORES:
            return cls(url, chain[1].lower(), "", url)
        if url[:5].lower() == "data:":
            return cls(url, "data", "", url)
        match = _SCHEME.match(url)
        if match is None:
            # RFC 8089 allows `file:/path` too.
            return cls(url, "file", "", url[5:] if url[:6].lower() == "file:/" else url)
        scheme = match[1].lower()
        rest = url[match.end() :]
        if scheme == "file":
            return cls(url, scheme, "", rest)
        if scheme in ("http", "https"):
            container = _AUTHORITY.match(rest)[0]  # type: ignore[index]
            return cls(url, scheme, container, rest[len(container) :].removeprefix("/"))
        container, _, path = rest.partition("/")
        return cls(url, scheme, container, path)

    @property
    def chained(self) -> bool:
        """Whether fsspec makes it out of several URLs."""
        return self.path == self.url and self.scheme not in ("file", "data")

    @property
    def name(self) -> str:
        """The last part of the path, without the query string or fragment of an http URL; '' for data: URLs."""
        path = self.path
        if self.scheme == "data":
            return ""
        if self.scheme in ("http", "https"):
            path = re.split(r"[?#]", path, maxsplit=1)[0]
        elif self.chained:
            path = next((part for part in path.split("::") if "://" in part), path)
        return path.rstrip("/").rpartition("/")[2]

    @property
    def extension(self) -> str:
        """The lower-case extension of the name without its dot, '' when there is none."""
        stem, dot, extension = self.name.rpartition(".")
        return extension.lower() if dot and stem else ""

    def __str__(self) -> str:
        return self.url
