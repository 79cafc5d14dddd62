# SPDX-License-Identifier: GPL-3.0-or-later
"""Peers that are asked live: those that answer, those without an agent, those that are dead, black holes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk_agent.paths import icmp_echo, path_status
from jaywalk_agent.paths.path_status import PathStatus
from jaywalk_agent.paths.ping import PingResult, Probe, ask_peers, largest_passing
from tests.agent_support import peer
from tests.tunnel import POOL6, Tunnel, drop_larger_than, tunnel

MTU = 1420


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Tunnel]:
    with tunnel(tmp_path, "jwup") as made:
        made.up()
        yield made


def asked(pair: Tunnel, size: int = 0, timeout: float = 8.0) -> PingResult:
    # The first question waits for a handshake, which on a busy machine takes its time.
    one, keys = pair.one, [pair.other.record.key]
    return ask_peers(one.config, pair.view, one.record, keys, size=size, count=1, timeout=timeout)[0]


@pytest.mark.wireguard
def test_a_peer_with_an_agent_answers_and_one_without_is_told_from_a_dead_one(pair: Tunnel) -> None:
    with pair.agent(pair.other):
        answer = asked(pair)
        assert (answer.path, answer.agent, answer.lost, answer.name) == ("direct", True, 0, "node1")
        assert answer.round_trips[0] > 0
    answer = asked(pair)
    assert (answer.path, answer.agent) == ("direct", False)
    pair.other.where.run(["ip", "link", "set", "dev", pair.other.config.interface, "down"])
    answer = asked(pair, timeout=0.5)
    assert (answer.path, answer.answers, answer.lost) == ("none", False, 1)


@pytest.mark.wireguard
def test_a_relayed_peer_is_said_to_be_by_the_name_of_its_relay(pair: Tunnel) -> None:
    relay = peer(7)
    pair.view.peers[relay.key] = relay
    path_status.save(
        pair.one.config.paths_file, {pair.other.record.key: PathStatus("relayed", relay.key, "", 0)}
    )
    answer = asked(pair)
    assert (answer.path, answer.relay) == ("relayed", "node7")


@pytest.mark.wireguard
def test_a_black_hole_is_found_and_so_is_the_largest_size_that_passes(pair: Tunnel) -> None:
    with pair.agent(pair.other):
        assert asked(pair, size=MTU).answers
        drop_larger_than(pair.router, 1300)
        assert asked(pair).answers
        assert not asked(pair, size=MTU, timeout=0.5).answers
        key = pair.other.record.key
        with_agent = largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU)
    # WireGuard pads what it seals to 16 bytes, and adds 60 to it over IPv4.
    assert with_agent == {key: 1232}
    assert largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU) == with_agent


@pytest.mark.wireguard
def test_a_packet_larger_than_the_own_interface_is_said_to_be(pair: Tunnel) -> None:
    answer = asked(pair, size=MTU + 1)
    assert not answer.answers
    assert "larger than the MTU" in answer.error


@pytest.mark.wireguard
def test_a_peer_with_a_smaller_interface_answers_with_what_it_can_send(pair: Tunnel) -> None:
    pair.make(pair.other, 1300)
    with pair.agent(pair.other):
        answer = asked(pair, size=MTU)
    assert (answer.answers, answer.agent) == (True, True)


@pytest.mark.wireguard
def test_peers_are_asked_over_ipv6_alone(tmp_path: Path) -> None:
    with tunnel(tmp_path, "jwus", version=6, pools=(POOL6,)) as pair:
        pair.up()
        assert asked(pair).agent is False
        with pair.agent(pair.other):
            assert asked(pair, size=MTU).agent is True
        drop_larger_than(pair.router, 1400)
        key = pair.other.record.key
        found = largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU)
        assert found == {key: 1312}


@pytest.mark.wireguard
def test_a_node_whose_interface_is_gone_is_told_so(tmp_path: Path) -> None:
    with tunnel(tmp_path, "jwug") as pair, pytest.raises(JaywalkError, match="start the agent"):
        asked(pair)


def test_an_echo_that_is_not_ours_is_no_answer() -> None:
    data = icmp_echo.request(6, b"tag1", 3, b"markmark", 64)
    reply = bytes([129]) + data[1:]
    assert icmp_echo.answer(6, reply, b"tag1") == b"markmark".ljust(64, b"\0")
    assert icmp_echo.answer(6, reply, b"else") is None
    assert icmp_echo.answer(6, data, b"tag1") is None
    assert icmp_echo.answer(4, b"\x45", b"tag1") is None


def test_an_agent_is_waited_for_a_little_longer_than_its_kernel() -> None:
    probe = Probe("10.20.0.2", 0, sent=1.0)
    assert not probe.settled(2.9, timeout=2.0)
    assert probe.settled(3.0, timeout=2.0)
    probe.kernel = 0.1
    assert not probe.settled(2.0, timeout=2.0)
    assert probe.settled(2.2, timeout=2.0)
    probe.agent = 0.3
    assert probe.settled(1.3, timeout=2.0)
    assert probe.round_trip == 0.1
