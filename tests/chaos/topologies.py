# SPDX-License-Identifier: GPL-3.0-or-later
"""What a round is played on: one Redis, one under Sentinel, or a cluster; and what befalls it there."""

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
from .servers import Hands

ZONES = ("zone-one", "zone-two")
"""Two tenants with the same pools: what one has never matters to the other.  In a cluster they lie on
different shards."""
LOSSY = {"crash": ("start", 0.05, 1.5), "lose": ("start", 0.05, 1.5), "stop": ("start", 0.05, 1.5)}


MORE: Faults = {
    "fill": ("free", 0.5, 3.0),
    "roll-back": ("go-on", 0.2, 1.0),
    "empty": ("go-on", 0.2, 1.0),
}
"""What may befall a running server beside what is of its kind: its memory is full; an older copy of its data
takes their place, without a restart; all of them go."""
ROOM = 20_000
"""Bytes that a full server still takes."""


class Topology(ServerGroup):
    """One Redis; the base of the others.

    ``outages`` says how often on average, in seconds, and which, for each of its parts that fails by itself.
    """

    kind = "single"
    outages: tuple[tuple[float, Faults], ...] = ((3.0, LOSSY),)

    def __init__(self) -> None:
        super().__init__()
        self.lost_bytes = 0
        self._is_sure = True
        self._hands: dict[int, Hands] = {}

    def _begin(self, stack: ExitStack) -> None:
        server = stack.enter_context(RedisServer())
        self.servers, self.password = [server], server.password

    @property
    def programs(self) -> Collection[Program]:
        """All that somebody connects to."""
        return self.servers

    def begin_of_tail(self) -> None:
        """What is there now no fault takes away."""
        self.tails = [Tail(server) for server in self.servers]

    def text(self, ports: Mapping[int, int]) -> str:
        """The address as people write it, each port by its place in ``ports``."""
        return f"127.0.0.1:{ports[self.servers[0].port]}"

    def address(self, zone: str, ports: Mapping[int, int], user: str, password: str) -> ControllerAddress:
        return replace(
            ControllerAddress.parse(self.text(ports), user, password), zone=zone, timeout=slowness()
        )

    def direct(self) -> dict[int, int]:
        """The ports of somebody who needs no relay."""
        return {each.port: each.port for each in self.programs}

    def server_of(self, zone: str) -> RedisServer:
        """The one that has the zone now; raises what redis-py does where nobody knows."""
        return self.servers[0]

    def sync(self, how: str) -> None:
        """Has all servers sync so from now on (``appendfsync``)."""
        self._is_sure = how == "always"
        for server in self.servers:
            server.configure(appendfsync=how)

    def losing(self, deed: str, target: int) -> Collection[str]:
        """The zones that may lose a tail when that befalls the ``target``-th part.

        What is synced once a second may miss what a server had not yet written when it was killed.
        """
        if deed in ("lose", "roll-back", "empty") or (deed == "crash" and not self._is_sure):
            return [zone for zone in ZONES if self.server_of(zone) is self.servers[target]]
        return ()

    def befall(self, deed: str, target: int, value: float) -> None:
        """Does it to the ``target``-th part."""
        server = self.servers[target]
        if deed == "lose":
            server.crash()
            self.lost_bytes += self.tails[target].lose(value)
        elif not self._befall_running(deed, server, value):
            {"crash": server.crash, "stop": server.stop, "start": server.start}[deed]()

    def _befall_running(self, deed: str, server: RedisServer, value: float) -> bool:
        """Does what needs no end of a server; whether it was such a deed."""
        hands = self._hands.setdefault(server.port, Hands(server))
        if deed == "fill":
            hands.fill(int(value * ROOM))
        elif deed == "free":
            hands.free()
        elif deed == "copy":
            hands.remember()
        elif deed == "roll-back":
            hands.roll_back(value, may_follow=self.kind == Topology.kind)
        elif deed == "empty":
            hands.empty(is_running=value < 0.5)
        return deed in ("fill", "free", "copy", "roll-back", "empty", "go-on")

    def losses(self) -> str:
        """What it came to, for people."""
        return f"{self.lost_bytes} bytes of log lost"

    def keep(self, folder: Path) -> None:
        """Copies what the servers wrote, for whoever looks into a failed round."""
        for server in self.servers:
            if server._folder is not None:
                shutil.copytree(server._folder, folder / f"redis-{server.port}")


class SentinelTopology(Topology):
    """A primary with two replicas and three sentinels.

    What a primary had not sent to the replica that takes its place is lost, and so is what one that was
    held said before it learned that it was replaced.  "lose" sees to it that there is something to lose.
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

    def begin_of_tail(self) -> None:
        with self.servers[0].client() as client:
            client.wait(2, 5000)

    def text(self, ports: Mapping[int, int]) -> str:
        listed = ",".join(f"127.0.0.1:{ports[each.port]}" for each in self._sentinels.sentinels)
        return f"sentinel://{listed}/{SERVICE}"

    def server_of(self, zone: str) -> RedisServer:
        return self._sentinels.primary

    def losses(self) -> str:
        return f"{self._failovers} failovers"

    def losing(self, deed: str, target: int) -> Collection[str]:
        """Whatever it is, a replica may take over, which lacks what it was not sent."""
        return () if deed in ("fill", "free", "copy", "go-on") else ZONES

    def befall(self, deed: str, target: int, value: float) -> None:
        self._count()
        if deed in ("crash", "hold", "lose", "fill"):
            self._failed = self._last
        if deed in ("roll-back", "empty"):
            value = min(value, 0.4)  # its replicas follow what it does while it runs
        if self._befall_running(deed, self._failed if deed == "free" else self._last, value):
            return
        if deed == "lose":
            self._leave_behind(value)
        server = self._failed
        deeds = {"start": server.start, "hold": server.pause, "let-go": server.resume}
        deeds.get(deed, server.crash)()
        for replica in self._behind:
            replica.start()
        self._behind = []

    def _leave_behind(self, seconds: float) -> None:
        """Has the primary go on alone for so long, as its operator may allow, and its replicas miss that."""
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
    """Three shards, of which each fails by itself."""

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
    """Half of the rounds on one Redis, the others on either of those that fail in more ways."""
    return ("single", "single", "sentinel", "cluster")[seed % 4]
