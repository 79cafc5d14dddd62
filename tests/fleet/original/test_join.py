# SPDX-License-Identifier: GPL-3.0-or-later
"""Join by hand: the original's command lines and variables, on several nodes, with the debug log on."""

from __future__ import annotations

import itertools

from tests.fleet.fleet import MEMBERS
from tests.fleet.original.manual_operator import ManualOperator


def test_nodes_joined_by_hand_reach_each_other_and_log_no_secret(
    operator: ManualOperator,
) -> None:
    keys = {name: operator.make_key(name) for name in ("node1", "node2")}
    logs = {
        "node1": operator.start("node1", "join with flags", **keys["node1"]),
        "node2": operator.start("node2", "join with variables", **keys["node2"]),
        "node3": operator.start("node3", "join with files"),
    }
    addresses = {name: operator.joined(name) for name in MEMBERS}
    assert len(set(addresses.values())) == len(MEMBERS)
    for source, target in itertools.permutations(MEMBERS, 2):
        operator.will_reach(source, addresses[target])

    secrets = [operator.password, operator["node3"].run("cat /etc/wireguard/private.key").stdout.strip()]
    secrets += [key["NODE_WIREGUARD_PRIVATE_KEY"] for key in keys.values()]
    results = {name: running.stop() for name, running in logs.items()}
    for name, result in results.items():
        assert "DEBUG" in result.stderr + result.stdout, name
        assert result.rc == 0, name
        assert not any(secret in result.stdout.split("\n", 1)[-1] + result.stderr for secret in secrets), name
    # Ctrl-C has ended the agents; the tunnels stay.
    for source, target in itertools.permutations(MEMBERS, 2):
        assert operator.reaches(source, addresses[target])


def test_the_supervisors_debug_log_holds_no_secret(operator: ManualOperator) -> None:
    """The last test: it restarts the supervisor."""
    operator.start("node3", "join with files")
    operator.joined("node3")
    result = operator.supervisor.stop()
    assert "DEBUG" in result.stderr
    assert operator.password not in result.stderr + result.stdout
    operator.start_supervisor()
