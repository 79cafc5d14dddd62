# SPDX-License-Identifier: GPL-3.0-or-later
"""Reachability between machines: every ordered pair, by ping from one to the other's mesh address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tabulate import tabulate

from lab.node import Node

PINGS = 3
# The time limit for one reply.
REPLY_TIMEOUT_SECONDS = 2

_ROUND_TRIP = re.compile(r"^rtt [^=]*= ([0-9.]+)/", re.MULTILINE)

# (from, to) -> the least round trip in milliseconds, None without a reply.
Matrix = dict[tuple[str, str], float | None]


def measure(nodes: Mapping[str, Node], addresses: Mapping[str, str], interface: str) -> Matrix:
    """Ping every machine's address from every other through `interface`, from all machines at once."""

    def measure_from(source: str) -> Matrix:
        return {
            (source, target): _ping(nodes[source], address, interface)
            for target, address in addresses.items()
            if target != source
        }

    with ThreadPoolExecutor(max_workers=len(nodes) or 1) as pool:
        return {pair: trip for row in pool.map(measure_from, nodes) for pair, trip in row.items()}


def _ping(node: Node, address: str, interface: str) -> float | None:
    command = f"ping -n -q -c {PINGS} -i 0.2 -W {REPLY_TIMEOUT_SECONDS} -I {interface} {address}"
    match = _ROUND_TRIP.search(node.run(command, check=False).stdout)
    return float(match.group(1)) if match else None


def table(matrix: Matrix) -> str:
    """Format the matrix as a table, with round trips in milliseconds."""
    names = sorted({name for pair in matrix for name in pair})
    rows = [
        [source, *("" if source == target else _format(matrix[source, target]) for target in names)]
        for source in names
    ]
    return tabulate(rows, headers=["from \\ to", *names], tablefmt="simple", stralign="right")


def _format(round_trip_ms: float | None) -> str:
    return "no answer" if round_trip_ms is None else f"{round_trip_ms:.2f} ms"


def summary(matrix: Matrix) -> str:
    """Format one line: 6/6 pairs reachable over the tunnel."""
    reached = sum(trip is not None for trip in matrix.values())
    return f"{reached}/{len(matrix)} pairs reachable over the tunnel"
