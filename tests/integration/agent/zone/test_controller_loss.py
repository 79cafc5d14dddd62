# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that returns empty: real agents on real WireGuard, which are pinged throughout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest

from tests.integration.agent.paths.test_nat_sites import Ping, reached
from tests.nat_namespaces import CONTROLLER, NETWORK, Agent, EmulatedInternet, eventually

pytestmark = [pytest.mark.wireguard, pytest.mark.timeout(300)]


@pytest.fixture
def internet(tmp_path: Path) -> Iterator[EmulatedInternet]:
    with EmulatedInternet(tmp_path, f"jwls-{os.getpid()}") as made:
        yield made


def empty(internet: EmulatedInternet, folder: Path) -> None:
    """Empties Redis; its clients connect again."""
    secret = (folder / "password").read_text()
    for words in (["flushall"], ["client", "kill", "type", "normal", "skipme", "yes"]):
        internet.control.run(["redis-cli", "-h", CONTROLLER, "-a", secret, "--no-auth-warning", *words])


def retained(agent: Agent) -> set[str]:
    return {peer["name"] for peer in agent.status()["peers"] if peer["retained_from"]}


def test_no_ping_is_lost_when_redis_comes_back_empty(internet: EmulatedInternet, tmp_path: Path) -> None:
    nodes = {
        name: internet.node(internet.public(name, f"{NETWORK}.{number}"), f"jwls{number}")
        for number, name in enumerate(("one", "two", "three", "dead"), start=2)
    }
    for node in nodes.values():
        eventually(len(nodes) - 1, lambda node=node: len(node.status().get("peers", ())))
    for one, other in permutations(nodes.values(), 2):
        eventually(True, lambda one=one, other=other: reached(one, other))
    nodes["dead"].stop()
    epoch = nodes["one"].status()["position"].partition("-")[0]
    pings = {
        (name, other): Ping(nodes[name].where, nodes[other].address())
        for name, other in permutations(nodes, 2)
    }
    empty(internet, tmp_path)
    alive = [node for name, node in nodes.items() if name != "dead"]
    for node in alive:
        eventually({"dead"}, lambda node=node: retained(node))
        assert node.status()["position"].partition("-")[0] != epoch
    alive[0].stop()
    alive[0].start()
    eventually(True, lambda: alive[0].status()["agent"]["running"])
    assert retained(alive[0]) == {"dead"}
    assert {pair: ping.lost() for pair, ping in pings.items()} == dict.fromkeys(pings, 0)
    nodes["dead"].start()
    for node in alive:
        eventually(set(), lambda node=node: retained(node))
