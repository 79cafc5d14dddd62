# SPDX-License-Identifier: GPL-3.0-or-later
"""A WireGuard interface as desired and as observed: the two ends of every plan."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..core import key_format, validation
from ..core.ip import version_of

# Higher than that of other routes (0 and 1024 by default, 100 to 1024 by DHCP): those go first.
ROUTE_METRIC = 2048
# A session ends this long after its handshake (WireGuard paper, section 6.1, Reject-After-Time).
SESSION_SECONDS = 180
# The network of the address that the kernel gives to an interface by itself.
LINK_LOCAL = "fe80::/64"


def networks_of(addresses: Iterable[str]) -> dict[str, str]:
    """The networks of an interface's addresses, with an address in each of them.

    The kernel routes them into the interface as long as it is up.  A single host (/32, /128) has no network.
    """
    found: dict[str, str] = {}
    for address in _parsed(addresses):
        if address.network.prefixlen < address.network.max_prefixlen:
            found.setdefault(str(address.network), str(address.ip))
    return found


def _parsed(addresses: Iterable[str]) -> Iterator[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """The addresses, without the placeholders of a preview for addresses that the zone has yet to assign."""
    return (ipaddress.ip_interface(address) for address in addresses if "/" in address)


def server_name(interface: str) -> str:
    """The name of the interface on which a relay listens for other nodes, beside its own ``interface``."""
    return f"{interface[:9]}-relay"


def client_name(interface: str, relay: str) -> str:
    """The name of the interface to the relay with the public key ``relay``, beside ``interface``."""
    return f"{interface[:8]}-{hashlib.sha256(f'{interface} {relay}'.encode()).hexdigest()[:6]}"


def is_relays(interface: str, name: str) -> bool:
    """Whether ``name`` is a relay's own interface or an interface to a relay, beside ``interface``."""
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
        """A peer from unvalidated input; raises ``InvalidValue``."""
        prefixes = sorted({validation.network(prefix, "allowed IP") for prefix in allowed_ips})
        return cls(
            key_format.public_key(key),
            tuple(prefixes),
            validation.endpoint(endpoint) if endpoint else "",
            validation.keepalive(keepalive),
        )

    def lines(self) -> tuple[str, ...]:
        """The peer as lines of a diff, a fact each."""
        facts = [f"peer {self.key}"]
        if self.endpoint:
            facts.append(f"peer {self.key} endpoint {self.endpoint}")
        if self.keepalive:
            facts.append(f"peer {self.key} keepalive {self.keepalive}")
        facts.extend(f"peer {self.key} allowed-ips {prefix}" for prefix in self.allowed_ips)
        return tuple(facts)


@dataclass(frozen=True)
class ObservedPeer(WgPeer):
    """A peer as observed; ``handshake`` is the time of the last one (seconds since 1970, 0 for never).

    ``received`` and ``sent`` are bytes.  ``preshared``: whether the peer has a preshared key; the key itself
    is not kept here.
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
    """A WireGuard interface as desired.

    ``wg`` reads the key from ``private_key_file``; a plan compares only public keys.  ``mtu`` and
    ``listen_port`` of None leave the machine's values.  ``routes`` are the prefixes that are routed into the
    interface with ``metric``, beside the networks of its own addresses.  Without ``ipv6`` it has no address
    and no route of that version, which the kernel would refuse.
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
        """The interface where the kernel takes no IPv6; allowed IPs stay, since WireGuard takes them."""
        addresses = tuple(address for address in self.addresses if version_of(address) == 4)
        routes = frozenset(prefix for prefix in self.routes if version_of(prefix) == 4)
        return replace(self, addresses=addresses, routes=routes, ipv6=False)

    @property
    def has_ipv6(self) -> bool:
        """Whether there is an address or a route of that version."""
        return any(version_of(text) == 6 for text in (*self.addresses, *self.routes))

    @property
    def accepted_routes(self) -> frozenset[str]:
        """The networks of its addresses: a route to them into the interface is right, whoever made it."""
        return frozenset((*(str(address.network) for address in _parsed(self.addresses)), LINK_LOCAL))


@dataclass(frozen=True)
class ObservedInterface:
    """A WireGuard interface as observed; ``kind`` is ``kernel`` or ``userspace``.

    ``routes`` lead into it and were not made by the kernel.  ``lost_networks`` are networks of its addresses
    without a route, and ``lost_hosts`` are its addresses without a local route: the kernel made those routes
    while the interface is up, and somebody deleted them.
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
