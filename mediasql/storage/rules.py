"""What a URL prefix of `allow` or `deny` covers.

What is ambiguous is not allowed, and is denied: `..` in a path, encoded or not, may lead out of any prefix.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, UnavailableError
from .location import Location
from .providers.local import possible_paths
from .urls import encoded

# Schemes that mean the same store.
_SAME = {"s3a": "s3", "gcs": "gs", **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs"), "az")}
WEB = {"http": "80", "https": "443"}
_CLOUDS = frozenset({"s3", "gs", "az"})
OURS = frozenset({"file", *WEB, *_CLOUDS})  # stores whose URLs are never chained
# Protocols of fsspec that read what other URLs, files or options name, whatever their own URL says.
LEADING = frozenset(
    [
        *("async_wrapper", "asynclocal", "asyncwrapper", "dask", "dir", "dvc", "generic", "git", "local"),
        *("mediasql", "reference"),
    ]
)

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+(?:%[\w.]+)?\]|[\w.~-]+)(?::(\d*))?", re.IGNORECASE)

Segments = tuple[str, ...]


def store_of(location: Location) -> str:
    """The scheme, one for all spellings of the same store."""
    return _SAME.get(location.scheme, location.scheme)


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says about where it leads, in a form that can be compared.

    store      see `store_of`
    container  bucket, Azure container, host and port; '' for all of the store, and for stores that only fsspec knows
    ways       the path in segments, in each way in which a server may take it apart
    straight   whether no segment is, or may be read as, `.` or `..`
    files      of local ones: the paths in the file system that it may mean
    """

    store: str
    container: str
    ways: tuple[Segments, ...] = ((),)
    straight: bool = True
    files: tuple[str, ...] = ()

    @classmethod
    def of(cls, location: Location) -> Place:
        """Raises UnavailableError for a web address without a host that can be read."""
        scheme = store_of(location)
        if scheme == "file":
            return cls(scheme, "", files=possible_paths(location))
        if scheme == "data":
            return cls(scheme, "")
        container, path = location.container, location.path
        if scheme in WEB:
            path = re.split(r"[?#]", path, maxsplit=1)[0]
        if scheme not in OURS:  # what comes first may be a host, or a folder
            container, path = "", f"{container}/{path}" if path else container
        straight = not any(_is_dots(segment) for segment in _decoded(path).split("/"))
        if scheme not in WEB:
            container = container.lower() if scheme == "az" else container
            return cls(scheme, container, (_segments(path),), straight and container not in (".", ".."))
        ways = (tuple(map(_decoded, _segments(path))), _segments(_decoded(path)))
        return cls(scheme, _host(location), ways, straight)


def _segments(path: str) -> Segments:
    return tuple(path.rstrip("/").split("/")) if path.strip("/") else ()


def _decoded(text: str) -> str:
    """`text` without percent-encoding, also without one that is encoded itself, and backslashes as slashes."""
    for _ in range(5):
        before, text = text, unquote(text)
        if text == before:
            break
    return text.replace("\\", "/")


def _is_dots(segment: str) -> bool:
    return segment.partition(";")[0].strip() in (".", "..")  # `..;x` is `..` to some servers


def _host(location: Location) -> str:
    """'host:port' as it is connected to: lower case, without a user and trailing dots; '' where there is none."""
    if not location.container:
        return ""
    try:
        authority = urlsplit(encoded(f"http://{location.container.rpartition('@')[2]}/")).netloc
    except ValueError:
        authority = ""
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise UnavailableError("not a URL that can be requested: it has no host that can be read")
    return f"{match[1].rstrip('.').lower()}:{match[2] or WEB[location.scheme]}"


class Rule:
    """One prefix of `allow` or `deny`. Raises ConfigError for a web address without a host that can be read."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        location = Location.parse(prefix)
        try:
            self._place = place = Place.of(location)
        except UnavailableError as error:
            raise ConfigError(f"allow or deny: {prefix!r} is {error}") from None
        self._any_port = location.scheme in WEB and not re.search(r":\d+$", location.container)
        self._roots: tuple[str, ...] = ()
        if place.store == "file":
            root = possible_paths(location)[0] or "/"
            self._roots = tuple(dict.fromkeys((os.path.abspath(root), os.path.realpath(root))))

    @property
    def names_host(self) -> bool:
        """Whether it vouches for a host; 'https://' alone does for none."""
        return bool(self._place.container) or self._place.store not in WEB

    def allows(self, place: Place) -> bool:
        """Whether all that `place` may mean lies below the prefix."""
        mine = self._place
        if place.store != mine.store:
            return False
        if place.store == "file":
            likeliest, *others = place.files
            return self._holds(likeliest) and all(self._holds(path) or not _is_there(path) for path in others)
        path = mine.ways[0]
        if not mine.container and not path:
            return True
        if place.container != mine.container:
            return False
        # A server cannot be left by dots; a bucket can, where it is the beginning of a path.
        if not place.straight and (path or place.store not in WEB):
            return False
        return all(way[: len(path)] == path for way in place.ways)

    def denies(self, place: Place) -> bool:
        """Whether something that `place` may mean lies below the prefix."""
        mine = self._place
        if _family(place.store) != _family(mine.store):
            return False
        if place.store == "file":
            return any(self._holds(path, loosely=True) for path in place.files)
        if mine.container and not self._same_container(place):
            return False
        path = _loosely(mine.ways[0], place.store)
        ways = place.ways if place.store in OURS else (*place.ways, _anonymous(place.ways[0]))
        return not place.straight or any(_loosely(way, place.store)[: len(path)] == path for way in ways)

    def _same_container(self, place: Place) -> bool:
        mine, theirs = self._place.container, place.container
        if place.store in WEB and self._any_port:
            return mine.rpartition(":")[0] == theirs.rpartition(":")[0]
        if place.store == "az" and ("@" not in mine or "@" not in theirs):  # the account is the one in the options
            return mine.partition("@")[0] == theirs.partition("@")[0]
        return mine == theirs

    def _holds(self, path: str, loosely: bool = False) -> bool:
        try:
            named = os.path.abspath(path)
            # Links are looked at only of what claims to be inside: even a look may go over a network.
            inside = any(_is_below(named, root) for root in self._roots)
            if inside == loosely:
                return inside
            return _is_below(os.path.realpath(path), self._roots[-1])
        except (OSError, ValueError):  # a NUL, a name that is too long
            return loosely


def _family(store: str) -> str:
    return "http" if store in WEB else store


def _loosely(path: Segments, store: str) -> Segments:
    """A path as a server may take it that is less strict than others."""
    if store in _CLOUDS:
        return path
    return tuple(segment.casefold() for segment in path if segment)


def _anonymous(path: Segments) -> Segments:
    """A path that begins with a host, without a user and a port there."""
    return (path[0].rpartition("@")[2].partition(":")[0], *path[1:]) if path else path


def _is_there(path: str) -> bool:
    return os.path.lexists(path) or os.path.isdir(os.path.dirname(path))


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))
