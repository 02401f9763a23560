"""Every other fsspec protocol: memory://, zip://member::s3://…, sftp://, hf://, whatever is installed."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any, ClassVar

import fsspec
from fsspec.registry import known_implementations, registry

from ...errors import MissingExtra, UnknownScheme
from ..location import Location
from .base import Chunk, Entry, ObjectInfo, Provider, iso_time

# What fsspec's filesystems call these in `info`.
_TIMES = ("mtime", "LastModified", "last_modified", "modified", "updated", "created")
_ETAGS = ("ETag", "etag", "checksum", "sha256")


class GenericProvider(Provider):
    """Serves the schemes that no other provider claims. Options are the arguments of the fsspec filesystem; for a
    chained URL, those of each protocol under its name."""

    schemes: ClassVar[tuple[str, ...]] = ("*",)

    def read(self, location: Location, start: int, stop: int) -> Chunk:
        filesystem, path = self._open(location.url)
        details = filesystem.info(path)
        if details.get("type") == "directory":
            raise IsADirectoryError("it is a directory")
        return Chunk(filesystem.cat_file(path, start=start, end=stop), start, _info(details))

    async def pages(self, prefix: Location, *, recursive: bool, page_size: int) -> AsyncIterator[list[Entry]]:
        directories = self._directories(prefix, recursive)
        while (page := await asyncio.to_thread(next, directories, None)) is not None:
            if page:
                yield page

    def _directories(self, prefix: Location, recursive: bool) -> Iterator[list[Entry]]:
        filesystem, start = self._open(prefix.url)
        container = f"{prefix.container}/" if prefix.container else ""
        root = start if prefix.url.endswith("/") else start[: start.rfind("/") + 1]
        begins = start[len(root) :].lstrip("/")
        for directory, _, files in filesystem.walk(root, maxdepth=None if recursive else 1, detail=True):
            entries = []
            for name, details in sorted(files.items()):
                path = f"{directory.rstrip('/')}/{name}"
                if not path[len(root) :].lstrip("/").startswith(begins):
                    continue
                path = path.lstrip("/").removeprefix(container)
                entries.append(Entry(self.url_at(prefix, path), path, _info(details, path)))
            yield entries

    def _open(self, url: str) -> tuple[Any, str]:
        scheme = Location.parse(url).scheme
        if scheme not in registry and scheme not in known_implementations:
            raise UnknownScheme(
                f"no provider for {scheme}:// URLs; mediasql reads http, https, s3, gs, az, abfs, wasbs, file and "
                "local paths by itself, and any other protocol of fsspec whose package is installed"
            )
        try:
            return fsspec.core.url_to_fs(url, **self.options)  # type: ignore[no-any-return]
        except ImportError as error:
            raise MissingExtra(f"{scheme}:// needs another package: {error}") from None


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
