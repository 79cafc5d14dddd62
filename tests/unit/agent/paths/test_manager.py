# SPDX-License-Identifier: GPL-3.0-or-later
"""The path manager: its reactions to the data plane, to its records and to silent peers."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from jaywalk.core.runner import Finished, Runner
from jaywalk.mesh.node_interface import KEEPALIVE_SECONDS, LocalNode, PeerEndpoint
from jaywalk.wireguard import plan
from jaywalk.wireguard.interface import Interface, WgPeer
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.dataplane.relay_interfaces import RelayState
from jaywalk_agent.paths import manager
from jaywalk_agent.paths.manager import PathManager
from jaywalk_agent.paths.silence import Silences
from jaywalk_agent.zone.background_sender import BackgroundSender
from tests.agent_support import peer, view_of
from tests.strategies import key


class Plane(DataPlane):
    """A data plane with the peers that a test sets."""

    given: Mapping[str, WgPeer] | None = None

    def __init__(self) -> None:
        super().__init__(Linux(Nothing()), LocalNode(key(0), "/nowhere", "jwunone"))

    @property
    def last(self) -> Interface | None:
        return None if self.given is None else Interface("jwunone", key(0), "/nowhere", peers=self.given)


class Relays:
    """Replaces the relay interfaces, and records the desired states."""

    def __init__(self, *_: object) -> None:
        self.applied: list[RelayState | None] = []

    def apply(self, desired: RelayState | None, full: bool = False) -> list[plan.Plan]:
        self.applied.append(desired)
        return []


class Nothing:
    """A machine without a WireGuard interface."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        return Finished(1, "", "")


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PathManager, Plane, Relays]:
    """The path manager of a relay in a zone without other members."""
    relays, plane = Relays(), Plane()
    monkeypatch.setattr(manager, "RelayPlane", lambda *_: relays)
    path_manager = PathManager(Nothing(), plane, cast(BackgroundSender, _Silent()), tmp_path / "paths")
    path_manager.update(view_of(peer(0, endpoint="192.0.2.1:51820", relay=51821)), None)
    return path_manager, plane, relays


class _Silent:
    """Stands in for the background sender; sends nothing."""

    def report(self, observed: Mapping[str, str]) -> bool:
        return True


class Socket:
    """Replaces a probe socket, and records its interface and address."""

    def __init__(self, interface: str, address: str) -> None:
        self.interface, self.address, self.closed = interface, address, False

    def close(self) -> None:
        self.closed = True


def peers_of(*numbers: int) -> dict[str, WgPeer]:
    return {key(number): WgPeer(key(number), (f"10.20.0.{number + 1}/32",)) for number in numbers}


def turn(path_manager: Any) -> None:
    path_manager._turn()


def test_a_relay_applies_a_peer_that_joined_with_the_second_of_two_changes_between_turns(
    relay: tuple[PathManager, Plane, Relays],
) -> None:
    """The mapping of the last change has the id of the first one, which the change between them freed."""
    path_manager, plane, relays = relay
    plane.given = peers_of(1)
    turn(path_manager)
    where = id(plane.given)
    plane.given = peers_of(1, 2)
    others = []
    for _ in range(1000):
        plane.given = peers_of(1, 2, 3)
        if id(plane.given) == where:
            break
        others.append(plane.given)
    turn(path_manager)
    last = relays.applied[-1]
    assert last is not None
    assert set(last.allowed) == {key(1), key(2), key(3)}


def test_relay_interfaces_stay_while_the_desired_interface_is_unknown(
    relay: tuple[PathManager, Plane, Relays],
) -> None:
    path_manager, plane, relays = relay
    plane.given = peers_of(1)
    turn(path_manager)
    count = len(relays.applied)
    plane.given = None
    turn(path_manager)
    assert relays.applied[count:] == []
    plane.given = {}
    turn(path_manager)
    assert relays.applied[count:] == [None], "a relay without peers needs no interface"


def test_a_node_with_a_new_address_probes_and_replies_from_it(
    relay: tuple[PathManager, Plane, Relays], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rekey: a socket of the old address receives nothing, and all peers seemed silent."""
    path_manager, _, _ = relay
    bound: list[Socket] = []

    def opened(interface: str, address: str, _runner: Runner) -> Socket:
        bound.append(Socket(interface, address))
        return bound[-1]

    monkeypatch.setattr(manager, "ProbeSocket", opened)
    monkeypatch.setattr(manager, "interface_index", lambda _runner, _name: 7)
    for number in (0, 0, 4):
        path_manager.update(view_of(peer(0)._replace(addresses=peer(number).addresses)), None)
        path_manager._open_sockets()
    open_sockets = [found.address for found in bound if found.interface == "jwunone" and not found.closed]
    assert open_sockets == [peer(4).addresses[0]]
    assert [found.address for found in bound] == [peer(0).addresses[0], peer(4).addresses[0]]


def test_a_silent_peer_leads_to_a_repair_request(
    relay: tuple[PathManager, Plane, Relays], monkeypatch: pytest.MonkeyPatch
) -> None:
    path_manager, _, _ = relay
    requests: list[None] = []
    path_manager.request_repair = lambda: requests.append(None)
    lines = [[(logging.WARNING, "node1 is silent since 14:03:11")], [(logging.INFO, "node1 answers again")]]
    monkeypatch.setattr(Silences, "observe", lambda *_: lines.pop(0))
    turn(path_manager)
    turn(path_manager)
    assert len(requests) == 1


def test_an_update_returns_the_endpoints_for_the_data_plane(relay: tuple[PathManager, Plane, Relays]) -> None:
    path_manager, _, _ = relay
    own = peer(0, endpoint="192.0.2.1:51820", relay=51821)
    endpoints = path_manager.update(view_of(own, peer(1, endpoint="192.0.2.7:51820")), None)
    assert endpoints == {key(1): PeerEndpoint("192.0.2.7:51820", KEEPALIVE_SECONDS)}


def test_while_it_is_paused_no_other_thread_changes_its_endpoints(
    relay: tuple[PathManager, Plane, Relays],
) -> None:
    """So the data plane applies no older endpoints over newer ones."""
    path_manager, _, _ = relay
    acted: list[str] = []

    def act() -> None:
        path_manager._turn()
        acted.append("turn")

    with path_manager.paused():
        other = threading.Thread(target=act)
        other.start()
        other.join(0.2)
        assert acted == []
    other.join()
    assert acted == ["turn"]
