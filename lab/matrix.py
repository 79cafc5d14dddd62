# SPDX-License-Identifier: GPL-3.0-or-later
"""Who reaches whom: every ordered pair of machines, by ping from the one to the other's address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tabulate import tabulate

from lab.node import Node

PINGS = 3
WAIT = 2
"""Seconds that one answer may take."""

_ROUND_TRIP = re.compile(r"^rtt [^=]*= ([0-9.]+)/", re.MULTILINE)

Matrix = dict[tuple[str, str], float | None]
"""(from, to) -> the least round trip in milliseconds, None where no answer came."""


def measure(nodes: Mapping[str, Node], addresses: Mapping[str, str], interface: str) -> Matrix:
    """Pings every machine's address from every other through `interface`, all machines at once."""

    def from_one(source: str) -> Matrix:
        return {
            (source, target): _ping(nodes[source], address, interface)
            for target, address in addresses.items()
            if target != source
        }

    with ThreadPoolExecutor(max_workers=len(nodes) or 1) as pool:
        return {pair: trip for part in pool.map(from_one, nodes) for pair, trip in part.items()}


def _ping(node: Node, address: str, interface: str) -> float | None:
    command = f"ping -n -q -c {PINGS} -i 0.2 -W {WAIT} -I {interface} {address}"
    found = _ROUND_TRIP.search(node.run(command, check=False).stdout)
    return float(found.group(1)) if found else None


def table(matrix: Matrix) -> str:
    """The matrix for a person, round trips in milliseconds."""
    names = sorted({name for pair in matrix for name in pair})
    rows = [
        [source, *("" if source == target else _cell(matrix[source, target]) for target in names)]
        for source in names
    ]
    return tabulate(rows, headers=["from \\ to", *names], tablefmt="simple", stralign="right")


def _cell(trip: float | None) -> str:
    return "no answer" if trip is None else f"{trip:.2f} ms"


def summary(matrix: Matrix) -> str:
    """One line: 6/6 pairs reachable over the tunnel."""
    reached = sum(trip is not None for trip in matrix.values())
    return f"{reached}/{len(matrix)} pairs reachable over the tunnel"
