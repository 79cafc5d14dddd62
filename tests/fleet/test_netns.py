# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in two zones with one pool: the role keeps the second one in a network namespace."""

from __future__ import annotations

from tests.fleet.fleet import Fleet, eventually

VARIABLES = "jaywalk_zone=zone-red jaywalk_interface=wg1 jaywalk_listen_port=51821 jaywalk_netns=red"
RED = ("--limit", "node3", "-e", VARIABLES)


def test_a_second_zone_with_the_same_pool_lives_in_a_namespace(fleet: Fleet) -> None:
    blue = fleet.address("node3")
    with fleet.ping("node1", "node3") as count:
        fleet.play(*RED)
        fleet["node3"].run("jaywalk status --zone zone-red --wait 20")
    assert count.lost == 0
    inside = "ip -n red -brief -4 addr show dev wg1"
    assert "10.20.0.1/20" in fleet["node3"].run(inside).stdout
    fleet["node3"].reboot()
    eventually(lambda: fleet["node3"].run(inside, check=False).rc == 0, "wg1 is in its namespace again")
    eventually(lambda: fleet.status("node3")["addresses"] == [blue], "zone-blue is back")
    fleet.play(*RED, playbook="leave.yml")
    assert "zone-red" not in " ".join(fleet.traces("node3"))
