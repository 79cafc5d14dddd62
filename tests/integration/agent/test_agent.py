# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole agent on a real interface, with a real controller and a simulated systemd."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from redis.backoff import FullJitterBackoff

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import (
    CommandFailed,
    ControllerUnreachable,
    InvalidValue,
    JaywalkError,
    RequestRefused,
)
from jaywalk.wireguard.linux import Linux
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_agent import config as config_module
from jaywalk_agent.agent import Agent
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane import repair
from jaywalk_agent.host import runtime_state
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.status import report as status
from jaywalk_agent.zone import follower, membership, snapshot
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.store.store import Store
from tests.agent_support import config_in, run
from tests.faulty_server import Behaviour, faulty_server, sends, trickles
from tests.netns import Namespace
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing, join, key_of, until

pytestmark = pytest.mark.wireguard

KEYS = ZoneKeys("zone-blue")
INTERFACE = "jwuagent0"


@dataclass
class Systemd:
    """Receives the notifications of a service."""

    path: Path
    received: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.link.bind(str(self.path))
        self.link.settimeout(120)

    def wait_for(self, text: str) -> None:
        while not any(text in line for line in self.received):
            self.received += self.link.recv(4096).decode().splitlines()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(made.path))
    yield made
    made.link.close()


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwu-agent")


@pytest.fixture
def config(tmp_path: Path, redis_server: RedisServer) -> AgentConfig:
    return config_in(
        tmp_path,
        interface=INTERFACE,
        controller=f"{redis_server.host}:{redis_server.port}",
        controller_password=AGENT_PASSWORD,
        local_endpoint_ip="192.0.2.10",
    )


@pytest.fixture
def supervisor(redis_server: RedisServer) -> Iterator[None]:
    with committing(redis_server.address):
        yield


def operator(server: RedisServer) -> ZoneClient:
    return ZoneClient(connect(server.address), server.address, "zone-blue")


def peers(inside: Namespace) -> set[str]:
    return set(inside.run(["wg", "show", INTERFACE, "peers"]).split())


@pytest.mark.usefixtures("supervisor")
@pytest.mark.kernel_wireguard
def test_is_ready_when_the_interface_is_and_leaves_it_up(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    agent = Agent(config, inside.runner, stop)

    def act() -> None:
        systemd.wait_for("READY=1")
        assert "10.20.0.1/20" in inside.run(["ip", "addr", "show", "dev", INTERFACE])
        kept = snapshot.load(config.snapshot_file, "zone-blue")
        assert kept is not None
        assert agent.public_key in kept.peers
        operator(redis_server).ask(join("zone-blue", 1), 20)
        until(lambda: key_of(1) in peers(inside))
        until(lambda: key_of(1) in config.snapshot_file.read_text())
        systemd.wait_for("STATUS=")
        systemd.wait_for("WATCHDOG=1")

    run(agent, act)
    assert peers(inside) == {key_of(1)}
    states = [line for line in systemd.received if line.startswith("STATUS=")]
    assert states[-1] == "STATUS=following zone zone-blue"
    assert systemd.received.count("READY=1") == 1


@pytest.mark.parametrize("conduct", [trickles(0.2), sends(b"*1000000000\r\n")])
def test_the_watchdog_is_fed_with_a_slow_or_broken_controller(
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    conduct: Behaviour,
) -> None:
    monkeypatch.setattr(config_module, "READ_TIMEOUT_SECONDS", 1.0)
    monkeypatch.setattr(follower, "RECONNECT", FullJitterBackoff(cap=0.2, base=0.1))
    with faulty_server(conduct) as server:
        agent = Agent(replace(config, controller=str(server.address)), inside.runner, stop)

        def act() -> None:
            for tries in range(1, 4):
                until(lambda tries=tries: server.connections >= tries)
                systemd.received.clear()
                systemd.wait_for("WATCHDOG=1")
            until(lambda: "is it Redis? Check what listens there" in agent.follower.membership.error)

        run(agent, act)


@pytest.mark.usefixtures("supervisor")
def test_an_address_that_went_to_another_node_is_logged(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent(config, inside.runner, stop)

    def act() -> None:
        systemd.wait_for("READY=1")
        operator(redis_server).ask(join("zone-blue", 1, request_ip=["10.20.0.1"]), 20)
        until(lambda: "this node lost 10.20.0.1 to peer node1, and has " in caplog.text)

    run(agent, act)


@pytest.mark.usefixtures("supervisor")
def test_on_a_full_disk_commands_have_the_copy_of_the_running_agent(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    agent = Agent(config, inside.runner, stop)
    config.snapshot_file.mkdir()

    def shown() -> dict[str, Any]:
        return status.gather(config, inside.runner)

    def act() -> None:
        systemd.wait_for("READY=1")
        operator(redis_server).ask(join("zone-blue", 1), 20)
        until(lambda: [each["public_key"] for each in shown()["peers"]] == [key_of(1)])
        until(lambda: not shown()["agent"]["trouble"])
        assert shown()["addresses"] == ["10.20.0.1", "fd00:20::1"]
        config.snapshot_file.rmdir()
        operator(redis_server).ask(join("zone-blue", 2), 20)
        until(lambda: config.snapshot_file.is_file() and not config.volatile_snapshot_file.exists())

    with runtime_state.only_one(config.lock_file, config.zone):
        run(agent, act)


@pytest.mark.usefixtures("supervisor")
def test_removed_files_are_restored_and_no_second_agent_starts(
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(repair, "POLL_SECONDS", 0.1)
    monkeypatch.setattr(follower, "TICK_SECONDS", 1.0)

    def act() -> None:
        systemd.wait_for("READY=1")
        until(config.interface_file.exists)
        config.run_dir.rename(config.run_dir.with_name("removed"))
        config.snapshot_file.unlink()
        until(lambda: runtime_state.is_running(config.lock_file))
        files = config.interface_file, config.status_file, config.paths_file, config.snapshot_file
        until(lambda: all(each.exists() for each in files))
        until(lambda: bool(status.gather(config, inside.runner)["in_order"]))
        config.snapshot_file.write_text("{", encoding="utf-8")
        until(lambda: snapshot.load(config.snapshot_file, "zone-blue") is not None)
        assert "zone-blue.lock: made it anew" in caplog.text

    with runtime_state.only_one(config.lock_file, config.zone) as lock:
        run(Agent(config, inside.runner, stop, lock), act)


@pytest.mark.usefixtures("supervisor")
def test_a_member_without_its_password_file_follows_the_zone_as_its_own_user(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    tmp_path: Path,
) -> None:
    Agent(config, inside.runner, stop).up(20)
    inside.run(["ip", "link", "delete", INTERFACE])
    config = replace(config, controller_password="", controller_password_file=str(tmp_path / "gone"))

    def act() -> None:
        systemd.wait_for("READY=1")
        assert "10.20.0.1/20" in inside.run(["ip", "addr", "show", "dev", INTERFACE])
        operator(redis_server).ask(join("zone-blue", 1), 20)
        until(lambda: key_of(1) in peers(inside))
        assert trouble_of(config) == ""

    run(Agent(config, inside.runner, stop), act)


@pytest.mark.usefixtures("supervisor")
def test_a_normalised_prefix_is_logged(
    inside: Namespace, stop: StopSignal, config: AgentConfig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    note = "the child prefix 172.20.1.9/24 is taken as its network 172.20.1.0/24"
    odd = replace(config, child_prefixes=("172.20.1.9/24",))
    reply = Agent(odd, inside.runner, stop).up(20)
    assert (reply.prefixes, reply.notes) == (("172.20.1.0/24",), (note,))
    run(Agent(odd, inside.runner, stop), lambda: until(lambda: note in caplog.messages))


def test_comes_up_from_its_snapshot_without_a_controller(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    with committing(redis_server.address):
        operator(redis_server).ask(join("zone-blue", 1), 20)
        Agent(config, inside.runner, stop).up(20)
    inside.run(["ip", "link", "delete", INTERFACE])
    redis_server.stop()

    def act() -> None:
        systemd.wait_for("READY=1")
        assert peers(inside) == {key_of(1)}
        systemd.wait_for("cannot be reached")
        report = runtime_state.Report.read(config.status_file)
        assert report is not None and "cannot be reached" in report.trouble

    run(Agent(config, inside.runner, stop), act)
    assert peers(inside) == {key_of(1)}


@pytest.mark.usefixtures("supervisor")
def test_a_failed_update_is_retried(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    def act() -> None:
        systemd.wait_for("READY=1")
        with mock.patch("jaywalk.wireguard.wg.set_many", side_effect=CommandFailed(["wg", "set"], 1, "busy")):
            operator(redis_server).ask(join("zone-blue", 1), 20)
            systemd.wait_for("busy")
        until(lambda: key_of(1) in peers(inside))
        systemd.received.clear()
        systemd.wait_for("STATUS=following")

    run(Agent(config, inside.runner, stop), act)


@pytest.mark.usefixtures("supervisor")
@pytest.mark.kernel_wireguard
def test_a_deleted_route_is_restored(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "TICK_SECONDS", 0.5)
    operator(redis_server).ask(join("zone-blue", 1, child_prefixes=["172.20.1.0/24"]), 20)

    def act() -> None:
        systemd.wait_for("READY=1")
        inside.run(["ip", "route", "del", "172.20.1.0/24"])
        until(lambda: "172.20.1.0/24" in inside.run(["ip", "route"]))

    run(Agent(config, inside.runner, stop), act)


@pytest.mark.usefixtures("supervisor")
def test_a_service_that_waits_for_an_approval_has_started_and_goes_on_once_approved(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in a zone that members of an older version still follow by its password."""
    monkeypatch.setattr(membership, "LONGEST_REPEAT_SECONDS", 0.2)
    store = Store.open(redis_server.address, "test")
    zones.change(store, "zone-blue", ZonePatch(admission="approval"))
    agent = Agent(config, inside.runner, stop)

    def act() -> None:
        systemd.wait_for("READY=1")
        systemd.wait_for(f"peer approve --zone zone-blue {agent.public_key}")
        assert "waiting for an operator's approval" in str(trouble_of(config))
        operator(redis_server).ask(
            Request.validated("reserve", "zone-blue", agent.public_key), 20, to=KEYS.operator_inbox
        )
        systemd.wait_for("STATUS=following zone zone-blue")

    run(agent, act)
    store.close()
    assert agent.membership.member
    assert systemd.received.count("READY=1") == 1


@pytest.mark.usefixtures("supervisor")
def test_a_removed_node_takes_its_tunnels_down(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    agent = Agent(config, inside.runner, stop)

    def act() -> None:
        systemd.wait_for("READY=1")
        operator(redis_server).ask(
            Request.validated("release", "zone-blue", agent.public_key), 20, to=KEYS.operator_inbox
        )
        systemd.wait_for("was removed from zone zone-blue")

    run(agent, act)
    assert INTERFACE not in inside.run(["ip", "link"])
    assert not config.snapshot_file.exists()


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize("way", ["up", "run"])
@pytest.mark.parametrize(
    "conflict", ["network", pytest.param("interface", marks=pytest.mark.kernel_wireguard), "tun"]
)
def test_what_this_machine_refuses_is_not_requested(
    way: str,
    conflict: str,
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if conflict == "network":
        inside.run(["ip", "addr", "add", "10.20.9.1/24", "dev", "lo"])
    elif conflict == "interface":
        Linux(inside.runner).create(INTERFACE)
        inside.run(["wg", "set", INTERFACE, "private-key", "/dev/stdin"], stdin=inside.run(["wg", "genkey"]))
    else:
        request.getfixturevalue("no_kernel_wireguard")
        monkeypatch.setattr("jaywalk.wireguard.userspace.TUN", "/nonexistent/tun")
    before = inside.run(["ip", "-oneline", "link"])
    agent = Agent(config, inside.runner, stop)
    with pytest.raises(
        JaywalkError, match=r"overlaps 10\.20\.9\.0/24|in use with another key|tun is missing"
    ):
        agent.up(20) if way == "up" else agent.run()
    assert operator(redis_server).snapshot().peers == {}
    assert inside.run(["ip", "-oneline", "link"]) == before


@pytest.mark.usefixtures("supervisor")
@pytest.mark.parametrize("way", ["up", "run"])
def test_a_refused_join_leaves_no_interface(
    way: str,
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    tmp_path: Path,
) -> None:
    options = {"controller": config.controller, "controller_password": AGENT_PASSWORD, "interface": INTERFACE}
    agent = Agent(config_in(tmp_path, request_ip="192.0.2.7", **options), inside.runner, stop)
    with pytest.raises(RequestRefused, match=r"192\.0\.2\.7 lies outside"):
        agent.up(20) if way == "up" else agent.run()
    assert INTERFACE not in inside.run(["ip", "link"])
    assert not config.snapshot_file.exists()


def test_up_reports_an_unreachable_controller(inside: Namespace, stop: StopSignal, tmp_path: Path) -> None:
    options = {"controller": "127.0.0.1:1", "controller_password": "secret-word", "interface": INTERFACE}
    with pytest.raises(ControllerUnreachable, match=r"127\.0\.0\.1:1") as caught:
        Agent(config_in(tmp_path, **options), inside.runner, stop).up(20)
    assert "secret-word" not in str(caught.value)


@pytest.mark.usefixtures("supervisor")
def test_a_clock_that_was_set_back_does_no_harm(
    inside: Namespace, config: AgentConfig, stop: StopSignal
) -> None:
    with mock.patch("jaywalk.zone.requests.time.time_ns", return_value=time.time_ns() + 20 * 3600 * 10**9):
        Agent(config, inside.runner, stop).up(20)
    moved = config_in(
        config.state_dir,
        interface=INTERFACE,
        controller=config.controller,
        controller_password=AGENT_PASSWORD,
        local_endpoint_ip="192.0.2.77",
    )
    agent = Agent(moved, inside.runner, stop)
    agent.up(20)
    view = agent.follower.view
    assert view is not None
    assert view.peers[agent.public_key].endpoint == "192.0.2.77:51820"


@pytest.mark.usefixtures("supervisor")
def test_a_superseded_machine_takes_its_tunnels_down(
    redis_server: RedisServer, inside: Namespace, config: AgentConfig, stop: StopSignal, systemd: Systemd
) -> None:
    agent = Agent(config, inside.runner, stop)

    def act() -> None:
        systemd.wait_for("READY=1")
        other = Request.validated("join", "zone-blue", agent.public_key, machine_id="000000bb")
        of_other = operator(redis_server)
        of_other.prover = agent.login.prover
        assert of_other.ask(other, 20).addresses == ("10.20.0.1", "fd00:20::1")
        systemd.wait_for("superseded: the key of this node joined zone zone-blue from another machine")

    run(agent, act)
    assert INTERFACE not in inside.run(["ip", "link"])
    assert not config.snapshot_file.exists()
    report = runtime_state.Report.read(config.status_file)
    assert report is not None and "superseded" in report.trouble
    assert operator(redis_server).snapshot().peers[agent.public_key].machine_id == "000000bb"


def test_needs_a_controller(inside: Namespace, stop: StopSignal, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="--controller"):
        Agent(config_in(tmp_path), inside.runner, stop)
    assert not (tmp_path / "key").exists()


@pytest.mark.usefixtures("supervisor")
def test_a_zone_in_disorder_does_not_fill_the_journal(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with redis_server.client() as redis:
        for number in range(1, 101):
            redis.hset(
                "{zone-blue}:peers", key_of(number), f'{{"n":"node{number}","a":["192.0.2.{number}"]}}'
            )
    agent = Agent(config, inside.runner, stop)
    run(agent, lambda: until(lambda: "80 more such records" in caplog.text))
    # The supervisor is a thread of this process, and after a few seconds it logs these records, too.
    said = [each.getMessage() for each in caplog.records if each.name.startswith("jaywalk_agent")]
    assert sum("lies outside the zone's pools" in each for each in said) == 20


@pytest.mark.usefixtures("supervisor")
def test_without_ipv6_the_agent_follows_the_zone_and_adds_it_once_the_kernel_accepts_it(
    redis_server: RedisServer,
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(follower, "TICK_SECONDS", 0.5)
    inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
    zone = operator(redis_server)

    def act() -> None:
        systemd.wait_for("READY=1")
        until(lambda: f"the zone's IPv6 is left out of {INTERFACE}" in caplog.text)
        inside.run(["ip", "route", "add", "172.20.1.0/24", "dev", "lo", "metric", "2048"])
        prefixes = ("172.20.1.0/24", "172.20.2.0/24")
        zone.ask(join("zone-blue", 1, child_prefixes=prefixes), 20.0).lease_or_raise()
        until(lambda: key_of(1) in peers(inside))
        until(lambda: "172.20.2.0/24" in inside.run(["ip", "route", "show", "dev", INTERFACE]))
        systemd.wait_for("STATUS=route 172.20.1.0/24 was refused: File exists")
        zone.ask(join("zone-blue", 2), 20.0).lease_or_raise()
        until(lambda: key_of(2) in peers(inside))
        until(lambda: snapshot_peers(config) >= {key_of(1), key_of(2)})
        inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "0")
        inside.run(["ip", "route", "del", "172.20.1.0/24", "dev", "lo"])
        until(lambda: "fd00:20::" in inside.run(["ip", "-6", "route", "show", "dev", INTERFACE]))
        until(lambda: "all is well again" in caplog.text)
        inside.run(["tee", "/proc/sys/net/ipv6/conf/all/disable_ipv6"], "1")
        zone.ask(join("zone-blue", 3), 20.0).lease_or_raise()
        until(lambda: key_of(3) in peers(inside))
        until(lambda: snapshot_peers(config) >= {key_of(3)})
        until(lambda: trouble_of(config) == "")

    caplog.set_level(logging.INFO)
    run(Agent(config, inside.runner, stop), act)
    assert caplog.text.count("IPv6 is left out") <= 3, (
        "of the new interface, and twice of the one that is there"
    )
    assert caplog.text.count("WARNING") and caplog.text.count("was refused: File exists") == 1


def trouble_of(config: AgentConfig) -> str | None:
    report = runtime_state.Report.read(config.status_file)
    return report.trouble if report is not None else None


def snapshot_peers(config: AgentConfig) -> set[str]:
    view = snapshot.load(config.snapshot_file, config.zone)
    return set(view.peers) if view is not None else set()


@pytest.mark.usefixtures("supervisor")
def test_a_tool_that_keeps_adding_a_peer_is_named_and_does_not_fill_the_journal(
    inside: Namespace,
    config: AgentConfig,
    stop: StopSignal,
    systemd: Systemd,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(follower, "TICK_SECONDS", 0.3)
    add = ["wg", "set", INTERFACE, "peer", key_of(9), "endpoint", "192.0.2.99:51820"]

    def act() -> None:
        systemd.wait_for("READY=1")
        for _ in range(4):
            inside.run(add)
            until(lambda: key_of(9) not in peers(inside))

    caplog.set_level(logging.INFO)
    run(Agent(config, inside.runner, stop), act)
    sentence = f"{INTERFACE}: removed peer {key_of(9)} (192.0.2.99:51820), which zone zone-blue does not have"
    assert caplog.text.count(sentence) == 1
    assert caplog.text.count("removed peer") <= 2, "the warning, and the line of what was done"
