# SPDX-License-Identifier: GPL-3.0-or-later
"""What this node sees of its peers' endpoints: for the zone, which gives it to those who look for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import endpoints
from jaywalk.wireguard.interface import ObservedPeer
from jaywalk.zone.models import Peer
from jaywalk.zone.requests import MAX_OBSERVED, REPORT_SECONDS

from .path import SESSION_SECONDS

PAUSE = 1.0
"""Seconds between two reports out of turn."""
AGAIN = 6.0
"""Seconds after which a word is said once more, and from then on in the reports of the minute alone: a zone
does not change a record twice in 5 s."""

_NOTHING = ("", 0.0, 0.0)


class EndpointReporter:
    """Compares where peers speak from with what the zone says, and has news told: at once if it is our turn.

    ``tell`` sends a report in the background, and returns whether it could take it.
    """

    def __init__(self, tell: Callable[[Mapping[str, str]], bool]) -> None:
        self._tell = tell
        self._seen: dict[str, str] = {}
        self._settled: dict[str, tuple[str, float, float]] = {}
        """By key: the endpoint that was told, when, and for how many seconds that does."""
        self._next = 0.0

    def observed(self) -> dict[str, str]:
        """For the report of the minute: the endpoints that the zone does not know, as many as go into one."""
        return dict(list(self._seen.items())[:MAX_OBSERVED])

    def look(
        self, records: Mapping[str, Peer], own: Peer | None, peers: Mapping[str, ObservedPeer], now: float
    ) -> None:
        """Takes in what ``wg`` shows at ``now`` (seconds, monotonic)."""
        self._settled = {key: each for key, each in self._settled.items() if key in records}
        able = own is not None and endpoints.may_observe(own)
        news = {key: _news(records[key], peer) for key, peer in peers.items() if able and key in records}
        # In one step: another thread reads it.
        self._seen = {key: endpoint for key, endpoint in news.items() if endpoint}
        if own is None or now < self._next or not self._seen:
            return
        urgent = {
            key: each for key, each in self._seen.items() if self._is_ours(records, own, key, each, now)
        }
        if urgent and self._tell(dict(list(urgent.items())[:MAX_OBSERVED])):
            self._next = now + PAUSE
            self._settled |= {key: self._told(key, endpoint, now) for key, endpoint in urgent.items()}

    def _is_ours(self, records: Mapping[str, Peer], own: Peer, key: str, endpoint: str, now: float) -> bool:
        """Whether to tell at once: not what was told just now, nor what others are there for."""
        settled, at, pause = self._settled.get(key, _NOTHING)
        if settled == endpoint and now - at < pause:
            return False
        if own.key in endpoints.observers(records.values(), key):
            return True
        self._settled[key] = endpoint, now, REPORT_SECONDS
        return False

    def _told(self, key: str, endpoint: str, now: float) -> tuple[str, float, float]:
        before = self._settled.get(key, _NOTHING)[0]
        return endpoint, now, REPORT_SECONDS if before == endpoint else AGAIN


def _news(record: Peer, peer: ObservedPeer) -> str:
    """Where a peer speaks from, if it is not where its record says; empty otherwise."""
    fresh = time.time() - peer.handshake < SESSION_SECONDS
    if not fresh or not peer.endpoint or record.fixed:
        return ""
    try:
        endpoint = validation.endpoint(peer.endpoint)
    except InvalidValue:
        return ""
    return "" if endpoint == (record.observed or record.endpoint) else endpoint
