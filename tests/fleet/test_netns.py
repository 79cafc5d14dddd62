# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine in two zones with the same pool: the role twice, the second time with a namespace."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.fleet import UNIT, Fleet, eventually

PLAYBOOK = """
- hosts: agents
  become: true
  gather_facts: false
  roles:
    - role: jaywalking.mesh.agent
    - role: jaywalking.mesh.agent
      vars:
        jaywalk_zone: zone-red
        jaywalk_interface: wg1
        jaywalk_listen_port: 51821
        jaywalk_netns: red
"""
UNITS = {"blue": UNIT, "red": "jaywalk-agent@zone-red"}
# As /proc shows it, alone.
CAP_NET_ADMIN = f"{1 << 12:016x}"
INSIDE = "ip -n red -brief -4 addr show dev wg1"


@pytest.fixture
def both(fleet: Fleet, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """A play for node3 in both zones; at the end node3 leaves both and joins the first one again."""
    playbook = tmp_path / "both.yml"
    playbook.write_text(PLAYBOOK)
    yield "--limit", "node3", str(playbook)
    fleet.play("--limit", "node3", playbook="uninstall.yml")
    traces = " ".join(line for line in fleet.traces("node3") if ".slice" not in line)
    assert "wg1" not in traces
    assert "/opt/jaywalk" not in traces
    assert "red" not in fleet["node3"].run("ip netns").stdout
    fleet.play("--limit", "node3")


def test_two_zones_of_one_machine_do_not_affect_each_other(fleet: Fleet, both: tuple[str, ...]) -> None:
    blue = fleet.address("node3")

    def invocations() -> dict[str, str]:
        return {
            zone: fleet["node3"].run(f"systemctl show -P InvocationID {unit}").stdout
            for zone, unit in UNITS.items()
        }

    *limit, playbook = both
    with fleet.ping("node1", "node3") as count:
        fleet.play(*limit, playbook=playbook)
        assert "/20" in fleet["node3"].run(INSIDE).stdout
        first = invocations()
        for unit in (*UNITS.values(), "jaywalk-namespace@zone-red"):
            pid = f"$(systemctl show -P MainPID {unit})"
            status = fleet["node3"].run(f"cat /proc/{pid}/status").stdout
            assert re.findall(r"^Cap(?:Prm|Eff|Bnd):\t(.*)$", status, re.M) == [CAP_NET_ADMIN] * 3, unit
        fleet["node3"].run(f"touch /etc/jaywalk/{UNIT.partition('@')[2]}.env")
        fleet.play(*limit, playbook=playbook)
        second = invocations()
    assert count.lost == 0
    assert first["blue"] != second["blue"]
    assert first["red"] == second["red"]
    assert fleet.play(*limit, playbook=playbook).changed["node3"] == 0
    fleet.play("--tags", "agent", "-e", "jaywalk_undeclared=remove")
    assert fleet["node3"].run(INSIDE, check=False).rc == 0, "site.yml declares the first zone only"
    fleet["node3"].reboot()
    eventually(lambda: fleet["node3"].run(INSIDE, check=False).rc == 0, "wg1 is in its namespace again")
    eventually(lambda: fleet.status("node3").get("addresses") == [blue], "zone-blue is back")
