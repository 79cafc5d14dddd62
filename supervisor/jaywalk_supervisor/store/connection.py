# SPDX-License-Identifier: GPL-3.0-or-later
"""A supervisor's connection to the controller, or to all servers of a cluster; commands without a zone."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from importlib.resources import files
from typing import Any, Self, cast

import redis
from redis.cluster import ClusterNode, RedisCluster

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.bounded import BoundedPool
from jaywalk.controller.connection import client_to, locate, tls_context
from jaywalk.controller.errors import RedisErrorTranslator
from jaywalk.controller.reply_meter import SUPERVISOR
from jaywalk.core.errors import ControllerUnreachable, InvalidValue
from jaywalk.core.ip import join_endpoint
from jaywalk.zone.redis_keys import ZoneKeys

OLDEST_REDIS = (7, 0)
# Prefix of the names of supervisors' connections, followed by ``@`` and the supervisor's name.
CLIENT = "jaywalk-supervisor"
# Prefix of the memory policies that may delete any key, including leases.
EVICTS_ALL = "allkeys-"
# Prefix of those that may delete keys with an expiry: answers to requests, but no zone's data.
EVICTS_EXPIRING = "volatile-"
# Errors of redis-py if no Redis is available, or none that is writable.
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
    """Returns the name of this supervisor's connections: JAYWALK_SUPERVISOR_NAME, or else the host's name."""
    name = os.environ.get("JAYWALK_SUPERVISOR_NAME") or socket.gethostname()
    return f"{CLIENT}@{re.sub('[^!-~]', '-', name)}"  # CLIENT SETNAME refuses blanks


class Connection:
    """A connection to Redis that runs our scripts.

    All methods but :meth:`open` raise redis-py's errors: callers distinguish a lost connection
    (``REDIS_UNAVAILABLE``) from a command that Redis refused.
    """

    def __init__(self, client: redis.Redis | RedisCluster, where: ControllerAddress) -> None:
        self.where = where
        # redis-py types each command for its synchronous and its asynchronous client at once.
        self.redis: Any = client
        self.version: tuple[int, ...] = ()
        # Whether the server lets us make a user of each node, and we do.
        self.makes_users = False
        self.evicts_answers = False

    @classmethod
    def open(cls, where: ControllerAddress, name: str) -> Self:
        """Connects as the client ``name``.

        Raises ``ControllerUnreachable`` or ``ControllerDenied``, or ``InvalidValue`` for a Redis that is too
        old or deletes keys when its memory is full.  A lost connection is never replaced silently: on a new
        one, the server's run id must be checked first.
        """
        if not where.nodes:
            where = locate(where)
        with RedisErrorTranslator(where):
            client = _cluster(where, name) if where.nodes else client_to(where, name, SUPERVISOR)
            connection = cls(client, where)
            connection._check_server()
            connection._forbid_eviction()
        return connection

    def _check_server(self) -> None:
        try:
            server, *_ = self.info("server")
            policies = {str(memory.get("maxmemory_policy", "")) for memory in self.info("memory")}
        except redis.exceptions.BusyLoadingError:
            raise ControllerUnreachable(
                f"the controller {self.where} still loads its data", "wait until it is done"
            ) from None
        self.version = tuple(int(part) for part in server["redis_version"].split(".")[:2])
        if self.version < OLDEST_REDIS:
            raise InvalidValue(
                f"the controller {self.where} is Redis {server['redis_version']}",
                "use 7.0 or newer, or Valkey",
            )
        for policy in policies:
            self._check_memory_policy(policy)

    def _forbid_eviction(self) -> None:
        """Has ``maxmemory-clients`` close other connections than ours."""
        if self.where.nodes:
            return
        with suppress(redis.ResponseError):  # a managed server may refuse it
            self.redis.client_no_evict("ON")

    def _check_memory_policy(self, policy: str) -> None:
        """Checks the policy from INFO, since CONFIG may be forbidden; a hidden policy passes."""
        if policy.startswith(EVICTS_ALL):
            raise InvalidValue(
                f"the controller {self.where} has the memory policy {policy}, and would delete leases when "
                "its memory is full, so that addresses are given twice",
                "set 'maxmemory-policy noeviction'",
            )
        self.evicts_answers |= policy.startswith(EVICTS_EXPIRING)

    def info(self, section: str) -> list[dict[str, Any]]:
        """Returns a section of INFO of each server; see :meth:`run_on_all_nodes`."""
        return self.run_on_all_nodes("INFO", section)

    def close(self) -> None:
        """Ends the connection."""
        self.redis.close()

    def supervisors(self) -> list[str]:
        """Returns the sorted names of the connected supervisors.

        Returns an empty list if a managed server refuses the command.
        """
        try:
            listed = self.run_on_all_nodes("CLIENT LIST")
        except redis.ResponseError:
            return []
        # redis-py parses CLIENT LIST into dictionaries.
        names = (str(client.get("name", "")) for clients in listed for client in clients)
        return sorted({name.partition("@")[2] for name in names if name.startswith(f"{CLIENT}@")})

    def time(self, zone: str = "") -> float:
        """Returns Redis's time in seconds since 1970; in a cluster that of the shard of the zone."""
        zone = zone or self.where.zone
        if self.where.nodes and zone:
            node = self.redis.get_node_from_key(ZoneKeys(zone).meta)
            seconds, microseconds = self.redis.execute_command("TIME", target_nodes=node)
        else:
            seconds, microseconds = self.run_on_all_nodes("TIME")[0]
        return float(seconds) + float(microseconds) / 1e6

    def run_on_all_nodes(self, *words: str) -> list[Any]:
        """Runs a command without a key and returns the answers of all servers that are available.

        Raises redis-py's error if no server is available.
        """
        if not self.where.nodes:
            return [self.redis.execute_command(*words)]
        answers, failure = [], redis.ConnectionError("no server is known")
        for node in self.redis.get_nodes():
            try:
                answers.append(self.redis.execute_command(*words, target_nodes=node))
            except redis.ConnectionError as error:
                failure = error
            except redis.TimeoutError as error:
                failure = redis.ConnectionError(str(error))
        if not answers:
            raise failure
        return answers

    def pipeline_on_all_nodes(self, commands: Sequence[Sequence[str]]) -> None:
        """Runs commands without a key on all servers that are available, in one round trip each.

        Raises redis-py's error for the first command that a server refuses, and if no server is available.
        """
        if not self.where.nodes:
            return self._pipeline(self.redis, commands)
        failure: Exception | None = redis.ConnectionError("no server is known")
        for node in self.redis.get_nodes():
            try:
                self._pipeline(self.redis.get_redis_connection(node), commands)
                failure = None
            except (redis.ConnectionError, redis.TimeoutError) as error:
                failure = failure and redis.ConnectionError(str(error))
        if failure is not None:
            raise failure
        return None

    @staticmethod
    def _pipeline(client: Any, commands: Sequence[Sequence[str]]) -> None:
        connection = client.connection
        if connection is None:  # a server of a cluster, whose client has a pool
            with client.pipeline(transaction=False) as pipe:
                for words in commands:
                    pipe.execute_command(*words)
                pipe.execute()
            return
        # redis-py's own pipeline takes four times as long.
        connection.send_packed_command(connection.pack_commands(commands))
        refusals = [answer for _each in commands if (answer := _refusal(connection))]
        if refusals:
            raise refusals[0]

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Any], when_full: bool = False) -> str:
        """Runs the script ``<script>.lua`` and returns its answer, one word; as :meth:`ask`."""
        return str(self.ask(script, keys, arguments, when_full))

    def ask(self, script: str, keys: Sequence[str], arguments: Sequence[Any], when_full: bool = False) -> Any:
        """Runs the script ``<script>.lua`` on the server that has ``keys`` and returns its answer.

        ``when_full``: even if that server's memory is full.
        redis-py's register_script loads a missing script into all servers of a cluster, and fails if one of
        them is unavailable.
        """
        text, digest = script_of(script, when_full)
        try:
            return self.redis.evalsha(digest, len(keys), *keys, *arguments)
        except redis.exceptions.NoScriptError:
            return self.redis.eval(text, len(keys), *keys, *arguments)


def _refusal(connection: Any) -> redis.ResponseError | None:
    """Reads one answer, and returns it if it is a refusal."""
    try:
        connection.read_response()
    except redis.ResponseError as refusal:
        return refusal
    return None


def _cluster(where: ControllerAddress, name: str) -> RedisCluster:
    """Returns a client of all shards.

    It replaces lost connections silently.  That is safe here: every commit compares the run id of its server.
    """
    return RedisCluster(
        # redis-py accepts a connection pool class only together with a URL.
        url=f"redis://{join_endpoint(*where.nodes[0])}",
        connection_pool_class=partial(BoundedPool, bounds=SUPERVISOR, tls=tls_context(where)),
        startup_nodes=[cast("Any", ClusterNode)(*node) for node in where.nodes],
        username=where.user or None,
        password=where.password or None,
        decode_responses=True,
        encoding_errors="replace",
        socket_connect_timeout=where.timeout,
        socket_timeout=where.timeout,
        client_name=name,
        protocol=3,  # its transactions return answers with the protocol's types
    )


@cache
def script_of(name: str, when_full: bool) -> tuple[str, str]:
    """Returns the text of a script, after the shared functions, and the SHA-1 by which Redis names it."""
    folder = files(__package__).joinpath("scripts")
    text = "".join(folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("common", name))
    text = f"#!lua flags=allow-oom\n{text}" if when_full else text
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
