# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules for networks behind a node, in real nftables of a network namespace."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from jaywalk_agent.dataplane import nftables
from tests.netns import Namespace

pytestmark = [
    pytest.mark.wireguard,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft"),
]
DOCKER = """
table ip filter {
    chain DOCKER-USER { }
    chain FORWARD { type filter hook forward priority filter; policy drop; jump DOCKER-USER; }
}
"""
OPERATORS = """
table inet filter {
    chain forward { type filter hook forward priority filter; policy drop; }
    chain input { type filter hook input priority filter; policy accept; }
}
"""
V4, V6 = "172.24.0.0/24", "fd20:1::/64"


@pytest.fixture
def machine(namespace: Callable[[str], Namespace]) -> Namespace:
    made = namespace("jwfw")
    made.run(["nft", "-f", "-"], DOCKER + OPERATORS)
    return made


def ours(machine: Namespace, chain: str) -> set[str]:
    """The comments of our rules in a chain, in which `jaywalk wg0` is left out."""
    shown = machine.run(["nft", "list", "chain", *chain.split()])
    return set(re.findall(r'comment "jaywalk wg0 (.*)"', shown))


def test_rules_come_where_packets_are_dropped_and_go_without_a_trace(machine: Namespace) -> None:
    before = machine.run(["nft", "list", "ruleset"])
    assert nftables.rule_prefixes(machine.runner, "wg0") == []
    nftables.apply(machine.runner, "wg0", (V4, V6))
    into = {f"{word} {prefix}" for word in ("to", "from") for prefix in (V4, V6)}
    assert ours(machine, "inet filter forward") == into
    assert ours(machine, "ip filter DOCKER-USER") == {f"to {V4}", f"from {V4}"}
    assert ours(machine, "ip filter FORWARD") == set()
    assert ours(machine, "inet filter input") == set()
    assert ours(machine, "inet jaywalk_wg0 postrouting") == {f"keeps {V4}", f"keeps {V6}"}
    assert nftables.rule_prefixes(machine.runner, "wg0") == [V4, V6]
    assert nftables.apply(machine.runner, "wg0", (V4, V6)) == []
    nftables.apply(machine.runner, "wg0", ())
    assert machine.run(["nft", "list", "ruleset"]) == before
    assert nftables.apply(machine.runner, "wg0", ()) == []


def test_a_prefix_that_changes_changes_its_rules_alone(machine: Namespace) -> None:
    nftables.apply(machine.runner, "wg0", (V4,))
    done = nftables.apply(machine.runner, "wg0", (V4, V6))
    assert [line for line in done if V4 in line or line.startswith("delete")] == []
    nftables.apply(machine.runner, "wg0", (V6,))
    assert nftables.rule_prefixes(machine.runner, "wg0") == [V6]
    assert ours(machine, "ip filter DOCKER-USER") == set()


def test_what_a_reload_of_the_firewall_took_away_comes_back(machine: Namespace) -> None:
    nftables.apply(machine.runner, "wg0", (V4,))
    machine.run(["nft", "flush", "chain", "inet", "filter", "forward"])
    assert len(nftables.apply(machine.runner, "wg0", (V4,))) == 2
    assert ours(machine, "inet filter forward") == {f"to {V4}", f"from {V4}"}


def test_the_rules_of_another_interface_are_left_alone(machine: Namespace) -> None:
    nftables.apply(machine.runner, "wg1", (V4,))
    nftables.apply(machine.runner, "wg0", (V4,))
    nftables.apply(machine.runner, "wg0", ())
    assert nftables.rule_prefixes(machine.runner, "wg1") == [V4]


@pytest.mark.parametrize("nft", [None, "#!/bin/sh\nexit 1\n"])
def test_a_machine_that_has_no_nftables_has_no_rules_of_ours(
    nft: str | None, machine: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if nft:
        (tmp_path / "nft").write_text(nft)
        (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nftables.rule_prefixes(machine.runner, "wg0") == []
