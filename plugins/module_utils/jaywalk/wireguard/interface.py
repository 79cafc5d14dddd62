# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface as it should be and as it is: the two ends of every plan."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..core import key_format, validation

# Higher than that of other routes (0 and 1024 by default, 100 to 1024 by DHCP): those go first.
ROUTE_METRIC = 2048
# A session ends this long after its handshake (WireGuard paper, section 6.1, Reject-After-Time).
SESSION_SECONDS = 180
# The network of the address that the kernel gives to an interface by itself.
LINK_LOCAL = "fe80::/64"


def networks_of(addresses: Iterable[str]) -> dict[str, str]:
    """The networks of an interface's addresses, and an address in each of them.

    The kernel routes them into the interface as long as it is up; there is none for a lone host (/32).
    """
    found: dict[str, str] = {}
    for each in _parsed(addresses):
        if each.network.prefixlen < each.network.max_prefixlen:
            found.setdefault(str(each.network), str(each.ip))
    return found


def _parsed(addresses: Iterable[str]) -> Iterator[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses but for one that the zone has yet to assign, which a preview has in words."""
    return (ipaddress.ip_interface(each) for each in addresses if "/" in each)


def server_name(interface: str) -> str:
    """The interface on which a relay listens for those that it carries, beside its own ``interface``."""
    return f"{interface[:9]}-relay"


def client_name(interface: str, relay: str) -> str:
    """The interface to the relay with the public key ``relay``, beside ``interface``."""
    return f"{interface[:8]}-{hashlib.sha256(f'{interface} {relay}'.encode()).hexdigest()[:6]}"


def is_relays(interface: str, name: str) -> bool:
    """Whether ``name`` is a relay's interface, or one to a relay, beside ``interface``."""
    client = re.fullmatch(re.escape(interface[:8]) + "-[0-9a-f]{6}", name)
    return name == server_name(interface) or client is not None


def has_session(handshake: float, now: float) -> bool:
    """Whether the session of a handshake is still in use; both in seconds since 1970, 0 for no handshake.

    A clock that was set back does not end a session.
    """
    return now - handshake < SESSION_SECONDS


@dataclass(frozen=True)
class WgPeer:
    """A peer on an interface; ``allowed_ips`` are sorted prefixes, ``keepalive`` is in seconds (0: none)."""

    key: str
    allowed_ips: tuple[str, ...] = ()
    endpoint: str = ""
    keepalive: int = 0

    @classmethod
    def validated(
        cls, key: object, allowed_ips: list[object], endpoint: str = "", keepalive: object = 0
    ) -> WgPeer:
        """A peer from a person's words; raises ``InvalidValue``."""
        prefixes = sorted({validation.network(prefix, "allowed IP") for prefix in allowed_ips})
        return cls(
            key_format.public_key(key),
            tuple(prefixes),
            validation.endpoint(endpoint) if endpoint else "",
            validation.keepalive(keepalive),
        )

    def lines(self) -> tuple[str, ...]:
        """The peer in words, a fact a line, as diffs and status show it."""
        facts = [f"peer {self.key}"]
        if self.endpoint:
            facts.append(f"peer {self.key} endpoint {self.endpoint}")
        if self.keepalive:
            facts.append(f"peer {self.key} keepalive {self.keepalive}")
        facts.extend(f"peer {self.key} allowed-ips {prefix}" for prefix in self.allowed_ips)
        return tuple(facts)


@dataclass(frozen=True)
class ObservedPeer(WgPeer):
    """A peer as the interface shows it; ``handshake`` is the time of the last one (seconds, 0 for never).

    ``preshared``: whether it has a preshared key, which is not kept here.
    """

    handshake: int = 0
    received: int = 0
    sent: int = 0
    preshared: bool = False

    def has_session(self, now: float) -> bool:
        """Whether the peer has a WireGuard session at ``now`` (seconds since 1970)."""
        return has_session(self.handshake, now)


@dataclass(frozen=True)
class Interface:
    """A WireGuard interface as it should be.

    ``private_key_file`` is where ``wg`` reads the key; only its public half is compared.  ``mtu`` and
    ``listen_port`` of None leave the machine's choice alone.  ``routes`` are all the prefixes that are
    routed into the interface, beside those that its own addresses bring; they have ``metric``.  Without
    ``ipv6`` it has no address and no route of that version, which the kernel would refuse.
    """

    name: str
    public_key: str
    private_key_file: str
    listen_port: int | None = None
    addresses: tuple[str, ...] = ()
    mtu: int | None = None
    peers: Mapping[str, WgPeer] = field(default_factory=dict)
    routes: frozenset[str] = frozenset()
    metric: int = ROUTE_METRIC
    ipv6: bool = True

    def without_ipv6(self) -> Interface:
        """The interface where the kernel takes no IPv6; allowed IPs stay, which WireGuard takes."""
        addresses = tuple(each for each in self.addresses if ":" not in each)
        routes = frozenset(each for each in self.routes if ":" not in each)
        return replace(self, addresses=addresses, routes=routes, ipv6=False)

    @property
    def has_ipv6(self) -> bool:
        """Whether there is an address or a route of that version."""
        return any(":" in each for each in (*self.addresses, *self.routes))

    @property
    def accepted_routes(self) -> frozenset[str]:
        """Prefixes to which a route into the interface is right, whoever made it: those of its addresses."""
        return frozenset((*(str(each.network) for each in _parsed(self.addresses)), LINK_LOCAL))


@dataclass(frozen=True)
class Observed:
    """A WireGuard interface as it is; ``kind`` is ``kernel`` or ``userspace``.

    ``routes`` are those that lead into it and that the kernel did not make.  ``lost_networks`` and
    ``lost_hosts`` are what follows from its addresses while it is up, and is gone: the networks that no route
    leads to, and the addresses that the machine does not take for its own.
    """

    name: str
    kind: str
    public_key: str
    listen_port: int
    addresses: tuple[str, ...]
    mtu: int
    up: bool
    peers: Mapping[str, ObservedPeer] = field(default_factory=dict)
    routes: frozenset[str] = frozenset()
    lost_networks: frozenset[str] = frozenset()
    lost_hosts: frozenset[str] = frozenset()
