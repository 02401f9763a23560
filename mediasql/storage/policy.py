"""What may be reached, and by whom: the profile, `allow` and `deny` of a Config.

A database file can be hostile: its schema may call our functions on any URL. So every access passes `Policy.check`
before any I/O, each redirect passes `Policy.hops`, and the connections made for it refuse addresses that are not
public (`address.py`) when they have them, not before: a name may have another address by then.

What is ambiguous is not allowed, and is denied: `..` in a path, encoded or not, may lead out of any prefix.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from urllib.parse import unquote, urlsplit

from ..config import Config
from ..errors import ConfigError, ForbiddenByPolicy, UnavailableError
from .address import check_host
from .location import Location
from .providers.http import encoded
from .providers.local import possible_paths

# Schemes that mean the same store.
_SAME = {"s3a": "s3", "gcs": "gs", **dict.fromkeys(("abfs", "abfss", "wasb", "wasbs"), "az")}
_WEB = {"http": "80", "https": "443"}
_CLOUDS = frozenset({"s3", "gs", "az"})
_OURS = frozenset({"file", *_WEB, *_CLOUDS})  # stores whose URLs are never chained

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+(?:%[\w.]+)?\]|[\w.~-]+)(?::(\d*))?", re.IGNORECASE)
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+")

Segments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """What a URL says about where it leads, in a form that can be compared.

    store      its scheme, one for all spellings of the same store
    container  bucket, Azure container, host and port; '' for all of the store
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
    def of(cls, location: Location) -> _Place:
        """Raises UnavailableError for a web address without a host that can be read."""
        scheme = _SAME.get(location.scheme, location.scheme)
        if scheme == "file":
            return cls(scheme, "", files=possible_paths(location))
        if scheme == "data":
            return cls(scheme, "")
        container, path = location.container, location.path
        if scheme in _WEB:
            path = re.split(r"[?#]", path, maxsplit=1)[0]
        straight = not any(_is_dots(segment) for segment in _decoded(path).split("/"))
        if scheme not in _WEB:
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
    return f"{match[1].rstrip('.').lower()}:{match[2] or _WEB[location.scheme]}"


class _Rule:
    """One prefix of `allow` or `deny`. Raises ConfigError for a web address without a host that can be read."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        location = Location.parse(prefix)
        try:
            self._place = place = _Place.of(location)
        except UnavailableError as error:
            raise ConfigError(f"allow or deny: {prefix!r} is {error}") from None
        self._any_port = location.scheme in _WEB and not re.search(r":\d+$", location.container)
        self._roots: tuple[str, ...] = ()
        if place.store == "file":
            root = possible_paths(location)[0] or "/"
            self._roots = tuple(dict.fromkeys((os.path.abspath(root), os.path.realpath(root))))

    @property
    def names_host(self) -> bool:
        """Whether it vouches for a host; 'https://' alone does for none."""
        return bool(self._place.container) or self._place.store not in _WEB

    def allows(self, place: _Place) -> bool:
        """Whether all that `place` may mean lies below the prefix."""
        mine = self._place
        if place.store != mine.store:
            return False
        if place.store == "file":
            likeliest, *others = place.files
            return self._holds(likeliest) and all(self._holds(path) or not _is_there(path) for path in others)
        if not mine.container:
            return True
        path = mine.ways[0]
        if place.container != mine.container:
            return False
        # A server cannot be left by dots; a bucket can, where it is the beginning of a path.
        if not place.straight and (path or place.store not in _WEB):
            return False
        return all(way[: len(path)] == path for way in place.ways)

    def denies(self, place: _Place) -> bool:
        """Whether something that `place` may mean lies below the prefix."""
        mine = self._place
        if _family(place.store) != _family(mine.store):
            return False
        if place.store == "file":
            return any(self._holds(path, loosely=True) for path in place.files)
        if mine.container and not self._same_container(place):
            return False
        path = _loosely(mine.ways[0], place.store)
        return not place.straight or any(_loosely(way, place.store)[: len(path)] == path for way in place.ways)

    def _same_container(self, place: _Place) -> bool:
        mine, theirs = self._place.container, place.container
        if place.store in _WEB and self._any_port:
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
    return "http" if store in _WEB else store


def _loosely(path: Segments, store: str) -> Segments:
    """A path as a server may take it that is less strict than others."""
    if store not in _WEB:
        return path
    return tuple(segment.casefold() for segment in path if segment)


def _is_there(path: str) -> bool:
    return os.path.lexists(path) or os.path.isdir(os.path.dirname(path))


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(os.path.join(root, ""))


class Policy:
    """The rules of one Config. `Policy.of` gives None where there are none.

    digest  the same for the same rules; what was fetched under others may not have passed these
    """

    def __init__(self, config: Config) -> None:
        self.profile = config.profile
        self._allow = [_Rule(prefix) for prefix in config.allow]
        self._deny = [_Rule(prefix) for prefix in config.deny]
        rules = repr((config.profile, sorted(set(config.allow)), sorted(set(config.deny))))
        self.digest = blake2b(rules.encode(errors="surrogatepass"), digest_size=8).hexdigest()

    @classmethod
    def of(cls, config: Config) -> Policy | None:
        """The Policy of a Config; None when it allows everything, so that nothing needs to be checked."""
        return None if config.profile == "owner" and not config.deny else cls(config)

    def check(self, location: Location) -> bool:
        """Raise ForbiddenByPolicy unless `location` may be reached; True when `allow` vouches for it.

        UnavailableError for what is no address of anything. Makes no request, and looks at no file outside of roots.
        """
        places = [_Place.of(link) for link in _links(location)]
        for rule in self._deny:
            if any(rule.denies(place) for place in places):
                raise ForbiddenByPolicy(f"refused by policy: deny={rule.prefix!r} forbids it")
        if self.profile == "owner":
            return True
        if all(any(rule.names_host and rule.allows(place) for rule in self._allow) for place in places):
            return True
        named = len(places) == 1 and any(rule.allows(places[0]) for rule in self._allow)
        if not named and (why := self._forbids(location, places)):
            raise ForbiddenByPolicy(
                f"refused by policy: profile {self.profile!r} {why}; the owner can allow it by a prefix of the URL, or "
                "a directory, in `allow` (MEDIASQL_ALLOW)"
            )
        if location.scheme in _WEB:
            check_host(places[0].container.rpartition(":")[0])
        return False

    def _forbids(self, location: Location, places: list[_Place]) -> str | None:
        if len(places) > 1:
            return "reaches no chained URL of which `allow` does not name each part"
        store = places[0].store
        if store == "data":  # it holds its bytes itself
            return None
        if self.profile == "hosted":
            return "reaches and signs only what `allow` names"
        if store == "file":
            return "reaches no local files"
        if store not in _OURS:
            return f"does not reach {location.scheme}://"
        return None

    def permits(self, location: Location) -> bool:
        """Whether `check` passes."""
        try:
            self.check(location)
        except (ForbiddenByPolicy, UnavailableError):
            return False
        return True

    def hops(self, location: Location, is_own: Callable[[Location, str, str], bool]) -> Callable[[str], bool]:
        """What is called with each URL on the way to `location`, that of the first request and of each redirect.

        `is_own` is that of the provider. It raises as `check` does, and tells whether only public addresses may be
        connected to.
        """
        if location.scheme in _WEB:
            return self.guards
        first = ""
        home = True

        def hop(url: str) -> bool:
            nonlocal first, home
            first = first or url
            # The endpoint of a store comes from its owner; where it redirects to does not, and what leads back to it
            # from there is not the store's own.
            home = home and is_own(location, first, url)
            return not home and self.guards(url)

        return hop

    def guards(self, url: str) -> bool:
        """As what `hops` gives, for a web address that a database or a server named."""
        return not self.check(Location.parse(url))


def _links(location: Location) -> Iterator[Location]:
    """The URLs that fsspec makes a chained one out of, or the one itself.

    fsspec takes `::` for a chain wherever it stands, Location only where it can be one.
    """
    if "::" not in location.url or _SAME.get(location.scheme, location.scheme) in _OURS:
        yield location
        return
    for part in location.url.split("::"):
        if "://" not in part and not _LINK.fullmatch(part):
            raise ForbiddenByPolicy("refused by policy: a part of this chained URL is neither a protocol nor a URL")
        yield Location.parse(part if "://" in part else f"{part}://")
