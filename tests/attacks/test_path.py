# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody on the path between the machines and the controller, who listens or answers in its place."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.jaywalking.mesh.plugins.modules import jaywalk_lease_info

from tests.ansible_modules import RunModule
from tests.ansible_modules import machine as machine
from tests.ansible_modules import run_module as run_module
from tests.attacks.installation import ZONES, Installation
from tests.certificates import Certificates
from tests.chaos.real_agents import RealAgent, create_real_agents
from tests.chaos.relay import Relay
from tests.redis_server import RedisServer
from tests.waiting import eventually

ZONE = ZONES[0]


class Listener(Relay):
    """Somebody on the path of all agents, who records each byte in both directions."""

    heard = bytearray()

    def record(self, data: bytes) -> None:
        self.heard.extend(data)


@pytest.fixture(params=["TLS", "plain text"])
def installed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    tls = Certificates(tmp_path_factory.mktemp("tls")) if request.param == "TLS" else None
    with ExitStack() as stack:
        server = stack.enter_context(RedisServer(tls=tls))
        made = Installation(server, tmp_path_factory.mktemp("installation"), stack)
        made.start()
        yield made


@pytest.mark.wireguard
def test_a_listener_on_the_path_learns_passwords_names_and_keys_in_plain_text_only(
    installed: Installation,
) -> None:
    Listener.heard.clear()
    one, other = installed.agents(path=Listener)
    eventually(lambda: one.peer_keys == {other.key} and other.peer_keys == {one.key}, "both are peers")
    listened_for = {
        "a password": installed.passwords[ZONE],
        "a name": one.name,
        "a key": other.key,
        "a zone": ZONE,
        "an address": "10.20.0.",
    }
    heard = [what for what, text in listened_for.items() if text.encode() in Listener.heard]
    assert heard == ([] if installed.server.tls else list(listened_for))
    assert len(Listener.heard) > 5000


@pytest.fixture
def genuine(tmp_path: Path) -> Certificates:
    """The certificates of the genuine controller; the machines have its CA."""
    return Certificates(tmp_path / "genuine")


@pytest.fixture
def impostor(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis at the controller's address with a certificate of its own, which takes every password."""
    with RedisServer(tls=Certificates(tmp_path / "impostor")) as server:
        with server.client() as client:
            for user in (f"agent-{ZONE}", "supervisor"):
                words: Any = ("on", "nopass", "~*", "&*", "+@all")
                client.execute_command("ACL", "SETUSER", user, *words)
            client.config_resetstat()
        yield server


REFUSAL = r"the certificate of the controller rediss://127\.0\.0\.1:\d+ was not issued by the CA in "


def was_told_nothing(impostor: RedisServer) -> bool:
    """Whether no client but that of this test sent a command; the programs name their connections."""
    with impostor.client() as client:
        return "cmdstat_client|setname" not in client.info("commandstats")


@pytest.fixture
def lone_agent(tmp_path: Path) -> Iterator[RealAgent]:
    with ExitStack() as stack:
        yield create_real_agents(stack, ZONE, tmp_path, has_short_waits=True)[0]


@pytest.mark.wireguard
def test_an_agent_refuses_a_controller_with_another_certificate(
    genuine: Certificates, impostor: RedisServer, lone_agent: RealAgent
) -> None:
    with Relay([impostor.port], lone_agent.netns) as relay:
        where = f"rediss://127.0.0.1:{relay.ports[impostor.port]}"
        lone_agent.set_controller(where, secrets.token_hex(16), str(genuine.ca))
        lone_agent.start_if_ended()
        try:
            eventually(lambda: re.search(REFUSAL, lone_agent.log), "the agent says why it does not connect")
        finally:
            lone_agent.end()
    assert was_told_nothing(impostor)


def test_a_supervisor_refuses_a_controller_with_another_certificate(
    genuine: Certificates, impostor: RedisServer, tmp_path: Path
) -> None:
    impostor.tls, own = genuine, impostor.tls  # the supervisor has the genuine CA
    with ExitStack() as stack:
        supervised = Installation(impostor, tmp_path, stack)
        refused = supervised.command("zone", "list", check=False)
        supervised.supervisor.start()
        stack.callback(supervised.supervisor.kill)
        eventually(lambda: re.search(REFUSAL, supervised.log()), "the supervisor says why")
    impostor.tls = own
    assert refused.returncode != 0
    assert re.search(REFUSAL, refused.stderr)
    assert was_told_nothing(impostor)


def test_a_module_refuses_a_controller_with_another_certificate(
    genuine: Certificates, impostor: RedisServer, run_module: RunModule
) -> None:
    result = run_module(
        jaywalk_lease_info,
        controller=f"rediss://127.0.0.1:{impostor.port}",
        controller_password=secrets.token_hex(16),
        controller_ca=str(genuine.ca),
        zone=ZONE,
    )
    assert result["failed"]
    assert re.match(REFUSAL, result["msg"])
    assert was_told_nothing(impostor)


def test_a_program_that_is_to_use_tls_never_falls_back_to_plain_text(
    genuine: Certificates, run_module: RunModule
) -> None:
    with RedisServer() as plain, plain.client() as client:
        client.config_resetstat()
        for address, said in (
            (f"rediss://127.0.0.1:{plain.port}", "does not speak TLS"),
            (f"127.0.0.1:{plain.port}", "files for TLS are given"),
        ):
            result = run_module(
                jaywalk_lease_info,
                controller=address,
                controller_password=secrets.token_hex(16),
                controller_ca=str(genuine.ca),
                zone=ZONE,
            )
            assert said in result["msg"]
        assert was_told_nothing(plain)
