# SPDX-License-Identifier: GPL-3.0-or-later
"""``jaywalk status`` for each state of a node."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import SubprocessRunner
from jaywalk.service.version import installed_version
from jaywalk.wireguard import routes
from jaywalk.wireguard.interface import Interface, ObservedPeer
from jaywalk.wireguard.linux import Linux
from jaywalk_agent.cli import status as status_command
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.host import runtime_state
from jaywalk_agent.paths import path_status
from jaywalk_agent.paths.path_status import PathStatus
from jaywalk_agent.status import report
from jaywalk_agent.status import text as status_text
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.strategies import key
from tests.zone_model import ModelInterface

NOW = 1_000_000.0


class Host(ModelInterface):
    """A model of the interface and of the host's programs; ``device`` is the route of packets to peers."""

    device = "wg0"

    def observe(self, name: str) -> object:
        return self.observed()


@pytest.fixture
def member(tmp_path: Path) -> AgentConfig:
    """A node whose snapshot holds itself and three peers."""
    config = config_in(tmp_path)
    public = config.own_key(SubprocessRunner())
    own = peer(0, endpoint="192.0.2.10:51820")._replace(key=public)
    snapshot.save(config.snapshot_file, view_of(own, *map(peer, (1, 2, 3)), rev=9))
    return config


def gathered(config: AgentConfig, host: Host) -> dict[str, object]:
    with (
        mock.patch.object(Linux, "observe", host.observe),
        mock.patch.object(Linux, "local_networks", return_value=[]),
        mock.patch.object(Linux, "require_wireguard"),
        mock.patch.object(Linux, "path_mtus", return_value={}),
        mock.patch.object(routes, "devices_to", lambda _, hosts: dict.fromkeys(hosts, host.device)),
    ):
        return report.gather(config, SubprocessRunner(), NOW)


def up(config: AgentConfig) -> Host:
    """The interface that equals the snapshot."""
    host = Host()
    view = snapshot.load(config.snapshot_file, config.zone)
    assert view is not None
    with mock.patch.object(Linux, "observe", host.observe):
        plane = DataPlane(Linux(SubprocessRunner()), config.node(config.own_key(SubprocessRunner())))
        with (
            mock.patch.object(Linux, "local_networks", return_value=[]),
            mock.patch.object(Linux, "require_wireguard"),
            mock.patch.object(Linux, "path_mtus", return_value={}),
            mock.patch.object(Linux, "listen_ports", return_value={}),
        ):
            desired, steps = plane.plan(view)
    assert isinstance(desired, Interface)
    host.key_files = {desired.private_key_file: desired.public_key}
    Linux(host).apply(steps)
    return host


def test_before_the_first_join_the_error_names_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(JaywalkError, match=r"has not joined zone zone-blue.*jaywalk-agent@zone-blue"):
        report.gather(config_in(tmp_path, interface="jwunone0"), SubprocessRunner())


def test_json_has_the_reason_of_a_node_without_a_zone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(tmp_path, interface="jwunone0")
    arguments = argparse.Namespace(watch=None, wait=0.0, json=True, bad=False)
    with runtime_state.only_one(config.lock_file, "zone-blue"):
        runtime_state.report(
            config.status_file, "superseded: the key of this node joined from another machine"
        )
        assert status_command.run(config, arguments) == 1
    document = json.loads(capsys.readouterr().out)
    [reason] = document["reasons"]
    assert reason.startswith("this node is not in zone zone-blue: superseded: the key of this node joined")
    assert (document["in_order"], document["peers"], document["position"]) == (False, [], "")


def test_before_the_first_join_it_shows_the_error_of_the_running_agent(tmp_path: Path) -> None:
    config = config_in(tmp_path, interface="jwunone0")
    with runtime_state.only_one(config.lock_file, "zone-blue"):
        runtime_state.report(config.status_file, "no supervisor has answered yet")
        with pytest.raises(JaywalkError, match="no supervisor has answered yet"):
            report.gather(config, SubprocessRunner())


def test_a_removed_snapshot_is_distinguished_from_a_node_that_never_joined(tmp_path: Path) -> None:
    config = config_in(tmp_path, interface="jwunone0")
    with runtime_state.only_one(config.lock_file, "zone-blue"):
        runtime_state.report(config.status_file, "the controller cannot be reached", joined=True)
        with pytest.raises(JaywalkError, match=r"removed or damaged .*zone-blue\.json.*within a minute"):
            report.gather(config, SubprocessRunner())


def test_an_interface_that_equals_the_zone_is_in_order(member: AgentConfig) -> None:
    host = up(member)
    shown = gathered(member, host)
    assert shown["differences"] == []
    assert shown["wireguard"] == "kernel"
    assert shown["addresses"] == ["10.20.0.1"]
    assert shown["position"] == "7-9"
    assert shown["agent"] == {"running": False, "pid": None, "trouble": "", "waiting": False}
    assert (shown["mtu"], shown["listen_port"], shown["up"]) == (host.mtu, 51820, True)
    assert shown["version"] == installed_version()
    assert shown["reasons"] == ["no agent follows zone zone-blue"]


def test_a_missing_interface_is_a_reason(member: AgentConfig) -> None:
    shown = gathered(member, Host())
    assert shown["wireguard"] == ""
    assert "wg0 (down)" in status_text.text(shown)
    assert "the interface wg0 does not exist" in status_text.summary(shown)
    assert {entry["state"] for entry in shown["peers"]} == {"missing"}  # type: ignore[attr-defined]


def test_each_peer_has_its_state(member: AgentConfig) -> None:
    host = up(member)
    del host.peers[key(3)]
    host.peers[key(1)].handshake = int(NOW) - 12
    host.peers[key(1)].endpoint = "198.51.100.7:4000"
    shown = gathered(member, host)
    states = {entry["name"]: entry["state"] for entry in shown["peers"]}  # type: ignore[attr-defined]
    assert states == {"node1": "connected", "node2": "never", "node3": "missing"}
    table = status_text.text(shown)
    assert "12 s ago" in table
    assert "198.51.100.7:4000" in table
    assert f"wg set wg0 peer {key(3)}" in table
    host.peers[key(1)].handshake = int(NOW) - 181
    assert gathered(member, host)["peers"][0]["state"] == "silent"  # type: ignore[index]


def test_a_running_agent_is_shown_with_its_error(member: AgentConfig) -> None:
    runtime_state.report(member.status_file, "the controller cannot be reached")
    host = up(member)
    assert not gathered(member, host)["agent"]["running"]  # type: ignore[index]
    with runtime_state.only_one(member.lock_file, "zone-blue"):
        table = status_text.text(gathered(member, host))
    assert "running, pid" in table
    assert "the controller cannot be reached" in table


def test_no_private_key_is_in_it(member: AgentConfig) -> None:
    text = json.dumps(gathered(member, up(member)))
    assert member.private_key_file.read_text().strip() not in text


def test_the_path_status_of_an_ended_agent_requires_a_session(member: AgentConfig) -> None:
    host = up(member)
    ends = {1: ("direct", ""), 2: ("relayed", key(3)), 3: ("direct", "")}
    found = {key(n): PathStatus(path, relay, "", 25) for n, (path, relay) in ends.items()}
    path_status.save(member.paths_file, found)

    def paths() -> list[str]:
        return [entry["path"] for entry in gathered(member, host)["peers"]]  # type: ignore[attr-defined]

    with runtime_state.only_one(member.lock_file, "zone-blue"):
        assert paths() == ["direct", "relayed", "direct"]
    assert paths() == ["none", "none", "none"]
    host.peers[key(3)].handshake = int(NOW) - 12
    assert paths() == ["none", "relayed", "direct"]


def test_traffic_is_counted(member: AgentConfig) -> None:
    host = up(member)
    observed = host.observed()
    assert observed is not None
    counted_peer = ObservedPeer(key(1), ("10.20.0.2/32",), "", 25, int(NOW) - 3, received=124, sent=180)
    counted = replace(observed, peers={**observed.peers, key(1): counted_peer})
    with mock.patch.object(host, "observed", return_value=counted):
        first = gathered(member, host)["peers"][0]  # type: ignore[index]
    assert (first["received"], first["sent"]) == (124, 180)


def test_a_route_around_the_tunnel_is_a_difference(member: AgentConfig) -> None:
    host = up(member)
    host.device = "eth0"
    shown = gathered(member, host)["differences"]
    assert isinstance(shown, list) and "elsewhere than into wg0: node" in shown[0] and "by eth0" in shown[0]


def test_in_order_requires_a_running_agent_an_answer_and_an_equal_interface(member: AgentConfig) -> None:
    host = up(member)
    assert not gathered(member, host)["in_order"], "no agent runs"
    with runtime_state.only_one(member.lock_file, "zone-blue"):
        assert not gathered(member, host)["in_order"], "the agent has not reported yet"
        runtime_state.report(member.status_file, "", waiting=True)
        assert not gathered(member, host)["in_order"], "the zone has not answered yet"
        runtime_state.report(member.status_file, "the zone refused a request: taken")
        assert not gathered(member, host)["in_order"]
        runtime_state.report(member.status_file, "")
        assert gathered(member, host)["in_order"]
        del host.peers[key(1)]
        assert not gathered(member, host)["in_order"]
