# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures and their file: one object per figure, merged into those of earlier runs."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A measured value; `peer` is what the same run compares it with, `ratio` is value divided by that."""

    value: float
    unit: str
    n: int
    peer: str = ""
    ratio: float | None = None

    @classmethod
    def against(cls, ours: Sequence[float], bare: Sequence[float], peer: str) -> Figure:
        """Return the medians of seconds, as milliseconds, and their ratio."""
        mine, other = statistics.median(ours), statistics.median(bare)
        return cls(
            round(mine * 1000, 3), "ms", len(ours), f"{peer}: {other * 1000:.3f} ms", round(mine / other, 3)
        )


def save(path: Path, figures: dict[str, Figure]) -> None:
    """Merge figures into `path`; those of parts that did not run stay."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known.update({name: asdict(figure) for name, figure in figures.items()})
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the percentile of the values (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
