# SPDX-License-Identifier: GPL-3.0-or-later
"""Tunnels survive stops, kills and reboots of all other parts, under a ping and a TCP stream."""

from __future__ import annotations

from tests.fleet.fleet import MEMBERS, UNIT, Fleet, eventually
from tests.fleet.stream import stream

FAILURES = {
    "supervisor stopped": ("control", "systemctl stop jaywalk-supervisor"),
    "supervisor killed": ("control", "systemctl kill -s KILL jaywalk-supervisor"),
    "Redis stopped": ("control", "systemctl stop jaywalk-redis"),
    "Redis killed": ("control", "systemctl kill -s KILL jaywalk-redis"),
    "agent stopped": ("node1", f"systemctl stop {UNIT}"),
    "agent killed": ("node1", f"systemctl kill -s KILL {UNIT}"),
    "agent of the other end killed": ("node2", f"systemctl kill -s KILL {UNIT}"),
}
START = {"control": "jaywalk-supervisor jaywalk-redis", "node1": UNIT, "node2": UNIT}


def test_a_ping_and_a_tcp_stream_lose_nothing_while_all_others_fail(fleet: Fleet) -> None:
    with fleet.ping("node1", "node2") as count, stream(fleet, "node1", "node2") as transferred:
        for name, command in FAILURES.values():
            fleet[name].run(command)
            fleet[name].run(f"systemctl reset-failed; systemctl start {START[name]}", timeout=60)
        fleet.controller.reboot()
        fleet["node3"].reboot()
    assert count.lost == 0
    assert count.sent > 100
    assert transferred.sent == transferred.received > 100_000
    for name in MEMBERS:
        fleet.wait_until_in_order(name)


def test_a_join_waits_for_redis_and_then_succeeds(fleet: Fleet) -> None:
    """The machine has no snapshot and no lease; test_failures.py does the same for the supervisor."""
    settings = "set -a; . /etc/jaywalk/zone-blue.env; set +a"
    fleet["node3"].run(f"systemctl stop {UNIT}; {settings}; jaywalk leave")
    fleet.controller.run("systemctl stop jaywalk-redis")
    try:
        joining = fleet["node3"].start_background(f"systemctl start {UNIT}")
        eventually(lambda: fleet.has_logged("node3", "cannot be reached"), "the agent logs that it waits")
        assert joining.running
    finally:
        fleet.controller.run("systemctl start jaywalk-redis")
    assert joining.wait(90).rc == 0
    eventually(lambda: "node3" in fleet.peers_of("node1"), "node1 has the peer that waited")
