# SPDX-License-Identifier: GPL-3.0-or-later
"""The MTU of a mesh interface: as large as the links that lead to its peers let it be.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from ..core import ip
from .interface import Interface, Observed, WgPeer, is_relays

OVERHEAD = 80
"""Bytes that WireGuard adds to a packet over IPv6, 20 more than over IPv4; wg-quick(8) counts as many."""
LEAST, LEAST_IPV6 = 576, 1280
"""The smallest MTU that a zone works with, without and with IPv6 inside (RFC 791, RFC 8200)."""
MOST = 65535 - OVERHEAD
INTERNET = 1500
"""What the Internet carries, however large the packets are that a cloud's own network takes."""
DEFAULT = INTERNET - OVERHEAD
"""Of a new interface, by the kernel and by userspace WireGuard alike."""
LOOPBACK = "lo"


class PathMtu(NamedTuple):
    """How packets to one host leave this machine, and how large they may be.

    ``mtu`` is the link's or the route's.  ``routed``: by a gateway.  ``learnt``: a router on the way told the
    kernel so, which forgets it again within minutes.
    """

    device: str
    mtu: int
    routed: bool = False
    learnt: bool = False


def endpoint_hosts(*peers: Mapping[str, WgPeer]) -> set[str]:
    """The addresses at which peers are reached; of a key in several mappings the first endpoint counts."""
    found: dict[str, str] = {}
    for mapping in peers:
        for key, peer in mapping.items():
            if peer.endpoint:
                found.setdefault(key, ip.host_of(peer.endpoint))
    return set(found.values())


def fitting(paths: Mapping[str, PathMtu], interface: str, addresses: Iterable[str]) -> int | None:
    """The MTU that fits into each path, or None where no path is known.

    ``paths`` are by the address of the endpoint.  Those by the mesh's own interfaces say nothing.
    ``addresses`` are the interface's own: IPv6 needs 1,280 bytes at least, which may be more than fit.
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
    wanted: Interface, observed: Observed | None, paths: Mapping[str, PathMtu], raises: bool = False
) -> Interface:
    """``wanted`` with the MTU that fits, unless it has one.

    An interface that is there gets a larger one only with ``raises``: by the agent, which remembers more
    than the moment shows (:class:`LearntMtus`).
    """
    if wanted.mtu is not None:
        return wanted
    size = fitting(paths, wanted.name, wanted.addresses)
    kept = size == DEFAULT if observed is None else (not raises and (size or 0) > observed.mtu)
    return wanted if kept else replace(wanted, mtu=size)


def least(addresses: Iterable[str]) -> int:
    """The smallest MTU of an interface with these addresses."""
    return LEAST_IPV6 if any(":" in each for each in addresses) else LEAST


def _carried(host: str, path: PathMtu) -> int:
    beyond = path.routed and ipaddress.ip_address(host).is_global
    return min(path.mtu, INTERNET) if beyond else path.mtu


class LearntMtus:
    """Remembers for an hour what routers told the kernel, which forgets it after ten minutes.

    An interface that was made to fit sends nothing large, so nothing would tell again, and its MTU would go
    up and down.
    """

    SECONDS = 3600.0

    def __init__(self) -> None:
        self._found: dict[str, tuple[PathMtu, float]] = {}

    def recall(self, paths: Mapping[str, PathMtu], now: float) -> dict[str, PathMtu]:
        """``paths``, and for those that lead the same way as before the smallest MTU of the last hour."""
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
        self._found = {host: each for host, each in self._found.items() if host in hosts}
