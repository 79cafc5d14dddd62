# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of a mesh interface: the largest that fits into the links to its peers.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..core import ip
from .interface import Interface, ObservedInterface, WgPeer, is_relays

# Bytes that WireGuard adds to a packet over IPv6, 20 more than over IPv4; wg-quick(8) subtracts as many.
OVERHEAD = 80
# The smallest MTU of a zone without and with IPv6 inside (RFC 791, RFC 8200).
LEAST, LEAST_IPV6 = 576, 1280
MOST = 65535 - OVERHEAD
# The Internet carries no larger packets, even where a cloud's own network does.
INTERNET = 1500
# The MTU of a new interface, of kernel and userspace WireGuard alike.
DEFAULT = INTERNET - OVERHEAD
LOOPBACK = "lo"


class PathMtu(NamedTuple):
    """How packets to one host leave this machine, and how large they may be.

    ``mtu`` is that of the link or the route, in bytes.  ``routed``: by a gateway.  ``learnt``: the kernel has
    it from a router (path MTU discovery), and forgets it within minutes.
    """

    device: str
    mtu: int
    routed: bool = False
    learnt: bool = False


def endpoint_hosts(*peers: Mapping[str, WgPeer]) -> set[str]:
    """The addresses of the peers' endpoints; for a key in several mappings the first endpoint counts."""
    found: dict[str, str] = {}
    for mapping in peers:
        for key, peer in mapping.items():
            if peer.endpoint:
                found.setdefault(key, ip.host_of(peer.endpoint))
    return set(found.values())


def fitting(paths: Mapping[str, PathMtu], interface: str, addresses: Iterable[str]) -> int | None:
    """The MTU that fits into each path, or None where no path is known.

    ``paths`` are by the address of the endpoint; those by the mesh's own interfaces do not count.
    ``addresses`` are the interface's own: IPv6 needs 1,280 bytes at least, which may be more than fits.
    """
    found = [
        _carried(host, path)
        for host, path in paths.items()
        if path.mtu and path.device not in (LOOPBACK, interface) and not is_relays(interface, path.device)
    ]
    if not found:
        return None
    return min(max(min(found) - OVERHEAD, least(addresses)), MOST)


def applied(
    desired: Interface, observed: ObservedInterface | None, paths: Mapping[str, PathMtu], raises: bool = False
) -> Interface:
    """``desired`` with the MTU that fits, unless it has one.

    An existing interface gets a larger MTU only with ``raises``: from the agent, which remembers smaller ones
    that the kernel has forgotten (:class:`LearntMtus`).
    """
    if desired.mtu is not None:
        return desired
    size = fitting(paths, desired.name, desired.addresses)
    kept = size == DEFAULT if observed is None else (not raises and (size or 0) > observed.mtu)
    return desired if kept else replace(desired, mtu=size)


def least(addresses: Iterable[str]) -> int:
    """The smallest MTU of an interface with these addresses."""
    return LEAST_IPV6 if any(ip.version_of(address) == 6 for address in addresses) else LEAST


def _carried(host: str, path: PathMtu) -> int:
    beyond = path.routed and ipaddress.ip_address(host).is_global
    return min(path.mtu, INTERNET) if beyond else path.mtu


class LearntMtus:
    """Remembers learnt MTUs for an hour; the kernel forgets them after ten minutes.

    An interface with a fitting MTU sends no large packets, so that no router would report the MTU again, and
    the interface's MTU would go up and down.
    """

    SECONDS = 3600.0

    def __init__(self) -> None:
        self._found: dict[str, tuple[PathMtu, float]] = {}

    def recall(self, paths: Mapping[str, PathMtu], now: float) -> dict[str, PathMtu]:
        """``paths``, with the smallest MTU of the last hour where device and kind of route are the same."""
        recalled = {}
        for host, path in paths.items():
            before, until = self._found.pop(host, (path, 0.0))
            known = until > now and (before.device, before.routed) == (path.device, path.routed)
            if known and before.mtu < path.mtu:
                self._found[host] = before, until
                recalled[host] = before
                continue
            if path.learnt:
                self._found[host] = path, now + self.SECONDS
            recalled[host] = path
        self._forget(paths)
        return recalled

    def _forget(self, hosts: Collection[str]) -> None:
        self._found = {host: found for host, found in self._found.items() if host in hosts}
