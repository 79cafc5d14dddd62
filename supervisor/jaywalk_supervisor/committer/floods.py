# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the connections that flood an inbox, and closes them.

A connection floods if each of several looks at it, over more than two seconds, finds that it wrote a moment
ago.  A node writes once and then waits for the reply.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import redis

from ..monitoring.client_bounds import Client, close
from ..monitoring.health import Health
from ..store.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.3
LOOKS = 4
# Redis counts the time since the last command in whole seconds.
LOOKED_SECONDS = 2.2
# How long after the last excess a zone counts as flooded.
FLOOD_SECONDS = 5.0
# How long the supervisor's health tells of a flood.
TOLD_SECONDS = 60.0


class FloodGuard:
    """Watches zones whose inbox grew beyond its limit; ``health.floods`` describes them."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._until: dict[str, float] = {}
        self._told_until: dict[str, float] = {}
        # Of each connection that wrote at every look so far: the first look, and their number.
        self._hits: dict[int, tuple[float, int]] = {}
        self._look_at = 0.0
        self._supported = True

    def flooded(self, zone: str) -> None:
        """Records that the inbox of ``zone`` is beyond its limit now."""
        self._until[zone] = time.monotonic() + FLOOD_SECONDS

    def check(self, store: Store) -> None:
        """Takes a look at the connections, if one is due."""
        now = time.monotonic()
        self._forget(now)
        if not self._until or now < self._look_at or not self._supported:
            return
        self._look_at = now + LOOK_SECONDS
        try:
            listed = [Client.of(each) for answer in store.run_on_all_nodes("CLIENT LIST") for each in answer]
            flooding = self._flooding(listed, now)
            close(store, [client.number for client in flooding])
        except redis.ResponseError as error:
            self._supported = False
            log.warning("the controller does not let supervisors find who floods an inbox (%s)", error)
            return
        for client in flooding:
            self._tell(client, now)

    def _flooding(self, clients: Iterable[Client], now: float) -> list[Client]:
        hits: dict[int, tuple[float, int]] = {}
        flooding = []
        for client in clients:
            if client.zone in self._until and client.writes:
                first, looks = self._hits.get(client.number, (now, 0))
                hits[client.number] = first, looks + 1
                if looks + 1 >= LOOKS and now - first >= LOOKED_SECONDS:
                    flooding.append(client)
        self._hits = hits
        return flooding

    def _tell(self, client: Client, now: float) -> None:
        text = f"{client.user} at {client.host} floods the inbox of zone {client.zone}"
        if self._health.floods.get(client.zone) != text:
            log.warning("%s: its connection is closed", text)
        self._health.floods[client.zone] = text
        self._told_until[client.zone] = now + TOLD_SECONDS

    def _forget(self, now: float) -> None:
        for times in (self._until, self._told_until):
            for zone in [zone for zone, until in times.items() if until < now]:
                del times[zone]
        for zone in self._health.floods.keys() - self._told_until.keys():
            del self._health.floods[zone]
