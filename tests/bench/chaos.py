# SPDX-License-Identifier: GPL-3.0-or-later
"""Rounds of chaos, which write what they came to themselves: see ``tests/chaos/figures.py``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.bench.results import Figure

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "bench.json"
MINUTES = 4
"""About a round on each kind of Redis."""


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """Plays rounds that must pass, and returns their sums."""
    say(f"rounds of chaos for {MINUTES} minutes")
    words = ["tests/chaos/test_chaos.py", "-q", "--minutes", str(MINUTES)]
    subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=True, stdout=sys.stderr)
    figures = json.loads(OUTPUT.read_text(encoding="utf-8"))
    return {name: Figure(**each) for name, each in figures.items() if name.startswith("chaos_")}
