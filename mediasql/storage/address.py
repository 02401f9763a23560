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
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# After the IANA IPv4 and IPv6 Special-Purpose Address Registries: what `ipaddress` knows of them differs between
# Pythons, and between the patch releases of one.
_SPECIAL: tuple[tuple[str, tuple[_Network, ...]], ...] = tuple(
    (word, tuple(ipaddress.ip_network(text) for text in texts.split()))
    for word, texts in (
        ("unspecified", "0.0.0.0/32 ::/128"),
        ("loopback", "127.0.0.0/8 ::1/128"),
        ("link-local", "169.254.0.0/16 fe80::/10"),
        ("multicast", "224.0.0.0/4 ff00::/8"),
        ("private", "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16"),
        # For protocols, for documentation, for measurements, for 6to4 relays that are no more, and for the future.
        (
            "private",
            "192.0.0.0/24 192.0.2.0/24 198.51.100.0/24 203.0.113.0/24 198.18.0.0/15 192.88.99.0/24 240.0.0.0/4",
        ),
        ("private", "2001::/23 2001:db8::/32 3fff::/20"),
        ("private", "168.63.129.16/32"),  # public by number, and yet a service of the machine's own host on Azure
    )
)
# Of all IPv6 addresses, those that are given out; what is outside may mean something to a network, and to no other.
_GIVEN_OUT = ipaddress.IPv6Network("2000::/3")
# What leads to the IPv4 address behind the prefix: mapped addresses (RFC 4291), NAT64 (RFC 6052), 6to4 (RFC 3056).
_LEADING = tuple(ipaddress.IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16"))


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
    """What is wrong with an address, in words; None for a public one."""
    if isinstance(address, ipaddress.IPv6Address):
        for network in _LEADING:
            if address in network:
                after = 128 - network.prefixlen - 32
                return not_public(ipaddress.IPv4Address(int(address) >> after & 0xFFFFFFFF))
    for word, networks in _SPECIAL:
        if any(address.version == network.version and address in network for network in networks):
            return word
    return "private" if address.version == 6 and address not in _GIVEN_OUT else None


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
        "allow it by a prefix of the URL with this host in the option `allow`"
    )


def _written(host: str, address: Address) -> str:
    return host if host.strip("[]") == str(address) else f"{host} ({address})"


def _refusal(host: str, why: str) -> ForbiddenByPolicy:
    return ForbiddenByPolicy(
        f"refused by policy: {why}, and a database that is not trusted reaches public addresses only; the owner can "
        f"allow it by a prefix of the URL with this host in the option `allow`"
    )
