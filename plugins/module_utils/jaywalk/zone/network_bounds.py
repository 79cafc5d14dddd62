# SPDX-License-Identifier: GPL-3.0-or-later
"""The networks in which an installation, or a node, lets a mesh have addresses and prefixes.

A mesh with pools of the Internet would take that traffic from every node: a zone's administrator, or a stolen
controller, could set them to ``8.0.0.0/7``.  Pure.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from ..core import ip, validation
from ..core.errors import InvalidValue

# Private networks (RFC 1918, RFC 4193, RFC 6598), and those for benchmarks (RFC 2544, RFC 5180) and for
# documentation (RFC 5737, RFC 3849): the Internet routes none of them.
DEFAULT_NETWORKS = (
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "198.18.0.0/15",
    "192.0.2.0/24",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "fc00::/7",
    "2001:2::/48",
    "2001:db8::/32",
)
# Stands for DEFAULT_NETWORKS in an option, and ANY for all networks.
DEFAULT, ANY = "default", "any"


@dataclass(frozen=True)
class NetworkBounds:
    """Networks, and whether others lie in them."""

    networks: tuple[str, ...] = DEFAULT_NETWORKS

    @classmethod
    def parse(cls, text: str, subject: str = "accepted network") -> NetworkBounds:
        """Parses networks with commas between them; ``default`` and ``any`` stand for some or all.

        An empty text is ``default``.  Raises ``InvalidValue``.
        """
        found: list[str] = []
        for word in [part.strip() for part in text.split(",") if part.strip()] or [DEFAULT]:
            if word == DEFAULT:
                found += DEFAULT_NETWORKS
            elif word == ANY:
                found += ("0.0.0.0/0", "::/0")
            else:
                found.append(_network(word, subject))
        return cls(tuple(dict.fromkeys(found)))

    def holds(self, prefix: str) -> bool:
        """Whether ``prefix``, a network that was checked before, lies in one of the networks."""
        return _holds(self.networks, prefix)

    def outside(self, prefixes: Iterable[str]) -> list[str]:
        """Returns those of ``prefixes`` that do not lie in one of the networks."""
        return [prefix for prefix in prefixes if not self.holds(prefix)]


@lru_cache(maxsize=4096)
def _holds(networks: tuple[str, ...], prefix: str) -> bool:
    network = ipaddress.ip_network(prefix)
    around = (other for other in ip.networks(networks) if other.version == network.version)
    return any(other.prefixlen <= network.prefixlen and network.network_address in other for other in around)


def _network(word: str, subject: str) -> str:
    try:
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        raise InvalidValue(
            f"the {subject} {validation.shown(word)} is no network",
            f"give networks like 10.0.0.0/8 with commas between them, {DEFAULT} or {ANY}",
        ) from None
