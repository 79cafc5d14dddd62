# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleanup by the operator's play: a machine that left has no trace of the mesh, and comes back at will."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fleet.fleet import INTERFACE, ZONE, Fleet, eventually


@pytest.fixture
def leaver(fleet: Fleet) -> Iterator[str]:
    """A machine that may leave; it is rolled out again afterwards."""
    yield "node3"
    fleet.play("--limit", "node3")
    eventually(lambda: "node3" in fleet.peers_of("node1"), "node3 is back")


def leased(fleet: Fleet) -> set[str]:
    """The addresses that the zone does not give to anybody."""
    pools = json.loads(fleet.controller.run(f"curl -sS http://localhost:8080/ipam/leases/{ZONE}").stdout)
    return {address for pool in pools for address in pool["IPs"]}


def test_leave_takes_a_machine_out_without_a_trace(fleet: Fleet, leaver: str) -> None:
    own = fleet.address(leaver)
    leave = ("--limit", leaver, "-e", "jaywalk_purge=true")
    with fleet.ping("node1", leaver) as shown:
        checked = fleet.play(*leave, "--check", "--diff", playbook="leave.yml")
    assert checked.changed[leaver] > 0
    assert "/etc/jaywalk/zone-blue.env" in checked.output
    assert shown.lost == 0
    assert own in leased(fleet)

    with fleet.ping("node1", "node2") as count:
        fleet.play(*leave, playbook="leave.yml")
        eventually(lambda: leaver not in fleet.peers_of("node1"), "node1 forgets the peer that left")
    assert count.lost == 0
    ours = ("jaywalk", INTERFACE, "unit ", "nft ", "iptables ")
    assert [line for line in fleet.traces(leaver) if any(word in line for word in ours)] == []
    assert own not in leased(fleet)

    again = fleet.play(*leave, playbook="leave.yml")
    assert again.changed[leaver] == 0
