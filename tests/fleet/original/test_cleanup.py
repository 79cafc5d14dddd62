# SPDX-License-Identifier: GPL-3.0-or-later
"""Cleanup by hand: the new commands leave nothing; after the original's lines an agent recovers."""

from __future__ import annotations

import json

from tests.fleet.fleet import INTERFACE, MEMBERS, eventually
from tests.fleet.original.manual_operator import ManualOperator


def test_the_original_cleanup_lines_leave_an_agent_that_recovers(operator: ManualOperator) -> None:
    operator.start("node1", "join with flags", **operator.make_key("node1"))
    operator.start("node2", "join with files")
    address, other = operator.joined("node1"), operator.joined("node2")
    operator.will_reach("node1", other)
    operator.run("node1", "cleanup of the original")
    assert operator.addresses("node1") == []
    eventually(lambda: operator.addresses("node1") == [address], f"{INTERFACE} is back", timeout=75)
    operator.will_reach("node2", address)


def test_down_leave_and_purge_leave_nothing(operator: ManualOperator) -> None:
    before = {name: operator.fleet.traces(name) for name in MEMBERS}
    agents = [
        operator.start("node1", "join with flags", **operator.make_key("node1")),
        operator.start("node2", "join with variables", **operator.make_key("node2")),
        operator.start("node3", "join with files"),
    ]
    stays, leaves, purges = (operator.joined(name) for name in MEMBERS)
    for agent in agents:
        agent.stop()

    operator.run("node1", "down")
    operator.run("node2", "leave")
    operator.run("node3", "leave and purge")
    for name in MEMBERS:
        assert INTERFACE not in " ".join(operator.fleet.traces(name))
    members = {peer["NodeAddress"] for peer in json.loads(operator.get("/peers"))}
    assert members & {stays, leaves, purges} == {stays}

    operator.run("node1", "purge")
    operator.run("node2", "purge")
    for name in MEMBERS:
        assert operator.fleet.traces(name) - before[name] == set()
    # We must not remove a key that the operator keeps elsewhere.
    assert operator["node3"].run("cat /etc/wireguard/private.key").stdout
