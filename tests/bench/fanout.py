# SPDX-License-Identifier: GPL-3.0-or-later
"""The time from a join until the last of M agents has applied it, compared with an XADD to M XREADs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.state.zone_state import wait_ms_of
from tests.bench.fixture import (
    ZONE,
    BenchFixture,
    WorkerPool,
    arguments_of,
    bench_fixture,
    max_sockets,
    request_of,
    workers_for,
)
from tests.bench.node import Node
from tests.bench.results import Figure

SIZES = (100, 1000, 5000, 10000)
TLS_SIZE = 1000
# Agents and bare readers alternate this number of times, since the machine's other load varies.
TURNS = 3
# Joins, or entries, of one turn.
ROUNDS = 5
# Between two joins: all agents have read the event, have checked their interface, and wait again.
QUIET_SECONDS = 3.0
# The workers read their next goal in this time, so that no join's time includes it.
GOAL_SECONDS = 0.1
# Peers of the zone, which the agents share: ten thousand times ten thousand records would fill 80 GB.
IDENTITIES = 20
# Agents of one of these nodes at most: the supervisor accepts 30 requests of a key at once.
AGENTS_PER_KEY = 25
EVENTS = ZoneKeys(ZONE).events


def identities_of(count: int) -> int:
    """Return the number of nodes that so many agents share."""
    return max(IDENTITIES, count // AGENTS_PER_KEY)


def agents(fixture: BenchFixture, count: int) -> list[float]:
    """Return for each round the seconds from a join request until the last agent has applied it."""
    times = []
    shared = identities_of(count)
    fixture.redis.hset(ZoneKeys(ZONE).meta, "wait_ms", wait_ms_of(count))
    with WorkerPool("tests.bench.agents", workers_for(count)) as workers, fixture.client() as client:
        workers.start(count, zone=ZONE, address=arguments_of(fixture.agent_address), identities=shared)
        workers.call("join")
        workers.wait_until(settled=1)
        rev = fixture.view().rev
        for _ in range(ROUNDS):
            time.sleep(QUIET_SECONDS)
            rev += 1
            request = request_of(Node(1000 + rev))
            workers.send("wait_until", rev=rev)
            time.sleep(GOAL_SECONDS)
            begun = time.monotonic()
            client.submit(request)
            times.append(max(workers.replies()) - begun)
    return times


def baseline(fixture: BenchFixture, count: int) -> list[float]:
    """Return for each round the seconds from an XADD of the same entry until the last bare reader has it."""
    times = []
    stream = f"{{{ZONE}}}:bare"
    newest: Any = fixture.redis.xrevrange(EVENTS, count=1)
    entry = newest[0][1]
    with WorkerPool("tests.bench.baseline", workers_for(count)) as workers:
        pause = wait_ms_of(count) / 1000
        workers.start(count, stream=stream, address=arguments_of(fixture.server.address), pause=pause)
        for round_ in range(ROUNDS):
            time.sleep(QUIET_SECONDS)
            workers.send("wait_until", received=round_ + 1)
            time.sleep(GOAL_SECONDS)
            begun = time.monotonic()
            fixture.redis.xadd(stream, entry)
            times.append(max(workers.replies()) - begun)
    fixture.redis.delete(stream)
    return times


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all sizes for which Redis can have enough clients here."""
    sizes = [size for size in SIZES if size <= max_sockets()]
    figures = {}
    with bench_fixture() as fixture:
        for count in sizes:
            fixture.add_nodes(range(identities_of(count)))
            log(f"one join to {count} agents")
            ours, other = [], []
            for _ in range(TURNS):
                ours += agents(fixture, count)
                other += baseline(fixture, count)
            figures[f"fanout_last_ms_{count}"] = Figure.against(ours, other, f"bare XADD to {count} XREADs")
    return figures


def measure_tls(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure what TLS between the agents and Redis costs, with as many agents as many fleets have."""
    log(f"one join to {TLS_SIZE} agents, with TLS and in plain text")
    encrypted: list[float] = []
    plain: list[float] = []
    for _ in range(TURNS):
        for times, tls in ((encrypted, True), (plain, False)):
            with bench_fixture(tls) as fixture:
                fixture.add_nodes(range(identities_of(TLS_SIZE)))
                times += agents(fixture, TLS_SIZE)
    name = f"fanout_tls_last_ms_{TLS_SIZE}"
    return {name: Figure.against(encrypted, plain, f"{TLS_SIZE} agents in plain text")}
