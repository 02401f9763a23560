"""A URL, parsed once and kept exactly as given.

The scheme decides the provider; nothing is decoded, normalised or dropped, since `?`, `#` and `%41` are
legal in an S3 key, and a query string may carry the token that makes a URL work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# RFC 3986 section 3.1, but two characters at least.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
# fsspec's chaining, `zip://member::s3://bucket/a.zip` or `simplecache::s3://…`. A key may contain `::` too, so
# it is a chain only where a protocol stands on both sides.
_CHAIN = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]+)://[^:]*(?::[^:]+)*|([A-Za-z][A-Za-z0-9+.-]+))::[A-Za-z][A-Za-z0-9+.-]*:"
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where an object is.

    url        as it was given
    scheme     in lower case; 'file' for local paths
    container  bucket, Azure container or host; '' for local files and for chained URLs
    path       the key: all that follows `container/`, untouched; the whole URL where the scheme has no container
    """

    url: str
    scheme: str
    container: str
    path: str

    @classmethod
    def parse(cls, url: str) -> Location:
        """Split `url`. Never fails: what has no scheme is a local path."""
        if chain := _CHAIN.match(url):
            return cls(url, (chain[1] or chain[2]).lower(), "", url)
        if url[:5].lower() == "data:":
            return cls(url, "data", "", url)
        match = _SCHEME.match(url)
        if match is None:
            return cls(url, "file", "", url)
        scheme = match[1].lower()
        rest = url[match.end() :]
        if scheme == "file":
            return cls(url, scheme, "", rest)
        container, _, path = rest.partition("/")
        return cls(url, scheme, container, path)

    @property
    def name(self) -> str:
        """The last part of the path, without the query string or fragment of an http URL."""
        path = self.path
        if self.scheme in ("http", "https"):
            path = re.split(r"[?#]", path, maxsplit=1)[0]
        elif not self.container and "::" in path:
            path = path.split("::", 1)[0]
        return path.rstrip("/").rpartition("/")[2]

    @property
    def extension(self) -> str:
        """The lower-case extension of the name without its dot, '' when there is none."""
        stem, dot, extension = self.name.rpartition(".")
        return extension.lower() if dot and stem else ""

    def __str__(self) -> str:
        return self.url
