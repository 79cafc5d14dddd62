# SPDX-License-Identifier: GPL-3.0-or-later
"""What others take from an interface is put back while the agent waits, on a real agent and interface."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jaywalk.core.errors import CommandFailed
from jaywalk.core.runner import NamespaceRunner, SubprocessRunner
from jaywalk.wireguard import userspace
from jaywalk.wireguard.interface import server_name
from jaywalk_agent.agent import Agent
from jaywalk_agent.config import AgentConfig
from jaywalk_agent.dataplane import repair, repair_backoff
from jaywalk_agent.host import runtime_state
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.paths.manager import PathManager
from jaywalk_agent.zone import follower, snapshot
from tests.agent_support import PASSWORD, config_in, peer, run, view_of
from tests.netns import Namespace, kernel_has_wireguard
from tests.strategies import key

pytestmark = pytest.mark.wireguard

INTERFACE = "jwurepair0"
RELAY = server_name(INTERFACE)
RELAY_PORT = 51899
PREFIX = "172.20.1.0/24"
WHOLE = 6
"""Facts of the interface: its address, port, two peers and two routes."""
WELL = 45.0
"""Seconds that a repair may take on a busy machine; the agent's look of the minute comes later here."""


@pytest.fixture
def inside(namespace: Callable[[str], Namespace]) -> Namespace:
    return namespace("jwu-repair")


@pytest.fixture
def config(tmp_path: Path) -> AgentConfig:
    nobody = {"controller": "127.0.0.1:1", "controller_password": PASSWORD}
    return config_in(tmp_path, interface=INTERFACE, local_endpoint_ip="192.0.2.10", **nobody)


@pytest.fixture
def agent(
    config: AgentConfig, inside: Namespace, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Agent]:
    """An agent that has its zone from disk alone, since its controller is away."""
    monkeypatch.setattr(follower, "TICK_SECONDS", 600.0)
    runner = NamespaceRunner(SubprocessRunner(), inside.name)
    public = config.own_key(runner)
    own = peer(0, relay=RELAY_PORT)._replace(key=public)
    others = (peer(1, endpoint="192.0.2.1:51820", prefixes=(PREFIX,)), peer(2, endpoint="192.0.2.2:51820"))
    snapshot.save(config.snapshot_file, view_of(own, *others))
    made = Agent(config, runner, stop)
    yield made
    made.dataplane.remove()
    assert isinstance(made.path_manager, PathManager)
    made.path_manager.remove()


def facts(inside: Namespace) -> set[str]:
    """What there is of the interface, in lines that do not change by themselves."""
    try:
        address = inside.run(["ip", "-brief", "address", "show", "dev", INTERFACE])
        routes = inside.run(["ip", "route", "show", "dev", INTERFACE])
        dump = inside.run(["wg", "show", INTERFACE, "dump"])
    except CommandFailed:
        return set()
    peers = {"\t".join(line.split("\t")[index] for index in (0, 2, 3)) for line in dump.splitlines()[1:]}
    port = dump.splitlines()[0].split("\t")[2]
    words = {word for word in address.split()[2:] if not word.startswith("fe80")}
    return {*words, *(line.strip() for line in routes.splitlines()), *peers, f"port {port}"}


def until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WELL
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def kill_program(inside: Namespace) -> None:
    if kernel_has_wireguard():
        pytest.skip("this kernel has WireGuard")
    found = subprocess.run(["pgrep", "-f", f"^wireguard-go {INTERFACE}$"], check=True, capture_output=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)


def rename(inside: Namespace) -> None:
    """In one go, and -force, since the agent may be quicker than the last line."""
    lines = (f"link set {INTERFACE} down", f"link set {INTERFACE} name jwuother", "link set jwuother up")
    inside.runner.run(["ip", "-force", "-batch", "-"], "".join(f"{line}\n" for line in lines))


def run_in(*lines: str) -> Callable[[Namespace], None]:
    def hurt(inside: Namespace) -> None:
        for line in lines:
            inside.run(line.split())

    return hurt


def ip(*lines: str) -> Callable[[Namespace], None]:
    return run_in(*(f"ip {line}" for line in lines))


# What became of a peer is not always said: where the path manager tries it in another way it is whole again.
DAMAGES: dict[str, tuple[Callable[[Namespace], None], str]] = {
    "link": (ip(f"link del {INTERFACE}"), f"interface {INTERFACE} was gone"),
    "program": (kill_program, f"interface {INTERFACE} was gone"),
    "down": (ip(f"link set {INTERFACE} down"), f"link {INTERFACE} was down"),
    "address": (ip(f"addr del 10.20.0.1/20 dev {INTERFACE}"), "address 10.20.0.1/20 was gone"),
    "route": (ip(f"route del {PREFIX}"), f"route {PREFIX} was gone"),
    "local route": (
        ip(f"route del local 10.20.0.1 dev {INTERFACE} table local"),
        "the local route of address 10.20.0.1 was gone",
    ),
    "pool": (ip("route del 10.20.0.0/20"), "10.20.0.0/20"),
    "name": (
        rename,
        "somebody renamed it to jwuother",
    ),
    "peer": (
        run_in(f"wg set {INTERFACE} peer {key(1)} remove"),
        "",
    ),
    "allowed": (
        run_in(f"wg set {INTERFACE} peer {key(1)} allowed-ips 10.20.9.9/32"),
        "",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_somebody_takes_away_is_back_without_a_controller(
    damage: str, agent: Agent, inside: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    hurt, sentence = DAMAGES[damage]

    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE)
        whole = facts(inside)
        hurt(inside)
        until(lambda: any(sentence in each for each in caplog.messages))
        until(lambda: facts(inside) == whole)

    run(agent, act)


def test_ipv6_goes_and_comes_back_as_the_kernel_allows_it_without_a_controller(
    agent: Agent, inside: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    if kernel_has_wireguard():
        pytest.skip("the kernel's WireGuard tells nobody that it takes IPv6 again")
    view = agent.follower.view
    assert view is not None
    view.zone = replace(view.zone, pools=(*view.zone.pools, "fd20::/64"))
    own = view.peers[agent.public_key]
    view.peers[own.key] = own._replace(addresses=(*own.addresses, "fd20::1"))

    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE + 1)
        whole, switch = facts(inside), "/proc/sys/net/ipv6/conf/all/disable_ipv6"
        for _ in range(2):
            inside.run(["tee", switch], "1")
            until(lambda: "fd20::1/64" not in facts(inside))
            until(lambda: "IPv6 is left out" in agent.dataplane.without_ipv6)
            inside.run(["tee", switch], "0")
            until(lambda: facts(inside) == whole)
            until(lambda: "fd20::/64" in inside.run(["ip", "-6", "route", "show", "dev", INTERFACE]))
        assert agent.dataplane.without_ipv6 == ""

    run(agent, act)
    # The relay's interface may be in the making as the kernel changes its mind.
    assert not [each for each in caplog.messages if "was refused" in each and RELAY not in each]


RELAY_DAMAGES = {
    "link": (ip(f"link del {RELAY}"), f"{RELAY}: interface {RELAY} was gone"),
    "down": (ip(f"link set {RELAY} down"), f"{RELAY}: link {RELAY} was down"),
    "address": (ip(f"addr flush dev {RELAY}"), f"{RELAY}: address 10.20.0.1/32 was gone"),
}


@pytest.mark.parametrize("damage", RELAY_DAMAGES)
def test_an_interface_of_a_relay_is_back_with_all_that_lets_packets_pass(
    damage: str, agent: Agent, inside: Namespace, caplog: pytest.LogCaptureFixture
) -> None:
    hurt, sentence = RELAY_DAMAGES[damage]

    def passes() -> bool:
        try:
            shown = inside.run(["ip", "-brief", "address", "show", "dev", RELAY])
            rules = inside.run(["ip", "rule"])
            forwards = inside.run(["cat", f"/proc/sys/net/ipv4/conf/{RELAY}/forwarding"])
            table = inside.run(["ip", "route", "show", "table", str(RELAY_PORT)])
        except CommandFailed:
            return False
        whole = "10.20.0.1/32" in shown and f"default dev {RELAY}" in table
        return whole and f"iif {RELAY} lookup {RELAY_PORT}" in rules and forwards.strip() == "1"

    def act() -> None:
        until(passes)
        hurt(inside)
        until(lambda: any(sentence in each for each in caplog.messages))
        until(passes)

    run(agent, act)


def test_who_keeps_undoing_it_is_answered_ever_more_seldom_and_told_of(
    agent: Agent,
    inside: Namespace,
    config: AgentConfig,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(repair_backoff, "FIRST_PAUSE_SECONDS", 0.2)
    tries: list[float] = []

    def told() -> bool:
        report = runtime_state.Report.read(config.status_file)
        if len(facts(inside)) == WHOLE:
            inside.run(["ip", "link", "del", INTERFACE])
            tries.append(time.monotonic())
        return report is not None and "something keeps changing" in report.trouble

    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE)
        until(told)
        until(lambda: len(facts(inside)) == WHOLE)

    run(agent, act)
    assert len(tries) < 8
    assert sum("something keeps changing" in each for each in caplog.messages) == 1


def test_a_name_that_somebody_else_gives_up_is_taken_at_once(
    agent: Agent, inside: Namespace, config: AgentConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair_backoff, "FIRST_PAUSE_SECONDS", 600.0)
    foreign = tmp_path / "foreign.key"
    foreign.write_text(inside.run(["wg", "genkey"]))

    def refused() -> bool:
        report = runtime_state.Report.read(config.status_file)
        return report is not None and "another key" in report.trouble

    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE)
        inside.run(["wg", "set", INTERFACE, "private-key", str(foreign)])
        assert agent.repairer is not None
        agent.repairer.request()
        until(refused)
        inside.run(["ip", "link", "del", INTERFACE])
        until(lambda: len(facts(inside)) == WHOLE)

    run(agent, act)


def test_a_network_namespace_that_is_made_anew_gets_its_interface_again(
    agent: Agent, inside: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(userspace, "END_SECONDS", 0.5)

    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE)
        whole = facts(inside)
        for verb in ("delete", "add"):
            subprocess.run(["ip", "netns", verb, inside.name], check=True)
        until(lambda: facts(inside) == whole)

    run(agent, act)


def test_a_node_that_left_is_not_repaired(agent: Agent, inside: Namespace) -> None:
    def act() -> None:
        until(lambda: len(facts(inside)) == WHOLE)
        with agent.path_manager.paused():
            agent.follower.membership.removed = True
            agent.dataplane.remove()
        assert agent.repairer is not None
        agent.repairer.request()
        until(lambda: not facts(inside))

    run(agent, act)
    assert not facts(inside)
