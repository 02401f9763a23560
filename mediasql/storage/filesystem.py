"""The cache as an fsspec filesystem, through which pandas, PyAV, Pillow and others read.

`fsspec.open('mediasql::s3://bucket/key')` reads one object. `mediasql.filesystem()` is the same for all URLs: its paths
are whole URLs. Reading goes over mediasql's own requests and cache, and so does listing on the web; elsewhere
the filesystem of the protocol lists.
"""

from __future__ import annotations

import asyncio
import errno
import io
import os
from contextlib import nullcontext
from datetime import datetime
from typing import Any, ClassVar

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.core import url_to_fs
from fsspec.implementations.chained import ChainedFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import tokenize

from .. import errors
from ..config import Config
from . import loop
from .cache.catalogue import BLOCK
from .files import MediaFile, Object, as_os_errors, details, next_part, os_error, read_only
from .location import Location
from .providers.base import Provider
from .providers.generic import GenericProvider
from .providers.http import HttpProvider
from .providers.local import LocalProvider, local_path
from .shared import shared
from .store import Store

_AT_ONCE = 64  # objects that `cat` and `cat_ranges` read at a time


def filesystem(**config: Any) -> MediaFileSystem:
    """A read-only fsspec filesystem over all URLs that mediasql reads, with its cache: paths are whole URLs.

    The arguments are those of `connect`. Raises ConfigError.
    """
    return MediaFileSystem(**config)


class MediaFileSystem(ChainedFileSystem):  # type: ignore[misc]
    """What `mediasql::` stands for in fsspec's URLs.

    target_protocol, target_options, fo
                what fsspec says of the URL behind `mediasql::`; paths are those of that protocol then
    config      as for `mediasql.connect`

    It is pickled by its arguments. Nothing can be written through it.
    """

    protocol: ClassVar[str] = "mediasql"
    root_marker = ""

    def __init__(
        self,
        target_protocol: str | None = None,
        target_options: dict[str, Any] | None = None,
        fo: str | None = None,
        **config: Any,
    ) -> None:
        super().__init__()
        if target_protocol and target_options:
            storage_options = dict(config.get("storage_options") or {})
            storage_options[target_protocol] = {**storage_options.get(target_protocol, {}), **target_options}
            config["storage_options"] = storage_options
        self._target = target_protocol
        self._config = Config.load(**config)
        self._token = tokenize(config, self._config.cache_dir)

    @property
    def fsid(self) -> str:
        return f"mediasql-{self._token}"

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(one) for one in path]
        path = os.fspath(path).removeprefix("mediasql::").removeprefix("mediasql://")
        return path.rstrip("/") if not path.endswith("://") and path.strip("/") else path

    def unstrip_protocol(self, name: str) -> str:
        return f"mediasql::{self._url(self._strip_protocol(name))}"

    def _url(self, path: str) -> str:
        """The URL of a path."""
        if self._target is None or "://" in path:
            return path
        return path if self._target in ("file", "local") else f"{self._target}://{path}"

    # Reading

    @property
    def _store(self) -> Store:
        """What reads; shared by all with the same configuration, since fsspec makes a filesystem for each URL."""
        return shared(self._token, self._config)

    def _object(self, path: str) -> Object:
        return Object(self._store, Location.parse(self._url(path)))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        cache_type: str = "mediasql",
        **kwargs: Any,
    ) -> Any:
        if mode != "rb":
            raise read_only(path)
        target = self._object(path)
        with as_os_errors(path):
            info = loop.run(target.read(0, BLOCK)).info
            if info.size is None:
                return io.BytesIO(loop.run(target.content()))
        return MediaFile(
            self,
            path,
            mode,
            block_size or BLOCK,
            autocommit,
            cache_type=cache_type,
            cache_options=cache_options,
            size=info.size,
            target=target,
            info=info,
        )

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return loop.run(self._object(path).slice(start, end))

    def cat(self, path: Any, recursive: bool = False, on_error: str = "raise", **kwargs: Any) -> Any:
        paths = self.expand_path(path, recursive=recursive)
        if recursive:
            paths = [one for one in paths if not self.isdir(one)]
        if len(paths) == 1 and isinstance(path, str) and paths[0] == self._strip_protocol(path):
            return self.cat_file(paths[0])
        found = self.cat_ranges(paths, None, None, on_error="return")
        for error in found:
            if isinstance(error, Exception) and on_error == "raise":
                raise error
        return {
            one: data
            for one, data in zip(paths, found, strict=True)
            if on_error == "return" or not isinstance(data, Exception)
        }

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "return",
        **kwargs: Any,
    ) -> list[Any]:
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if not len(paths) == len(starts) == len(ends):
            raise ValueError("cat_ranges: paths, starts and ends must be of one length")
        names = [self._strip_protocol(path) for path in paths]
        targets = [self._object(name) for name in names]

        async def work() -> list[Any]:
            few = asyncio.Semaphore(_AT_ONCE)

            async def one(target: Object, start: int | None, end: int | None) -> bytes:
                async with few:
                    return await target.slice(start, end)

            return await asyncio.gather(*map(one, targets, starts, ends), return_exceptions=True)

        found = [
            os_error(name, data) if isinstance(data, errors.MediaError) else data
            for name, data in zip(names, loop.run(work()), strict=True)
        ]
        for data in found:
            if isinstance(data, BaseException) and (on_error == "raise" or not isinstance(data, Exception)):
                raise data
        return found

    def get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, outfile: Any = None, **kwargs: Any
    ) -> None:
        rpath = self._strip_protocol(rpath)
        if outfile is None and self.isdir(rpath):
            os.makedirs(lpath, exist_ok=True)
            return
        parts = self._object(rpath).parts()
        if outfile is None:
            os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True)
        with as_os_errors(rpath):
            chunk = loop.run(next_part(parts))  # before the file is made: there may be nothing to put into it
            with open(lpath, "wb") if outfile is None else nullcontext(outfile) as file:
                while chunk is not None:
                    callback.set_size(chunk.info.size)
                    file.write(chunk.data)
                    callback.relative_update(len(chunk.data))
                    chunk = loop.run(next_part(parts))

    # What is there

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        target = self._object(path)
        if target.here:  # a look costs nothing there, and tells a folder from a file
            fs, name = self._listing(*self._place(path))
            return self._named(fs, fs.info(name))
        if target.location.path:
            try:
                return details(path, loop.run(target.read(0, BLOCK)).info)
            except errors.UnavailableError as error:
                if not isinstance(error, errors.NotFound | errors.Forbidden):
                    raise os_error(path, error) from None
                failure = os_error(path, error)
            except errors.TransientError as error:
                raise os_error(path, error) from None
        else:
            failure = FileNotFoundError(errno.ENOENT, "there is nothing", path)
        try:
            found = self.ls(path)
        except (OSError, NotImplementedError):
            found = []
        if any(one["name"] != path for one in found):
            return {"name": path, "size": 0, "type": "directory"}
        raise failure

    def exists(self, path: str, **kwargs: Any) -> bool:
        try:
            self.info(path, **kwargs)
        except OSError:  # fsspec's own takes what the policy forbids for missing
            return False
        return True

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        location, provider = self._place(path)
        found: list[dict[str, Any]]
        if isinstance(provider, HttpProvider):
            with as_os_errors(path):
                links = loop.run(provider.links(location.url if location.url.endswith("/") else f"{location.url}/"))
            kinds = ("directory" if link.endswith("/") else "file" for link in links)
            found = [{"name": link, "size": None, "type": kind} for link, kind in zip(links, kinds, strict=True)]
        else:
            fs, name = self._listing(location, provider)
            found = [self._named(fs, one) for one in fs.ls(name, detail=True, **kwargs)]
        found = [one for one in found if self._permits(one["name"])]
        return found if detail else sorted(one["name"] for one in found)

    def find(
        self, path: str, maxdepth: int | None = None, withdirs: bool = False, detail: bool = False, **kwargs: Any
    ) -> Any:
        location, provider = self._place(self._strip_protocol(path))
        if isinstance(provider, HttpProvider):
            return super().find(path, maxdepth=maxdepth, withdirs=withdirs, detail=detail, **kwargs)
        fs, name = self._listing(location, provider)
        found = fs.find(name, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
        named = {one["name"]: one for one in (self._named(fs, {"name": key, **info}) for key, info in found.items())}
        kept = {name: one for name, one in sorted(named.items()) if self._permits(name)}
        return kept if detail else list(kept)

    def _place(self, path: str) -> tuple[Location, Provider]:
        """Where `path` leads, if the policy allows that. Web servers are listed by our provider, others by fsspec."""
        location = Location.parse(self._url(path))
        with as_os_errors(path):
            return location, self._store.provider(location)

    def _listing(self, location: Location, provider: Provider) -> tuple[Any, str]:
        """The filesystem of fsspec that lists `location`, and its name for it."""
        if isinstance(provider, GenericProvider):
            return provider.open(location)
        if isinstance(provider, LocalProvider):  # fsspec takes some paths for others
            return LocalFileSystem(), os.path.abspath(local_path(location))
        fs, name = url_to_fs(location.url, **self._config.options_for(location.url, location.scheme))
        return fs, name

    def _named(self, fs: Any, info: dict[str, Any]) -> dict[str, Any]:
        """What another filesystem says of an object, under the name that it has here."""
        if self._target is not None or "file" in (fs.protocol, *fs.protocol):
            return info
        return {**info, "name": fs.unstrip_protocol(info["name"])}

    def _permits(self, path: str) -> bool:
        policy = self._store.policy
        return policy is None or policy.permits(Location.parse(self._url(path)))

    def ukey(self, path: str) -> str:
        info = self.info(path)
        return str(tokenize(info["name"], *(info.get(key) for key in ("size", "etag", "last_modified", "mtime"))))

    def modified(self, path: str) -> datetime:
        info = self.info(path)
        if isinstance(text := info.get("last_modified"), str):
            return datetime.fromisoformat(text)
        location, provider = self._place(self._strip_protocol(path))
        if isinstance(provider, HttpProvider):
            raise NotImplementedError(f"modified: the server does not tell when {errors.redact(path)} was changed")
        fs, name = self._listing(location, provider)
        return fs.modified(name)  # type: ignore[no-any-return]

    def created(self, path: str) -> datetime:
        # Stores replace objects and never change them.
        return self.modified(path)

    def sign(self, path: str, expiration: int = 100, **kwargs: Any) -> str:
        with as_os_errors(path):
            return self._store.presign(Location.parse(self._url(self._strip_protocol(path))), expiration)

    # What cannot be done

    def mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        raise read_only(path)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise read_only(path)

    def rmdir(self, path: str) -> None:
        raise read_only(path)

    def _rm(self, path: str) -> None:
        raise read_only(path)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        raise read_only(path2)
