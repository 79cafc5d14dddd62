# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis whose memory is full: no commit is partial, and the supervisor recovers by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.core.errors import ControllerFull
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.monitoring.health import Health
from jaywalk_supervisor.monitoring.memory import MemoryMonitor
from jaywalk_supervisor.store.store import Store
from tests.integration.supervisor.committer.test_committer import check_log, check_no_address_twice
from tests.redis_server import RedisServer
from tests.supervisor_support import AGENT_PASSWORD, client_of, committing, join, key_of, until

KEYS = ZoneKeys("zone-blue")
PUSH = "#!lua flags=allow-oom\nreturn redis.call('RPUSH', KEYS[1], unpack(ARGV))"


def bound(store: Store, room: int) -> None:
    """Limits Redis's memory to its current use plus ``room`` bytes; a negative number makes it full."""
    store.redis.config_set("maxmemory", max(1, store.redis.info("memory")["used_memory"] + room))


@pytest.fixture
def store(redis_server: RedisServer, store: Store) -> Iterator[Store]:
    """A store whose Redis has no memory limit after the test."""
    yield store
    with redis_server.client() as client:
        client.config_set("maxmemory", 0)


def push(store: Store, *requests: Request) -> None:
    """Adds requests to the inbox even if Redis's memory is full."""
    store.redis.eval(PUSH, 1, KEYS.inbox, *(each.to_wire() for each in requests))


def operator(kind: str, number: int) -> Request:
    return Request.validated(kind, "zone-blue", key_of(number))


def test_joins_wait_for_memory_and_what_frees_some_goes_through(
    redis_server: RedisServer, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with committing(redis_server.address) as committer:
        blue, health = client_of(store, "zone-blue"), committer.health
        for number in range(3):
            blue.ask(join("zone-blue", number), timeout=20)
        bound(store, -100_000)
        until(lambda: health.memory_error)
        assert "has no memory left: give its Redis more ('maxmemory')" in health.memory_error
        with pytest.raises(ControllerFull):
            blue.ask(join("zone-blue", 7), timeout=20)
        leave = Request.validated("leave", "zone-blue", key_of(1))
        push(store, join("zone-blue", 8), leave, join("zone-blue", 9))
        until(lambda: not store.redis.hexists(KEYS.peers, key_of(1)))
        assert health.drops["memory-full"] == 2
        assert blue.ask(operator("release", 2), 20, KEYS.operator_inbox).ok
        assert store.redis.hkeys(KEYS.peers) == [key_of(0)]
        check_log(store)
        assert not health.error
        store.redis.config_set("maxmemory", 0)
        assert blue.ask(join("zone-blue", 8), timeout=20).changed
        until(lambda: not health.memory_error)
        check_log(store)
    assert caplog.text.count("has no memory left") == 1


def test_memory_that_ends_amid_a_storm_leaves_each_commit_whole(
    redis_server: RedisServer, store: Store
) -> None:
    asked = [join("zone-blue", number) for number in range(3000)]
    with committing(redis_server.address) as committer:
        store.redis.rpush(KEYS.inbox, *(each.to_wire() for each in asked))
        bound(store, 100_000)
        until(lambda: store.redis.llen(KEYS.inbox) == 0)
        until(lambda: committer.health.drops["memory-full"])
        check_log(store)
        check_no_address_twice(store)
        assert 0 < store.redis.hlen(KEYS.peers) < len(asked)
        store.redis.config_set("maxmemory", 0)
        assert client_of(store, "zone-blue").ask(asked[-1], timeout=20).ok
        until(lambda: not committer.health.memory_error)
    check_log(store)


def test_a_supervisor_that_starts_beside_a_full_redis_serves_and_empties_its_inbox(
    redis_server: RedisServer, store: Store
) -> None:
    """The flood itself fills the memory; the leader removes it from the inbox."""
    with committing(redis_server.address):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    bound(store, 5_000_000)
    where = ControllerAddress(redis_server.host, redis_server.port, "agent-zone-blue", AGENT_PASSWORD)
    flooding = ZoneClient(connect(where), where, "zone-blue")

    def flood() -> None:
        while True:
            flooding.client.rpush(KEYS.inbox, *["x" * 1000] * 100)

    with pytest.raises(redis.ResponseError, match="used memory > 'maxmemory'"):
        flood()
    with committing(redis_server.address) as committer:
        until(lambda: store.redis.llen(KEYS.inbox) == 0)
        until(lambda: not committer.health.memory_error)
        assert client_of(store, "zone-blue").ask(join("zone-blue", 2), timeout=20).changed
    check_log(store)


def test_a_zone_of_a_redis_that_restarted_full_is_taken_up(redis_server: RedisServer, store: Store) -> None:
    with committing(redis_server.address):
        assert client_of(store, "zone-blue").ask(join("zone-blue", 1), timeout=20).ok
    redis_server.restart()
    fresh = Store.open(redis_server.address, "test")
    bound(fresh, -100_000)
    with committing(redis_server.address) as committer:
        until(lambda: "zone-blue" in committer.health.led)
        assert client_of(fresh, "zone-blue").ask(operator("release", 1), 20, KEYS.operator_inbox).ok
    fresh.redis.config_set("maxmemory", 0)
    assert fresh.load("zone-blue").peers == {}


def test_an_inbox_is_cut_by_its_bytes_too_and_what_waits_longest_stays(store: Store) -> None:
    texts = [f"{number:04}" + "x" * 10_000 for number in range(1000)]
    store.redis.rpush(KEYS.inbox, *texts)
    assert store.trim(KEYS.inbox, 900, 1 << 30) == 100
    cut = store.trim(KEYS.inbox, 20_000, 1_000_000)
    left = store.redis.lrange(KEYS.inbox, 0, -1)
    assert left == texts[: 900 - cut]
    assert 50 < len(left) < 100
    assert store.trim(KEYS.inbox, 20_000, 1 << 30) == 0
    assert store.trim(ZoneKeys("zone-none").inbox, 20_000, 1 << 30) == 0


class MemoryOnlyStore(Store):
    """A store that returns only a server's memory use."""

    def __init__(self, **memory: int) -> None:
        self.memory = memory

    def info(self, section: str) -> list[dict[str, object]]:
        return [dict(self.memory)]


def test_memory_counts_as_full_by_what_redis_counts_and_as_relieved_a_little_below() -> None:
    health = Health()
    monitor = MemoryMonitor(health, ControllerAddress("192.0.2.1"))
    for used, aside, full in (
        (90, 0, False),
        (105, 10, False),
        (100, 0, True),
        (98, 0, True),
        (96, 0, False),
    ):
        monitor.check(MemoryOnlyStore(used_memory=used, mem_not_counted_for_evict=aside, maxmemory=100))
        assert bool(health.memory_error) == full
    monitor.check(MemoryOnlyStore(used_memory=10**12, maxmemory=0))
    assert not health.memory_error
