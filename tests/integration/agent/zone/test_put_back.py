# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis that is put back to an older copy while agents and supervisors run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.backoff import FullJitterBackoff

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.events import Event
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Reply, Request
from jaywalk.zone.view import ZoneView
from jaywalk_agent.zone import follower as follow
from jaywalk_supervisor.store.store import Store
from tests.chaos.agents import ChaosAgent
from tests.follower_support import is_settled
from tests.redis_rollback import ROLLBACKS
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, committing, join, key_of
from tests.waiting import eventually

KEYS = ZoneKeys("zone-blue")

ways = pytest.mark.parametrize("way", ROLLBACKS)


class Mesh:
    """Agents of one zone; the first few are in the copy, the others joined later."""

    def __init__(self, server: RedisServer, folder: Path, stack: ExitStack) -> None:
        self.server = server
        self.folder = folder
        self.stack = stack
        self.agents: list[ChaosAgent] = []
        self.store = Store.open(server.address, "test")
        stack.callback(self.store.close)
        self.everyone: list[ChaosAgent] = []
        stack.callback(self.end)

    def grow(self, count: int) -> list[ChaosAgent]:
        """Starts agents and waits until each has the records of all."""
        # Those of odd numbers keep each state of the zone on their disk.
        fresh = [self._agent(2 * (len(self.agents) + number) + 1) for number in range(count)]
        self.agents += fresh
        for each in fresh:
            each.live()
        self.settles()
        return fresh

    def _agent(self, number: int) -> ChaosAgent:
        made = ChaosAgent(number, "zone-blue", self.folder)
        way = replace(self.server.address_of("agent-zone-blue", AGENT_PASSWORD), timeout=2.0)
        made.agent_address = lambda: way
        self.everyone.append(made)
        return made

    def end(self) -> None:
        for each in self.everyone:
            each._halt.event.set()
        for each in self.everyone:
            each.end()

    def settles(self) -> None:
        """Waits until all agents are in the zone, equal to Redis, and without an error."""
        eventually(lambda: all(self.is_equal(each) for each in self.agents), "all agents equal Redis")
        zone = self.store.load("zone-blue")
        own = [address for each in self.agents for address in zone.peers[each.key].addresses]
        assert len(own) == len(set(own))
        held = [address for lease in zone.leases.values() for address in lease.addresses]
        assert len(held) == len(set(held))

    def is_equal(self, agent: ChaosAgent) -> bool:
        follower, zone = agent.follower, self.store.load("zone-blue")
        if follower is None or follower.view is None or not is_settled(follower):
            return False
        same = follower.view.head == zone.head and follower.view.peers == zone.peers
        return same and not follower.membership.error and not follower.view.retained

    def addresses(self) -> dict[str, tuple[str, ...]]:
        zone = self.store.load("zone-blue")
        return {each.key: zone.peers[each.key].addresses for each in self.agents}

    def ask(self, request: Request, to: str = "") -> Reply:
        where = self.server.address
        return ZoneClient(connect(where), where, "zone-blue").ask(request, 20, to)

    def epochs(self) -> int:
        """The number of epochs that the log has."""
        entries = self.store.redis.xrange(KEYS.events)
        return sum(Event.from_entry(*entry).previous_epoch is not None for entry in entries)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECONNECT", "RESYNC"):
        monkeypatch.setattr(follow, name, FullJitterBackoff(cap=0.2, base=0.1))


@pytest.fixture
def mesh(redis_server: RedisServer, tmp_path: Path) -> Iterator[Mesh]:
    with ExitStack() as stack:
        yield Mesh(redis_server, tmp_path, stack)


@contextmanager
def supervised(server: RedisServer, count: int = 1) -> Iterator[None]:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(committing(server.address))
        yield


@ways
@pytest.mark.parametrize("supervisors", [1, 2])
def test_agents_equal_redis_again_without_a_commit(mesh: Mesh, way: str, supervisors: int) -> None:
    """A supervisor detects it; one new epoch makes all agents join again with their former addresses."""
    with supervised(mesh.server, supervisors):
        mesh.grow(3)
        with ROLLBACKS[way](mesh.server) as put_back:
            mesh.grow(3)
            before, epochs = mesh.addresses(), mesh.epochs()
            put_back()
            eventually(lambda: mesh.epochs() == epochs + 1)
            mesh.settles()
    assert mesh.addresses() == before
    assert mesh.epochs() == epochs + 1


@ways
@pytest.mark.parametrize("commits", [1, 8])
def test_a_node_whose_address_went_to_another_one_gets_a_new_one(
    mesh: Mesh, way: str, commits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No newer copy was there: revisions are used twice, fewer and more than there were."""
    monkeypatch.setattr(follow, "REPORT_SECONDS", 2.0)
    with supervised(mesh.server):
        mesh.grow(3)
    with ExitStack() as stack:
        put_back = stack.enter_context(ROLLBACKS[way](mesh.server))
        with supervised(mesh.server):
            late = mesh.grow(3)
            before = mesh.addresses()
        put_back()
        with supervised(mesh.server):
            for number in range(commits):
                wanted = before[late[number].key] if number < len(late) else ()
                assert mesh.ask(join("zone-blue", number, name=f"new{number}", request_ip=wanted)).ok
            mesh.settles()
    after = mesh.addresses()
    moved = {key for key in after if after[key] != before[key]}
    assert {each.key for each in late[:commits]} <= moved <= {each.key for each in late}


@ways
def test_nodes_that_joined_later_are_lost_and_not_removed(
    mesh: Mesh, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They detect it without a supervisor, retain one another, and repeat their joins until one is there."""
    monkeypatch.setattr(follow, "REPORT_SECONDS", 1.0)
    with supervised(mesh.server):
        mesh.grow(2)
    with ExitStack() as stack:
        put_back = stack.enter_context(ROLLBACKS[way](mesh.server))
        with supervised(mesh.server):
            late = mesh.grow(4)
            before = mesh.addresses()
        put_back()
        for each in late:
            eventually(
                lambda each=each: each.follower and each.follower.view and not each.follower.membership.member
            )
            assert each.follower is not None
            assert not each.follower.membership.removed
            assert retained(each.follower.view) == {other.key for other in late} - {each.key}
        with supervised(mesh.server):
            mesh.settles()
    assert mesh.addresses() == before


def retained(view: ZoneView | None) -> set[str]:
    assert view is not None
    return set(view.retained)


@ways
def test_nodes_that_were_off_meanwhile_join_again_with_their_old_snapshots(mesh: Mesh, way: str) -> None:
    """They were released in the new history, and another node has one of the addresses; a start is a join."""
    with supervised(mesh.server):
        early = mesh.grow(3)
        with ROLLBACKS[way](mesh.server) as put_back:
            late = mesh.grow(3)
            before = mesh.addresses()
            off = [early[0], late[0], late[1]]
            for each in off:
                each.end()
            mesh.agents = [each for each in mesh.agents if each not in off]
            put_back()
            eventually(lambda: late[2].key in mesh.store.load("zone-blue").peers)
        for each in off:
            mesh.ask(Request.validated("release", "zone-blue", each.key), to=KEYS.operator_inbox)
        assert mesh.ask(join("zone-blue", 1, request_ip=before[late[0].key])).ok
        for each in off:
            each.live()
        mesh.agents += off
        mesh.settles()
    assert mesh.addresses()[late[0].key][0] != before[late[0].key][0]
    assert key_of(1) in mesh.store.load("zone-blue").peers
