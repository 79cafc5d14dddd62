# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis Cluster of three shards on loopback, removed at the end."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from redis.crc import key_slot

from jaywalk.controller.address import ControllerAddress
from lab.deadline import slowness
from tests.certificates import address
from tests.ports import free_port
from tests.redis_server import RedisServer, ServerGroup
from tests.waiting import eventually

BOUNDS = [16384 * index // 3 for index in range(4)]


class Cluster(ServerGroup):
    """Three primaries with equal shares of the slots, and the user ``supervisor``."""

    def _begin(self, stack: ExitStack) -> None:
        for _ in range(3):
            bus = str(free_port())
            options = {
                **({"tls_cluster": "yes"} if self.tls else {}),
                "cluster_node_timeout": f"{2000 * slowness():.0f}",
                "cluster_require_full_coverage": "no",
            }
            server = RedisServer(tls=self.tls, cluster_enabled="yes", cluster_port=bus, **options)
            server.password = self.password
            self.servers.append(stack.enter_context(server))
        self._meet()

    def address_of(self, user: str, password: str) -> ControllerAddress:
        listed = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return address(f"cluster://{listed}", user, password, self.tls)

    def shard_of(self, zone: str) -> RedisServer:
        """Return the server that first had the zone's slot."""
        slot = key_slot(f"{{{zone}}}".encode())
        return next(server for server, last in zip(self.servers, BOUNDS[1:], strict=True) if slot < last)

    def move(self, zone: str, target: RedisServer) -> None:
        """Move the zone's slot with all its keys, one key after another."""
        slot, source = key_slot(f"{{{zone}}}".encode()), self.shard_of(zone)
        with source.client() as source_client, target.client() as target_client:
            names = [client.execute_command("CLUSTER MYID") for client in (source_client, target_client)]
            target_client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", names[0])
            source_client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", names[1])
            login: Any = ("AUTH2", "supervisor", self.password)
            while keys := source_client.execute_command("CLUSTER GETKEYSINSLOT", slot, 1):
                source_client.execute_command(
                    "MIGRATE", target.host, target.port, "", 0, 5000, *login, "KEYS", *keys
                )
                time.sleep(0.05)
            for client in (target_client, source_client):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", names[1])

    def _meet(self) -> None:
        for index, server in enumerate(self.servers):
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", BOUNDS[index], BOUNDS[index + 1] - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", index + 1)
        for other in self.servers[1:]:
            with self.servers[0].client() as client:
                client.execute_command("CLUSTER MEET", "127.0.0.1", other.port, other.options["cluster_port"])
        eventually(lambda: all(_is_complete(server) for server in self.servers), "the cluster is complete")


def _is_complete(server: RedisServer) -> bool:
    with server.client() as client:
        info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")
