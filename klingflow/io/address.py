"""Which addresses anybody on the internet can reach. Asks no name service and opens no socket."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

_DENIED = tuple(
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",  # Azure's host agent: a public number, answered inside
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "64:ff9b:1::/48",  # NAT64 of a local network
        "2001::/23",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
INSIDE = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")
"""Names that stand for something inside a private network, whatever they resolve to."""


def is_public(address: str) -> bool:
    """True for an address that anybody on the internet can reach.

    `is_global` alone is not enough (Python 3.11.7): it lets multicast pass, and IPv4 addresses wrapped in IPv6.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in _NAT64 or ip in _COMPATIBLE or (int(ip) >> 32) & 0xFCFFFFFF == 0x00005EFE):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    if any(ip.version == net.version and ip in net for net in _DENIED):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_unspecified)


def is_loopback(host: str) -> bool:
    """True for a host that is this machine by its very spelling: no name service is asked."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
