# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor's connection to the controller, or to all servers of a cluster; commands about no zone."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Sequence
from functools import cache, partial
from importlib.resources import files
from typing import Any, Self, cast

import redis
from redis.cluster import ClusterNode, RedisCluster

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.bounded import BoundedPool
from jaywalk.controller.connection import client_to, locate
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.controller.reply_meter import SUPERVISOR
from jaywalk.core.errors import ControllerUnreachable, InvalidValue
from jaywalk.core.ip import join_endpoint
from jaywalk.zone.redis_keys import ZoneKeys

OLDEST_REDIS = (7, 0)
# How running supervisors call their connections, followed by ``@`` and the supervisor's name.
CLIENT = "jaywalk-supervisor"
# How the names of the memory policies begin that delete any key: leases among them.
EVICTS_ALL = "allkeys-"
# The same for keys that expire: answers to requests among them, but no zone's data.
EVICTS_EXPIRING = "volatile-"
# What redis-py raises when there is no Redis, or none that may be written to.
REDIS_UNAVAILABLE = (
    redis.ConnectionError,
    redis.TimeoutError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.AskError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.RedisClusterException,
    OSError,
)


def client_name() -> str:
    """What this supervisor calls its connections: JAYWALK_SUPERVISOR_NAME, or else the host's name."""
    name = os.environ.get("JAYWALK_SUPERVISOR_NAME") or socket.gethostname()
    return f"{CLIENT}@{re.sub('[^!-~]', '-', name)}"  # CLIENT SETNAME takes no blanks


class Connection:
    """A connection to Redis that runs our scripts.

    Apart from :meth:`open` the methods let redis-py's errors through: callers tell a lost connection
    (``REDIS_UNAVAILABLE``) from a command that Redis refused.
    """

    def __init__(self, client: redis.Redis | RedisCluster, where: ControllerAddress) -> None:
        self.where = where
        # redis-py types each command for its synchronous and its asynchronous client at once.
        self.redis: Any = client
        self.run_id = ""
        self.version: tuple[int, ...] = ()
        self.evicts_answers = False

    @classmethod
    def open(cls, where: ControllerAddress, name: str) -> Self:
        """Connects as the client ``name``.

        Raises ``ControllerUnreachable`` or ``ControllerDenied``, or ``InvalidValue`` for a Redis that is too
        old or deletes keys when its memory is full.  A lost connection is never mended silently: what runs
        on the next one has to look at the server's run id first.
        """
        if not where.nodes:
            where = locate(where)
        with RedisErrorTranslator(where):
            client = _cluster(where, name) if where.nodes else client_to(where, name, SUPERVISOR)
            connection = cls(client, where)
            connection._check_server()
        return connection

    def _check_server(self) -> None:
        try:
            server, *_ = self.info("server")
            policies = {str(memory.get("maxmemory_policy", "")) for memory in self.info("memory")}
        except redis.exceptions.BusyLoadingError:
            raise ControllerUnreachable(
                f"the controller {self.where} still loads its data", "wait until it is done"
            ) from None
        self.run_id = server["run_id"]
        self.version = tuple(int(part) for part in server["redis_version"].split(".")[:2])
        if self.version < OLDEST_REDIS:
            raise InvalidValue(
                f"the controller {self.where} is Redis {server['redis_version']}",
                "use 7.0 or newer, or Valkey",
            )
        for policy in policies:
            self._check_memory_policy(policy)

    def _check_memory_policy(self, policy: str) -> None:
        """INFO tells the policy, so that this needs no CONFIG; where a server hides it, it passes."""
        if policy.startswith(EVICTS_ALL):
            raise InvalidValue(
                f"the controller {self.where} has the memory policy {policy}, and would delete leases when "
                "its memory is full, so that addresses are given twice",
                "set 'maxmemory-policy noeviction'",
            )
        self.evicts_answers |= policy.startswith(EVICTS_EXPIRING)

    def info(self, section: str) -> list[dict[str, Any]]:
        """A section of INFO, as :meth:`run_on_all_nodes` asks."""
        return self.run_on_all_nodes("INFO", section)

    def close(self) -> None:
        """Ends the connection."""
        self.redis.close()

    def supervisors(self) -> list[str]:
        """The names of the supervisors that are connected at the moment, sorted.

        Empty where a managed server does not let us look.
        """
        try:
            listed = self.run_on_all_nodes("CLIENT LIST")
        except redis.ResponseError:
            return []
        # redis-py has CLIENT LIST parsed into dictionaries.
        names = (str(client.get("name", "")) for clients in listed for client in clients)
        return sorted({name.partition("@")[2] for name in names if name.startswith(f"{CLIENT}@")})

    def time(self, zone: str = "") -> float:
        """Redis's clock, in seconds since 1970; in a cluster that of the shard which holds the zone."""
        zone = zone or self.where.zone
        if self.where.nodes and zone:
            node = self.redis.get_node_from_key(ZoneKeys(zone).meta)
            seconds, microseconds = self.redis.execute_command("TIME", target_nodes=node)
        else:
            seconds, microseconds = self.run_on_all_nodes("TIME")[0]
        return float(seconds) + float(microseconds) / 1e6

    def run_on_all_nodes(self, *words: str) -> list[Any]:
        """The answers to a command that is about no key, of each server of a cluster that is there.

        Lets redis-py's error through where none is.
        """
        if not self.where.nodes:
            return [self.redis.execute_command(*words)]
        answers, trouble = [], redis.ConnectionError("no server is known")
        for node in self.redis.get_nodes():
            try:
                answers.append(self.redis.execute_command(*words, target_nodes=node))
            except redis.ConnectionError as error:
                trouble = error
            except redis.TimeoutError as error:
                trouble = redis.ConnectionError(str(error))
        if not answers:
            raise trouble
        return answers

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], when_full: bool = False) -> str:
        """Runs the script ``<script>.lua``, which answers with one word; as :meth:`ask`."""
        return str(self.ask(script, keys, arguments, when_full))

    def ask(self, script: str, keys: Sequence[str], arguments: Sequence[Any], when_full: bool = False) -> Any:
        """The answer of the script ``<script>.lua`` on the server that has ``keys``; needs no other one.

        ``when_full``: even if that server's memory is full.
        redis-py's own way loads a missing script into all servers of a cluster, and fails where one is away.
        """
        text, digest = script_of(script, when_full)
        try:
            return self.redis.evalsha(digest, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return self.redis.eval(text, len(keys), *keys, *arguments)


def _cluster(where: ControllerAddress, name: str) -> RedisCluster:
    """A client of all shards.

    It mends lost connections by itself, which does no harm here: every commit compares the run id of the
    server that it runs on.
    """
    return RedisCluster(
        # redis-py takes a pool of ours only beside a URL.
        url=f"redis://{join_endpoint(*where.nodes[0])}",
        connection_pool_class=partial(BoundedPool, bounds=SUPERVISOR),
        startup_nodes=[cast("Any", ClusterNode)(*node) for node in where.nodes],
        username=where.user or None,
        password=where.password or None,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=where.timeout,
        socket_timeout=where.timeout,
        client_name=name,
        protocol=3,  # its transactions leave answers as the protocol has them
    )


@cache
def script_of(name: str, when_full: bool) -> tuple[str, str]:
    """The text of a script, what all share before it, and the name that Redis gives it."""
    folder = files(__package__).joinpath("scripts")
    text = "".join(folder.joinpath(f"{each}.lua").read_text(encoding="utf-8") for each in ("common", name))
    text = f"#!lua flags=allow-oom\n{text}" if when_full else text
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
