# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports the observed endpoints of peers to the zone, which passes them on to nodes that need them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jaywalk.core import validation
from jaywalk.core.errors import InvalidValue
from jaywalk.mesh import endpoints
from jaywalk.wireguard.interface import ObservedPeer
from jaywalk.zone.models import Peer
from jaywalk.zone.requests import MAX_OBSERVED, REPORT_SECONDS

# The least time between two urgent reports.
URGENT_INTERVAL_SECONDS = 1.0
# An urgent report is repeated once after this time, since a zone does not change a record twice in 5 s.
# Later repeats go with the periodic report.
REPEAT_SECONDS = 6.0


class _Reported(NamedTuple):
    """An endpoint that needs no further urgent report until ``seconds`` after ``at``."""

    endpoint: str = ""
    at: float = 0.0
    seconds: float = 0.0


class EndpointReporter:
    """Reports each peer whose endpoint differs from its record, at once if this node is assigned to it.

    ``send_report`` sends a report in the background, and returns whether the report was accepted.
    """

    def __init__(self, send_report: Callable[[Mapping[str, str]], bool]) -> None:
        self._send_report = send_report
        self._observed: dict[str, str] = {}
        self._reported: dict[str, _Reported] = {}
        self._next = 0.0

    def observed_endpoints(self) -> dict[str, str]:
        """For the periodic report: the endpoints that differ from the zone's, ``MAX_OBSERVED`` at most."""
        return dict(list(self._observed.items())[:MAX_OBSERVED])

    def observe(
        self, records: Mapping[str, Peer], own: Peer | None, peers: Mapping[str, ObservedPeer], now: float
    ) -> None:
        """Handles the peers of ``wg show`` at ``now`` (seconds, monotonic)."""
        self._reported = {key: reported for key, reported in self._reported.items() if key in records}
        able = own is not None and endpoints.may_observe(own)
        known = {key: peer for key, peer in peers.items() if able and key in records}
        found = {key: _new_endpoint(records[key], peer) for key, peer in known.items()}
        # One assignment, since another thread reads it.
        self._observed = {key: endpoint for key, endpoint in found.items() if endpoint}
        if own is None or now < self._next or not self._observed:
            return
        urgent = {
            key: endpoint
            for key, endpoint in self._observed.items()
            if self._is_urgent(records, own, key, endpoint, now)
        }
        if urgent and self._send_report(dict(list(urgent.items())[:MAX_OBSERVED])):
            self._next = now + URGENT_INTERVAL_SECONDS
            self._reported |= {key: self._sent(key, endpoint, now) for key, endpoint in urgent.items()}

    def _is_urgent(self, records: Mapping[str, Peer], own: Peer, key: str, endpoint: str, now: float) -> bool:
        """Whether to report now: not if just reported, or if other observers are assigned to this peer."""
        last = self._reported.get(key, _Reported())
        if last.endpoint == endpoint and now - last.at < last.seconds:
            return False
        if own.key in endpoints.observers(records.values(), key):
            return True
        self._reported[key] = _Reported(endpoint, now, REPORT_SECONDS)
        return False

    def _sent(self, key: str, endpoint: str, now: float) -> _Reported:
        repeated = self._reported.get(key, _Reported()).endpoint == endpoint
        return _Reported(endpoint, now, REPORT_SECONDS if repeated else REPEAT_SECONDS)


def _new_endpoint(record: Peer, peer: ObservedPeer) -> str:
    """The observed endpoint of a peer with a session, or "" if its record has the same."""
    fresh = peer.has_session(time.time())
    if not fresh or not peer.endpoint or record.fixed:
        return ""
    try:
        endpoint = validation.endpoint(peer.endpoint)
    except InvalidValue:
        return ""
    return "" if endpoint == (record.observed or record.endpoint) else endpoint
