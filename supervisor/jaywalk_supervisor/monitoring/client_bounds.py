# SPDX-License-Identifier: GPL-3.0-or-later
"""Bounds the connections to the controller, so that one zone's credentials leave room for all others.

Redis limits all connections together (``maxclients``), and none for a user.  So a supervisor looks at them
once many are open, and closes what is over the bound of a zone, and those that did not log in.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.zone.redis_keys import ZoneKeys

from ..store.connection import Connection
from .health import Health

log = logging.getLogger(__name__)

# Share of ``maxclients`` in use from which the connections are looked at.
CROWDED_SHARE = 0.5
# The most that one zone may have of ``maxclients``.
ZONE_SHARE = 0.75
# Connections of a zone beside two for each peer: joins, modules, commands of operators.
SPARE_CONNECTIONS = 64
# Time for a login.
LOGIN_SECONDS = 5
# Pause after a look that found nothing to close: a list of 10,000 connections has 3 MB.
PAUSE_SECONDS = 5.0
# Last commands of a connection that has not logged in.
BEFORE_LOGIN = ("NULL", "auth", "hello")
# The end of a node's user: a dash and the first hex digits of a hash.
NODE_SUFFIX = 25


@dataclass(frozen=True)
class Client:
    """A connection to Redis as ``CLIENT LIST`` shows it; ``waits`` if it is blocked, as an agent's is.

    ``age`` and ``idle`` are in seconds.
    """

    number: int
    user: str
    host: str
    age: int
    command: str
    waits: bool
    idle: int = 0

    @classmethod
    def of(cls, listed: Mapping[str, Any]) -> Client:
        """Returns the connection of a parsed line of the list."""
        return cls(
            int(listed["id"]),
            str(listed.get("user", "")),
            str(listed.get("addr", "")).rpartition(":")[0],
            int(listed.get("age", 0)),
            str(listed.get("cmd", "NULL")),
            "b" in str(listed.get("flags", "")),
            int(listed.get("idle", 0)),
        )

    @property
    def writes(self) -> bool:
        """Whether the connection appended to a list a moment ago, and nothing else since."""
        return self.command == "rpush" and self.idle == 0

    @property
    def zone(self) -> str:
        """The zone of an agent's or a node's user; empty for other users."""
        kind, _, rest = self.user.partition("-")
        return {"agent": rest, "node": rest[:-NODE_SUFFIX]}.get(kind, "")

    def has_logged_in(self, own_user: str) -> bool:
        """Whether the connection has logged in; one of a moment ago counts as such."""
        unknown = own_user != "default" and self.user == "default" and self.command in BEFORE_LOGIN
        return not unknown or self.age < LOGIN_SECONDS


def surplus(clients: Iterable[Client], bounds: Mapping[str, int], own_user: str) -> dict[str, list[Client]]:
    """Returns the connections to close, by zone; those that did not log in have an empty one.

    ``bounds``: the most connections of each zone.  Over it, the addresses with most of them lose theirs
    first, and of those connections the ones that are not blocked in a wait for events, then the youngest.
    """
    closed: dict[str, list[Client]] = {}
    of_zones: dict[str, list[Client]] = defaultdict(list)
    for client in clients:
        if not client.has_logged_in(own_user):
            closed.setdefault("", []).append(client)
        elif client.zone:
            of_zones[client.zone].append(client)
    for zone, own in of_zones.items():
        bound = bounds.get(zone, SPARE_CONNECTIONS)
        if len(own) > bound:
            closed[zone] = _over(own, bound)
    return closed


def _over(clients: Sequence[Client], bound: int) -> list[Client]:
    ranks: Counter[tuple[str, str]] = Counter()
    ranked: list[tuple[int, Client]] = []
    for client in sorted(clients, key=lambda each: (not each.waits, -each.age, each.number)):
        source = client.user, client.host
        ranks[source] += 1
        ranked.append((ranks[source], client))
    ranked.sort(key=lambda each: each[0])
    return [client for _, client in ranked[bound:]]


class ConnectionGuard:
    """Closes connections over the bounds, and maintains ``health.crowd_warning`` while they are many."""

    def __init__(self, health: Health, where: ControllerAddress) -> None:
        self._health = health
        self._where = where
        self._look_at = 0.0
        self._supported = True

    def check(self, store: Connection) -> None:
        """Looks whether many connections are open, and closes what is over the bounds."""
        if not self._supported or time.monotonic() < self._look_at:
            return
        try:
            limit = self._crowded(store)
            if not limit:
                self._health.crowd_warning = ""
            elif not self._close_surplus(store, limit):
                self._look_at = time.monotonic() + PAUSE_SECONDS
        except redis.ResponseError as error:
            self._supported = False
            log.warning("the controller does not let supervisors bound its connections (%s)", error)

    def _crowded(self, store: Connection) -> int:
        """Returns ``maxclients`` of a server with many connections, or 0."""
        for info in store.info("clients"):
            limit = int(info.get("maxclients", 0))
            if int(info.get("connected_clients", 0)) > limit * CROWDED_SHARE:
                return limit
        return 0

    def _close_surplus(self, store: Connection, limit: int) -> int:
        listed = [Client.of(each) for answer in store.run_on_all_nodes("CLIENT LIST") for each in answer]
        largest = int(limit * ZONE_SHARE)
        bounds = {
            zone: min(2 * int(store.redis.hlen(ZoneKeys(zone).peers)) + SPARE_CONNECTIONS, largest)
            for zone, number in Counter(client.zone for client in listed).items()
            if zone and number > SPARE_CONNECTIONS
        }
        closed = surplus(listed, bounds, self._where.user)
        for zone, clients in closed.items():
            close(store, [client.number for client in clients])
            of = f"zone {zone} over its bound" if zone else "clients that did not log in"
            log.warning("closed %d of %d connections to the controller: of %s", len(clients), len(listed), of)
        number = sum(len(clients) for clients in closed.values())
        self._health.crowd_warning = (
            f"the controller {self._where} has {len(listed) - number} of at most {limit} connections"
        )
        return number


def close(store: Connection, numbers: Sequence[int]) -> None:
    """Closes connections by their numbers; those that ended meanwhile do not matter.

    One after another: redis-py opens another connection for a pipeline, and there may be no room for that.
    """
    for number in numbers:
        store.run_on_all_nodes("CLIENT KILL", "ID", str(number))
