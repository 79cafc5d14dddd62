# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at all zones during a round; one that fails is counted, and may not fail too often."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import redis

from tests.chaos.agents import pace
from tests.chaos.machines import SupervisorProcess
from tests.chaos.topologies import Topology

from .picture import Picture, faults
from .tap import Tap

LOOK_SECONDS = 0.5
PATIENCE = 60.0
"""Seconds for an answer of Redis once nothing is wrong any more."""
MOST_IN_A_ROW = 30
"""Looks that may fail one after the other, on an idle host: no outage lasts longer than 6 s, and a failover
7 s more."""


class Looks:
    """``taken`` and ``failed`` count looks at one zone each."""

    def __init__(
        self, topology: Topology, taps: Mapping[str, Tap], supervisors: Sequence[SupervisorProcess]
    ) -> None:
        self.taken = self.failed = 0
        self._topology, self._taps, self._supervisors = topology, taps, supervisors
        self._well: set[str] = set()
        self._blind = dict.fromkeys(taps, 0)

    def __str__(self) -> str:
        return f"{self.failed} of {self.taken} looks failed"

    def look(self, is_calm: bool = False) -> list[str]:
        """What must not be, now; in calm no look may fail twice once one was good."""
        wrong = [f"{zone}: {fault}" for zone, tap in self._taps.items() for fault in tap.faults]
        for zone in self._taps:
            wrong += [f"{zone}: {fault}" for fault in self._look_at(zone, is_calm)]
        codes = [supervisor.ended for supervisor in self._supervisors]
        wrong += [
            f"supervisor {number} ended: {code}" for number, code in enumerate(codes) if code is not None
        ]
        return wrong

    def _look_at(self, zone: str, is_calm: bool) -> list[str]:
        self.taken += 1
        most = 2 if zone in self._well else MOST_IN_A_ROW * pace()
        try:
            with self._topology.server_of(zone).client(PATIENCE if is_calm else LOOK_SECONDS) as client:
                picture = Picture.take(client, zone)
        except (redis.RedisError, OSError) as error:  # it is away, or held
            self.failed += 1
            self._blind[zone] += 1
            if self._blind[zone] < most:
                return []
            return [f"{self._blind[zone]} looks in a row failed: {error}"]
        self._blind[zone] = 0
        self._well |= {zone} if is_calm else set()
        return faults(picture)

    def picture(self, zone: str) -> Picture:
        """The zone as it is now; raises what redis-py does where it is not to be had for long."""
        with self._topology.server_of(zone).client(PATIENCE) as client:
            return Picture.take(client, zone)

    def tapped(self, zone: str) -> None:
        """Waits until the tap knows all that was committed until now."""
        now, tap = time.monotonic(), self._taps[zone]
        end = now + PATIENCE
        while not (tap.readings and tap.readings[-1].through >= now) and time.monotonic() < end:
            time.sleep(0.02)
