# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases stay right whatever fails: real Redis, supervisors and agents under seeded failures."""

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
SECONDS = 15.0
SHORT_SEED = 1
"""Of the one round among all tests: what stops a change must fail again; chance is for make chaos."""


@pytest.mark.timeout(0)
def test_leases_stay_right_whatever_fails(request: pytest.FixtureRequest) -> None:
    seed = request.config.getoption("--seed", None)
    minutes = request.config.getoption("--minutes", 0.0)
    end = time.monotonic() + 60 * minutes
    only = seed is not None
    also = [each for each in request.config.getoption("--also", "").split(",") if each]
    if seed is None:
        seed = secrets.randbelow(10**6) if minutes else SHORT_SEED
    tally = Tally()
    while True:
        tally.add(play(seed, request.config.getoption("--kind", None) or kind_of(seed), also))
        if only or time.monotonic() >= end:
            break
        seed += 1
    print(f"\n{tally}")
    tally.save()


def play(seed: int, kind: str, also: Sequence[str]) -> Round:
    """Plays a round that must pass."""
    folder = BUILD / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    game = Round(seed, folder, SECONDS, kind, also)
    print(f"seed {seed}, {kind}: {game.conditions}", flush=True)
    began = time.monotonic()
    wrong = game.run()
    actions = ", ".join(f"{count} {action}" for action, count in sorted(game.done.items()))
    print(f"  {time.monotonic() - began:.0f} s; {actions}")
    print(f"  {game.topology.losses()}; {game.observer}; {game.rest}; {game.counts}", flush=True)
    if wrong:
        steps = "\n".join(str(step) for step in game.steps)
        (folder / "steps.txt").write_text(steps + "\n", encoding="utf-8")
        words = f"seed {seed}, {kind} (logs and steps in {folder}):\n" + "\n".join(wrong[:20])
        pytest.fail(words, pytrace=False)
    shutil.rmtree(folder)
    return game
