# SPDX-License-Identifier: GPL-3.0-or-later
"""Arithmetic with validated IP addresses, prefixes and endpoints."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Union

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]


def join_endpoint(host: str, number: int) -> str:
    """``host`` and port as one endpoint, an IPv6 address in brackets."""
    return f"[{host}]:{number}" if ":" in host else f"{host}:{number}"


def is_address(text: str) -> bool:
    """Whether ``text`` is an IP address of either version, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host_of(text: str) -> str:
    """The address of an endpoint that was checked before."""
    return text.rpartition(":")[0].strip("[]")


def port_of(text: str) -> int:
    """The port of an endpoint that was checked before."""
    return int(text.rpartition(":")[2])


def networks(texts: Iterable[str]) -> list[Network]:
    """Prefixes that were checked before, ready for arithmetic."""
    return [_parsed(text) for text in texts]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Network:
    # Each of a zone's thousands of records is compared with the same pools.
    return ipaddress.ip_network(text)


def holding(pools: Sequence[Network], host: str) -> Network | None:
    """The first of ``pools`` that ``host``, an address that was checked before, lies in, or None."""
    version, number = version_of(host), integer_of(host)
    for pool in pools:
        if pool.version == version and number & int(pool.netmask) == int(pool.network_address):
            return pool
    return None


def own_addresses(network: Network) -> frozenset[int]:
    """Returns the addresses of a network that no host can have, as integers.

    These are the network and broadcast address (IPv4), or the subnet-router anycast address (RFC 4291,
    section 2.6.1).  Networks of one or two addresses have none: RFC 3021 (/31), RFC 6164 (/127).
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if last - first <= 1:
        return frozenset()
    return frozenset({first, last} if network.version == 4 else {first})


def version_of(text: str) -> int:
    """The IP version of an address or a prefix that was checked before."""
    return 6 if ":" in text else 4


def packed(host: str) -> bytes:
    """An address that was checked before as the 4 or 16 bytes that travel."""
    return socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)


def integer_of(host: str) -> int:
    """An address that was checked before as an integer."""
    return int.from_bytes(packed(host), "big")


def overlapping(taken: Iterable[Network], prefix: str) -> Network | None:
    """The first of ``taken`` that shares an address with ``prefix``, or None."""
    wanted = ipaddress.ip_network(prefix)
    return next(
        (network for network in taken if network.version == wanted.version and network.overlaps(wanted)), None
    )


def is_machines(host: str) -> bool:
    """Whether an address that was checked before can be the one of a machine on a network.

    Not so are loopback and link-local addresses (RFC 6890; a cloud serves secrets at 169.254.169.254),
    multicast, the limited broadcast address and the reserved class E (RFC 1112, section 4).
    """
    octets = packed(host)
    if len(octets) == 4:
        return 0 < octets[0] < 224 and octets[0] != 127 and octets[:2] != b"\xa9\xfe"
    link_local = octets[0] == 0xFE and octets[1] & 0xC0 == 0x80
    return octets[0] != 0xFF and not link_local and any(octets[:12])


def host_prefix(host: str) -> str:
    """An address in its canonical spelling as a prefix of one: ``10.20.0.1/32``."""
    return f"{host}/128" if ":" in host else f"{host}/32"


# Addresses of the documentation ranges (RFC 5737, RFC 3849), so their route is the default route.
DEFAULT_ROUTE_TARGETS = ("192.0.2.1", "2001:db8::1")
