"""What may be reached, and by whom: the profile, `allow` and `deny` of a Config.

A database file can be hostile: its schema may call our functions on any URL. So every access passes `Policy.check`
before any I/O, each redirect passes `Policy.hops`, and the connections made for it refuse addresses that are not
public (`address.py`) when they have them, not before: a name may have another address by then.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from hashlib import blake2b
from typing import Any

from ..config import Config
from ..errors import ForbiddenByPolicy, UnavailableError
from .address import check_host
from .location import Location
from .rules import LEADING, OURS, WEB, Place, Rule, store_of

_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+")


class Policy:
    """The rules of one Config. `Policy.of` gives None where there are none.

    digest  the same for the same rules; what was fetched under others may not have passed these
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.profile = config.profile
        self._allow = [Rule(prefix) for prefix in config.allow]
        self._deny = [Rule(prefix) for prefix in config.deny]
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
        places = [Place.of(link) for link in _links(location)]
        for rule in self._deny:
            if any(rule.denies(place) for place in places):
                raise ForbiddenByPolicy(f"refused by policy: deny={rule.prefix!r} forbids it")
        if leading := next((place.store for place in places if place.store in LEADING), None):
            raise ForbiddenByPolicy(
                f"refused by policy: {leading}:// leads to what neither `allow` nor `deny` can speak for; name what is "
                "behind it by a URL of its own"
            )
        if self.profile == "owner":
            return True
        if all(any(rule.names_host and rule.allows(place) for rule in self._allow) for place in places):
            return True
        named = len(places) == 1 and any(rule.allows(places[0]) for rule in self._allow)
        if not named and (why := self._forbids(location, places)):
            raise ForbiddenByPolicy(
                f"refused by policy: profile {self.profile!r} {why}; the owner can allow it by a prefix of the URL, or "
                "a directory, in the option `allow`"
            )
        if location.scheme in WEB:
            check_host(places[0].container.rpartition(":")[0])
        return False

    def _forbids(self, location: Location, places: list[Place]) -> str | None:
        if len(places) > 1:
            return "reaches no chained URL of which `allow` does not name each part"
        store = places[0].store
        if store == "data":  # it holds its bytes itself
            return None
        if self.profile == "hosted":
            return "reaches and signs only what `allow` names"
        if store == "file":
            return "reaches no local files"
        if store not in OURS:
            return f"does not reach {location.scheme}://"
        return None

    def chain(self, location: Location, options: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """A chained URL, and its options by protocol, for fsspec; files, clouds and the web are read by a Store.

        By themselves fsspec's filesystems follow redirects, and look at no address.
        """
        parts = [f"mediasql://{link.url}" if store_of(link) in OURS else link.url for link in _links(location)]
        others = {
            scheme: given for scheme, given in options.items() if store_of(Location.parse(f"{scheme}://")) not in OURS
        }
        rules = {option.name: getattr(self._config, option.name) for option in fields(self._config)}
        return "::".join(parts), {**others, "mediasql": rules}

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
        if location.scheme in WEB:
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
    if "::" not in location.url or store_of(location) in OURS:
        yield location
        return
    for part in location.url.split("::"):
        if "://" not in part and not _LINK.fullmatch(part):
            raise ForbiddenByPolicy("refused by policy: a part of this chained URL is neither a protocol nor a URL")
        yield Location.parse(part if "://" in part else f"{part}://")
