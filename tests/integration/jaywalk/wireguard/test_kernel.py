# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the kernel's own WireGuard can show; ``make test-kernel`` boots a machine that has it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.core.runner import SubprocessRunner
from jaywalk.wireguard import keys, plan, userspace
from jaywalk.wireguard.interface import Interface, WgPeer
from jaywalk.wireguard.linux import Linux
from tests import strategies as mesh
from tests.netns import SOCKETS, Namespace, connect, kernel_has_wireguard

pytestmark = [
    pytest.mark.wireguard,
    pytest.mark.kernel_wireguard,
    pytest.mark.skipif(not kernel_has_wireguard(), reason="this kernel has no WireGuard: make test-kernel"),
]
Pair = tuple[Namespace, Namespace]
PORT = 51900
NAME = "jwk0"
"""Both ends' interface: kernel WireGuard shares nothing between namespaces, so one name does for all."""


@pytest.fixture
def node(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwk")


@pytest.fixture
def pair(namespace: Callable[[str], Namespace]) -> Pair:
    """Two machines on one cable, which see each other by two addresses each."""
    left, right = namespace("jwk-left"), namespace("jwk-right")
    connect(left, right, "192.0.2.1/24", "192.0.2.2/24")
    return left, right


def wish(folder: Path, number: int, **fields: Any) -> Interface:
    """The interface of machine ``number``, 10.20.0.``number``, without a peer."""
    path = folder / f"{number}.key"
    public, _ = keys.ensure_key_file(SubprocessRunner(), str(path))
    own = Interface(NAME, public, str(path), PORT, (f"10.20.0.{number}/24",))
    return replace(own, **fields)


def with_peer(mine: Interface, other: Interface, endpoint: str = "") -> Interface:
    prefix = other.addresses[0].replace("/24", "/32")
    peer = WgPeer(other.public_key, (prefix,), endpoint)
    return replace(mine, peers={**mine.peers, peer.key: peer})


def bring(node: Namespace, desired: Interface | None) -> list[tuple[str, ...]]:
    """Applies a wish, and returns the commands that changed something."""
    steps = plan.diff(Linux(node.runner).observe(NAME), desired)
    node.runner.calls.clear()
    Linux(node.runner).apply(steps)
    return list(node.runner.calls)


def bring_both(pair: Pair, folder: Path) -> tuple[Interface, Interface]:
    """A tunnel that carries: only the left machine knows where the other one is."""
    left, right = pair
    one, two = wish(folder, 1), wish(folder, 2)
    one, two = with_peer(one, two, f"192.0.2.2:{PORT}"), with_peer(two, one)
    bring(left, one)
    bring(right, two)
    left.run(["ping", "-c", "1", "-W", "10", "10.20.0.2"])
    return one, two


def details(node: Namespace) -> dict[str, Any]:
    shown: list[dict[str, Any]] = json.loads(
        node.run(["ip", "-json", "-details", "link", "show", "dev", NAME])
    )
    return shown[0]


def endpoint_of(node: Namespace, key: str) -> str:
    observed = Linux(node.runner).observe(NAME)
    assert observed is not None
    return observed.peers[key].endpoint


def test_the_kernel_is_chosen_although_a_program_could_do_it(node: Namespace, tmp_path: Path) -> None:
    assert shutil.which("wireguard-go") and Path(userspace.TUN).exists()
    Linux(node.runner).require_wireguard()
    Linux(node.runner).create(NAME)
    assert details(node)["linkinfo"]["info_kind"] == "wireguard"
    assert not (SOCKETS / f"{NAME}.sock").exists()
    bring(node, wish(tmp_path, 1))
    observed = Linux(node.runner).observe(NAME)
    assert observed is not None and observed.kind == "kernel"


def test_a_removed_interface_leaves_nothing(node: Namespace, tmp_path: Path) -> None:
    def traces() -> list[str]:
        looks = [["ip", "-details", "link"], ["ip", "addr"], ["ip", "rule"]]
        looks += [["ip", "route", "show", "table", "all"], ["ip", "-6", "route", "show", "table", "all"]]
        return [node.run(look) for look in (*looks, ["ss", "-Hlnu"])]

    before = traces()
    peer = WgPeer(mesh.key(1), ("172.20.1.0/24", "fd20::2/128"), "192.0.2.2:51820", 25)
    full = wish(tmp_path, 1, peers={peer.key: peer}, routes=frozenset({"172.20.1.0/24"}))
    bring(node, replace(full, addresses=(*full.addresses, "fd20::1/64")))
    assert traces() != before
    bring(node, None)
    assert traces() == before


def test_a_handshake_and_packets_between_two_machines(pair: Pair, tmp_path: Path) -> None:
    left, right = pair
    one, two = bring_both(pair, tmp_path)
    left.run(["ping", "-c", "3", "-i", "0.2", "-W", "10", "10.20.0.2"])
    for node, other in ((left, two), (right, one)):
        observed = Linux(node.runner).observe(NAME)
        assert observed is not None
        seen = observed.peers[other.public_key]
        assert seen.handshake > 0 and seen.received > 0 and seen.sent > 0
    assert endpoint_of(right, one.public_key) == f"192.0.2.1:{PORT}"


def test_a_running_interface_is_left_alone_and_one_more_peer_loses_no_packet(
    pair: Pair, tmp_path: Path
) -> None:
    left, _ = pair
    one, two = bring_both(pair, tmp_path)
    index = details(left)["ifindex"]
    ping = left.start(["ping", "-i", "0.02", "-c", "250", "-W", "5", "10.20.0.2"])
    newcomers: set[str] = set()
    while ping.poll() is None:
        assert bring(left, one) == []
        number = len(newcomers) + 3
        prefix = f"172.{16 + number // 256}.{number % 256}.0/24"
        newcomer = WgPeer(mesh.key(number), (prefix,), "", 25)
        newcomers.add(newcomer.key)
        one = replace(one, peers={**one.peers, newcomer.key: newcomer}, routes=one.routes | {prefix})
        (peers, routes) = bring(left, one)
        assert peers[:3] == ("wg", "set", NAME) and newcomer.key in peers and two.public_key not in peers
        assert routes[0] == "ip"
    output, _ = ping.communicate()
    assert "250 packets transmitted, 250 received" in output
    assert newcomers
    assert details(left)["ifindex"] == index


def test_packets_follow_the_machines_source_address(pair: Pair, tmp_path: Path) -> None:
    left, right = pair
    one, _ = bring_both(pair, tmp_path)
    left.run(["ip", "addr", "add", "192.0.2.77/24", "dev", "veth"])
    left.run(["ip", "addr", "del", "192.0.2.1/24", "dev", "veth"])
    left.run(["ip", "addr", "replace", "192.0.2.77/24", "dev", "veth"])  # it went as a secondary of the first
    left.run(["ping", "-c", "1", "-W", "10", "10.20.0.2"])
    assert endpoint_of(right, one.public_key) == f"192.0.2.77:{PORT}"
