# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens when in a round: pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Step:
    """At ``at`` seconds ``deed`` befalls the ``target``-th of its kind; ``value`` says how much of it."""

    at: float
    deed: str
    target: int = 0
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.deed} {self.target} ({self.value:.2f})"


Faults = Mapping[str, tuple[str, float, float]]
"""Each fault with what mends it, and how many seconds it lasts: at least, and at most."""


@dataclass(frozen=True)
class Parts:
    """How many of each part a round has, and what may befall Redis and the supervisors beside the rest.

    ``servers`` says for each how many seconds on average lie between its outages, and which there are.
    """

    supervisors: int
    servers: Sequence[tuple[float, Faults]]
    groups: int
    agents: int
    zones: int = 2
    more_for_servers: Faults = field(default_factory=dict)
    has_clocks: bool = False
    real_agents: int = 2


def schedule(rng: random.Random, seconds: float, parts: Parts) -> list[Step]:
    """All steps in order; whatever is broken is mended again by the end of ``seconds``."""
    steps: list[Step] = []
    for target in range(parts.supervisors):
        faults = {"kill": ("revive", 0.2, 3.0), "pause": ("resume", 0.5, 5.0)}
        steps += _outages(rng, seconds, target, 7.0, faults)
        if parts.has_clocks:
            steps += _outages(rng, seconds, target, 4.0, {"clock": ("clock-right", 2.0, 6.0)})
    for target, (mean, faults_of_it) in enumerate(parts.servers):
        steps += _outages(rng, seconds, target, mean, {**faults_of_it, **parts.more_for_servers})
        steps += [Step(at, "copy", target) for at in _moments(rng, seconds, 3.0)]
    # Late, since a pool that is wide is never full.
    steps += [Step(rng.uniform(0.6, 1.0) * seconds, "grow", zone) for zone in range(parts.zones)]
    for target in range(parts.groups):
        faults = dict.fromkeys(("cut", "freeze"), ("heal", 0.2, 4.0))
        steps += _outages(rng, seconds, target, 5.0, faults)
    for target in range(parts.real_agents):
        steps += _deeds(rng, seconds, target, 6.0, ("kill-agent",))
    life = ("restart", "restart", "forget", "leave", "release", "move", "move", "announce")
    deeds = (*life, "renew", "renew", "reinstall", "reserve", "expect", "show")
    for target in range(parts.agents):
        steps += _deeds(rng, seconds, target, 7.0, deeds)
    guests = random.Random(str(rng.getstate()))
    for zone in range(parts.zones):
        steps += _deeds(guests, seconds, zone, 2.5, ("visit",))
    return sorted(steps)


def _outages(
    rng: random.Random,
    seconds: float,
    target: int,
    mean: float,
    faults: Faults,
) -> Iterator[Step]:
    """One after the other for ``target``; each fault names what mends it, and how long it lasts."""
    at = rng.expovariate(1 / mean)
    while at < seconds:
        fault = rng.choice(sorted(faults))
        mended, least, most = faults[fault]
        until = min(at + rng.uniform(least, most), seconds)
        yield Step(at, fault, target, rng.random())
        yield Step(until, mended, target)
        at = until + rng.expovariate(1 / mean)


def _deeds(
    rng: random.Random, seconds: float, target: int, mean: float, deeds: Sequence[str]
) -> Iterator[Step]:
    for at in _moments(rng, seconds, mean):
        yield Step(at, rng.choice(deeds), target, rng.uniform(0.0, 2.0))


def _moments(rng: random.Random, seconds: float, mean: float) -> Iterator[float]:
    at = rng.expovariate(1 / mean)
    while at < seconds:
        yield at
        at += rng.expovariate(1 / mean)
