# SPDX-License-Identifier: GPL-3.0-or-later
"""Rolls a running Redis back to an older copy, by the usual operators' methods; its run id stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from tests.redis_server import RedisServer
from tests.waiting import eventually


@contextmanager
def by_replica(server: RedisServer) -> Iterator[Callable[[], None]]:
    """``REPLICAOF`` a copy from the start of the block, and ``REPLICAOF NO ONE``."""
    with RedisServer() as backup, backup.client() as copy, server.client() as original:
        _replicate(copy, server)
        copy.replicaof("NO", "ONE")

        def roll_back() -> None:
            _replicate(original, backup)
            original.replicaof("NO", "ONE")

        yield roll_back


def _replicate(client: Any, primary: RedisServer) -> None:
    with primary.client() as other:
        other.config_set("repl-diskless-sync-delay", 0)
    client.config_set("masteruser", "supervisor")
    client.config_set("masterauth", primary.password)
    client.replicaof(primary.host, primary.port)
    eventually(lambda: client.info("replication")["master_link_status"] == "up")


@contextmanager
def by_restore(server: RedisServer) -> Iterator[Callable[[], None]]:
    """``FLUSHALL``, and ``RESTORE`` of each key's value at the start of the block."""
    raw: Any = redis.Redis(
        host=server.host, port=server.port, username="supervisor", password=server.password
    )
    with raw:
        copy = {key: dumped for key in sorted(raw.keys("*")) if (dumped := raw.dump(key)) is not None}

        def roll_back() -> None:
            raw.flushall()
            for key, dumped in copy.items():
                raw.restore(key, 0, dumped, replace=True)

        yield roll_back


ROLLBACKS = {"replica": by_replica, "restore": by_restore}
