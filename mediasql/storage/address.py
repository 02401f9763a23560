"""Which addresses on the network a URL out of a database may lead to: public ones, and no others."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from ..errors import ForbiddenByPolicy

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# What inet_aton takes for an address, and the system's resolver with it: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
_NUMERIC = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+)){0,3}", re.IGNORECASE)
# IPv6 ranges whose last 32 bits are an IPv4 address: IPv4-compatible (RFC 4291), NAT64 (RFC 6052).
_EMBEDDING = (ipaddress.IPv6Network("::/96"), ipaddress.IPv6Network("64:ff9b::/96"))
# Public by number, and yet a service of the machine's own host: Azure's virtual public address.
_HOST_SERVICES = frozenset({ipaddress.IPv4Address("168.63.129.16")})


def literal(host: str) -> Address | None:
    """The address that `host` is, however it is spelled; None for a name."""
    host = host.strip("[]").partition("%")[0].rstrip(".")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def not_public(address: Address) -> str | None:
    """What is wrong with an address, in words; None for a public one.

    After the IANA special-purpose registries, as `ipaddress` knows them, and the IPv4 address inside of an IPv6 one.
    """
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback and not address.is_unspecified:
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if any(address in network for network in _EMBEDDING):
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if found := next((word for one in inner if one is not None and (word := not_public(one))), None):
            return found
        if address.ipv4_mapped is not None:
            return None
        if address.is_site_local:
            return "private"
    kinds = (
        (address.is_loopback, "loopback"),
        (address.is_link_local, "link-local"),
        (address.is_multicast, "multicast"),
        (address.is_unspecified, "unspecified"),
        (not address.is_global or address in _HOST_SERVICES, "private"),
    )
    return next((word for applies, word in kinds if applies), None)


def check_host(host: str) -> None:
    """Raise ForbiddenByPolicy for a host that is known not to be public without asking anyone."""
    address = literal(host)
    name = host.rstrip(".").lower()
    if address is not None and (word := not_public(address)):
        raise _refusal(host, f"{_written(host, address)} is a {word} address")
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
        raise _refusal(host, "localhost is this machine")


def check_addresses(host: str, addresses: Iterable[str]) -> None:
    """Raise ForbiddenByPolicy when one of the addresses that `host` has is not public.

    One is enough: a name that has both has them to get at the other.
    """
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        if word := not_public(address):
            raise _refusal(host, f"{host} has the address {text}, which is {word}")


def proxied() -> ForbiddenByPolicy:
    """The error for what would go through a proxy, which looks names up by itself."""
    return ForbiddenByPolicy(
        "refused by policy: it would go through a proxy, so that its address cannot be checked here; the owner can "
        "allow it by a prefix of the URL with this host in `allow` (MEDIASQL_ALLOW)"
    )


def _written(host: str, address: Address) -> str:
    return host if host.strip("[]") == str(address) else f"{host} ({address})"


def _refusal(host: str, why: str) -> ForbiddenByPolicy:
    return ForbiddenByPolicy(
        f"refused by policy: {why}, and a database that is not trusted reaches public addresses only; the owner can "
        f"allow it by a prefix of the URL with this host in `allow` (MEDIASQL_ALLOW)"
    )
