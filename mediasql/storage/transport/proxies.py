"""Which proxy a URL goes through, as the environment says.

`http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` in either case, lower case first, and what the system has set
where it has a place for that (urllib). `no_proxy` is understood as by curl: host names with their sub-domains,
addresses, networks (CIDR), '*', each with a port or without.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

_PORTS = {"http": 80, "https": 443}


class Proxies:
    """The proxies of the environment, as it was when this was made."""

    def __init__(self) -> None:
        self.settings = getproxies()

    def of(self, url: str) -> str | None:
        """Return the URL of the proxy for `url`; None where there is none."""
        if not self.settings:
            return None
        parts = urlsplit(url)
        proxy = self.settings.get(parts.scheme) or self.settings.get("all")
        if not proxy:
            return None
        host = parts.hostname or ""
        if _is_excluded(host, parts.port or _PORTS.get(parts.scheme, 0), self.settings.get("no", "")):
            return None
        if "no" not in self.settings and proxy_bypass(host):  # macOS and Windows have lists of their own
            return None
        return proxy if "://" in proxy else f"http://{proxy}"


def _is_excluded(host: str, port: int, no_proxy: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    name = host.lower().rstrip(".")
    for entry in no_proxy.replace(" ", ",").split(","):
        entry = entry.strip().lower().lstrip(".").removeprefix("*.").rstrip(".")
        if entry == "*":
            return True
        if not entry:
            continue
        if address is not None:
            try:
                if address in ipaddress.ip_network(entry.strip("[]"), strict=False):
                    return True
            except ValueError:
                pass
        bare, separator, given = entry.rpartition(":")
        if separator and given.isdecimal() and bare.count(":") == 0:
            if int(given) != port:
                continue
            entry = bare
        if name == entry.strip("[]") or (address is None and name.endswith(f".{entry}")):
            return True
    return False
