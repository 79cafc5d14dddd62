# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary, two replicas and three sentinels that are real, on loopback, gone at the end."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import redis

from jaywalk.controller import ControllerAddress
from tests.redis_server import READY_SECONDS, RedisServer, _free_port

SERVICE = "mymaster"


class Sentinels:
    """``closed`` sentinels let nobody in without a login; those who may are ``supervisor`` and ``agent``."""

    def __init__(self, closed: bool, agent: str, agent_password: str) -> None:
        self.password = secrets.token_hex(16)
        self.ports: list[int] = []
        self.servers: list[RedisServer] = []
        self._closed = closed
        self._agent = f"user {agent} on >{agent_password} -@all +auth +hello +sentinel|masters"
        self._stack = ExitStack()

    def __enter__(self) -> Sentinels:
        with ExitStack() as stack:
            primary = self._server(stack)
            for _ in range(2):
                self._server(stack, replicaof=f"127.0.0.1 {primary.port}")
            for _ in range(3):
                self._sentinel(stack, primary)
            _until(self._complete)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address_of(self, user: str, password: str) -> ControllerAddress:
        listed = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return ControllerAddress.parse(f"sentinel://{listed}/{SERVICE}", user, password)

    @property
    def primary(self) -> RedisServer:
        """The server that the first sentinel names."""
        with self._ask(self.ports[0]) as sentinel:
            port = int(sentinel.sentinel_master(SERVICE)["port"])
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> None:
        """Ends the primary without a word, and returns when all sentinels name another."""
        dead = self.primary
        with dead.client() as client:
            client.set("the-last-word", "1")
            client.wait(2, READY_SECONDS * 1000)
        dead.crash()
        _until(lambda: all(self._state(port)["port"] != dead.port for port in self.ports))
        _until(lambda: self.primary.client().role()[0] == "master")

    def _server(self, stack: ExitStack, **options: str) -> RedisServer:
        server = RedisServer(masteruser="supervisor", masterauth=self.password, **options)
        server.password = self.password
        self.servers.append(stack.enter_context(server))
        return server

    def _sentinel(self, stack: ExitStack, primary: RedisServer) -> None:
        folder = Path(tempfile.mkdtemp(prefix="jwl-sentinel-"))
        stack.callback(shutil.rmtree, folder)
        port = _free_port()
        own = "user default off" if self._closed else "user default on nopass ~* &* +@all"
        lines = [
            f"port {port}\nbind 127.0.0.1\ndir {folder}",
            own,
            f"user sentinel on >{self.password} ~* &* +@all",
            f"user supervisor on >{self.password} -@all +auth +hello +sentinel|masters",
            self._agent,
            f"sentinel sentinel-user sentinel\nsentinel sentinel-pass {self.password}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"sentinel auth-user {SERVICE} supervisor\nsentinel auth-pass {SERVICE} {self.password}",
            f"sentinel down-after-milliseconds {SERVICE} 1000",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        (folder / "sentinel.conf").write_text("\n".join(lines) + "\n", encoding="ascii")
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [primary._program, str(folder / "sentinel.conf"), "--sentinel"], stdout=log, stderr=log
            )
        stack.callback(process.wait, READY_SECONDS)
        stack.callback(process.terminate)
        self.ports.append(port)

    def _ask(self, port: int) -> redis.Redis:
        return redis.Redis("127.0.0.1", port, username="sentinel", password=self.password)

    def _state(self, port: int) -> dict[str, Any]:
        with self._ask(port) as sentinel:
            return dict(sentinel.sentinel_master(SERVICE))

    def _complete(self) -> bool:
        """Whether each sentinel knows the two others and both replicas."""
        try:
            states = [self._state(port) for port in self.ports]
        except redis.RedisError:
            return False
        return all(each["num-slaves"] == 2 and each["num-other-sentinels"] == 2 for each in states)


def _until(true: Any, seconds: float = 40) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "the sentinels do not get there"
        time.sleep(0.05)
