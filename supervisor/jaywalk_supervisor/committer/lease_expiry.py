# SPDX-License-Identifier: GPL-3.0-or-later
"""Ends the leases of nodes that left long ago, by the zone's policy, so that churn does not fill a zone.

Reservations stay until an operator releases them.  So do imported addresses: their nodes have not joined yet,
and a full pool reuses them like any other lease.
"""

from __future__ import annotations

from collections.abc import Collection

from jaywalk.zone.events import Change

from ..state.zone_state import ZoneState

# Limit of leases that end in one commit. Its event, which each agent reads, then has 18 kB.
BATCH = 256
# Between two such commits a zone waits one second per hundred peers, since each commit wakes all its agents.
PEERS_PER_SECOND = 100
# Interval of checks of a zone in which no more leases are due.
CHECK_SECONDS = 60.0
# Limit of zones that are checked per refresh.
MAX_ZONES = 20
# Limit of such commits of all zones per refresh: they delay a join by at most 10 ms.
MAX_COMMITS = 4


def due(state: ZoneState, now: float) -> list[Change]:
    """Returns changes that end at most ``BATCH`` leases which have expired by ``now``."""
    after = state.zone.policy.lease_ends_after
    if after is None:
        return []
    ended: dict[str, None] = {}
    for lease in state.released_before(now - after):
        if not lease.has_placeholder_key:
            ended[lease.key] = None
        if len(ended) == BATCH:
            break
    return [Change("=", key) for key in ended]


class Schedule:
    """The time of the next check of each zone, by a monotonic clock."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def ready(self, zones: Collection[str], now: float) -> list[str]:
        """Returns those of ``zones`` that are due for a check, the longest waiting first."""
        self._next = {zone: at for zone, at in self._next.items() if zone in zones}
        return sorted((zone for zone in zones if self.is_ready(zone, now)), key=self._waiting)

    def is_ready(self, zone: str, now: float) -> bool:
        """Whether ``zone`` is due for a check."""
        return self._waiting(zone) <= now

    def done(self, state: ZoneState, ended: int, now: float) -> None:
        """Schedules the next check after ``ended`` leases ended at ``now``; a full batch leaves more."""
        busy = len(state.peers) / PEERS_PER_SECOND
        self._next[state.zone.name] = now + (busy if ended >= BATCH else CHECK_SECONDS)

    def _waiting(self, zone: str) -> float:
        return self._next.get(zone, 0.0)
