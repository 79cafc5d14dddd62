# SPDX-License-Identifier: GPL-3.0-or-later
"""The schedule of a round's faults: pure, and the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Step:
    """At ``at`` seconds, ``action`` applies to the ``target``-th part of its kind; ``value`` is its size."""

    at: float
    action: str
    target: int = 0
    value: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:6.2f} s  {self.action} {self.target} ({self.value:.2f})"


# Each fault with its repair, and its minimum and maximum duration in seconds.
Faults = Mapping[str, tuple[str, float, float]]


@dataclass(frozen=True)
class Parts:
    """The number of each part of a round, and the additional faults of Redis and the supervisors.

    ``servers`` has for each the mean seconds between its outages, and the outages.
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
    """Return all steps in order; every fault is repaired by the end of ``seconds``."""
    steps: list[Step] = []
    for target in range(parts.supervisors):
        faults = {"kill": ("revive", 0.2, 3.0), "pause": ("resume", 0.5, 5.0)}
        steps += _outages(rng, seconds, target, 7.0, faults)
        if parts.has_clocks:
            steps += _outages(rng, seconds, target, 4.0, {"clock": ("clock-right", 2.0, 6.0)})
    for target, (mean, faults_of_it) in enumerate(parts.servers):
        steps += _outages(rng, seconds, target, mean, {**faults_of_it, **parts.more_for_servers})
        steps += [Step(at, "copy", target) for at in _moments(rng, seconds, 3.0)]
    # Late, since a large pool is never full.
    steps += [Step(rng.uniform(0.6, 1.0) * seconds, "grow", zone) for zone in range(parts.zones)]
    for target in range(parts.groups):
        faults = dict.fromkeys(("cut", "freeze"), ("heal", 0.2, 4.0))
        steps += _outages(rng, seconds, target, 5.0, faults)
    for target in range(parts.real_agents):
        steps += _actions(rng, seconds, target, 6.0, ("kill-agent",))
    life = ("restart", "restart", "forget", "leave", "release", "move", "move", "announce")
    actions = (*life, "renew", "renew", "reinstall", "reserve", "expect", "show")
    for target in range(parts.agents):
        steps += _actions(rng, seconds, target, 7.0, actions)
    visits = random.Random(str(rng.getstate()))
    for zone in range(parts.zones):
        steps += _actions(visits, seconds, zone, 2.5, ("visit",))
    return sorted(steps)


def _outages(
    rng: random.Random,
    seconds: float,
    target: int,
    mean: float,
    faults: Faults,
) -> Iterator[Step]:
    """Return faults of ``target`` one after another, each with its repair after its duration."""
    at = rng.expovariate(1 / mean)
    while at < seconds:
        fault = rng.choice(sorted(faults))
        repair, minimum, maximum = faults[fault]
        until = min(at + rng.uniform(minimum, maximum), seconds)
        yield Step(at, fault, target, rng.random())
        yield Step(until, repair, target)
        at = until + rng.expovariate(1 / mean)


def _actions(
    rng: random.Random, seconds: float, target: int, mean: float, actions: Sequence[str]
) -> Iterator[Step]:
    for at in _moments(rng, seconds, mean):
        yield Step(at, rng.choice(actions), target, rng.uniform(0.0, 2.0))


def _moments(rng: random.Random, seconds: float, mean: float) -> Iterator[float]:
    at = rng.expovariate(1 / mean)
    while at < seconds:
        yield at
        at += rng.expovariate(1 / mean)
