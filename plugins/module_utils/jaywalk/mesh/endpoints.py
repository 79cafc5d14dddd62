# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoint candidates, relays and observers of peers, as pure rules over records."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from ..core import ip
from ..zone.models import Peer

# Peers that report a peer's observed endpoint at once. Two can detect a symmetric NAT, one may be away.
OBSERVERS_PER_PEER = 3
ANY_VERSION = frozenset({4, 6})
# Relays that a node uses, in a zone with more.
MAX_RELAYS = 4


def candidates(
    own: Peer | None,
    other: Peer,
    versions: Collection[int] = ANY_VERSION,
    excluded: Sequence[ip.Network] = (),
) -> tuple[str, ...]:
    """The endpoints at which ``own`` tries ``other``, the best one first, none twice.

    ``versions`` are the IP versions that this node can use; an endpoint of another version would only cost
    seconds.  Without any candidate the other side has to send first.  No candidate has an address that is no
    machine's, or that lies in ``excluded``: a zone could aim packets of all its nodes at it.

    An endpoint that the operator set comes first.  Behind the same NAT the local addresses come first, since
    few NATs support hairpinning; otherwise they come last, for sites that are routed to each other.
    """
    nearby = declared_endpoints(other)
    seen = (other.observed,) if other.observed else ()
    local_first = other.fixed or same_nat(own, other)
    found = dict.fromkeys(nearby + seen if local_first else seen + nearby)
    hosts = {endpoint: ip.host_of(endpoint) for endpoint in found}
    return tuple(
        endpoint
        for endpoint, host in hosts.items()
        if ip.version_of(host) in versions and ip.is_machines(host) and ip.holding(excluded, host) is None
    )


def declared_endpoints(peer: Peer) -> tuple[str, ...]:
    """The endpoints that a peer declares: its endpoint, then its other addresses with the same port."""
    if not peer.endpoint:
        return ()
    number = ip.port_of(peer.endpoint)
    return (peer.endpoint, *(ip.join_endpoint(host, number) for host in peer.local))


def same_nat(one: Peer | None, other: Peer) -> bool:
    """Whether both have the same observed address, and so are probably behind the same NAT."""
    if one is None or not one.observed or not other.observed:
        return False
    return ip.host_of(one.observed) == ip.host_of(other.observed)


def both_without_nat(own: Peer | None, other: Peer) -> bool:
    """Whether both are reachable at their declared endpoints, so that WireGuard connects without help."""
    return not (own is not None and own.observed) and not other.observed


def relays(peers: Iterable[Peer]) -> list[Peer]:
    """The zone's usable relays, sorted by key; one with another observed endpoint cannot be reached."""
    offered = (peer for peer in peers if peer.relay and peer.endpoint and not peer.observed)
    return sorted(offered, key=lambda peer: peer.key)[:MAX_RELAYS]


def relay_endpoint(own: Peer, relay: Peer, versions: Collection[int] = ANY_VERSION) -> str:
    """The endpoint of the relay's second interface, at its first address of an IP version of this node.

    Those are the versions of the endpoints that this node declares, as far as it can use them (``versions``).
    """
    named = {ip.version_of(ip.host_of(endpoint)) for endpoint in declared_endpoints(own)}
    usable = named & set(versions) or named
    named_hosts = [ip.host_of(endpoint) for endpoint in declared_endpoints(relay)]
    hosts = [host for host in named_hosts if ip.is_machines(host)] or named_hosts
    reached = (host for host in hosts if ip.version_of(host) in usable)
    return ip.join_endpoint(next(reached, hosts[0]), relay.relay)


def may_observe(observer: Peer) -> bool:
    """Whether a node observes the public endpoints of others: not if it is behind a NAT with them."""
    return bool(observer.endpoint) and not observer.observed


def observers(peers: Iterable[Peer], key: str) -> list[str]:
    """The keys of the peers that report the observed endpoint of ``key`` at once.

    Relays do, and three others selected by its key, so that a thousand open nodes do not all report the same.
    """
    able = [peer for peer in peers if peer.key != key and may_observe(peer)]
    chosen = sorted(able, key=lambda peer: (not peer.relay, _rendezvous_hash(key, peer.key)))
    return [peer.key for peer in chosen[: OBSERVERS_PER_PEER + sum(bool(peer.relay) for peer in able)]]


def relay_for(one: str, other: str, alive: Iterable[str]) -> str | None:
    """The relay for a pair of keys, the same on both ends if both know the same relays."""
    pair = "".join(sorted((one, other)))
    return min(alive, key=lambda relay: _rendezvous_hash(pair, relay), default=None)


def _rendezvous_hash(what: str, who: str) -> bytes:
    """Rendezvous hash: every node computes the same choice."""
    return hashlib.sha256(f"{what} {who}".encode()).digest()
