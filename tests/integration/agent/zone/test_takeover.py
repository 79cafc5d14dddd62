# SPDX-License-Identifier: GPL-3.0-or-later
"""Takeover ``stale``: real agents' code without its interface, a real committer, a real Redis."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jaywalk.zone.patch import ZonePatch
from jaywalk_agent.zone import follower
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.store.store import Store
from lab.deadline import slowness
from tests.chaos.agents import ChaosAgent
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, BLUE, committing, until

REQUESTED = "10.20.0.9"
STALE_AFTER = math.ceil(2 * slowness())


@pytest.fixture
def agent(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[[int], ChaosAgent]]:
    made: list[ChaosAgent] = []

    def make(number: int) -> ChaosAgent:
        created = ChaosAgent(number, "zone-blue", tmp_path)
        created.agent_address = lambda: redis_server.address_of("agent-zone-blue", AGENT_PASSWORD)
        made.append(created)
        return created

    yield make
    for created in made:
        created.end()


def requested(agent: ChaosAgent) -> str:
    """Starts the agent with a requested address, which it drops if refused; returns its address."""
    agent.requested = (REQUESTED,)
    agent.granted.clear()
    agent.live()
    until(lambda: agent.granted)
    return agent.granted[-1][0]


def test_an_address_moves_only_from_a_node_that_does_not_report(
    redis_server: RedisServer,
    agent: Callable[[int], ChaosAgent],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follower, "REPORT_SECONDS", 0.3)
    store = Store.open(redis_server.address, "test")
    holder, other = agent(1), agent(2)
    with committing(redis_server.address, (BLUE,)):
        zones.change(store, "zone-blue", ZonePatch(takeover="stale", stale_after=str(STALE_AFTER)))
        assert requested(holder) == REQUESTED
        time.sleep(STALE_AFTER + 1)
        assert requested(other) != REQUESTED
        assert "node1 (active since" in other.refusals[0] and "last seen" in other.refusals[0]
        assert store.load("zone-blue").leases[holder.key].addresses[0] == REQUESTED
        holder.end()
        time.sleep(STALE_AFTER + 1)
        assert requested(other) == REQUESTED
        holder.requested = ()
        holder.live()
        until(lambda: holder.granted[-1][0] != REQUESTED)
        assert store.load("zone-blue").leases[other.key].addresses[0] == REQUESTED
    store.close()
