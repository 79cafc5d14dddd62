# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis Cluster of three real shards on loopback, gone at the end."""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack
from types import TracebackType

from jaywalk.controller import ControllerAddress
from tests.redis_server import READY_SECONDS, RedisServer, _free_port

SLOTS = 16384


class Cluster:
    """Three primaries that share the slots evenly; all know the user ``supervisor``."""

    def __init__(self) -> None:
        self.password = secrets.token_hex(16)
        self.servers: list[RedisServer] = []
        self._stack = ExitStack()

    def __enter__(self) -> Cluster:
        with ExitStack() as stack:
            for _ in range(3):
                bus = str(_free_port())
                server = RedisServer(cluster_enabled="yes", cluster_node_timeout="2000", cluster_port=bus)
                server.password = self.password
                self.servers.append(stack.enter_context(server))
            self._meet()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def address_of(self, user: str, password: str) -> ControllerAddress:
        listed = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return ControllerAddress.parse(f"cluster://{listed}", user, password)

    def _meet(self) -> None:
        bounds = [SLOTS * index // 3 for index in range(4)]
        for index, server in enumerate(self.servers):
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", bounds[index], bounds[index + 1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for other in self.servers[1:]:
            with self.servers[0].client() as client:
                client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.options["cluster_port"])
        deadline = time.monotonic() + READY_SECONDS * 3
        while not all(_is_whole(server) for server in self.servers):
            assert time.monotonic() < deadline, "the cluster does not come together"
            time.sleep(0.05)


def _is_whole(server: RedisServer) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")
