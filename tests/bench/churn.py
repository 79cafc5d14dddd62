# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of Redis and of the supervisor after a hundred thousand fresh keys joined and left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from jaywalk.zone.models import Zone
from jaywalk.zone.patch import ZonePatch
from jaywalk.zone.policy import Policy
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import Request
from jaywalk_supervisor.admin import zones
from jaywalk_supervisor.store.store import Store
from tests.bench.joins import AT_ONCE, WAITING, request
from tests.bench.results import Figure
from tests.bench.service import await_served, redis_with, resident_mb, supervisor
from tests.chaos.machines import SupervisorProcess

KEYS = 100_000
ZONE = Zone("bench", ("10.64.0.0/12",), "", replace(Policy(quarantine=0), forget_after=None))
NAMES = ZoneKeys(ZONE.name)
TIMEOUT_SECONDS = 900.0


@dataclass(frozen=True)
class Memory:
    """Megabytes (10^6 bytes) of Redis's data and of the supervisor's process."""

    redis: float
    supervisor: float


def memory(store: Store, process: SupervisorProcess) -> Memory:
    """Return the present memory."""
    return Memory(int(store.redis.info("memory")["used_memory"]) / 1e6, resident_mb(process.pid))


def churn(store: Store, keys: int = KEYS) -> None:
    """Let ``keys`` nodes join and leave, each once, in groups."""
    for begin in range(0, keys, AT_ONCE):
        joins = [request(ZONE.name, number) for number in range(begin, begin + AT_ONCE)]
        leaves = [Request.validated("leave", ZONE.name, each.key) for each in joins]
        waiting = store.redis.rpush(NAMES.inbox, *(each.to_wire() for each in (*joins, *leaves)))
        if waiting > WAITING:
            wait_until(lambda: store.redis.llen(NAMES.inbox) < WAITING // 2)
    wait_until(lambda: store.redis.llen(NAMES.inbox) == 0 and store.redis.hlen(NAMES.peers) == 0)


def wait_until(done: Callable[[], bool]) -> None:
    """Wait until ``done()``, at most ``TIMEOUT_SECONDS``."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.02)


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure before the churn, after it, and once its leases have ended."""
    assert ZONE.policy.forget_after is None
    log(f"the memory after {KEYS} fresh keys")
    with redis_with(ZONE) as (server, store), supervisor(server) as process:
        await_served(store, ZONE.name)
        before = memory(store, process)
        churn(store)
        assert store.redis.hlen(NAMES.leases) == KEYS
        after = memory(store, process)
        events_mb = store.redis.memory_usage(NAMES.events, samples=0) / 1e6
        zones.change(store, ZONE.name, ZonePatch(forget_after=0))
        begun = time.monotonic()
        wait_until(lambda: store.redis.hlen(NAMES.leases) == 0)
        took = time.monotonic() - begun
        time.sleep(2)
        ended = memory(store, process)
    redis = f"before: {before.redis:.1f} MB; after their leases ended: {ended.redis:.1f} MB"
    own = f"before: {before.supervisor:.0f} MB; after their leases ended: {ended.supervisor:.0f} MB"
    return {
        "churn_redis": Figure(round(after.redis, 1), "MB", KEYS, f"{redis}; {events_mb:.1f} MB are the log"),
        "churn_supervisor_rss": Figure(round(after.supervisor), "MB", KEYS, own),
        "churn_forget_s": Figure(round(took), "s", KEYS),
    }
