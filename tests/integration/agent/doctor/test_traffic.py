# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor on two real nodes: every fault of their traffic is bad, and the doctor changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import CHECK, Request
from jaywalk.zone.view import Retained
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane.forwarding import Forwarding
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.doctor import peers, run
from jaywalk_agent.doctor.context import BAD, GOOD, WARNING, Finding
from jaywalk_agent.host import runtime_state
from jaywalk_agent.paths import ping
from jaywalk_agent.paths.ping import PingResult
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing
from tests.tunnel import Tunnel, tunnel

pytestmark = pytest.mark.wireguard


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tunnel]:
    """Two nodes that answer probes; the first one has the status file of a running agent."""
    monkeypatch.setattr(run, "SETTLE_SECONDS", 0.0)
    with tunnel(tmp_path, "jwudt") as made, ExitStack() as stack:
        made.up()
        config = made.one.config
        DataPlane(Linux(config.runner()), config.node(made.one.record.key)).apply(made.view)
        for end in (made.one, made.other):
            stack.enter_context(made.agent(end))
        stack.enter_context(runtime_state.only_one(made.one.config.lock_file, "zone-blue"))
        runtime_state.report(made.one.config.status_file, "")
        yield made


def found(pair: Tunnel) -> dict[str, list[Finding]]:
    listed: dict[str, list[Finding]] = {}
    for finding in run.examine(pair.one.config, pair.one.config.runner()):
        listed.setdefault(finding.about, []).append(finding)
    return listed


def bad(pair: Tunnel) -> dict[str, str]:
    """The bad findings, without those of the controller, which does not exist here."""
    return {
        about: finding.sentence
        for about, findings in found(pair).items()
        for finding in findings
        if finding.grade == BAD and about not in ("controller", "addresses")
    }


def test_two_nodes_with_traffic_have_no_bad_finding(pair: Tunnel) -> None:
    assert bad(pair) == {}
    assert found(pair)["peers"] == [Finding(GOOD, "peers", "1 of 1 peers answer now")]
    assert "equals the zone" in found(pair)["differences"][0].sentence


def test_a_removed_route_is_bad(pair: Tunnel) -> None:
    pair.one.where.run(["ip", "route", "del", "10.20.0.0/20", "dev", "jwudt0"])
    faults = bad(pair)
    assert "10.20.0.0/20" in faults["differences"]
    assert "peers" in faults


def test_disabled_forwarding_is_bad(pair: Tunnel) -> None:
    prefix = "192.0.2.0/24"
    own = pair.one.record._replace(prefixes=(prefix,))
    pair.view.peers[own.key] = own
    snapshot.save(pair.one.config.snapshot_file, pair.view)
    pair.one.config = replace(pair.one.config, forward=True)
    assert prefix in bad(pair)["forwarding"]
    forwarding = Forwarding(pair.one.where.runner, "jwudt0", enabled=True)
    forwarding.reconcile((prefix,))
    assert [finding.grade for finding in found(pair)["forwarding"]] == [GOOD]
    pair.one.where.run(["nft", "flush", "ruleset"])
    assert "insert rule" in bad(pair)["forwarding"] or "add table" in bad(pair)["forwarding"]


def test_a_link_that_is_down_is_bad(pair: Tunnel) -> None:
    pair.one.where.run(["ip", "link", "set", "dev", "jwudt0", "down"])
    faults = bad(pair)
    assert "jwudt0 is down" in faults["interface"]
    assert {"differences", "peers"} <= faults.keys()


def test_an_interface_with_another_key_is_bad(pair: Tunnel) -> None:
    other = pair.one.where.run(["wg", "genkey"])
    pair.one.where.run(["wg", "set", "jwudt0", "private-key", "/dev/stdin"], other)
    assert "another key" in bad(pair)["interface"]


def test_a_missing_interface_is_bad(pair: Tunnel) -> None:
    pair.one.where.run(["ip", "link", "del", "dev", "jwudt0"])
    faults = bad(pair)
    assert "does not exist" in faults["interface"]
    assert "peers" in faults


def test_a_peer_that_stopped_answering_a_moment_ago_is_named(pair: Tunnel) -> None:
    assert found(pair)["peers"][0].grade == GOOD
    pair.router.run(["ip", "link", "set", "dev", "link1", "down"])
    faults = bad(pair)
    assert "none of 1 peers answers now (node1)" in faults["peers"]
    assert "firewall" in faults["peers"]


def test_an_agent_that_waits_has_an_error_or_does_not_run_is_bad(
    pair: Tunnel, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime_state.report(pair.one.config.status_file, "no route")
    assert "no route" in bad(pair)["agent"]
    runtime_state.report(pair.one.config.status_file, "", waiting=True)
    assert "waits" in bad(pair)["agent"]
    monkeypatch.setattr(runtime_state, "is_running", lambda _: False)
    assert "no agent runs" in bad(pair)["agent"]


def test_a_node_that_the_zone_does_not_list_is_bad(pair: Tunnel) -> None:
    del pair.view.peers[pair.one.record.key]
    snapshot.save(pair.one.config.snapshot_file, pair.view)
    assert "does not list this node's key" in bad(pair)["zone"]


def test_silent_peers_are_named_up_to_ten_and_counted(pair: Tunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    results = [PingResult(str(number), f"n{number}", "", "none", "", 0, 3, (), False) for number in range(12)]
    results += [PingResult("a", "a", "", "relayed", "hub", 0, 3, (0.1,), True)]
    results[0] = replace(results[0], error="no endpoint of this peer is known")
    monkeypatch.setattr(ping, "probe_peers", lambda *_, **__: results)
    answering, silent = found(pair)["peers"]
    assert answering == Finding(GOOD, "peers", "1 of 13 peers answer now, 1 of them by a relay")
    assert silent.sentence == (
        "12 of 13 peers do not answer now: n0 (no endpoint of this peer is known), "
        + ", ".join(f"n{number}" for number in range(1, peers.MAX_NAMED))
        + " and 2 more"
    )


def test_peers_that_the_controller_lost_are_a_warning(pair: Tunnel) -> None:
    pair.view.retained[pair.other.record.key] = Retained(6, 0.0)
    snapshot.save(pair.one.config.snapshot_file, pair.view)
    assert found(pair)["peers"][1].grade == WARNING
    assert "node1" in found(pair)["peers"][1].sentence


@pytest.fixture
def member(tmp_path: Path, redis_server: RedisServer) -> AgentConfig:
    """A node that joined from another machine than the doctor's."""
    config = config_in(
        tmp_path,
        controller=f"{redis_server.host}:{redis_server.port}",
        controller_password=AGENT_PASSWORD,
        local_endpoint_ip="192.0.2.77",
        interface="jwudtx0",
    )
    public, _ = keys.ensure_key_file(config.runner(), str(config.private_key_file))
    with committing(redis_server.address):
        zone = ZoneClient(connect(redis_server.address), redis_server.address, "zone-blue")
        join = Request.validated(
            "join", "zone-blue", public, endpoint="192.0.2.1:51820", machine_id="01234567"
        )
        zone.ask(join, 20).lease_or_raise()
        snapshot.save(config.snapshot_file, zone.snapshot())
    return config


def test_the_doctor_of_a_clone_changes_nothing_in_the_zone(
    member: AgentConfig, redis_server: RedisServer
) -> None:
    redis: Any = connect(redis_server.address)
    names = ZoneKeys("zone-blue")
    kept = (names.meta, names.peers, names.events, names.leases, names.last_seen)
    with committing(redis_server.address):
        request = Request.validated(CHECK, "zone-blue", member.existing_key(member.runner()))
        assert ZoneClient(redis, redis_server.address, "zone-blue").ask(request, 20).ok
        before = [redis.dump(name) for name in kept]
        findings = run.examine(member, member.runner())
        after = [redis.dump(name) for name in kept]
    assert [finding.grade for finding in findings if finding.about == "controller"] == [GOOD, GOOD]
    assert before == after
