# SPDX-License-Identifier: GPL-3.0-or-later
"""A real primary, two replicas and three sentinels on loopback, removed at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from lab.deadline import slowness
from tests.certificates import Certificates, address
from tests.redis_server import READY_SECONDS, Program, RedisServer, ServerGroup
from tests.waiting import eventually

SERVICE = "mymaster"
# The permissions of agents and supervisors at a sentinel.
LOCATE_COMMANDS = "-@all +auth +hello +sentinel|masters"


class Sentinel(Program):
    """A sentinel of ``primary``; with a user's ``login`` it requires a login."""

    words = ("--sentinel",)

    def __init__(self, primary: RedisServer, login: tuple[str, str] | None) -> None:
        super().__init__("redis-server")
        self._tls = primary.tls
        self._primary = primary
        self._login = login

    def configuration(self, folder: Path) -> str:
        password = self._primary.password
        slow = slowness()  # otherwise a primary that only waits for a processor counts as down
        own = "user default on nopass ~* &* +@all"
        if self._login is not None:
            own = f"user default off\nuser {self._login[0]} on >{self._login[1]} {LOCATE_COMMANDS}"
        lines = (
            *self._ports(),
            f"bind {self.host}\ndir {folder}",
            own,
            f"user sentinel on >{password} ~* &* +@all",
            f"user supervisor on >{password} {LOCATE_COMMANDS}",
            f"sentinel sentinel-user sentinel\nsentinel sentinel-pass {password}",
            f"sentinel monitor {SERVICE} {self._primary.host} {self._primary.port} 2",
            f"sentinel auth-user {SERVICE} supervisor\nsentinel auth-pass {SERVICE} {password}",
            f"sentinel down-after-milliseconds {SERVICE} {1000 * slow:.0f}",
            f"sentinel failover-timeout {SERVICE} {5000 * slow:.0f}",
        )
        return "\n".join(lines) + "\n"

    def _ports(self) -> list[str]:
        if self._tls is None:
            return [f"port {self.port}"]
        options = {**self._tls.redis_options(self.port), "tls_replication": "yes"}
        return [f"{name.replace('_', '-')} {value}" for name, value in options.items()]

    def client(self) -> redis.Redis:
        tls: Any = self._tls.client_options() if self._tls else {}
        return redis.Redis(self.host, self.port, username="sentinel", password=self._primary.password, **tls)

    def state(self) -> dict[str, Any]:
        """Return its state of the primary."""
        with self.client() as client:
            return dict(client.sentinel_master(SERVICE))


class Sentinels(ServerGroup):
    """``login`` is the user and password of an agent, for sentinels that require a login."""

    def __init__(self, login: tuple[str, str] | None = None, tls: Certificates | None = None) -> None:
        super().__init__(tls)
        self.sentinels: list[Sentinel] = []
        self._login = login

    def _begin(self, stack: ExitStack) -> None:
        primary = self._server(stack)
        for _ in range(2):
            self._server(stack, replicaof=f"127.0.0.1 {primary.port}")
        for _ in range(3):
            self.sentinels.append(stack.enter_context(Sentinel(primary, self._login)))
        eventually(self._complete, "the sentinels know each other and the servers")

    def address_of(self, user: str, password: str) -> ControllerAddress:
        listed = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return address(f"sentinel://{listed}/{SERVICE}", user, password, self.tls)

    @property
    def primary(self) -> RedisServer:
        """The primary by the first sentinel."""
        port = int(self.sentinels[0].state()["port"])
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> None:
        """Kill the primary, and wait until all sentinels have another one."""
        dead = self.primary
        with dead.client() as client:
            client.set("the-last-word", "1")
            client.wait(2, READY_SECONDS * 1000)
        dead.crash()
        eventually(
            lambda: all(sentinel.state()["port"] != dead.port for sentinel in self.sentinels),
            "the sentinels name another primary",
        )
        eventually(lambda: self.primary.client().role()[0] == "master", "it is one")

    def _server(self, stack: ExitStack, **options: str) -> RedisServer:
        replicated = {"masteruser": "supervisor", "masterauth": self.password, "min_replicas_to_write": "1"}
        if self.tls:
            replicated["tls_replication"] = "yes"
        server = RedisServer(tls=self.tls, **replicated, repl_diskless_sync_delay="0", **options)
        server.password = self.password
        self.servers.append(stack.enter_context(server))
        return server

    def _complete(self) -> bool:
        """Return whether each sentinel has the two others and both replicas, and these follow the primary."""
        try:
            states = [sentinel.state() for sentinel in self.sentinels]
            with self.primary.client() as client:
                following = client.info("replication")["min_slaves_good_slaves"]
        except redis.RedisError:
            return False
        return following == 2 and all(
            state["num-slaves"] == 2 and state["num-other-sentinels"] == 2 for state in states
        )
