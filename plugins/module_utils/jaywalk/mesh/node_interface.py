# SPDX-License-Identifier: GPL-3.0-or-later
"""Computes a node's desired interface from its zone.  Pure; the agent and the modules use it."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..core import ip
from ..core.errors import InvalidValue
from ..core.ip import Network
from ..wireguard.interface import Interface, WgPeer
from ..zone.models import Peer
from ..zone.network_bounds import NetworkBounds
from ..zone.view import ZoneView
from .endpoints import ANY_VERSION, candidates

NOT_ACCEPTED = "it lies outside the networks that this node accepts (--accepted-networks)"
# Keeps a NAT's mapping open (wg(8), PersistentKeepalive).
KEEPALIVE_SECONDS = 25


@dataclass(frozen=True)
class LocalNode:
    """This node: its key, the name of its interface and its listen port.

    ``local_networks`` are the networks that it has without the mesh, and the controller's own address: no
    prefix of the zone may cover them.  ``requested`` are the addresses that it requests; the interface of
    another mesh that it leaves may still have them.
    """

    public_key: str
    private_key_file: str
    interface: str = "wg0"
    listen_port: int = 51820
    mtu: int | None = None
    local_networks: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    # Earlier public keys of this node, which the interface may still have.
    former_keys: tuple[str, ...] = ()
    # The IP versions that this machine can use.
    versions: frozenset[int] = ANY_VERSION
    # The networks in which this node accepts pools and prefixes of its zone; None for all.
    accepted: NetworkBounds | None = None
    # Networks in which no endpoint of a peer lies: the zone's pools, and broadcast addresses.
    no_endpoints: tuple[Network, ...] = ()


@dataclass(frozen=True)
class PeerEndpoint:
    """The endpoint to try for a peer; if it is empty, WireGuard keeps its own."""

    endpoint: str
    keepalive: int = KEEPALIVE_SECONDS


def desired(
    view: ZoneView, node: LocalNode, peer_endpoints: Mapping[str, PeerEndpoint] = MappingProxyType({})
) -> Interface | None:
    """The interface that ``node`` should have, or None while it is not in the zone.

    ``peer_endpoints`` are those of the path manager; other peers are tried at their best candidate.
    Raises ``InvalidValue`` if a pool of the zone and a network of the machine overlap.
    """
    own = view.peers.get(node.public_key)
    if own is None:
        return None
    check_no_overlap(accepted_pools(view, node), node)
    empty = Interface(
        name=node.interface,
        public_key=node.public_key,
        private_key_file=node.private_key_file,
        listen_port=node.listen_port,
        addresses=_own_addresses(view, node, own),
        mtu=node.mtu,
        routes=frozenset(_pools_beside(view, node, own)),
    )
    return with_peers(empty, view, node, view.peers, peer_endpoints)


def accepted_pools(view: ZoneView, node: LocalNode) -> tuple[str, ...]:
    """The pools of the zone that lie in the networks that this node accepts."""
    outside = node.accepted.outside(view.zone.pools) if node.accepted is not None else []
    return tuple(pool for pool in view.zone.pools if pool not in outside)


def _own_addresses(view: ZoneView, node: LocalNode, own: Peer) -> tuple[str, ...]:
    """This node's addresses with the lengths of their pools; raises ``InvalidValue`` if it accepts none."""
    pools = ip.networks(accepted_pools(view, node))
    within = [(host, ip.holding(pools, host)) for host in own.addresses]
    found = tuple(f"{host}/{pool.prefixlen}" for host, pool in within if pool is not None)
    if own.addresses and not found:
        raise InvalidValue(
            f"the pools {', '.join(view.zone.pools)} of zone {view.zone.name} lie outside the networks that "
            "this node accepts",
            "if they are right, give them with --accepted-networks (JAYWALK_ACCEPTED_NETWORKS)",
        )
    return found


def _pools_beside(view: ZoneView, node: LocalNode, own: Peer) -> list[str]:
    """The pools, of the interface's IP versions, that its own prefixes do not cover."""
    pools = ip.networks(accepted_pools(view, node))
    own_pools = {ip.holding(pools, host) for host in own.addresses}
    versions = {pool.version for pool in own_pools if pool is not None}
    return [str(pool) for pool in pools if pool.version in versions and pool not in own_pools]


def with_peers(
    current: Interface,
    view: ZoneView,
    node: LocalNode,
    keys: Iterable[str],
    peer_endpoints: Mapping[str, PeerEndpoint] = MappingProxyType({}),
) -> Interface:
    """``current`` with the peers of ``keys`` as in the zone; takes time proportional to the change."""
    changed, own = [key for key in keys if key != node.public_key], view.peers.get(node.public_key)
    peers, routes, local = dict(current.peers), set(current.routes), _local(view, node)
    # Remove first, then add: a prefix may move from one peer to another.
    for key in changed:
        before = peers.pop(key, None)
        if before is not None:
            routes.difference_update(before.allowed_ips)
    for record in (view.peers[key] for key in changed if key in view.peers):
        refused = _refused(view, node, record, local)
        allowed = tuple(sorted(prefix for prefix in record.allowed_ips if prefix not in refused))
        tried = peer_endpoints.get(record.key) or PeerEndpoint(
            next(iter(candidates(own, record, node.versions, node.no_endpoints)), "")
        )
        peers[record.key] = WgPeer(record.key, allowed, tried.endpoint, tried.keepalive)
        routed = (prefix for prefix in allowed if prefix in record.prefixes)
        routes.update(routed if current.ipv6 else (prefix for prefix in routed if ":" not in prefix))
    return replace(current, peers=peers, routes=frozenset(routes))


def _refused(view: ZoneView, node: LocalNode, record: Peer, local: Sequence[Network]) -> dict[str, str]:
    """The allowed IPs of ``record`` that this node does not configure, each with the reason."""
    own = view.peers.get(node.public_key)
    refused: dict[str, str] = {}
    foreign_pools = _foreign_pools(view, node)
    for prefix in record.allowed_ips:
        holder = own if own and prefix in own.allowed_ips else view.owner_of(prefix)
        taken = ip.overlapping(local, prefix) if prefix in record.prefixes else None
        if not _is_accepted(node, record, prefix, foreign_pools):
            refused[prefix] = NOT_ACCEPTED
        elif taken is not None:
            refused[prefix] = f"it overlaps {taken} on this machine"
        elif holder is not None and holder.key != record.key:
            refused[prefix] = f"it belongs to peer {holder.name}"
    return refused


def _foreign_pools(view: ZoneView, node: LocalNode) -> list[Network]:
    """The pools of the zone that this node does not accept."""
    return ip.networks(node.accepted.outside(view.zone.pools)) if node.accepted is not None else []


def _is_accepted(node: LocalNode, record: Peer, prefix: str, foreign_pools: Sequence[Network]) -> bool:
    """Whether a prefix or an address of ``record`` lies in the networks that this node accepts."""
    if node.accepted is None:
        return True
    if prefix in record.prefixes:
        return node.accepted.holds(prefix)
    return not foreign_pools or ip.holding(foreign_pools, prefix.partition("/")[0]) is None


def check_no_overlap(pools: Sequence[str], node: LocalNode) -> None:
    """Raises ``InvalidValue`` if a pool overlaps a network that the machine already has."""
    own = {ip.host_prefix(host) for host in node.requested}
    local = [network for network in _machine(node) if str(network) not in own]
    for pool in pools:
        taken = ip.overlapping(local, pool)
        if taken is not None:
            raise InvalidValue(
                f"the zone's pool {pool} overlaps {taken}, which this machine already has",
                "leave that network, or put the zone's interface into a network namespace (--netns)",
            )


def refused_prefixes(view: ZoneView, node: LocalNode) -> list[str]:
    """Sentences about the pools and the allowed IPs of peers that this node does not configure."""
    local = _local(view, node)
    pools = [f"the pool {pool} is left out: {NOT_ACCEPTED}" for pool in _foreign_pools(view, node)]
    return pools + [
        _left_out(peer, prefix, reason)
        for peer in view.peers.values()
        if peer.key != node.public_key
        for prefix, reason in _refused(view, node, peer, local).items()
    ]


def not_accepted(view: ZoneView, node: LocalNode) -> dict[str, str]:
    """Sentences about what lies outside the networks that this node accepts, by pool or peer's key."""
    found = {str(pool): f"the pool {pool} is left out: {NOT_ACCEPTED}" for pool in _foreign_pools(view, node)}
    for peer in view.peers.values() if node.accepted is not None else ():
        outside = node.accepted.outside(peer.prefixes) if node.accepted is not None else []
        if outside and peer.key != node.public_key:
            found[peer.key] = _left_out(peer, ", ".join(outside), NOT_ACCEPTED)
    return found


def _left_out(peer: Peer, prefixes: str, reason: str) -> str:
    return f"{prefixes} of peer {peer.name} is left out: {reason}"


def _machine(node: LocalNode) -> list[Network]:
    return [ipaddress.ip_network(network, strict=False) for network in node.local_networks]


def _local(view: ZoneView, node: LocalNode) -> list[Network]:
    """The networks of this machine, and those that it announces."""
    own = view.peers.get(node.public_key)
    return _machine(node) + ip.networks(own.prefixes if own else ())
