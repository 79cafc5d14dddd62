# SPDX-License-Identifier: GPL-3.0-or-later
"""Join by hand: the original's command lines and variables, on several nodes, with the debug log on."""

from __future__ import annotations

import itertools

from tests.fleet.fleet import MEMBERS
from tests.fleet.original.hand import Hand


def test_nodes_that_joined_by_hand_reach_one_another_and_log_no_secret(hand: Hand) -> None:
    keys = {name: hand.make_key(name) for name in ("node1", "node2")}
    logs = {
        "node1": hand.start("node1", "join with flags", **keys["node1"]),
        "node2": hand.start("node2", "join with variables", **keys["node2"]),
        "node3": hand.start("node3", "join with files"),
    }
    addresses = {name: hand.joined(name) for name in MEMBERS}
    assert len(set(addresses.values())) == len(MEMBERS)
    for source, target in itertools.permutations(MEMBERS, 2):
        hand.will_reach(source, addresses[target])

    secrets = [hand.password, hand["node3"].run("cat /etc/wireguard/private.key").stdout.strip()]
    secrets += [each["NODE_WIREGUARD_PRIVATE_KEY"] for each in keys.values()]
    said = {name: running.stop() for name, running in logs.items()}
    for name, result in said.items():
        assert "DEBUG" in result.stderr + result.stdout, name
        assert result.rc == 0, name
        assert not any(secret in result.stdout.split("\n", 1)[-1] + result.stderr for secret in secrets), name
    # Ctrl-C ended the agents, and the tunnels stayed.
    for source, target in itertools.permutations(MEMBERS, 2):
        assert hand.reaches(source, addresses[target])


def test_the_supervisors_debug_log_holds_no_secret(hand: Hand) -> None:
    """Runs last: it starts the supervisor anew."""
    hand.start("node3", "join with files")
    hand.joined("node3")
    said = hand.supervisor.stop()
    assert "DEBUG" in said.stderr
    assert hand.password not in said.stderr + said.stdout
    hand.start_supervisor()
