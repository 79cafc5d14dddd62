# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a mesh behind NAT: how fast a pair meets, and how long it hears nothing after a change."""

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
PROBE = 20
"""Pings a second while a gap is measured."""
NOTICED = 8.0
"""Seconds after which a node knows that its path is dead, so that it no more says what was before."""
AFTERWARDS = 2.0
"""Seconds of answers that end a gap for good."""


def street_round_trip(fleet: NatFleet) -> Figure:
    """What the lab's switch makes of the round trip that it was asked for."""
    asked = fleet.lab.nat_sites.topology.delay_ms
    target = fleet["relay2"].address
    said = fleet["relay1"].run(f"ping -n -q -c 50 -i 0.1 {target}").stdout
    found = re.search(r"= [0-9.]+/([0-9.]+)/", said)
    assert found, said
    value = float(found.group(1))
    return Figure(round(value, 1), "ms", 50, f"asked for: {asked:g} ms", round(value / asked, 3))


def matrix(fleet: NatFleet, say: Callable[[str], None]) -> dict[str, Figure]:
    """Each pair of kinds: seconds from the second agent's start to the first reply, and by what path."""
    figures = {}
    for pair in PAIRS:
        meeting = fleet.meet(pair)
        figures[f"nat_matrix_{pair.name.replace('-', '_')}"] = Figure(
            round(meeting.first_reply, 2), "s", 1, _path(fleet, meeting)
        )
        say(f"  {pair.name}: {meeting.first_reply:.2f} s, {_path(fleet, meeting)}")
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
    """The silence that a change brings to two spokes behind cones, until their path is `path`."""
    fleet.meet(APART)
    with fleet.ping(SECOND, FIRST, per_second=PROBE) as count:
        change()
        time.sleep(NOTICED)
        fleet.wait_path(path)
        time.sleep(AFTERWARDS)
    return count


def gaps(fleet: NatFleet, say: Callable[[str], None]) -> dict[str, Figure]:
    """The longest silence after a router was renumbered, a spoke moved, or the direct path was blocked."""
    streets, figures = fleet.lab.nat_sites, {}
    changes: dict[str, tuple[Callable[[], object], str]] = {
        "roam_gap_renumbered": (lambda: streets.renumber("cone1"), "direct"),
        "roam_gap_moved": (lambda: fleet.lab.move(FIRST, "forward1"), "direct"),
        "roam_gap_forgotten": (lambda: streets.forget("cone1"), "direct"),
        "roam_gap_blocked": (lambda: fleet.lab.block("cone1", "cone2"), "relayed"),
    }
    for name, (change, path) in changes.items():
        try:
            count = gap(fleet, change, path)
        finally:
            fleet.lab.block("cone1", "cone2", blocked=False)
        figures[name] = Figure(round(count.gap, 2), "s", 1, f"lost {count.lost} of {count.sent} pings")
        say(f"  {name}: {count.gap:.2f} s")
    return figures


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """All figures of the streets."""
    directory = Path(os.environ.get("JAYWALK_NAT_BENCH_DIR", "/var/tmp/jaywalk-nat-bench"))
    runs.record("lab", str(directory))
    with nat_fleet(Lab(directory, prefix="jbn", report=say)) as made:
        figures = {"street_round_trip": street_round_trip(made)}
        say(f"how {len(PAIRS)} pairs of kinds meet")
        figures |= matrix(made, say)
        say("how long a pair hears nothing after a change")
        return figures | gaps(made, say)
