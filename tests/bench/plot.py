# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw fan-out and storm by number of agents, from build/bench.json into docs/figures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "figures"
BLUE, GREY, RED = "#1f5fa8", "#808080", "#b03a2e"


def points(figures: dict[str, Any], name: str) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the figures named ``name`` with a number instead of ``N``, by that number."""
    pattern = re.compile(name.replace("N", r"(\d+)"))
    found = sorted(
        (int(match[1]), figure) for key, figure in figures.items() if (match := pattern.fullmatch(key))
    )
    return [number for number, _ in found], [figure for _, figure in found]


def fanout(figures: dict[str, Any], path: Path) -> None:
    """Draw milliseconds until the last agent has a join, and until the last bare reader has an entry."""
    numbers, rows = points(figures, "fanout_last_ms_N")
    _, axes = plt.subplots(figsize=(6.4, 4))
    values = [row["value"] for row in rows]
    axes.loglog(numbers, values, "o-", color=BLUE, label="a join, until the last agent has applied it")
    bare = [row["value"] / row["ratio"] for row in rows]
    axes.loglog(numbers, bare, "s--", color=GREY, label="an XADD, until the last bare XREAD has it")
    axes.set_ylabel("milliseconds")
    _finish(axes, path)


def storm(figures: dict[str, Any], path: Path) -> None:
    """Draw seconds until N agents that joined at once have equal copies, and the original's scheme."""
    _, axes = plt.subplots(figsize=(6.4, 4))
    numbers, rows = points(figures, "storm_N_original_time")
    axes.loglog(numbers, [row["value"] for row in rows], "s--", color=RED, label="the original's scheme")
    numbers, rows = points(figures, "storm_N")
    axes.loglog(numbers, [row["value"] for row in rows], "o-", color=BLUE, label="all N agents equal")
    numbers, rows = points(figures, "storm_N_redis_cpu")
    axes.loglog(
        numbers, [row["value"] for row in rows], "^:", color=GREY, label="of these, Redis's processor"
    )
    axes.set_ylabel("seconds")
    _finish(axes, path)


def _finish(axes: Any, path: Path) -> None:
    axes.set_xlabel("agents")
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend()
    axes.figure.tight_layout()
    # Without the program's version, the same figures produce the same file.
    axes.figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    figures = json.loads((ROOT / "build" / "bench.json").read_text(encoding="utf-8"))
    FOLDER.mkdir(exist_ok=True)
    for draw in (fanout, storm):
        path = FOLDER / f"{draw.__name__}.png"
        draw(figures, path)
        print(f"drawn {path.relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
