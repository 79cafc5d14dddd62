# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases stay right whatever fails: real Redis, supervisors and agents under seeded failures."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import pytest

from .round import Round
from .stages import kind_of

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
    if seed is None:
        seed = secrets.randbelow(10**6) if minutes else SHORT_SEED
    while True:
        play(seed, request.config.getoption("--kind", None) or kind_of(seed))
        if only or time.monotonic() >= end:
            return
        seed += 1


def play(seed: int, kind: str) -> None:
    folder = BUILD / str(seed)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    game = Round(seed, folder, SECONDS, kind)
    began = time.monotonic()
    wrong = game.run()
    deeds = ", ".join(f"{count} {deed}" for deed, count in sorted(game.done.items()))
    print(f"seed {seed}, {kind}: {time.monotonic() - began:.0f} s, {deeds}; {game.stage.losses()}")
    if wrong:
        steps = "\n".join(str(step) for step in game.steps)
        (folder / "steps.txt").write_text(steps + "\n", encoding="utf-8")
        pytest.fail(
            f"seed {seed}, {kind} (logs and steps in {folder}):\n" + "\n".join(wrong[:20]), pytrace=False
        )
    shutil.rmtree(folder)
