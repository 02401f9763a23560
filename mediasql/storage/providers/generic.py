"""Every other fsspec protocol: memory://, zip://member::s3://…, sftp://, hf://, whatever is installed."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from importlib.metadata import metadata
from itertools import islice
from typing import Any, ClassVar

from ...errors import MediaError, MissingExtra, UnavailableError, UnknownScheme
from .. import threads
from ..imports import importing
from ..location import Location
from .base import Chunk, Entry, KeyRange, ObjectInfo, Provider, iso_time

# What fsspec's filesystems call these in `info`.
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
_ETAGS = ("ETag", "etag", "checksum", "sha256")
# The part of a chained URL that names the object: the first that has a path.
_MEMBER = re.compile(r"((?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://)(.*?)(::.*|)", re.DOTALL)


class GenericProvider(Provider):
    """Serves the schemes that no other provider claims. Options are the arguments of the fsspec filesystem; for a
    chained URL, those of each protocol under its name."""

    schemes: ClassVar[tuple[str, ...]] = ("*",)

    def cached(self, location: Location) -> bool:
        here = ("memory", "data", "file", "local")
        return location.scheme not in here and not any(f"::{scheme}:" in location.url for scheme in here)

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        try:
            filesystem, path = self.open(location)
            details = filesystem.info(path)
            if details.get("type") == "directory":
                raise IsADirectoryError("it is a directory")
            size = details.get("size")
            if size is not None:
                stop = min(stop, size)  # some take a slice behind the end for an error
            data = filesystem.cat_file(path, start=start, end=stop) if start < stop else b""
            return Chunk(data, start, _info(details))
        except (OSError, MediaError):
            raise
        except Exception as error:  # a filesystem of others may raise anything
            raise UnavailableError(f"{location.scheme}: {error or type(error).__name__}") from error

    async def pages(
        self, prefix: Location, keys: KeyRange, *, recursive: bool, page_size: int
    ) -> AsyncIterator[list[Entry]]:
        files = self._files(prefix, recursive)
        while page := await threads.run(prefix.scheme, lambda: list(islice(files, page_size))):
            yield page

    def glob_path(self, location: Location) -> str:
        return self._split(location)[1]

    def url_at(self, location: Location, path: str) -> str:
        before, _, after = self._split(location)
        return f"{before}{path}{after}"

    def _split(self, location: Location) -> tuple[str, str, str]:
        """What comes before the path of the object in the URL, the path, and what comes behind it."""
        if location.chained and (member := _MEMBER.fullmatch(location.url)):
            return member[1], member[2], member[3]
        before = super().url_at(location, "")
        return before, location.path, ""

    def _files(self, prefix: Location, recursive: bool) -> Iterator[Entry]:
        filesystem, _ = self.open(prefix)
        before, path, after = self._split(prefix)
        # What filesystems put before a path: the container, a slash.
        _, root = self.open(Location.parse(f"{before}{path[: path.rfind('/') + 1]}{after}"))
        root = root.rstrip("/")
        here = path[: path.rfind("/") + 1]
        for directory, _, files in filesystem.walk(root, maxdepth=None if recursive else 1, detail=True):
            inside = directory[len(root) :].strip("/")
            for name, details in sorted(files.items()):
                found = f"{here}{inside}/{name}" if inside else f"{here}{name}"
                if found.startswith(path):
                    yield Entry(f"{before}{found}{after}", found, _info(details, found))

    def open(self, location: Location) -> tuple[Any, str]:
        """The filesystem that has `location`, and its name for it."""
        with importing("fsspec.core", "fsspec.registry"):
            from fsspec.core import url_to_fs
            from fsspec.registry import get_filesystem_class, known_implementations, registry

        parts = location.url.split("::") if location.chained else [location.scheme]
        schemes = [part.partition("://")[0].lower() for part in parts]
        for scheme in schemes:
            if scheme not in registry and scheme not in known_implementations:
                raise _unknown(scheme)
        url, options = location.url, self.options
        if self.policy is not None and "::" in url:
            url, options = self.policy.chain(location, options)
        # fsspec knows protocols in lower case only.
        url = re.sub(r"(^|::)[A-Za-z][A-Za-z0-9+.-]+(?=://)", lambda protocol: protocol[0].lower(), url)
        try:
            for scheme in schemes:
                with importing(f"fsspec's {scheme}"):
                    get_filesystem_class(scheme)
            filesystem, path = url_to_fs(url, **options)
            # fsspec 2026.9 strips `data:` off, and then looks for it.
            return filesystem, location.url if location.scheme == "data" else path
        except ImportError as error:
            raise _missing(location.scheme, error) from None


def _unknown(scheme: str) -> UnknownScheme:
    from ... import discovery

    known = ", ".join(sorted(discovery.providers().keys() - {"*"}))
    return UnknownScheme(
        f"no provider for {scheme}:// URLs; mediasql reads {known} and local paths by itself, and any other protocol "
        "of fsspec whose package is installed"
    )


def _missing(scheme: str, error: ImportError) -> MissingExtra:
    cause = error.__cause__
    module = (cause.name if isinstance(cause, ImportError) else error.name) or scheme
    extras = metadata("fsspec").get_all("Provides-Extra") or []
    package = f"'fsspec[{scheme}]'" if scheme in extras else module.partition(".")[0].replace("_", "-")
    return MissingExtra(f"{scheme}:// needs another package ({error}): pip install {package}")


def _info(details: dict[str, Any], path: str = "") -> ObjectInfo:
    modified = next((details[key] for key in _TIMES if details.get(key)), None)
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    etag = next((details[key] for key in _ETAGS if details.get(key)), None)
    return ObjectInfo(
        size=details.get("size"),
        last_modified=iso_time(modified) if isinstance(modified, int | float) else None,
        etag=str(etag).strip('"') if etag else None,
        mime_type=mimetypes.guess_type(path)[0],
    )
