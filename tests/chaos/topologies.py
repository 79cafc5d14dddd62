# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis of a round: one server, one with Sentinel, or a cluster; and its faults."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import redis

from jaywalk.controller.address import ControllerAddress
from lab.deadline import slowness
from tests.redis_cluster import Cluster
from tests.redis_sentinels import SERVICE, Sentinels
from tests.redis_server import Program, RedisServer, ServerGroup

from .machines import Tail
from .schedule import Faults
from .servers import ServerFaults

# Two zones with the same pools, which never affect each other. In a cluster they are on different shards.
ZONES = ("zone-one", "zone-two")
LOSSY = {"crash": ("start", 0.05, 1.5), "lose": ("start", 0.05, 1.5), "stop": ("start", 0.05, 1.5)}
# Additional faults of a running server: full memory; a rollback to older data without a restart;
# loss of all data.
MORE: Faults = {
    "fill": ("free", 0.5, 3.0),
    "roll-back": ("go-on", 0.2, 1.0),
    "empty": ("go-on", 0.2, 1.0),
}
# The most bytes that a full server still accepts.
FULL_SERVER_BYTES = 20_000


class Topology(ServerGroup):
    """One Redis; the base of the others.

    ``outages`` has, for each part that fails independently, the mean seconds between faults, and the faults.
    """

    kind = "single"
    outages: tuple[tuple[float, Faults], ...] = ((3.0, LOSSY),)

    def __init__(self) -> None:
        super().__init__()
        self.lost_bytes = 0
        self._is_sure = True
        self._server_faults: dict[int, ServerFaults] = {}

    def _begin(self, stack: ExitStack) -> None:
        server = stack.enter_context(RedisServer())
        self.servers, self.password = [server], server.password

    @property
    def programs(self) -> Collection[Program]:
        """All programs with clients."""
        return self.servers

    def protect_present_data(self) -> None:
        """Protect the present data from all faults."""
        self.tails = [Tail(server) for server in self.servers]

    def text(self, ports: Mapping[int, int]) -> str:
        """Return the address in its text form, each port by its entry in ``ports``."""
        return f"127.0.0.1:{ports[self.servers[0].port]}"

    def address(self, zone: str, ports: Mapping[int, int], user: str, password: str) -> ControllerAddress:
        return replace(
            ControllerAddress.parse(self.text(ports), user, password), zone=zone, timeout=slowness()
        )

    def direct(self) -> dict[int, int]:
        """Return the ports of a client without a relay."""
        return {each.port: each.port for each in self.programs}

    def server_of(self, zone: str) -> RedisServer:
        """Return the server that has the zone now; raise redis-py's error if that is unknown."""
        return self.servers[0]

    def sync(self, how: str) -> None:
        """Set ``appendfsync`` of all servers."""
        self._is_sure = how == "always"
        for server in self.servers:
            server.configure(appendfsync=how)

    def losing(self, action: str, target: int) -> Collection[str]:
        """Return the zones that may lose commits by an action on the ``target``-th part.

        With one sync per second, a killed server may lose its latest commits.
        """
        if action in ("lose", "roll-back", "empty") or (action == "crash" and not self._is_sure):
            return [zone for zone in ZONES if self.server_of(zone) is self.servers[target]]
        return ()

    def inject(self, action: str, target: int, value: float) -> None:
        """Apply the action to the ``target``-th part."""
        server = self.servers[target]
        if action == "lose":
            server.crash()
            self.lost_bytes += self.tails[target].lose(value)
        elif not self._inject_into_running(action, server, value):
            {"crash": server.crash, "stop": server.stop, "start": server.start}[action]()

    def _inject_into_running(self, action: str, server: RedisServer, value: float) -> bool:
        """Apply an action on a running server; return whether it was one."""
        server_faults = self._server_faults.setdefault(server.port, ServerFaults(server))
        if action == "fill":
            server_faults.fill(int(value * FULL_SERVER_BYTES))
        elif action == "free":
            server_faults.free()
        elif action == "copy":
            server_faults.copy()
        elif action == "roll-back":
            server_faults.roll_back(value, may_follow=self.kind == Topology.kind)
        elif action == "empty":
            server_faults.empty(is_running=value < 0.5)
        return action in ("fill", "free", "copy", "roll-back", "empty", "go-on")

    def losses(self) -> str:
        """Return a summary of the round."""
        return f"{self.lost_bytes} bytes of log lost"

    def keep(self, folder: Path) -> None:
        """Copy the servers' files, for the analysis of a failed round."""
        for server in self.servers:
            if server._folder is not None:
                shutil.copytree(server._folder, folder / f"redis-{server.port}")


class SentinelTopology(Topology):
    """A primary with two replicas and three sentinels.

    A promoted replica lacks what its primary had not yet sent. A paused primary loses all commits that it
    makes before it becomes a replica. "lose" ensures that there are such commits.
    """

    kind = "sentinel"
    outages = (
        (4.0, {"crash": ("start", 0.2, 6.0), "hold": ("let-go", 0.5, 6.0), "lose": ("start", 2.0, 6.0)}),
    )

    def _begin(self, stack: ExitStack) -> None:
        self._sentinels = stack.enter_context(Sentinels())
        self.servers, self.password = self._sentinels.servers, self._sentinels.password
        self._failed = self._last = self.servers[0]
        self._failovers = 0
        self._behind: list[RedisServer] = []

    @property
    def programs(self) -> Collection[Program]:
        return [*self.servers, *self._sentinels.sentinels]

    def protect_present_data(self) -> None:
        with self.servers[0].client() as client:
            client.wait(2, 5000)

    def text(self, ports: Mapping[int, int]) -> str:
        listed = ",".join(f"127.0.0.1:{ports[each.port]}" for each in self._sentinels.sentinels)
        return f"sentinel://{listed}/{SERVICE}"

    def server_of(self, zone: str) -> RedisServer:
        return self._sentinels.primary

    def losses(self) -> str:
        return f"{self._failovers} failovers"

    def losing(self, action: str, target: int) -> Collection[str]:
        """Any action may promote a replica, which lacks unsent data."""
        return () if action in ("fill", "free", "copy", "go-on") else ZONES

    def inject(self, action: str, target: int, value: float) -> None:
        self._count()
        if action in ("crash", "hold", "lose", "fill"):
            self._failed = self._last
        if action in ("roll-back", "empty"):
            value = min(value, 0.4)  # Its replicas replicate what it does while it runs.
        if self._inject_into_running(action, self._failed if action == "free" else self._last, value):
            return
        if action == "lose":
            self._leave_behind(value)
        server = self._failed
        actions = {"start": server.start, "hold": server.pause, "let-go": server.resume}
        actions.get(action, server.crash)()
        for replica in self._behind:
            replica.start()
        self._behind = []

    def _leave_behind(self, seconds: float) -> None:
        """Let the primary continue without replicas for a while, which its operator may allow."""
        replicas = [server for server in self.servers if server is not self._last]
        for replica in replicas:
            replica.crash()
        with suppress(redis.RedisError), self._last.client() as client:
            client.config_set("min-replicas-to-write", 0)
        time.sleep(seconds)
        self._behind = replicas

    def _count(self) -> None:
        before, self._last = self._last, self._sentinels.primary
        self._failovers += before is not self._last


class ClusterTopology(Topology):
    """Three shards that fail independently."""

    kind = "cluster"
    outages = ((5.0, LOSSY),) * 3

    def _begin(self, stack: ExitStack) -> None:
        self._cluster = stack.enter_context(Cluster())
        self.servers, self.password = self._cluster.servers, self._cluster.password

    def text(self, ports: Mapping[int, int]) -> str:
        return "cluster://" + ",".join(f"127.0.0.1:{ports[each.port]}" for each in self.servers)

    def server_of(self, zone: str) -> RedisServer:
        return self._cluster.shard_of(zone)


KINDS: Mapping[str, type[Topology]] = {
    each.kind: each for each in (Topology, SentinelTopology, ClusterTopology)
}


def kind_of(seed: int) -> str:
    """Return one Redis for half of the rounds, and one of the other kinds for the rest."""
    return ("single", "single", "sentinel", "cluster")[seed % 4]
