# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of chaos rounds by kind of Redis: printed, and stored with those of ``make bench``."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from tabulate import tabulate

from tests.bench.results import Figure, save

from .round import Round

OUTPUT = Path(__file__).parents[2] / "build" / "bench.json"
# Faults, without their repairs and the steps of an agent's life.
FAULTS = {
    *("kill", "kill-agent", "pause", "cut", "freeze", "clock"),
    *("crash", "stop", "lose", "hold", "fill", "roll-back", "empty"),
}
UNITS = {
    "rounds": "rounds",
    "faults": "faults injected",
    "answers": "replies checked",
    "events": "events checked",
}


class Tally:
    """The sums of the rounds that passed."""

    def __init__(self) -> None:
        self._sums: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, chaos: Round) -> None:
        """Add a round."""
        self._sums[chaos.topology.kind] += Counter(
            rounds=1,
            faults=sum(count for action, count in chaos.done.items() if action in FAULTS),
            answers=chaos.counts.answers,
            events=chaos.counts.events,
        )

    def figures(self) -> dict[str, Figure]:
        """Return a figure for each kind and each sum."""
        return {
            f"chaos_{what}_{kind}": Figure(sums[what], unit, sums["rounds"])
            for kind, sums in sorted(self._sums.items())
            for what, unit in UNITS.items()
        }

    def save(self, path: Path = OUTPUT) -> None:
        """Store the figures with those of other parts."""
        save(path, self.figures())

    def __str__(self) -> str:
        rows = [(kind, *(sums[what] for what in UNITS)) for kind, sums in sorted(self._sums.items())]
        return tabulate(rows, headers=("Redis", *UNITS.values()), tablefmt="plain")
