# SPDX-License-Identifier: GPL-3.0-or-later
"""Where peers were seen, as other peers report it, and what of that the zone believes.

WireGuard authenticates whoever answers, so a lie about an endpoint reads no packet: it costs its victim a
few seconds of looking elsewhere.  It is kept at that: the words of relays and of nodes whose operator
named their endpoint outweigh those of others, nodes behind a NAT are not heard, what several see is not
changed by one, and a record changes no more often than each ``SETTLE_SECONDS``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaywalk.core import ip
from jaywalk.mesh.endpoints import may_observe, said_by
from jaywalk.zone.models import Peer, Zone

BELIEVED_SECONDS = 180.0
"""How long a word counts: observers repeat theirs with each report, about once a minute."""
SETTLE_SECONDS = 5.0
"""Between two changes of one record, however many observers disagree."""
MOST_OBSERVERS = 16
"""Words that are kept about one peer; the oldest ones go."""


@dataclass(frozen=True)
class ReportedEndpoint:
    """What one observer said last: an endpoint, at a time in seconds since 1970."""

    endpoint: str
    at: float


@dataclass
class EndpointObservations:
    """The last words about each peer of a zone, by observer; lost with the supervisor, and soon said anew."""

    _words: dict[str, dict[str, ReportedEndpoint]] = field(default_factory=lambda: defaultdict(dict))
    _changed: dict[str, float] = field(default_factory=dict)

    def note(self, observer: Peer, observed: Mapping[str, str], now: float) -> None:
        """Takes in what ``observer`` reports of ``observed``, members of its zone all of them."""
        for key, endpoint in observed.items():
            words = self._words[key]
            words.pop(observer.key, None)
            words[observer.key] = ReportedEndpoint(endpoint, now)
            while len(words) > MOST_OBSERVERS:
                del words[next(iter(words))]

    def forget(self, key: str) -> None:
        """Drops all that was said about a peer: it left or is elsewhere now, and the next word is news."""
        self._words.pop(key, None)
        self._changed.pop(key, None)

    def believed(self, zone: Zone, peers: Mapping[str, Peer], key: str, now: float) -> Peer | None:
        """The record of the peer ``key`` as it should be by now, or None while that is how it is.

        What it returns goes into the log, so the next change of this record waits.
        """
        peer = peers[key]
        if peer.fixed or now - self._changed.get(key, 0.0) < SETTLE_SECONDS:
            return None
        heard = self._heard(zone, peers, peer, now)
        if not heard:
            return None
        own = said_by(peer)
        afar = [each for each in heard if each not in own] or heard
        # Who sees it where the record says keeps it there; else the newest word counts.
        current = peer.observed or peer.endpoint
        chosen = current if current in afar else afar[-1]
        symmetric = len({ip.port_of(each) for each in afar if _same_host(each, chosen)}) > 1
        seen = peer._replace(observed="" if chosen in own else chosen, symmetric=symmetric)
        if seen == peer:
            return None
        self._changed[key] = now
        return seen

    def _heard(self, zone: Zone, peers: Mapping[str, Peer], peer: Peer, now: float) -> list[str]:
        """The endpoints that count, the newest word last: those of the best kind of observers alone."""
        words = sorted(self._words.get(peer.key, {}).items(), key=lambda each: each[1].at)
        by_rank: dict[bool, list[str]] = {True: [], False: []}
        for observer, word in words:
            who = peers.get(observer)
            fresh = now - word.at < BELIEVED_SECONDS
            inside = zone.holds(ip.host_of(word.endpoint))
            if who is not None and who.key != peer.key and fresh and not inside and may_observe(who):
                by_rank[bool(who.relay) or who.fixed].append(word.endpoint)
        return by_rank[True] or by_rank[False]


def _same_host(one: str, other: str) -> bool:
    return ip.host_of(one) == ip.host_of(other)
