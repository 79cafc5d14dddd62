# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole installation to attack: a Redis, a supervisor process, and two zones with equal addresses."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Reply, Request
from tests.chaos.machines import ENVIRONMENT, Controller, SupervisorProcess
from tests.chaos.real_agents import RealAgent, create_real_agents
from tests.chaos.relay import Relay
from tests.proven_nodes import NodesClient
from tests.redis_server import RedisServer
from tests.waiting import eventually

ZONES = ("zone-blue", "zone-red")
ANSWER_SECONDS = 20.0
POOLS = ("10.20.0.0/20", "fd00:20::/64")


@dataclass(frozen=True)
class Answer:
    """An answer of the REST API: ``body`` is the parsed JSON, or text if it is none."""

    status: int
    body: Any


class Installation:
    """What an operator has; each zone has an agents' password of its own.

    ``attacker`` methods return what the holder of a zone's password has.
    """

    def __init__(self, server: RedisServer, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.folder = folder
        self._stack = stack
        self.where = str(server.address)
        self._ca = server.address.tls.ca
        self._controller = Controller(server.password, folder, secrets.token_hex(16), self._ca)
        self.passwords = {zone: secrets.token_hex(16) for zone in ZONES}
        self.supervisor = SupervisorProcess(self._controller, 0, self.where)
        self._is_started = False

    def start(self, *options: str) -> None:
        """Add the zones with options of ``zone add``, and start the supervisor; its end is on the stack."""
        for zone in ZONES:
            self.add_zone(zone, *options)
        self.supervisor.start()
        self._is_started = True
        self._stack.callback(self.supervisor.kill)
        eventually(self.is_serving, "the supervisor serves all zones")

    def add_zone(self, zone: str, *options: str) -> None:
        """Add a zone with the usual pools; ``options`` are those of ``zone add``.

        A running supervisor has given the zone's user its rights then, which closes earlier connections.
        """
        file = self.folder / f"{zone}.password"
        file.touch(mode=0o600)
        file.write_text(self.passwords.setdefault(zone, secrets.token_hex(16)), encoding="ascii")
        pools = ("--cidr", POOLS[0], "--cidr6", POOLS[1])
        self.command("zone", "add", zone, *pools, "--agent-password-file", str(file), *options)
        if self._is_started:
            eventually(lambda: self.is_serving(zone), "the supervisor serves the new zone")

    def change_password(self, zone: str, password: str) -> None:
        """Change the agents' password of a zone; its agents keep the old one."""
        file = self.folder / f"{zone}.next-password"
        file.touch(mode=0o600)
        file.write_text(password, encoding="ascii")
        self.command("zone", "set", zone, "--agent-password-file", str(file))

    def command(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run ``jaywalk-supervisor WORDS`` as an operator; fail if it fails."""
        where = ("--streamer-address", self.where, "--streamer-user", "supervisor")
        argv = [sys.executable, "-m", "jaywalk_supervisor.cli.main", *words, *where]
        argv += ["--streamer-passwd-file", str(self._controller.folder / "supervisor")]
        argv += ["--streamer-ca", self._ca] if self._ca else []
        done = subprocess.run(argv, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def token(self, name: str, role: str, zone: str = "") -> str:
        """Add a token of the REST API and return it."""
        scope = ("--zone", zone) if zone else ()
        return self.command("token", "add", name, "--role", role, *scope).stdout.strip()

    def api(
        self,
        method: str,
        path: str,
        token: str = "",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request to the supervisor's real HTTP server."""
        fields = dict(headers or {})
        if token:
            fields["Authorization"] = f"Bearer {token}"
        data = None
        if body is not None:
            fields["Content-Type"], data = "application/json", json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.supervisor.port}{path}"
        request = urllib.request.Request(url, data, fields, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, _parsed(answer.read()))
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, _parsed(refused.read()))

    def agent_address(self, zone: str) -> ControllerAddress:
        """Return the controller's address with the zone's password, for whoever has that password."""
        return self.server.address_of(agent_user(zone), self.passwords[zone])

    def attacker_redis(self, zone: str) -> redis.Redis:
        """Return a connection to Redis of a holder of the zone's password."""
        where = self.agent_address(zone)
        opened = redis.Redis(
            host=where.host,
            port=where.port,
            username=where.user,
            password=where.password,
            decode_responses=True,
        )
        self._stack.callback(opened.close)
        return opened

    def attacker_client(self, zone: str) -> ZoneClient:
        """Return an agent's client of the zone for a holder of its password, and of the keys of the tests."""
        where = self.agent_address(zone)
        client = NodesClient(connect(where), where, zone)
        self._stack.callback(client.client.close)
        return client

    def operator_client(self, zone: str) -> ZoneClient:
        """Return an operator's client of the zone, which also reads everything."""
        client = NodesClient(connect(self.server.address), self.server.address, zone)
        self._stack.callback(client.client.close)
        return client

    def ask(self, request: Request) -> Reply:
        """Send a node's request with the password of its zone, and return the answer."""
        return self.attacker_client(request.zone).ask(request, ANSWER_SECONDS)

    def agents(self, zone: str = ZONES[0], path: type[Relay] = Relay, **variables: str) -> list[RealAgent]:
        """Start two real agents with real WireGuard, in network namespaces that a link connects.

        They reach only each other and, through a relay of the kind ``path``, Redis.  ``variables`` are those
        of both.
        """
        agents = create_real_agents(self._stack, zone, self.folder, has_short_waits=True)
        for agent in agents:
            relay = self._stack.enter_context(path([self.server.port], agent.netns))
            agent.set_options(**variables)
            scheme = "rediss://" if self._ca else ""
            where = f"{scheme}127.0.0.1:{relay.ports[self.server.port]}"
            agent.set_controller(where, self.passwords[zone], self._ca)
            agent.start_if_ended()
            self._stack.callback(agent.end)
        return agents

    def log(self) -> str:
        """Return the supervisor's log."""
        return self.supervisor.log.read_text(encoding="utf-8", errors="replace")

    def is_serving(self, *zones: str) -> bool:
        """Whether the supervisor answers and leads ``zones``, by default the first two."""
        try:
            health = self.api("GET", "/healthz")
        except OSError:
            return False
        return health.status == 200 and set(health.body["zones_led"]) >= set(zones or ZONES)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
