# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a peer may be reached, and who tells the zone where it was seen: pure rules over records."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable

from ..core import ip
from ..zone.models import Peer

# Peers that tell at once where they see another one. Two can show a symmetric NAT, one may be away.
OBSERVERS_PER_PEER = 3
ANY_VERSION = frozenset({4, 6})
# Relays that a node keeps in touch with, of a zone that has more.
MAX_RELAYS = 4


def candidates(own: Peer | None, other: Peer, versions: Collection[int] = ANY_VERSION) -> tuple[str, ...]:
    """The endpoints at which ``own`` tries ``other``, the best one first, none twice.

    ``versions`` are the IP versions that this node has a way for: at an endpoint of another one nothing
    would come of it but lost seconds.  Without any left the other side has to speak first.

    The operator's word goes first.  Behind the same NAT the way by the local network does, since few NATs
    lead a packet back inside; else the local addresses go last, for sites that are routed to each other.
    """
    nearby = declared_endpoints(other)
    seen = (other.observed,) if other.observed else ()
    local_first = other.fixed or same_nat(own, other)
    found = dict.fromkeys(nearby + seen if local_first else seen + nearby)
    return tuple(each for each in found if ip.version_of(ip.host_of(each)) in versions)


def declared_endpoints(peer: Peer) -> tuple[str, ...]:
    """The endpoints that a peer names itself: its own word, then its other addresses on the same port."""
    if not peer.endpoint:
        return ()
    number = ip.port_of(peer.endpoint)
    return (peer.endpoint, *(ip.join_endpoint(host, number) for host in peer.local))


def same_nat(one: Peer | None, other: Peer) -> bool:
    """Whether both are seen at the same address, and so are probably behind the same NAT."""
    if one is None or not one.observed or not other.observed:
        return False
    return ip.host_of(one.observed) == ip.host_of(other.observed)


def both_without_nat(own: Peer | None, other: Peer) -> bool:
    """Whether both can be reached where they say, so that WireGuard needs nobody's help."""
    return not (own is not None and own.observed) and not other.observed


def relays(peers: Iterable[Peer]) -> list[Peer]:
    """The zone's usable relays by key: one that its peers see elsewhere than it says cannot be reached."""
    offered = (peer for peer in peers if peer.relay and peer.endpoint and not peer.observed)
    return sorted(offered, key=lambda peer: peer.key)[:MAX_RELAYS]


def relay_endpoint(own: Peer, relay: Peer, versions: Collection[int] = ANY_VERSION) -> str:
    """Where the relay's second interface listens, at the first of its addresses of an IP version of ours.

    Ours are those that this node names itself, as far as it has a way for them (``versions``).
    """
    named = {ip.version_of(ip.host_of(each)) for each in declared_endpoints(own)}
    usable = named & set(versions) or named
    hosts = [ip.host_of(each) for each in declared_endpoints(relay)]
    reached = (host for host in hosts if ip.version_of(host) in usable)
    return ip.join_endpoint(next(reached, hosts[0]), relay.relay)


def may_observe(observer: Peer) -> bool:
    """Whether a node sees others as the world does: not if it is behind a NAT with them."""
    return bool(observer.endpoint) and not observer.observed


def observers(peers: Iterable[Peer], key: str) -> list[str]:
    """The keys of those who tell at once where they see the peer ``key``.

    Relays do, and three others that its key picks, so that a thousand open nodes do not all tell the same.
    """
    able = [peer for peer in peers if peer.key != key and may_observe(peer)]
    chosen = sorted(able, key=lambda peer: (not peer.relay, _lot(key, peer.key)))
    return [peer.key for peer in chosen[: OBSERVERS_PER_PEER + sum(bool(peer.relay) for peer in able)]]


def relay_for(one: str, other: str, alive: Iterable[str]) -> str | None:
    """The relay that carries the pair of two keys, the same for both ends where they see the same relays."""
    pair = "".join(sorted((one, other)))
    return min(alive, key=lambda relay: _lot(pair, relay), default=None)


def _lot(what: str, who: str) -> bytes:
    """A draw that everybody repeats with the same result (rendezvous hashing)."""
    return hashlib.sha256(f"{what} {who}".encode()).digest()
