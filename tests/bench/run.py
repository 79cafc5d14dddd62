# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures and writes build/bench.json: `make bench`, or `make bench ARGS=apply` for one part."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path

from tabulate import tabulate

from tests.bench import (
    chaos,
    churn,
    comeback,
    fanout,
    fleet,
    joins,
    nat,
    replies,
    rollback,
    storm,
    supervisor,
)
from tests.bench.results import Figure, save
from tests.runs import Run

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "bench.json"


def say(text: str) -> None:
    """A line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def apart(module: str) -> dict[str, Figure]:
    """A part that needs a network namespace to itself."""
    command = ["unshare", "--net", sys.executable, "-m", module]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return {name: Figure(**figure) for name, figure in json.loads(done.stdout).items()}


def apply() -> dict[str, Figure]:
    say("bringing an interface to a zone of 1,000 peers")
    return apart("tests.bench.apply")


def beats() -> dict[str, Figure]:
    say("watching 1,000 idle paths")
    return apart("tests.bench.beats")


def rss() -> dict[str, Figure]:
    say("an agent's memory in zones of 10, 1,000 and 10,000 peers")
    return apart("tests.bench.rss")


PARTS = {
    "apply": apply,
    "joins": lambda: joins.measure(say),
    "replies": lambda: replies.measure(say),
    "supervisor": lambda: supervisor.measure(say),
    "churn": lambda: churn.measure(say),
    "fanout": lambda: fanout.measure(say),
    "storm": lambda: storm.measure(say),
    "snapshot": lambda: comeback.measure(say),
    "rollback": lambda: rollback.measure(say),
    "rss": rss,
    "beats": beats,
    "chaos": lambda: chaos.measure(say),
    "fleet": lambda: fleet.measure(say),
    "nat": lambda: nat.measure(say),
}


def main() -> int:
    """Runs the parts asked for, all by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=f"{', '.join(PARTS)}; all by default")
    chosen = parser.parse_args().part or list(PARTS)
    figures: dict[str, Figure] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    run = Run()
    run.begin()
    try:
        for part in chosen:
            figures |= PARTS[part]()
            save(OUTPUT, figures)
    finally:
        for each in run.end():
            say(f"left behind, and cleared now: {each}")
    rows = [
        (name, figure.value, figure.unit, figure.n, figure.peer, figure.ratio)
        for name, figure in figures.items()
    ]
    print(tabulate(rows, headers=("figure", "value", "unit", "n", "held against", "ratio")))
    print(f"written to {OUTPUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
