"""Which IP addresses are reachable from anywhere, after IANA's registries and not after Python's `ipaddress`.

What `ipaddress` knows of them differs between Pythons, and between the patch releases of one.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The column "Globally Reachable" of the IANA IPv4 and IPv6 Special-Purpose Address Registries, as of 2025: RFC 6890,
# and the RFCs that added to them. "N/A" counts as no.
# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry
_NOT_REACHABLE = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 198.18.0.0/15
    198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32
    ::1/128 ::/128 ::ffff:0:0/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:2::/48 2001:10::/28
    2001:db8::/32 2002::/16 3fff::/20 5f00::/16 fc00::/7 fe80::/10
"""
_REACHABLE = """
    192.0.0.9/32 192.0.0.10/32 192.31.196.0/24 192.52.193.0/24 192.175.48.0/24
    64:ff9b::/96 2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:3::/32 2001:4:112::/48 2001:20::/28 2001:30::/28
    2620:4f:8000::/48
"""
SPECIAL: dict[Network, bool] = {
    ipaddress.ip_network(network): reachable
    for networks, reachable in ((_NOT_REACHABLE, False), (_REACHABLE, True))
    for network in networks.split()
}
# The IANA IPv4 and IPv6 Address Space registries: multicast, and of IPv6 the only block of global unicast addresses.
_MULTICAST = ipaddress.IPv4Network("224.0.0.0/4")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")


def is_reachable(address: Address) -> bool:
    """Return whether the registries call the address globally reachable; the most specific entry decides."""
    entries = [network for network in SPECIAL if network.version == address.version and address in network]
    if entries:
        return SPECIAL[max(entries, key=lambda network: network.prefixlen)]
    return address not in _MULTICAST if address.version == 4 else address in _GLOBAL_UNICAST
