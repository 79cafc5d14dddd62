# SPDX-License-Identifier: GPL-3.0-or-later
"""The cost of a supervisor process with many leases: its memory, and the time until its first reply."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from jaywalk.zone.codec import compact
from jaywalk.zone.models import Peer, Zone, lease_of
from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk.zone.requests import REPORT, REPORT_SECONDS, Request
from jaywalk_supervisor.state.pool import Pool
from jaywalk_supervisor.store.store import Store
from tests.bench.apply import random_key
from tests.bench.joins import request
from tests.bench.results import Figure
from tests.bench.service import TIMEOUT_SECONDS, redis_with, resident_mb, supervisor
from tests.replies import read_reply

PEERS = 10_000
LEASES = 100_000
STARTS = 3
PAGE = 1000
IDLE_ZONES = 52
IDLE_SECONDS = 30
MANY_ZONES = 500
# Supervisors measure each zone's log once in this time.
SETTLE_SECONDS = 60
REPORTS = 500
# Commands per second of two supervisors of 500 zones at f3fb42a, which had a leader's lease per zone.
LEASED_COMMANDS = 4120
# Bytes per zone and day at f3fb42a.
LEASED_BYTES_DAY = 13_900_000


def zones(count: int) -> list[Zone]:
    """Return zones with equal pools."""
    return [Zone(f"bench{number}", ("10.64.0.0/12",)) for number in range(count)]


def fill(store: Store, zone: Zone, count: int) -> None:
    """Write ``count`` peers and their leases to ``zone``, in the records of a supervisor."""
    keys, pool = ZoneKeys(zone.name), Pool(zone.pools[0])
    for begin in range(0, count, PAGE):
        peers = [peer(pool, number) for number in range(begin, min(begin + PAGE, count))]
        store.redis.hset(keys.peers, mapping={each.key: compact(each.to_wire()) for each in peers})
        leases = {each.key: compact(lease_of(each).to_wire()) for each in peers}
        store.redis.hset(keys.leases, mapping=leases)


def peer(pool: Pool, number: int) -> Peer:
    """Return a public node as it is after its join."""
    now = int(time.time())
    return Peer(
        random_key(),
        f"node{number}",
        (pool.text(pool.first + 1 + number),),
        endpoint=f"192.0.2.{1 + number % 250}:51820",
        seq=now * 1_000_000 + number,
        rev=1 + number,
        machine_id=f"{number:08x}",
        since=now,
    )


def first_reply(store: Store, zone: Zone, number: int) -> None:
    """Let a new node join ``zone``, and wait for the reply."""
    keys, joined = ZoneKeys(zone.name), request(zone.name, number)
    store.redis.rpush(keys.inbox, joined.to_wire())
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while read_reply(store.redis, keys, joined.nonce) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"zone {zone.name} did not reply to a join within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.01)


def memory(count: int) -> Figure:
    """Measure a supervisor that has read 10,000 peers in ``count`` zones and replied to a join."""
    tenants = zones(count)
    with redis_with(*tenants) as (server, store):
        for zone in tenants:
            fill(store, zone, PEERS // count)
        with supervisor(server) as process:
            first_reply(store, tenants[-1], PEERS)
            used = resident_mb(process.pid)
    with redis_with() as (server, store), supervisor(server) as process:
        first_reply(store, Zone("zone-red", ()), 0)
        empty = resident_mb(process.pid)
    return Figure(round(used, 1), "MB", 1, f"with no peers: {empty:.1f} MB", round(used / empty, 2))


def start() -> Figure:
    """Measure from the process's start to the reply to a waiting join, compared with reading the hashes."""
    (zone,) = tenants = zones(1)
    keys = ZoneKeys(zone.name)
    with redis_with(*tenants) as (server, store):
        fill(store, zone, LEASES)
        took, reading = [], []
        for number in range(STARTS):
            begun = time.monotonic()
            with supervisor(server):
                first_reply(store, zone, LEASES + number)
                took.append(time.monotonic() - begun)
            begun = time.monotonic()
            store.redis.hgetall(keys.peers), store.redis.hgetall(keys.leases)
            reading.append(time.monotonic() - begun)
    value, other = statistics.median(took), statistics.median(reading)
    bare = f"HGETALL of both hashes: {other:.2f} s"
    return Figure(round(value, 1), "s", STARTS, bare, round(value / other, 1))


def idle() -> Figure:
    """Measure the append-only file's growth by two supervisors while there are no requests."""
    tenants = zones(IDLE_ZONES)
    with redis_with(*tenants) as (server, store), supervisor(server), supervisor(server):
        first_reply(store, tenants[-1], 0)
        before, begun = _appended(store), time.monotonic()
        time.sleep(IDLE_SECONDS)
        written, took = _appended(store) - before, time.monotonic() - begun
    value = written / took * 86_400 / IDLE_ZONES
    bare = f"a lease for each zone, renewed each 0.3 s: {LEASED_BYTES_DAY}"
    return Figure(round(value), "B", IDLE_ZONES, bare, round(value / LEASED_BYTES_DAY, 3))


def commands() -> Figure:
    """Measure the Redis commands per second of two idle supervisors of 500 zones."""
    tenants = zones(MANY_ZONES)
    with redis_with(*tenants) as (server, store), supervisor(server), supervisor(server):
        first_reply(store, tenants[-1], 0)
        time.sleep(SETTLE_SECONDS)
        before, begun = _calls(store), time.monotonic()
        time.sleep(IDLE_SECONDS)
        value = (_calls(store) - before) / (time.monotonic() - begun)
    bare = f"a lease for each zone, renewed each 0.3 s: {LEASED_COMMANDS}"
    return Figure(round(value), "1/s", MANY_ZONES, bare, round(value / LEASED_COMMANDS, 3))


def reports() -> Figure:
    """Measure the append-only file's growth per day by an idle agent's reports, one per minute."""
    (zone,) = tenants = zones(1)
    keys = ZoneKeys(zone.name)
    with redis_with(*tenants) as (server, store), supervisor(server):
        joined = request(zone.name, 0)
        store.redis.rpush(keys.inbox, joined.to_wire())
        first_reply(store, zone, 1)
        before = _appended(store)
        for _ in range(REPORTS):
            report = Request.validated(REPORT, zone.name, joined.key, machine_id=joined.machine_id)
            store.redis.rpush(keys.inbox, report.to_wire())
            while store.redis.llen(keys.inbox):
                time.sleep(0.001)
        first_reply(store, zone, 2)
        written = (_appended(store) - before) / REPORTS
    return Figure(round(written * 86_400 / REPORT_SECONDS), "B", REPORTS)


def _calls(store: Store) -> int:
    return sum(int(each["calls"]) for each in store.redis.info("commandstats").values())


def _appended(store: Store) -> int:
    return int(store.redis.info("persistence")["aof_current_size"])


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all figures of this module."""
    log(f"a supervisor with {PEERS} peers, in 1 zone and in 100")
    figures = {"supervisor_rss_1_zone": memory(1), "supervisor_rss_100_zones": memory(100)}
    log(f"the start of a supervisor on {LEASES} leases")
    figures["supervisor_start_100k"] = start()
    log(f"the disk writes of {IDLE_ZONES} idle zones")
    figures |= {"aof_idle_bytes_day": idle(), "aof_reports_bytes_day": reports()}
    log(f"the Redis commands of {MANY_ZONES} idle zones")
    return figures | {"idle_commands_500_zones": commands()}
