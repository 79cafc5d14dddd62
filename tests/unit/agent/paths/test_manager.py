# SPDX-License-Identifier: GPL-3.0-or-later
"""The thread that looks after the paths: what it does with what the data plane tells it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from jaywalk.core.runner import Finished
from jaywalk.mesh.node_interface import Node
from jaywalk.wireguard import plan
from jaywalk.wireguard.interface import WgPeer
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.dataplane.relay_interfaces import Wanted
from jaywalk_agent.paths import manager
from jaywalk_agent.paths.manager import PathManager
from jaywalk_agent.paths.silence import Silences
from jaywalk_agent.zone.background_sender import BackgroundSender
from tests.agent_support import peer, view_of
from tests.strategies import key


class Plane(DataPlane):
    """A data plane that has the peers that a test gives it."""

    given: Mapping[str, WgPeer] | None = None

    def __init__(self) -> None:
        super().__init__(Linux(Nothing()), Node(key(0), "/nowhere", "jwunone"))

    @property
    def peers(self) -> Mapping[str, WgPeer] | None:
        return self.given


class Relays:
    """In the place of the relay interfaces: remembers what they were asked to be."""

    def __init__(self, *_: object) -> None:
        self.asked: list[Wanted | None] = []

    def bring_to(self, wanted: Wanted | None, look: bool = False) -> list[plan.Plan]:
        self.asked.append(wanted)
        return []


class Nothing:
    """A machine without a WireGuard interface."""

    def run(self, argv: Sequence[str], stdin: str | None = None) -> Finished:
        return Finished(1, "", "")


@pytest.fixture
def relay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PathManager, Plane, Relays]:
    """A relay's path_manager, whose own record is all that the zone has."""
    relays, plane = Relays(), Plane()
    monkeypatch.setattr(manager, "RelayPlane", lambda *_: relays)
    finder = PathManager(Nothing(), plane, cast(BackgroundSender, _Silent()), tmp_path / "paths")
    finder.update(view_of(peer(0, endpoint="192.0.2.1:51820", relay=51821)), None)
    return finder, plane, relays


class _Silent:
    """Stands in for the background sender; sends nothing."""

    def report(self, observed: Mapping[str, str]) -> bool:
        return True


class Socket:
    """In the place of a heartbeat's: remembers where it was opened."""

    def __init__(self, interface: str, address: str) -> None:
        self.interface, self.address, self.closed = interface, address, False

    def close(self) -> None:
        self.closed = True


def peers_of(*numbers: int) -> dict[str, WgPeer]:
    return {key(each): WgPeer(key(each), (f"10.20.0.{each + 1}/32",)) for each in numbers}


def turn(finder: Any) -> None:
    finder._turn()


def test_a_relay_hears_of_a_peer_that_joined_by_the_second_of_two_changes_between_turns(
    relay: tuple[PathManager, Plane, Relays],
) -> None:
    """The second mapping lies where the first one lay, which was freed by the change between them."""
    finder, plane, relays = relay
    plane.given = peers_of(1)
    turn(finder)
    where = id(plane.given)
    plane.given = peers_of(1, 2)
    others = []
    for _ in range(1000):
        plane.given = peers_of(1, 2, 3)
        if id(plane.given) == where:
            break
        others.append(plane.given)
    turn(finder)
    last = relays.asked[-1]
    assert last is not None
    assert set(last.allowed) == {key(1), key(2), key(3)}


def test_relay_interfaces_stay_while_it_is_unknown_what_the_interface_should_be(
    relay: tuple[PathManager, Plane, Relays],
) -> None:
    finder, plane, relays = relay
    plane.given = peers_of(1)
    turn(finder)
    asked = len(relays.asked)
    plane.given = None
    turn(finder)
    assert relays.asked[asked:] == []
    plane.given = {}
    turn(finder)
    assert relays.asked[asked:] == [None], "a relay without peers needs no interface"


def test_a_node_that_got_another_address_asks_and_answers_from_it(
    relay: tuple[PathManager, Plane, Relays], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a rekey: a socket of the old address hears nothing, and all peers seemed silent."""
    finder, _, _ = relay
    bound: list[Socket] = []

    def opened(interface: str, address: str) -> Socket:
        bound.append(Socket(interface, address))
        return bound[-1]

    monkeypatch.setattr(manager, "ProbeSocket", opened)
    monkeypatch.setattr("socket.if_nametoindex", lambda _name: 7)
    for number in (0, 0, 4):
        finder.update(view_of(peer(0)._replace(addresses=peer(number).addresses)), None)
        finder._open_sockets()
    now = [each.address for each in bound if each.interface == "jwunone" and not each.closed]
    assert now == [peer(4).addresses[0]]
    assert [each.address for each in bound] == [peer(0).addresses[0], peer(4).addresses[0]]


def test_a_peer_that_fell_silent_asks_for_a_look_at_the_interface(
    relay: tuple[PathManager, Plane, Relays], monkeypatch: pytest.MonkeyPatch
) -> None:
    finder, _, _ = relay
    asked: list[None] = []
    finder.request_repair = lambda: asked.append(None)
    lines = [[(logging.WARNING, "node1 is silent since 14:03:11")], [(logging.INFO, "node1 is back")]]
    monkeypatch.setattr(Silences, "observe", lambda *_: lines.pop(0))
    turn(finder)
    turn(finder)
    assert len(asked) == 1
