# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of peers as other peers observe them, and the rules by which a zone accepts them.

WireGuard authenticates each peer, so a false endpoint exposes no packet: it costs the victim a few seconds of
attempts at the wrong address.  These rules limit the harm to that: reports of relays and of nodes with an
endpoint set by the operator outweigh others, reports of nodes behind a NAT do not count, one observer does
not override several, and a record changes at most once per ``MIN_CHANGE_INTERVAL_SECONDS``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaywalk.core import ip
from jaywalk.mesh.endpoints import declared_endpoints, may_observe
from jaywalk.zone.models import Peer, Zone

# Observers repeat their observations in each report, about once a minute.
OBSERVATION_TTL_SECONDS = 180.0
# Bounds the changes of one record, however many observers disagree.
MIN_CHANGE_INTERVAL_SECONDS = 5.0
# The oldest observations of a peer are dropped first.
MAX_OBSERVERS_PER_PEER = 16


@dataclass(frozen=True)
class ReportedEndpoint:
    """The last observation of one observer: an endpoint, and the time in seconds since 1970."""

    endpoint: str
    at: float


@dataclass
class EndpointObservations:
    """The last observations of each peer of a zone, by observer.

    They are in memory only; observers repeat them within a minute.
    """

    _by_peer: dict[str, dict[str, ReportedEndpoint]] = field(default_factory=lambda: defaultdict(dict))
    _changed: dict[str, float] = field(default_factory=dict)

    def record(self, observer: Peer, observed: Mapping[str, str], now: float) -> None:
        """Records the endpoints (by key) that ``observer`` reports; all keys are members of its zone."""
        for key, endpoint in observed.items():
            reports = self._by_peer[key]
            reports.pop(observer.key, None)
            reports[observer.key] = ReportedEndpoint(endpoint, now)
            while len(reports) > MAX_OBSERVERS_PER_PEER:
                del reports[next(iter(reports))]

    def forget(self, key: str) -> None:
        """Drops all observations of a peer that left or changed its endpoint."""
        self._by_peer.pop(key, None)
        self._changed.pop(key, None)

    def updated_record(self, zone: Zone, peers: Mapping[str, Peer], key: str, now: float) -> Peer | None:
        """The record of the peer ``key`` with its observed endpoint, or None if nothing changes.

        The caller commits the returned record; that starts ``MIN_CHANGE_INTERVAL_SECONDS``.
        """
        peer = peers[key]
        if peer.fixed or now - self._changed.get(key, 0.0) < MIN_CHANGE_INTERVAL_SECONDS:
            return None
        counted = self._counted_endpoints(zone, peers, peer, now)
        if not counted:
            return None
        own = declared_endpoints(peer)
        remote = [endpoint for endpoint in counted if endpoint not in own] or counted
        # One observer that confirms the record keeps it; else the newest observation counts.
        current = peer.observed or peer.endpoint
        chosen = current if current in remote else remote[-1]
        symmetric = len({ip.port_of(each) for each in remote if _same_host(each, chosen)}) > 1
        updated = peer._replace(observed="" if chosen in own else chosen, symmetric=symmetric)
        if updated == peer:
            return None
        self._changed[key] = now
        return updated

    def _counted_endpoints(self, zone: Zone, peers: Mapping[str, Peer], peer: Peer, now: float) -> list[str]:
        """The endpoints that count, newest last: of relays and fixed nodes, else of all others."""
        reports = sorted(self._by_peer.get(peer.key, {}).items(), key=lambda item: item[1].at)
        by_rank: dict[bool, list[str]] = {True: [], False: []}
        for key, reported in reports:
            observer = peers.get(key)
            fresh = now - reported.at < OBSERVATION_TTL_SECONDS
            inside = zone.contains(ip.host_of(reported.endpoint))
            if observer is None or observer.key == peer.key or not may_observe(observer):
                continue
            if fresh and not inside:
                by_rank[bool(observer.relay) or observer.fixed].append(reported.endpoint)
        return by_rank[True] or by_rank[False]


def _same_host(one: str, other: str) -> bool:
    return ip.host_of(one) == ip.host_of(other)
