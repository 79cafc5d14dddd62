# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a mesh behind NAT: how fast a pair connects, and how long it has no traffic after a change."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from lab.fleet import Lab
from tests import runs
from tests.bench.results import Figure
from tests.fleet.fleet import PingCount
from tests.fleet.nat import PAIRS, SPOKES, Meeting, NatFleet, Pair, nat_fleet

FIRST, SECOND = SPOKES
APART = Pair("cone-cone", "cone1", "cone2", direct=True)
# The rate of pings while a gap is measured.
PINGS_PER_SECOND = 20
# A node has detected a dead path after this time, and no longer shows the former state of its path.
DETECTED_SECONDS = 8.0
# Time after a gap in which pings must be answered.
AFTERWARDS_SECONDS = 2.0


def site_round_trip(fleet: NatFleet) -> Figure:
    """Measure the round trip through the lab's switch, compared with the configured one."""
    configured = fleet.lab.nat_sites.topology.delay_ms
    target = fleet["relay2"].address
    output = fleet["relay1"].run(f"ping -n -q -c 50 -i 0.1 {target}").stdout
    found = re.search(r"= [0-9.]+/([0-9.]+)/", output)
    assert found, output
    value = float(found.group(1))
    return Figure(round(value, 1), "ms", 50, f"configured: {configured:g} ms", round(value / configured, 3))


def matrix(fleet: NatFleet, log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure for each pair of NAT kinds the seconds from the second agent's start to the first reply."""
    figures = {}
    for pair in PAIRS:
        meeting = fleet.meet(pair)
        figures[f"nat_matrix_{pair.name.replace('-', '_')}"] = Figure(
            round(meeting.first_reply, 2), "s", 1, _path(fleet, meeting)
        )
        log(f"  {pair.name}: {meeting.first_reply:.2f} s, {_path(fleet, meeting)}")
    return figures


def _path(fleet: NatFleet, meeting: Meeting) -> str:
    if meeting.peer["path"] == "relayed":
        return f"relayed from {meeting.settled:.1f} s on"
    host = meeting.peer["endpoint"].rpartition(":")[0].strip("[]")
    leg = fleet[FIRST].machine.spec.interfaces[0]
    own = {str(ipaddress.ip_interface(each).ip) for each in (leg.address, leg.address6) if each}
    where = "its own" if host in own else "the observed"
    return f"direct from {meeting.settled:.1f} s on, at {where} address"


def gap(fleet: NatFleet, change: Callable[[], object], path: str) -> PingCount:
    """Measure the gap that a change causes for two spokes behind cone NATs, until their path is `path`."""
    fleet.meet(APART)
    with fleet.ping(SECOND, FIRST, per_second=PINGS_PER_SECOND) as count:
        change()
        time.sleep(DETECTED_SECONDS)
        fleet.wait_path(path)
        time.sleep(AFTERWARDS_SECONDS)
    return count


def gaps(fleet: NatFleet, log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure the longest gap after a renumbered router, a moved spoke, lost NAT state, a blocked path."""
    sites, figures = fleet.lab.nat_sites, {}
    changes: dict[str, tuple[Callable[[], object], str]] = {
        "roam_gap_renumbered": (lambda: sites.renumber("cone1"), "direct"),
        "roam_gap_moved": (lambda: fleet.lab.move(FIRST, "forward1"), "direct"),
        "roam_gap_forgotten": (lambda: sites.forget("cone1"), "direct"),
        "roam_gap_blocked": (lambda: fleet.lab.block("cone1", "cone2"), "relayed"),
    }
    for name, (change, path) in changes.items():
        try:
            count = gap(fleet, change, path)
        finally:
            fleet.lab.block("cone1", "cone2", blocked=False)
        figures[name] = Figure(round(count.gap, 2), "s", 1, f"lost {count.lost} of {count.sent} pings")
        log(f"  {name}: {count.gap:.2f} s")
    return figures


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all figures of the NAT sites."""
    directory = Path(os.environ.get("JAYWALK_NAT_BENCH_DIR", "/var/tmp/jaywalk-nat-bench"))
    runs.record("lab", str(directory))
    with nat_fleet(Lab(directory, prefix="jbn", report=log)) as made:
        figures = {"street_round_trip": site_round_trip(made)}
        log(f"how fast {len(PAIRS)} pairs of NAT kinds connect")
        figures |= matrix(made, log)
        log("how long a pair has no traffic after a change")
        return figures | gaps(made, log)
