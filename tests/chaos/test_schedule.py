# SPDX-License-Identifier: GPL-3.0-or-later
"""A seed determines the whole schedule, and every fault is repaired."""

from __future__ import annotations

import random

import pytest

from .schedule import Parts, schedule
from .topologies import KINDS, MORE, Topology


@pytest.mark.parametrize("topology", KINDS.values())
def test_a_seed_says_all_that_happens(topology: type[Topology]) -> None:
    parts = Parts(3, topology.outages, 4, 24, more_for_servers=MORE, has_clocks=True)
    first, again, other = (schedule(random.Random(seed), 300, parts) for seed in (5, 5, 6))
    assert first == again != other
    mends = {"kill": "revive", "pause": "resume", "cut": "heal", "freeze": "heal", "clock": "clock-right"}
    for outages in (*(each for _, each in topology.outages), MORE):
        mends |= {fault: mended for fault, (mended, _, _) in outages.items()}
    assert mends.keys() < {step.action for step in first}
    for step in first:
        if step.action in mends:
            assert any(
                (later.action, later.target) == (mends[step.action], step.target) and later.at >= step.at
                for later in first
            )
