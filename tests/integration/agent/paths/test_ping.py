# SPDX-License-Identifier: GPL-3.0-or-later
"""Probes of peers: with an agent, without one, dead, and behind a path that drops large packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk_agent.paths import icmp_echo, path_status
from jaywalk_agent.paths.path_status import PathStatus
from jaywalk_agent.paths.ping import PingResult, Probe, largest_passing, probe_peers
from tests.agent_support import peer
from tests.tunnel import POOL6, Tunnel, drop_larger_than, tunnel

MTU = 1420


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Tunnel]:
    with tunnel(tmp_path, "jwup") as made:
        made.up()
        yield made


def probe(pair: Tunnel, size: int = 0, timeout: float = 8.0) -> PingResult:
    # The first probe waits for a handshake, which is slow on a busy machine.
    one, keys = pair.one, [pair.other.record.key]
    return probe_peers(one.config, pair.view, one.record, keys, size=size, count=1, timeout=timeout)[0]


@pytest.mark.wireguard
def test_a_peer_with_an_agent_one_without_and_a_dead_one_are_distinguished(pair: Tunnel) -> None:
    with pair.agent(pair.other):
        result = probe(pair)
        assert (result.path, result.agent, result.lost, result.name) == ("direct", True, 0, "node1")
        assert result.round_trips[0] > 0
    result = probe(pair)
    assert (result.path, result.agent) == ("direct", False)
    pair.other.where.run(["ip", "link", "set", "dev", pair.other.config.interface, "down"])
    result = probe(pair, timeout=0.5)
    assert (result.path, result.answers, result.lost) == ("none", False, 1)


@pytest.mark.wireguard
def test_the_result_of_a_relayed_peer_names_its_relay(pair: Tunnel) -> None:
    relay = peer(7)
    pair.view.peers[relay.key] = relay
    path_status.save(
        pair.one.config.paths_file, {pair.other.record.key: PathStatus("relayed", relay.key, "", 0)}
    )
    result = probe(pair)
    assert (result.path, result.relay) == ("relayed", "node7")


@pytest.mark.wireguard
def test_a_black_hole_and_the_largest_size_that_passes_are_found(pair: Tunnel) -> None:
    with pair.agent(pair.other):
        assert probe(pair, size=MTU).answers
        drop_larger_than(pair.router, 1300)
        assert probe(pair).answers
        assert not probe(pair, size=MTU, timeout=0.5).answers
        key = pair.other.record.key
        with_agent = largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU)
    # WireGuard pads the inner packet to 16 bytes, and adds 60 bytes over IPv4.
    assert with_agent == {key: 1232}
    assert largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU) == with_agent


@pytest.mark.wireguard
def test_a_packet_larger_than_the_own_interface_is_reported(pair: Tunnel) -> None:
    result = probe(pair, size=MTU + 1)
    assert not result.answers
    assert "larger than the MTU" in result.error


@pytest.mark.wireguard
def test_a_peer_with_a_smaller_interface_sends_a_shorter_reply(pair: Tunnel) -> None:
    pair.make(pair.other, 1300)
    with pair.agent(pair.other):
        result = probe(pair, size=MTU)
    assert (result.answers, result.agent) == (True, True)


@pytest.mark.wireguard
def test_a_zone_of_ipv6_alone_is_probed(tmp_path: Path) -> None:
    with tunnel(tmp_path, "jwus", version=6, pools=(POOL6,)) as pair:
        pair.up()
        assert probe(pair).agent is False
        with pair.agent(pair.other):
            assert probe(pair, size=MTU).agent is True
        drop_larger_than(pair.router, 1400)
        key = pair.other.record.key
        found = largest_passing(pair.one.config, pair.view, pair.one.record, [key], MTU)
        assert found == {key: 1312}


@pytest.mark.wireguard
def test_a_node_without_its_interface_gets_an_error_with_a_remedy(tmp_path: Path) -> None:
    with tunnel(tmp_path, "jwug") as pair, pytest.raises(JaywalkError, match="start the agent"):
        probe(pair)


def test_echo_replies_to_other_programs_are_ignored() -> None:
    data = icmp_echo.request(6, b"tag1", 3, b"markmark", 64)
    packet = bytes([129]) + data[1:]
    assert icmp_echo.reply(6, packet, b"tag1") == b"markmark".ljust(64, b"\0")
    assert icmp_echo.reply(6, packet, b"else") is None
    assert icmp_echo.reply(6, data, b"tag1") is None
    assert icmp_echo.reply(4, b"\x45", b"tag1") is None


def test_a_probe_waits_for_the_agent_a_little_longer_than_for_the_kernel() -> None:
    sent = Probe("10.20.0.2", 0, sent=1.0)
    assert not sent.finished(2.9, timeout=2.0)
    assert sent.finished(3.0, timeout=2.0)
    sent.kernel = 0.1
    assert not sent.finished(2.0, timeout=2.0)
    assert sent.finished(2.2, timeout=2.0)
    sent.agent = 0.3
    assert sent.finished(1.3, timeout=2.0)
    assert sent.round_trip == 0.1
