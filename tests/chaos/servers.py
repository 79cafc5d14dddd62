# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a running Redis: full memory, a rollback to an older copy of its data, loss of all data."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis

from lab.deadline import Deadline
from tests.redis_server import RedisServer

# The time limit of each command; a command without a reply is skipped.
REPLY_SECONDS = 2.0
# The time limit for a server to become a replica and to receive the copy.
SYNC_SECONDS = 20.0
# The data by key: the remaining lifetime in milliseconds (0: no limit), and the output of DUMP.
Copy = Mapping[bytes, tuple[int, bytes]]


class ServerFaults:
    """Applies faults to one server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._copies: list[Copy] = []

    def fill(self, room: int) -> None:
        """Limit its memory to ``room`` more bytes, until ``free``."""
        with suppress(redis.RedisError), _client(self._server) as client:
            used: Any = client.info("memory")["used_memory"]
            client.config_set("maxmemory", used + room)

    def free(self) -> None:
        deadline = Deadline(30)
        while not deadline.passed:
            with suppress(redis.RedisError), _client(self._server) as client:
                client.config_set("maxmemory", 0)
                return
            time.sleep(0.1)

    def copy(self) -> None:
        """Copy all data, for a later ``roll_back``."""
        with suppress(redis.RedisError), _client(self._server) as client:
            names: Any = client.keys("*")
            with client.pipeline(transaction=True) as pipe:
                for name in names:
                    pipe.pttl(name).dump(name)
                answers = pipe.execute()
            pairs = zip(names, answers[::2], answers[1::2], strict=True)
            self._copies.append({name: (max(0, left), data) for name, left, data in pairs if data})

    def roll_back(self, value: float, may_follow: bool) -> None:
        """Replace the data of the running server by an older copy.

        If ``may_follow``, it becomes in some cases a short-lived replica of a server with the copy.
        """
        if not self._copies:
            return
        copy = self._copies[int(value * len(self._copies)) % len(self._copies)]
        if may_follow and int(value * 100) % 2:
            with RedisServer(repl_diskless_sync_delay="0") as backup:
                self._restore(backup, copy)
                self._follow(backup)
        else:
            self._restore(self._server, copy)

    @staticmethod
    def _restore(server: RedisServer, copy: Copy) -> None:
        with suppress(redis.RedisError), _client(server) as client, client.pipeline() as pipe:
            pipe.flushall()
            for name, (left, data) in copy.items():
                pipe.restore(name, left, data)
            pipe.execute()

    def _follow(self, backup: RedisServer) -> None:
        with suppress(redis.RedisError), _client(self._server) as client:
            client.config_set("masteruser", "supervisor")
            client.config_set("masterauth", backup.password)
            client.replicaof(backup.host, backup.port)
            deadline = Deadline(SYNC_SECONDS)
            while not deadline.passed and client.info("replication")["master_link_status"] != "up":
                time.sleep(0.05)
        deadline = Deadline(SYNC_SECONDS)
        while not deadline.passed:
            with suppress(redis.RedisError), _client(self._server) as client:
                client.replicaof("NO", "ONE")
                return
            time.sleep(0.1)

    def empty(self, is_running: bool) -> None:
        """Delete all data: on the running server, or by a restart with an empty folder."""
        if is_running:
            with suppress(redis.RedisError), _client(self._server) as client:
                client.flushall()
            return
        assert self._server._folder is not None
        self._server.stop()
        shutil.rmtree(Path(self._server._folder, "appendonlydir"))
        self._server.start()


def _client(server: RedisServer) -> redis.Redis:
    """Return a client for binary data."""
    return redis.Redis(
        server.host,
        server.port,
        socket_timeout=REPLY_SECONDS,
        username="supervisor",
        password=server.password,
    )
