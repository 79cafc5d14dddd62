# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, and write build/bench.json: `make bench`, or `make bench ARGS=apply` for one part."""

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
    lock,
    nat,
    removal,
    replies,
    rollback,
    storm,
    supervisor,
)
from tests.bench.results import Figure, save
from tests.runs import Run

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "build" / "bench.json"


def log(text: str) -> None:
    """Print a line of progress."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run_in_namespace(module: str) -> dict[str, Figure]:
    """Run a part in its own network namespace."""
    command = ["unshare", "--net", sys.executable, "-m", module]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return {name: Figure(**figure) for name, figure in json.loads(done.stdout).items()}


def apply() -> dict[str, Figure]:
    log("applying a zone of 1,000 peers to an interface")
    return run_in_namespace("tests.bench.apply")


def probes() -> dict[str, Figure]:
    log("probing 1,000 idle paths")
    return run_in_namespace("tests.bench.probes")


def rss() -> dict[str, Figure]:
    log("an agent's memory in zones of 10, 1,000 and 10,000 peers")
    return run_in_namespace("tests.bench.rss")


PARTS = {
    "apply": apply,
    "lock": lambda: lock.measure(log),
    "joins": lambda: joins.measure(log),
    "proofs": lambda: joins.measure_proofs(log),
    "replies": lambda: replies.measure(log),
    "supervisor": lambda: supervisor.measure(log),
    "churn": lambda: churn.measure(log),
    "fanout": lambda: fanout.measure(log),
    "tls": lambda: fanout.measure_tls(log),
    "storm": lambda: storm.measure(log),
    "snapshot": lambda: comeback.measure(log),
    "rollback": lambda: rollback.measure(log),
    "rss": rss,
    "probes": probes,
    "removal": lambda: removal.measure(log),
    "chaos": lambda: chaos.measure(log),
    "fleet": lambda: fleet.measure(log),
    "nat": lambda: nat.measure(log),
}
# Former names of parts, which the command still accepts.
OLDER_NAMES = {"beats": "probes"}


def main() -> int:
    """Run the given parts, by default all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "part", nargs="*", choices=[*PARTS, *OLDER_NAMES, []], help=f"{', '.join(PARTS)}; all by default"
    )
    chosen = parser.parse_args().part or list(PARTS)
    figures: dict[str, Figure] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended"))
    run = Run()
    run.begin()
    try:
        for part in chosen:
            figures |= PARTS[OLDER_NAMES.get(part, part)]()
            save(OUTPUT, figures)
    finally:
        for remains in run.end():
            log(f"left by the benchmarks and removed now: {remains}")
    rows = [
        (name, figure.value, figure.unit, figure.n, figure.peer, figure.ratio)
        for name, figure in figures.items()
    ]
    print(tabulate(rows, headers=("figure", "value", "unit", "n", "compared with", "ratio")))
    print(f"written to {OUTPUT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
