# SPDX-License-Identifier: GPL-3.0-or-later
"""A running Redis is restored from an older copy; half of its agents joined after the copy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from tests.bench.fixture import ZONE, BenchFixture, WorkerPool, arguments_of, bench_fixture
from tests.bench.results import Figure
from tests.redis_rollback import ROLLBACKS

AGENTS = 100
ROUNDS = 3


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure the seconds until all agents equal Redis again, with their old addresses."""
    log(f"{ROUNDS} restored copies of a Redis with {AGENTS} agents, for each of {len(ROLLBACKS)} kinds")
    times = {kind: [_round(kind) for _ in range(ROUNDS)] for kind in ROLLBACKS}
    others = ", ".join(f"{kind}: {min(each):.1f} to {max(each):.1f} s" for kind, each in times.items())
    value = statistics.median(seconds for each in times.values() for seconds in each)
    return {"rollback_notice_s": Figure(round(value, 1), "s", AGENTS, others)}


def _round(kind: str) -> float:
    half = AGENTS // 2
    with (
        bench_fixture() as fixture,
        WorkerPool("tests.bench.agents") as early,
        WorkerPool("tests.bench.agents") as late,
    ):
        _join(early, fixture, 0, half)
        with ROLLBACKS[kind](fixture.server) as restore:
            _join(late, fixture, half, half)
            early.wait_until(peers=AGENTS, settled=1)
            known = fixture.view()
            begun = time.monotonic()
            restore()
            ended = max(each.wait_until(peers=AGENTS, settled=1, after=known.epoch) for each in (early, late))
        zone = fixture.view()
        for each in (early, late):
            each.wait_until(rev=zone.rev)
            each.check_equal(zone)
        if {key: peer.addresses for key, peer in zone.peers.items()} != {
            key: peer.addresses for key, peer in known.peers.items()
        }:
            raise RuntimeError("a node rejoined with another address")
    return ended - begun


def _join(workers: WorkerPool, fixture: BenchFixture, first: int, count: int) -> None:
    workers.start(count, base=first, zone=ZONE, address=arguments_of(fixture.agent_address))
    workers.call("join")
    workers.wait_until(peers=first + count, settled=1)
