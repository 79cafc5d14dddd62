# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleanup by hand: the new commands leave nothing, the original's lines leave an agent that recovers."""

from __future__ import annotations

import json

from tests.fleet.fleet import INTERFACE, MEMBERS, eventually
from tests.fleet.original.hand import Hand


def test_the_original_cleanup_lines_leave_an_agent_that_recovers(hand: Hand) -> None:
    hand.start("node1", "join with flags", **hand.make_key("node1"))
    hand.start("node2", "join with files")
    address, other = hand.joined("node1"), hand.joined("node2")
    hand.will_reach("node1", other)
    hand.run("node1", "cleanup of the original")
    assert hand.addresses("node1") == []
    eventually(lambda: hand.addresses("node1") == [address], f"{INTERFACE} is back", timeout=75)
    hand.will_reach("node2", address)


def test_down_leave_and_purge_leave_nothing(hand: Hand) -> None:
    before = {name: hand.fleet.traces(name) for name in MEMBERS}
    agents = [
        hand.start("node1", "join with flags", **hand.make_key("node1")),
        hand.start("node2", "join with variables", **hand.make_key("node2")),
        hand.start("node3", "join with files"),
    ]
    stays, leaves, purges = (hand.joined(name) for name in MEMBERS)
    for agent in agents:
        agent.stop()

    hand.run("node1", "down")
    hand.run("node2", "leave")
    hand.run("node3", "leave and purge")
    for name in MEMBERS:
        assert INTERFACE not in " ".join(hand.fleet.traces(name))
    members = {peer["NodeAddress"] for peer in json.loads(hand.get("/peers"))}
    assert members & {stays, leaves, purges} == {stays}

    hand.run("node1", "purge")
    hand.run("node2", "purge")
    for name in MEMBERS:
        assert hand.fleet.traces(name) - before[name] == set()
    # A key that the operator keeps elsewhere is not ours to remove.
    assert hand["node3"].run("cat /etc/wireguard/private.key").stdout
