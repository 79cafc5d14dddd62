# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of chaos, which write their figures themselves: see ``tests/chaos/figures.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.results import Figure

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "bench.json"
# About one round on each kind of Redis.
MINUTES = 4


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Run rounds that must pass, and return their sums."""
    log(f"rounds of chaos for {MINUTES} minutes")
    arguments = ["tests/chaos/test_chaos.py", "-q", "--minutes", str(MINUTES)]
    subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=True, stdout=sys.stderr)
    figures = json.loads(OUTPUT.read_text(encoding="utf-8"))
    return {name: Figure(**each) for name, each in figures.items() if name.startswith("chaos_")}
