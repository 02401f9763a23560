"""The addresses of hosts, looked up in threads and remembered for a moment."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .. import threads
from ..address import literal
from .exchange import RetryableError

if TYPE_CHECKING:
    from .jobs import Engine

ADDRESS_SECONDS = 10.0  # for which addresses are used again
_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

Found = Callable[[str | None, RetryableError | None], None]


class Names:
    """Entries for libcurl's list of known hosts, `+host:port:address,…`.

    libcurl would look names up itself, in threads of which no socket tells when they are done, and out of sight of
    whatever Python's `socket` module was taught.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[str, int], tuple[float, list[str]]] = {}  # until when (time.monotonic()), and addresses
        self._waiting: dict[tuple[str, int], list[Found]] = {}

    def needed(self, url: str) -> tuple[str, int] | None:
        """Return the host and port of `url` if they have to be looked up; None for an address, and what is known."""
        name = _name("/".join(url.split("/", 3)[:3]))
        if name is None:
            return None
        known = self._known.get(name)
        return None if known is not None and known[0] > time.monotonic() else name

    def addresses(self, host: str) -> list[str]:
        """Return what was found for a host, on any of its ports."""
        return [address for (name, _), (_, found) in self._known.items() if name == host for address in found]

    def look_up(self, name: tuple[str, int], found: Found) -> None:
        """Have `found` called with the entry, or with what went wrong."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.append(found)
            return
        self._waiting[name] = [found]
        host, port = name

        def work() -> None:
            try:
                addresses, error = _addresses(host, port), None
            except OSError as failure:
                addresses = []
                error = f"no connection: cannot find the address of {host}: {failure.strerror or failure}"
            except UnicodeError:
                addresses, error = [], f"no connection: {host!r} is not the name of a host"
            self._engine.call(self._done, name, addresses, error)

        threads.of("names").submit(work)

    def _done(self, name: tuple[str, int], addresses: list[str], error: str | None) -> None:
        entry = None
        if addresses:
            self._known[name] = time.monotonic() + ADDRESS_SECONDS, addresses
            shown = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
            entry = f"+{name[0]}:{name[1]}:{shown}"
        for found in self._waiting.pop(name):
            found(entry, None if error is None else RetryableError(error))

    def forget(self) -> None:
        """Look everything up again."""
        self._known.clear()


@lru_cache(1024)
def _name(origin: str) -> tuple[str, int] | None:
    """The host and port of a URL without path; None where the host is an address."""
    parts = urlsplit(origin)
    host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)
    return (host, port) if host and literal(host) is None else None


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
