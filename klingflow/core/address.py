"""Which hosts anybody on the internet can reach, judged by their spelling. Asks no name service and opens no socket."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
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
_TRANSLATED = ipaddress.ip_network("::ffff:0:0:0/96")
_COMPATIBLE = ipaddress.ip_network("::/96")
INSIDE = (".localhost", ".local", ".internal", ".localdomain", ".home.arpa")
"""Names of something inside a private network, whatever they resolve to."""


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
        wrapping = any(ip in net for net in (_NAT64, _TRANSLATED, _COMPATIBLE))
        if inner is None and (wrapping or (int(ip) >> 32) & 0xFCFFFFFF == 0x00005EFE):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    if any(ip.version == net.version and ip in net for net in _DENIED):
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_loopback or ip.is_unspecified)


def is_inside(host: str) -> bool:
    """True for a host that by its spelling alone is not on the public internet, or is no host: a private, loopback or
    metadata address in any form that a resolver reads (2130706433, 0177.0.0.1, 0x7f.1, 127.1, [::ffff:7f00:1]), a name
    of a private network (metadata.google.internal, localhost). What a name resolves to is for
    whoever connects to judge."""
    name = host.strip("[]").rstrip(".").lower()
    if ":" in name:
        return not is_public(name)
    labels = name.split(".")
    if not _NUMBER.fullmatch(labels[-1]):
        return f".{name}".endswith(INSIDE) or name in ("", "metadata")  # Google's metadata server, in short
    address = _ipv4(labels)
    return address is None or not is_public(str(address))


_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def _ipv4(labels: list[str]) -> ipaddress.IPv4Address | None:
    """The address that inet_aton reads from one to four numbers, decimal, octal or hexadecimal; the last one fills the
    bytes that are left."""
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) and len(label) <= 20 for label in labels):
        return None
    try:
        *first, last = (
            int(label[2:] or "0", 16) if label[:2] == "0x" else int(label, 8 if label[0] == "0" else 10)
            for label in labels
        )
    except ValueError:
        return None  # an octal number with an 8 or 9
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    return ipaddress.IPv4Address(sum(number << 8 * (3 - i) for i, number in enumerate(first)) + last)


def is_vouched(host: str, trusted: Collection[str]) -> bool:
    """True for a host that the operator's environment names; `trusted` are its hosts. One name of this machine vouches
    for the others."""
    name = host.strip("[]").lower()
    return name in trusted or (is_loopback(name) and any(map(is_loopback, trusted)))


def is_loopback(host: str) -> bool:
    """True for a host that is this machine by its very spelling: no name service is asked."""
    host = host.strip("[]").lower()
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False
