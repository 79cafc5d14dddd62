# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels survive the failure of each part of the control plane, under a running ping."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import reachability
from tests.fleet.fleet import INTERFACE, MEMBERS, UNIT, Fleet, eventually

SUPERVISOR = "jaywalk-supervisor"
REDIS = "jaywalk-redis"
CLI = "redis-cli -s /run/jaywalk-redis/redis.sock --user supervisor"
# The settings of the service for a command.
AS_AGENT = "set -a; . /etc/jaywalk/zone-blue.env; set +a;"


@pytest.fixture(autouse=True)
def _restored(fleet: Fleet) -> Iterator[None]:
    """Start all services again after a test, and wait until the mesh is complete."""
    yield
    fleet.controller.run(f"systemctl start {REDIS} {SUPERVISOR}")
    for name in MEMBERS:
        fleet[name].run(f"systemctl start {UNIT}")
    fleet.wait_until_complete()


def agent_pid(fleet: Fleet, name: str) -> str:
    return fleet[name].run(f"systemctl show -P MainPID {UNIT}").stdout.strip()


def test_a_killed_agent_restarts_and_loses_no_packet(fleet: Fleet) -> None:
    old = agent_pid(fleet, "node1")
    with fleet.ping("node1", "node2") as count:
        fleet["node1"].run(f"kill -9 {old}")
        eventually(
            lambda: (
                agent_pid(fleet, "node1") not in ("0", old) and not fleet.status("node1")["agent"]["trouble"]
            ),
            "systemd starts the agent again",
        )
    assert count.lost == 0


def test_a_stopped_agent_leaves_the_tunnels_up(fleet: Fleet) -> None:
    with fleet.ping("node1", "node2") as count:
        fleet["node1"].run(f"systemctl stop {UNIT}")
        assert fleet["node1"].run(f"ping -n -c 3 -W 2 {fleet.address('node3')}").rc == 0
    assert count.lost == 0


def test_tunnels_stay_while_the_supervisor_is_stopped_and_a_join_waits(fleet: Fleet) -> None:
    fleet["node3"].run(f"systemctl stop {UNIT}")
    fleet["node3"].run(f"{AS_AGENT} jaywalk leave")
    with fleet.ping("node1", "node2") as count:
        fleet.controller.run(f"systemctl stop {SUPERVISOR}")
        joining = fleet["node3"].start_background(f"systemctl start {UNIT}")
        eventually(lambda: fleet.has_logged("node3", "no supervisor"), "the agent logs that it waits")
        assert joining.running
        fleet.controller.run(f"systemctl start {SUPERVISOR}")
        assert joining.wait(60).rc == 0
    eventually(lambda: "node3" in fleet.peers_of("node1"), "node1 has the peer that waited")
    assert count.lost == 0


def test_tunnels_stay_while_redis_is_stopped(fleet: Fleet) -> None:
    with fleet.ping("node1", "node2") as count:
        fleet.controller.run(f"systemctl stop {REDIS}")
        eventually(lambda: fleet.status("node1")["agent"]["trouble"] != "", "the agent reports the error")
        fleet.controller.run(f"systemctl start {REDIS}")
        eventually(lambda: fleet.status("node1")["agent"]["trouble"] == "", "the agent has recovered")
    assert count.lost == 0


def test_the_zones_of_an_emptied_redis_are_restored_and_the_play_passes(fleet: Fleet) -> None:
    """No packet and no address is lost, although the play runs before any repair by hand."""
    before = {name: fleet.address(name) for name in MEMBERS}
    with fleet.ping("node1", "node2") as count:
        password = "REDISCLI_AUTH=$(cat /etc/jaywalk-supervisor/controller.password)"
        assert fleet.controller.run(f"{password} {CLI} flushall").rc == 0
        fleet.play()
        fleet.wait_until_complete()
        assert {name: fleet.address(name) for name in MEMBERS} == before
    assert count.lost == 0
    assert fleet.has_logged("control", "is restored with", f"{SUPERVISOR}.service")


def test_tunnels_stay_while_the_controller_has_no_power(fleet: Fleet) -> None:
    try:
        with fleet.ping("node1", "node2") as count:
            fleet.controller.crash()
            assert fleet["node2"].run(f"ping -n -c 3 -W 2 {fleet.address('node3')}").rc == 0
    finally:
        fleet.controller.boot()
    assert count.lost == 0


CUT_INSIDE_THE_LAST_COMMIT = """
import glob, os
file = max(glob.glob("/var/lib/jaywalk-redis/appendonlydir/*.incr.aof"), key=os.path.getmtime)
data = open(file, "rb").read()
commit = data.rindex(b"*1\\r\\n$5\\r\\nMULTI")
os.truncate(file, data.index(b"{zone-blue}:leases", commit))
"""


def test_a_commit_truncated_by_a_power_cut_is_never_replayed(fleet: Fleet) -> None:
    """Redis 7.0 by itself would replay its first half at the second start."""
    members = f"REDISCLI_AUTH=$(cat /etc/jaywalk-supervisor/controller.password) {CLI}"
    key = fleet["node3"].run(f"wg show {INTERFACE} public-key").stdout.strip()
    fleet["node3"].run(f"systemctl stop {UNIT}")
    fleet["node3"].run(f"{AS_AGENT} jaywalk leave")
    fleet["node3"].run(f"{AS_AGENT} jaywalk up")
    fleet["node3"].run("jaywalk down")
    fleet.controller.run(f"systemctl stop {SUPERVISOR} {REDIS}")
    fleet.controller.run(["python3", "-c", CUT_INSIDE_THE_LAST_COMMIT])
    fleet.controller.run(f"systemctl start {REDIS}")
    assert "ended inside a transaction" in fleet.controller.run(f"journalctl -b -u {REDIS}").stdout
    fleet.controller.run(f"systemctl restart {REDIS}")
    shown = fleet.controller.run(f"{members} hkeys '{{zone-blue}}:peers'").stdout
    assert key not in shown and len(shown.split()) == 2
    fleet.controller.run(f"systemctl start {SUPERVISOR}")
    fleet["node3"].run(f"systemctl start {UNIT}")
    fleet.wait_until_complete()


def test_a_rebooted_node_rejoins_the_mesh_without_the_controller(fleet: Fleet) -> None:
    """The agent restores the mesh from its snapshot."""
    address = fleet.address("node3")
    try:
        fleet.controller.crash()
        fleet["node3"].reboot()
        nodes = {name: fleet[name] for name in MEMBERS}
        addresses = {"node3": address} | {name: fleet.address(name) for name in ("node1", "node2")}

        def is_complete() -> bool:
            matrix = reachability.measure(nodes, addresses, INTERFACE)
            return reachability.summary(matrix) == "6/6 pairs reachable over the tunnel"

        eventually(is_complete, "each node reaches each other one", 30)
    finally:
        fleet.controller.boot()
    fleet.wait_until_in_order("node3")
    assert fleet.address("node3") == address


def test_a_node_converges_without_a_restart_after_it_was_cut_off(fleet: Fleet) -> None:
    """While node2 is cut off, node3 leaves the zone and joins it again with another address."""
    before = agent_pid(fleet, "node2")
    fleet["node2"].cut()
    try:
        fleet["node3"].run(f"systemctl stop {UNIT}")
        fleet["node3"].run(f"{AS_AGENT} jaywalk leave")
        fleet["node3"].run(f"{AS_AGENT} jaywalk up --request-ip 10.20.7.7")
        fleet["node3"].run("jaywalk down")
    finally:
        fleet["node2"].heal()
    moved = "ping -n -c 1 -W 1 10.20.7.7"
    fleet["node3"].run(f"systemctl start {UNIT}")
    eventually(lambda: fleet["node2"].run(moved, check=False).rc == 0, "node2 reaches the new address", 90)
    assert agent_pid(fleet, "node2") == before
