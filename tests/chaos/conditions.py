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

TIGHT = ("10.30.0.0/28", "fd00:30::/64")
"""Two addresses more than a zone has nodes, so that those of nodes that left are given to others."""
ROOMY = ("10.30.0.0/27", "fd00:30::/64")
WIDER = {"10.30.0.0/28": "10.30.0.0/27", "10.30.0.0/27": "10.30.0.0/26"}
"""What ``zone set`` lets a pool grow to during the round."""
QUARANTINES = (30, 5)
"""Seconds: in one more nodes leave than the tight zone can spare addresses, the other ends within a round."""
STALE_AFTER = 6
SETTLE_SECONDS = 40.0
"""Failures last no longer than the waits of a supervisor (5 s) and of an agent (1 s)."""
SETTLE_SECONDS_OF_REAL_LIFE = 130.0
"""An agent may wait for 30 s before it connects, for 30 s more before it reads, and 60 s before it asks."""


CHANCE = 0.4
"""The share of rounds that have each of the faults beside those of the kind of Redis."""
REAL_AGENTS = 0.5
"""The share of rounds in which real agents with real interfaces take part."""
ALSO = ("clock", "fill", "roll-back", "empty")
"""Faults beside those of the kind of Redis; ``--also`` plays some of them whatever the seed says."""


@dataclass(frozen=True)
class Conditions:
    """``real_waits``: agents wait as long as in real life, and Redis syncs once a second, as by the role."""

    real_waits: bool
    settings: Mapping[str, ZoneSettings]
    faults: tuple[str, ...] = ()
    has_real_agents: bool = False

    @classmethod
    def of(cls, seed: int, rng: random.Random, also: Sequence[str] = ()) -> Conditions:
        """Of eight seeds in a row, each kind of Redis has one round of either sort.

        ``also`` are faults that are played whatever the seed says.
        """
        by_chance = [fault for fault in ALSO if rng.random() < CHANCE]
        faults = tuple(fault for fault in ALSO if fault in also or fault in by_chance)
        pools = rng.sample((TIGHT, ROOMY), 2)
        takeovers = [rng.choice(TAKEOVERS) for _ in ZONES]
        has_real_agents = rng.random() < REAL_AGENTS
        quarantine = QUARANTINES[seed // 8 % 2]
        settings = {
            zone: ZoneSettings(
                each,
                takeover,
                quarantine,
                STALE_AFTER,
                later=(WIDER[each[0]], each[1]),
                later_quarantine=quarantine + 1,
            )
            for zone, each, takeover in zip(ZONES, pools, takeovers, strict=True)
        }
        return cls(seed // 4 % 2 == 1, settings, faults, has_real_agents)

    @staticmethod
    def policy_of(settings: ZoneSettings) -> tuple[str, ...]:
        """Words of ``zone add``."""
        seconds = ("--quarantine", f"{settings.quarantine}", "--stale-after", f"{settings.stale_after}")
        return ("--takeover", settings.takeover, *seconds)

    @property
    def roomy_zone(self) -> str:
        """The zone that takes more nodes than the two that are to spare."""
        return next(zone for zone, settings in self.settings.items() if settings.pools == ROOMY)

    @property
    def sync(self) -> str:
        """Redis's ``appendfsync``."""
        return "everysec" if self.real_waits else "always"

    @property
    def settle_seconds(self) -> float:
        """Within which all is well again once nothing fails any more."""
        return SETTLE_SECONDS_OF_REAL_LIFE if self.real_waits else SETTLE_SECONDS

    @contextmanager
    def waits(self) -> Iterator[None]:
        """An agent's longest waits, 30 and 60 s, become 1 s, unless they are to be real."""
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
