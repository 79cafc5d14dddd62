# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases of nodes that left long ago end, as the zone's policy says, so that churn fills no zone for ever.

Reservations stay until an operator releases them.  So do imported addresses: nobody left them, their nodes
are still to come, and a full pool gives them away as it does any lease.
"""

from __future__ import annotations

from collections.abc import Collection

from jaywalk.zone.events import Change
from jaywalk.zone.models import reservation_key

from ..state.zone_state import ZoneState

# Leases that end in one commit: its event, which each agent reads, is 18 kB then.
BATCH = 256
# A zone waits a second for each hundred peers between two such commits: each wakes all of its agents.
PEERS_PER_SECOND = 100
# Between two looks at a zone in which all has ended that was to.
LOOK_SECONDS = 60.0
# Zones that are looked at between two looks for new zones.
LOOKS = 20
# Such commits, of all zones, that go between two looks for new zones: 10 ms that no join waits longer.
COMMITS = 4


def due(state: ZoneState, now: float, most: int = BATCH) -> list[Change]:
    """The changes that end leases whose time is over at ``now``, at most ``most``."""
    after = state.zone.policy.lease_ends_after
    if after is None:
        return []
    ended: dict[str, None] = {}
    for lease in state.released_before(now - after):
        if lease.key != reservation_key(lease.name):
            ended[lease.key] = None
        if len(ended) == most:
            break
    return [Change("=", key) for key in ended]


class Schedule:
    """When each zone is looked at again, by a monotonic clock."""

    def __init__(self) -> None:
        self._next: dict[str, float] = {}

    def ready(self, zones: Collection[str], now: float) -> list[str]:
        """Those of ``zones`` that it is time for, the longest waiting first."""
        self._next = {zone: at for zone, at in self._next.items() if zone in zones}
        return sorted((zone for zone in zones if self.is_ready(zone, now)), key=self._waiting)

    def is_ready(self, zone: str, now: float) -> bool:
        """Whether it is time for ``zone``."""
        return self._waiting(zone) <= now

    def done(self, state: ZoneState, ended: int, now: float) -> None:
        """Notes that ``ended`` leases ended in a commit at ``now``; more wait where that is a whole batch."""
        busy = len(state.peers) / PEERS_PER_SECOND
        self._next[state.zone.name] = now + (busy if ended >= BATCH else LOOK_SECONDS)

    def _waiting(self, zone: str) -> float:
        return self._next.get(zone, 0.0)
