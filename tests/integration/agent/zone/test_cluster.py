# SPDX-License-Identifier: GPL-3.0-or-later
"""A controller that is a Redis Cluster of three shards, with zones on different ones."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect, locate
from jaywalk.core.errors import ControllerDenied, ControllerUnreachable, NoAnswer
from jaywalk.zone.models import Zone, reservation_key
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_agent.host.signals import StopSignal
from jaywalk_agent.zone import follower as follow
from jaywalk_agent.zone.follower import Follower, Update
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.api.replica import Replica
from jaywalk_supervisor.committer.cluster import ClusterCommitter
from jaywalk_supervisor.store.acl import password_hash
from jaywalk_supervisor.store.store import Store
from tests.follower_support import follower_of, is_settled
from tests.integration.agent.zone.test_follower import Backoff
from tests.redis_cluster import Cluster
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, join, key_of, until

ZONES = tuple(Zone(name, ("10.20.0.0/20",)) for name in ("zone-red", "zone-blue", "zone-green"))


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster() as started:
        yield started


@pytest.fixture
def supervisor(cluster: Cluster) -> Iterator[ClusterCommitter]:
    stop = threading.Event()
    where = cluster.address_of("supervisor", cluster.password)
    committer = ClusterCommitter(where, password_hash(AGENT_PASSWORD), ZONES, stop)
    thread = threading.Thread(target=committer.run, daemon=True)
    thread.start()
    until(lambda: not committer.health.error and len(committer.health.led) == len(ZONES))
    yield committer
    stop.set()
    thread.join(20)
    assert not thread.is_alive()


def agent_of(cluster: Cluster, zone: str) -> ControllerAddress:
    return replace(cluster.address_of(f"agent-{zone}", AGENT_PASSWORD), zone=zone, timeout=25)


def client(where: ControllerAddress) -> ZoneClient:
    return ZoneClient(connect(where), where, where.zone)


@pytest.mark.usefixtures("supervisor")
def test_zones_on_different_shards_are_all_served(cluster: Cluster) -> None:
    ports = {locate(agent_of(cluster, zone.name)).port for zone in ZONES}
    assert ports == {server.port for server in cluster.servers}
    for zone in ZONES:
        reply = client(agent_of(cluster, zone.name)).ask(join(zone.name, 1), 20)
        assert reply.addresses == ("10.20.0.1",)
    with pytest.raises(ControllerDenied):
        client(replace(agent_of(cluster, "zone-red"), zone="zone-blue")).snapshot()
    replica = Replica(cluster.address_of("supervisor", cluster.password))
    with replica.zones() as zones:
        assert {name: list(state.peers) for name, state in zones.items()} == {
            zone.name: [key_of(1)] for zone in ZONES
        }
        position = zones["zone-red"].stream_id
    client(agent_of(cluster, "zone-red")).ask(join("zone-red", 2), 20)
    with replica.zones() as zones:
        assert set(zones["zone-red"].peers) == {key_of(1), key_of(2)}
        assert zones["zone-red"].stream_id != position
    replica.close()


def test_a_zone_that_appears_is_served(cluster: Cluster, supervisor: ClusterCommitter) -> None:
    store = Store.open(cluster.address_of("supervisor", cluster.password), "test")
    store.create(Zone("zone-new", ("10.30.0.0/24",)))
    until(lambda: "zone-new" in supervisor.health.led)
    store.close()
    assert client(agent_of(cluster, "zone-new")).ask(join("zone-new", 1), 20).addresses == ("10.30.0.1",)


def test_an_unreachable_shard_stops_only_its_own_zones(
    cluster: Cluster, supervisor: ClusterCommitter
) -> None:
    replica, gone = Replica(cluster.address_of("supervisor", cluster.password)), cluster.shard_of("zone-red")
    with replica.zones() as zones:
        assert set(zones) == {zone.name for zone in ZONES}
    gone.crash()
    (other,) = {cluster.shard_of("zone-blue")} - {gone}
    until(lambda: _state(other)["cluster_slots_fail"] != "0")
    assert client(agent_of(cluster, "zone-blue")).ask(join("zone-blue", 1), 20).ok
    with replica.zones(with_last_seen=True) as zones:
        assert {name: len(state.peers) for name, state in zones.items()} == {
            "zone-blue": 1,
            "zone-green": 0,
            "zone-red": 0,
        }
    replica.close()
    gone.start()
    until(lambda: _answers(agent_of(cluster, "zone-red")))


def test_an_agent_follows_its_zone_after_a_restart_of_its_shard(
    cluster: Cluster, supervisor: ClusterCommitter, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RECONNECT", Backoff(0.2))
    follower, updates = joined(cluster, stop)
    epoch = follower.view.epoch  # type: ignore[union-attr]
    cluster.shard_of("zone-blue").restart()
    check_follows(cluster, follower, updates)
    assert follower.view.epoch > epoch  # type: ignore[union-attr]


def test_all_follow_a_zone_to_another_shard(
    cluster: Cluster, supervisor: ClusterCommitter, stop: StopSignal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its slot moves key by key, as with ``redis-cli --cluster reshard``, while nodes send requests."""
    monkeypatch.setattr(follow, "RECONNECT", Backoff(0.2))
    follower, updates = joined(cluster, stop)
    before, address = locate(follower.address()).port, follower.view.peers[key_of(0)].addresses  # type: ignore[union-attr]
    stopped = threading.Event()
    asking = threading.Thread(target=_ask_on, args=(cluster, stopped))
    asking.start()
    cluster.move("zone-blue", cluster.servers[0])
    stopped.set()
    asking.join()
    assert locate(follower.address()).port == cluster.servers[0].port != before
    check_follows(cluster, follower, updates)
    assert follower.view.peers[key_of(0)].addresses == address  # type: ignore[union-attr]
    operator = replace(cluster.address_of("supervisor", cluster.password), zone="zone-blue")
    leases = client(operator).leases()
    assert len({lease.addresses for lease in leases}) == len(leases)


def _ask_on(cluster: Cluster, stopped: threading.Event) -> None:
    """Nodes join one after another, some while no supervisor can commit."""
    number = 100
    while not stopped.is_set():
        with suppress(ControllerUnreachable, NoAnswer):
            where = replace(agent_of(cluster, "zone-blue"), timeout=1)
            client(where).ask(join("zone-blue", number), 1)
        number += 1


def joined(cluster: Cluster, stop: StopSignal) -> tuple[Follower, Iterator[Update]]:
    """An agent in zone-blue, and its updates."""
    where = agent_of(cluster, "zone-blue")
    follower = follower_of(lambda: where, stop)
    updates = follower.updates()
    while not is_settled(follower):
        next(updates)
    return follower, updates


def check_follows(cluster: Cluster, follower: Follower, updates: Iterator[Update]) -> None:
    """Another node joins, and the agent receives its record."""
    operator = replace(cluster.address_of("supervisor", cluster.password), zone="zone-blue")
    until(lambda: _answers(operator))
    assert follower.view is not None
    while key_of(1) not in follower.view.peers:
        next(updates)
    assert follower.membership.member
    updates.close()  # type: ignore[attr-defined]


def _state(server: RedisServer) -> dict[str, str]:
    with server.client() as operator:
        return dict(operator.execute_command("CLUSTER INFO"))


def _answers(where: ControllerAddress) -> bool:
    try:
        return client(where).ask(join(where.zone, 1), 5).ok
    except Exception:
        return False


def test_a_shard_that_lost_everything_gets_its_zone_back_and_an_unreachable_one_is_not_empty(
    cluster: Cluster, supervisor: ClusterCommitter
) -> None:
    """The list of zones, the removed zones and the tokens are on other shards than the zone."""
    store = Store.open(cluster.address_of("supervisor", cluster.password), "test")
    zones.add(store, "zone-new", ZonePatch(cidr=["10.30.0.0/24"]), "password-of-zone-new")
    until(lambda: "zone-new" in supervisor.health.led)
    order = Request.validated("reserve", "zone-new", "", name="printer", request_ip=["10.30.0.9"])
    there = replace(supervisor.where, zone="zone-new")
    assert (
        ZoneClient(connect(there), there, "zone-new").ask(order, 20, ZoneKeys("zone-new").operator_inbox).ok
    )
    epochs = {zone.name: store.load(zone.name).epoch for zone in ZONES}
    emptied = cluster.shard_of("zone-new")
    emptied.client().flushall()
    until(lambda: len(store.zones()) == len(ZONES) + 1)
    until(lambda: store.redis.exists(ZoneKeys("zone-new").meta))
    until(lambda: reservation_key("printer") in store.load("zone-new").leases)
    assert store.redis.hget(ZoneKeys("zone-new").credentials, "agent") == password_hash(
        "password-of-zone-new"
    )
    stayed = [zone.name for zone in ZONES if cluster.shard_of(zone.name) is not emptied]
    assert {name: store.load(name).epoch for name in stayed} == {name: epochs[name] for name in stayed}
    store.close()
