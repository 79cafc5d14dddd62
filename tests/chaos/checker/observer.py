# SPDX-License-Identifier: GPL-3.0-or-later
"""Observes all zones during a round; counts failed observations, which may not be too many in a row."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import redis

from tests.chaos.agents import pace
from tests.chaos.machines import SupervisorProcess
from tests.chaos.topologies import Topology

from .log_reader import LogReader
from .snapshot import ZoneSnapshot, faults

# The interval of observations, and the time limit of each during faults.
OBSERVATION_SECONDS = 0.5
# The time limit of a read from Redis after the last fault.
REDIS_TIMEOUT_SECONDS = 60.0
# On an idle host: no outage lasts longer than 6 s, and a failover 7 s more.
MAX_CONSECUTIVE_FAILURES = 30


class ZoneObserver:
    """Observes zones; ``observations`` and ``failed`` count those of single zones."""

    def __init__(
        self,
        topology: Topology,
        log_readers: Mapping[str, LogReader],
        supervisors: Sequence[SupervisorProcess],
    ) -> None:
        self.observations = self.failed = 0
        self._topology, self._log_readers, self._supervisors = topology, log_readers, supervisors
        self._observed_in_calm: set[str] = set()
        self._consecutive_failures = dict.fromkeys(log_readers, 0)

    def __str__(self) -> str:
        return f"{self.failed} of {self.observations} observations failed"

    def observe(self, is_calm: bool = False) -> list[str]:
        """Return all faults now; with ``is_calm``, no observation may fail twice after a successful one."""
        wrong = [f"{zone}: {fault}" for zone, reader in self._log_readers.items() for fault in reader.faults]
        for zone in self._log_readers:
            wrong += [f"{zone}: {fault}" for fault in self._observe_zone(zone, is_calm)]
        codes = [supervisor.ended for supervisor in self._supervisors]
        wrong += [
            f"supervisor {number} ended: {code}" for number, code in enumerate(codes) if code is not None
        ]
        return wrong

    def _observe_zone(self, zone: str, is_calm: bool) -> list[str]:
        self.observations += 1
        limit = 2 if zone in self._observed_in_calm else MAX_CONSECUTIVE_FAILURES * pace()
        try:
            timeout = REDIS_TIMEOUT_SECONDS if is_calm else OBSERVATION_SECONDS
            with self._topology.server_of(zone).client(timeout) as client:
                snapshot = ZoneSnapshot.read(client, zone)
        except (redis.RedisError, OSError) as error:  # it is down, or paused
            self.failed += 1
            self._consecutive_failures[zone] += 1
            if self._consecutive_failures[zone] < limit:
                return []
            return [f"{self._consecutive_failures[zone]} observations in a row failed: {error}"]
        self._consecutive_failures[zone] = 0
        self._observed_in_calm |= {zone} if is_calm else set()
        return faults(snapshot)

    def snapshot(self, zone: str) -> ZoneSnapshot:
        """Read the zone now; raise redis-py's error if that fails for long."""
        with self._topology.server_of(zone).client(REDIS_TIMEOUT_SECONDS) as client:
            return ZoneSnapshot.read(client, zone)

    def wait_for_log(self, zone: str) -> None:
        """Wait until the log reader has everything committed until now."""
        now, reader = time.monotonic(), self._log_readers[zone]
        end = now + REDIS_TIMEOUT_SECONDS
        while not (reader.readings and reader.readings[-1].through >= now) and time.monotonic() < end:
            time.sleep(0.02)
