# SPDX-License-Identifier: GPL-3.0-or-later
"""The findings of the doctor on a healthy node, and on nodes with one fault each."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import JaywalkError
from jaywalk.core.runner import NamespaceRunner, SubprocessRunner
from jaywalk.wireguard import keys
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.models import Peer
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane.interface import DataPlane
from jaywalk_agent.doctor import run
from jaywalk_agent.doctor.context import BAD, GOOD, WARNING, Finding
from jaywalk_agent.zone import snapshot
from tests.agent_support import config_in, peer, view_of
from tests.netns import Namespace
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing

pytestmark = pytest.mark.wireguard


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwu-doctor")


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    return config_in(tmp_path, interface="jwudoc0", listen_port="51998", local_endpoint_ip="192.0.2.1")


def findings_of(config: AgentConfig, inside: Namespace) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in run.examine(config, inside.runner):
        found.setdefault(finding.about, []).append(finding)
    return found


def joined(config: AgentConfig, *others: Peer, **fields: object) -> None:
    """Writes the snapshot of a zone with this node."""
    public = keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))[0]
    own = peer(0)._replace(key=public, **fields)  # type: ignore[arg-type]
    snapshot.save(config.snapshot_file, view_of(own, *others))


def test_a_machine_that_never_joined_gets_a_finding_for_each_missing_part(
    config: AgentConfig, inside: Namespace
) -> None:
    found = findings_of(config, inside)
    assert {about: findings[0].grade for about, findings in found.items()} == {
        "key": BAD,
        "agent": BAD,
        "zone": BAD,
        "controller": BAD,
        "interface": BAD,
        "addresses": BAD if not found["addresses"][0].sentence.startswith("the source addresses") else GOOD,
        "nat": WARNING,
    }
    assert "no private key" in found["key"][0].sentence
    assert "no controller was named" in found["controller"][0].sentence
    assert "nothing follows zone zone-blue" in found["agent"][0].sentence


def test_a_key_that_others_may_read_is_bad(config: AgentConfig, inside: Namespace) -> None:
    keys.ensure_key_file(SubprocessRunner(), str(config.private_key_file))
    config.private_key_file.chmod(0o644)
    assert "mode 0644" in findings_of(config, inside)["key"][0].sentence


def test_a_controller_without_a_supervisor_is_bad(
    config: AgentConfig, inside: Namespace, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        config,
        controller=f"{redis_server.host}:{redis_server.port}",
        controller_user="agent-zone-blue",
        controller_password=AGENT_PASSWORD,
    )
    joined(config)
    with committing(redis_server.address):
        assert [finding.grade for finding in findings_of(config, inside)["controller"]] == [GOOD, GOOD]
    monkeypatch.setattr(run, "ANSWER_SECONDS", 0.5)
    alone = findings_of(config, inside)["controller"]
    assert [finding.grade for finding in alone] == [GOOD, BAD]
    assert "no supervisor answered" in alone[1].sentence


def test_the_interface_that_has_the_listen_port_is_named(config: AgentConfig, inside: Namespace) -> None:
    file = config.private_key_file
    keys.ensure_key_file(SubprocessRunner(), str(file))
    inside.run(["wireguard-go", "jwudoc1"])
    inside.run(["wg", "set", "jwudoc1", "listen-port", "51998"])
    assert "UDP port 51998 belongs to jwudoc1" in findings_of(config, inside)["interface"][0].sentence


@pytest.mark.parametrize(
    ("fields", "grade", "words"),
    [
        ({"fixed": True, "endpoint": "192.0.2.1:51820"}, GOOD, "the operator declared"),
        (
            {"observed": "203.0.113.7:4711"},
            GOOD,
            "behind a NAT, and open peers observe this node at 203.0.113.7:4711",
        ),
        ({"observed": "203.0.113.7:1", "symmetric": True}, WARNING, "the zone has no relay"),
        ({}, WARNING, "no open peer answers"),
    ],
)
def test_the_nat_finding_follows_the_endpoints_that_open_peers_observe(
    config: AgentConfig, inside: Namespace, fields: dict[str, object], grade: str, words: str
) -> None:
    joined(config, peer(1, endpoint="192.0.2.9:51820"), **fields)
    found = findings_of(config, inside)["nat"][0]
    assert found.grade == grade
    assert words in found.sentence


def test_the_finding_of_a_symmetric_nat_names_the_relays(config: AgentConfig, inside: Namespace) -> None:
    relay = peer(1, endpoint="192.0.2.9:51820", relay=51821)
    joined(config, relay, observed="203.0.113.7:1", symmetric=True)
    found = findings_of(config, inside)["nat"][0]
    assert "a relay carries pairs without a direct path (node1)" in found.sentence


def test_the_finding_of_an_unreachable_relay_names_the_ports_to_forward(
    config: AgentConfig, inside: Namespace
) -> None:
    config = replace(config, relay_port=51999)
    joined(config, endpoint="192.168.1.2:51998", observed="203.0.113.7:1", relay=51999)
    found = findings_of(config, inside)["relay"][0]
    assert found.grade == BAD
    assert "Forward UDP 51998 and 51999" in found.sentence


def test_text_and_json_have_the_same_findings() -> None:
    findings = [Finding(GOOD, "key", "fine"), Finding(WARNING, "nat", "symmetric")]
    assert run.healthy(findings)
    assert not run.healthy([*findings, Finding(BAD, "mtu", "too small")])
    assert json.loads(run.as_json(findings))["findings"][1]["about"] == "nat"
    assert run.as_text(findings).splitlines()[1].split() == ["warning", "nat", "symmetric"]


def test_routes_around_the_tunnel_and_disabled_ipv6_are_findings(
    config: AgentConfig, inside: Namespace
) -> None:
    joined(config, peer(1), peer(2, prefixes=("172.20.1.0/24",)))
    view = snapshot.load(config.snapshot_file, config.zone)
    assert view is not None
    public = keys.read_key_file(inside.runner, str(config.private_key_file))
    DataPlane(Linux(inside.runner), config.node(public)).apply(view)
    assert [finding.grade for finding in findings_of(config, inside)["routes"]] == [GOOD]
    inside.run(["ip", "route", "add", "blackhole", "10.20.0.2/32"])
    inside.run(["ip", "rule", "add", "to", "172.20.1.0/24", "prohibit"])
    peers, prefixes = findings_of(config, inside)["routes"]
    assert (peers.grade, prefixes.grade) == (BAD, WARNING)
    assert "node1 (10.20.0.2 nowhere)" in peers.sentence
    assert "node2 (172.20.1.0/24 nowhere)" in prefixes.sentence
    inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
    view.zone = replace(view.zone, pools=("10.20.0.0/20", "fd20::/64"))
    both = peer(0)._replace(key=public, addresses=("10.20.0.1", "fd20::1"))
    snapshot.save(config.snapshot_file, replace(view, peers={**view.peers, public: both}))
    found = findings_of(config, inside)["differences"]
    assert [finding.grade for finding in found] == [GOOD, WARNING]
    assert "IPv6 is left out of jwudoc0" in found[1].sentence


def test_userspace_wireguard_that_hangs_is_named_and_ends_the_examination(
    config: AgentConfig, inside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    joined(config, peer(1))
    inside.run(["wireguard-go", "jwudoc0"])
    program = next(
        int(file.parent.name)
        for file in Path("/proc").glob("[0-9]*/cmdline")
        if file.read_bytes() == b"wireguard-go\0jwudoc0\0"
    )
    os.kill(program, signal.SIGSTOP)
    try:
        runner = NamespaceRunner(SubprocessRunner(0.5), inside.name)
        last = run.examine(config, runner)[-1]
    finally:
        os.kill(program, signal.SIGCONT)
    assert (last.about, last.grade) == ("interface", BAD)
    assert "kill -s KILL jaywalk-wireguard-jwudoc0" in last.sentence


def test_a_snapshot_that_a_reboot_clears_is_a_warning(config: AgentConfig, inside: Namespace) -> None:
    joined(config)
    view = snapshot.load(config.snapshot_file, config.zone)
    assert view is not None
    config.snapshot_file.unlink()
    config.snapshot_file.mkdir()
    with pytest.raises(JaywalkError):
        snapshot.keep(config, view)
    assert [finding.grade for finding in findings_of(config, inside)["zone"]] == [GOOD, WARNING]
