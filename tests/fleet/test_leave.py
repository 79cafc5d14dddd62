# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleanup by the operator's play: nothing of the mesh stays on the machine, and it can join again."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.fleet.fleet import INTERFACE, UNIT, ZONE, Fleet, eventually


def peers(fleet: Fleet) -> dict[str, str]:
    """Return the zone's peers: public key -> address."""
    listed = json.loads(fleet.controller.run("curl -sS http://localhost:8080/peers").stdout)
    return {peer["PublicKey"]: peer["AllowedIPs"] for peer in listed if peer["Zone"] == ZONE}


@pytest.fixture
def leaver(fleet: Fleet) -> Iterator[str]:
    """A machine that may leave; a play joins it again at the end."""
    yield "node3"
    fleet.play("--limit", "node3")
    eventually(lambda: "node3" in fleet.peers_of("node1"), "node3 is back")


def leased(fleet: Fleet) -> set[str]:
    """Return the leased and reserved addresses of the zone."""
    pools = json.loads(fleet.controller.run(f"curl -sS http://localhost:8080/ipam/leases/{ZONE}").stdout)
    return {address for pool in pools for address in pool["IPs"]}


def test_leave_removes_everything_from_a_machine(fleet: Fleet, leaver: str) -> None:
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
        eventually(lambda: leaver not in fleet.peers_of("node1"), "node1 has removed the peer")
    assert count.lost == 0
    ours = ("jaywalk", INTERFACE, "unit ", "nft ", "iptables ")
    assert [line for line in fleet.traces(leaver) if any(word in line for word in ours)] == []
    assert own not in leased(fleet)

    again = fleet.play(*leave, playbook="leave.yml")
    assert again.changed[leaver] == 0


def test_a_reinstalled_machine_replaces_its_old_peer(fleet: Fleet) -> None:
    """The play names the old peer, by its name and as an undeclared peer; rekeying then removes it."""
    before = peers(fleet)
    old, address = fleet.status("node3")["public_key"], fleet.address("node3")
    fleet["node3"].run(
        f"systemctl stop {UNIT}; jaywalk down; "
        "rm -r /var/lib/jaywalk /etc/jaywalk /opt/jaywalk /usr/local/bin/jaywalk"
    )
    play = fleet.play("--tags", "agent")
    assert f"{ZONE} has another peer called node3, with the key {old}" in play.output
    assert f"node3 ({old}) is a peer of {ZONE}, and no machine of the group agents" in play.output
    assert set(before) < set(peers(fleet))
    refused = fleet.play("--limit", "control,node1", "--tags", "agent", "-e", "jaywalk_undeclared=remove")
    assert "did not report their keys in this run: node2, node3" in refused.output
    assert old in peers(fleet)
    fleet.play("--limit", "node3", "-e", "jaywalk_rekey=true")
    new = fleet.status("node3")["public_key"]
    assert set(peers(fleet)) == set(before) - {old} | {new}
    assert peers(fleet)[new] == f"{address}/32"
    eventually(lambda: fleet.status("node3")["addresses"] == [address], "node3 has its old address")
