# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases stay correct under seeded faults: real Redis, supervisors and agents."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from .figures import Tally
from .round import Round
from .topologies import kind_of

BUILD = Path(__file__).parents[2] / "build" / "chaos"
ROUND_SECONDS = 15.0
# The seed of the test suite's one round, whose failures must be reproducible; `make chaos` has random seeds.
SHORT_SEED = 1


@pytest.mark.timeout(0)
def test_leases_stay_correct_under_faults(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed", None)
    minutes = request.config.getoption("--minutes", 0.0)
    end = time.monotonic() + 60 * minutes
    only = seed is not None
    also = [each for each in request.config.getoption("--also", "").split(",") if each]
    if seed is None:
        seed = secrets.randbelow(10**6) if minutes else SHORT_SEED
    tally = Tally()
    while True:
        tally.add(run_round(seed, request.config.getoption("--kind", None) or kind_of(seed), also))
        if only or time.monotonic() >= end:
            break
        seed += 1
    print(f"\n{tally}")
    tally.save()


def run_round(seed: int, kind: str, also: Sequence[str]) -> Round:
    """Run a round that must pass."""
    folder = BUILD / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    chaos = Round(seed, folder, ROUND_SECONDS, kind, also)
    print(f"seed {seed}, {kind}: {chaos.conditions}", flush=True)
    began = time.monotonic()
    wrong = chaos.run()
    actions = ", ".join(f"{count} {action}" for action, count in sorted(chaos.done.items()))
    print(f"  {time.monotonic() - began:.0f} s; {actions}")
    print(f"  {chaos.topology.losses()}; {chaos.observer}; {chaos.rest}; {chaos.counts}", flush=True)
    if wrong:
        steps = "\n".join(str(step) for step in chaos.steps)
        (folder / "steps.txt").write_text(steps + "\n", encoding="utf-8")
        message = f"seed {seed}, {kind} (logs and steps in {folder}):\n" + "\n".join(wrong[:20])
        pytest.fail(message, pytrace=False)
    shutil.rmtree(folder)
    return chaos
