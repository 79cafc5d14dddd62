# SPDX-License-Identifier: GPL-3.0-or-later
"""The conditions of a round by its seed: waits, appendfsync, faults, and the settings of each zone."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from redis.backoff import FullJitterBackoff

from jaywalk.zone.options import TAKEOVERS
from jaywalk_agent.zone import follower, membership

from .checker.log_rules import ZoneSettings
from .topologies import ZONES

# Two more addresses than a zone has nodes, so that addresses of nodes that left are allocated again.
TIGHT = ("10.30.0.0/28", "fd00:30::/64")
ROOMY = ("10.30.0.0/27", "fd00:30::/64")
# ``zone set`` enlarges a pool to this one during the round.
WIDER = {"10.30.0.0/28": "10.30.0.0/27", "10.30.0.0/27": "10.30.0.0/26"}
# During the first, more nodes leave than the tight zone has free addresses. The second ends within a round.
QUARANTINE_SECONDS = (30, 5)
STALE_AFTER_SECONDS = 6
# The effects of faults end with the waits of a supervisor (5 s) and of an agent (1 s).
SETTLE_SECONDS = 40.0
# An agent may wait for 30 s before it connects, for 30 s more before it reads, and 60 s before its request.
SETTLE_SECONDS_WITH_REAL_WAITS = 130.0
# The share of rounds that have each of the additional faults.
FAULT_SHARE = 0.4
# The share of rounds with real agents and real interfaces.
REAL_AGENTS_SHARE = 0.5
# Faults in addition to those of the kind of Redis. ``--also`` injects some of them with any seed.
ADDITIONAL_FAULTS = ("clock", "fill", "roll-back", "empty")


@dataclass(frozen=True)
class Conditions:
    """With ``real_waits``, agents wait as long as in production, and Redis syncs once per second."""

    real_waits: bool
    settings: Mapping[str, ZoneSettings]
    faults: tuple[str, ...] = ()
    has_real_agents: bool = False

    @classmethod
    def of(cls, seed: int, rng: random.Random, also: Sequence[str] = ()) -> Conditions:
        """Return the conditions of a seed, with the faults ``also`` in any case.

        In eight consecutive seeds, each kind of Redis has rounds with real waits and rounds without them.
        """
        by_chance = [fault for fault in ADDITIONAL_FAULTS if rng.random() < FAULT_SHARE]
        faults = tuple(fault for fault in ADDITIONAL_FAULTS if fault in also or fault in by_chance)
        pools = rng.sample((TIGHT, ROOMY), 2)
        takeovers = [rng.choice(TAKEOVERS) for _ in ZONES]
        has_real_agents = rng.random() < REAL_AGENTS_SHARE
        quarantine = QUARANTINE_SECONDS[seed // 8 % 2]
        settings = {
            zone: ZoneSettings(
                each,
                takeover,
                quarantine,
                STALE_AFTER_SECONDS,
                later=(WIDER[each[0]], each[1]),
                later_quarantine=quarantine + 1,
            )
            for zone, each, takeover in zip(ZONES, pools, takeovers, strict=True)
        }
        return cls(seed // 4 % 2 == 1, settings, faults, has_real_agents)

    @staticmethod
    def policy_of(settings: ZoneSettings) -> tuple[str, ...]:
        """Return arguments of ``zone add``."""
        seconds = ("--quarantine", f"{settings.quarantine}", "--stale-after", f"{settings.stale_after}")
        return ("--takeover", settings.takeover, *seconds)

    @property
    def roomy_zone(self) -> str:
        """The zone with addresses for more than two additional nodes."""
        return next(zone for zone, settings in self.settings.items() if settings.pools == ROOMY)

    @property
    def sync(self) -> str:
        """Redis's ``appendfsync``."""
        return "everysec" if self.real_waits else "always"

    @property
    def settle_seconds(self) -> float:
        """The time limit for convergence after the last fault."""
        return SETTLE_SECONDS_WITH_REAL_WAITS if self.real_waits else SETTLE_SECONDS

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Reduce an agent's longest waits, 30 and 60 s, to 1 s, unless the round has real waits."""
        with pytest.MonkeyPatch.context() as patch:
            if not self.real_waits:
                patch.setattr(follower, "RECONNECT", FullJitterBackoff(cap=1.0, base=0.1))
                patch.setattr(follower, "RESYNC", FullJitterBackoff(cap=1.0, base=0.1))
                patch.setattr(membership, "LONGEST_REPEAT_SECONDS", 1.0)
                patch.setattr(follower, "TICK_SECONDS", 2.0)
                patch.setattr(follower, "REPORT_SECONDS", 1.0)
            yield

    def __str__(self) -> str:
        zones = ", ".join(f"{zone.takeover} in {zone.pools[0]}" for zone in self.settings.values())
        waits = "real waits" if self.real_waits else "short waits"
        real = ["real agents"] if self.has_real_agents else []
        waits += f", quarantine {min(settings.quarantine for settings in self.settings.values()):.0f} s"
        return ", ".join((waits, f"appendfsync {self.sync}", zones, *self.faults, *real))
