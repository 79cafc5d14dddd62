# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis that is put back to an older copy while it runs, under agents half of whom joined since then."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from tests.bench.results import Figure
from tests.bench.stage import ZONE, Crowd, Stage, stage, words_of
from tests.redis_rollback import ROLLBACKS

AGENTS = 100
ROUNDS = 3


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """Seconds until all agents equal Redis again, with the addresses that they had; nobody else commits."""
    say(f"{ROUNDS} times a Redis is put back under {AGENTS} agents, in {len(ROLLBACKS)} ways")
    taken = {way: [_round(way) for _ in range(ROUNDS)] for way in ROLLBACKS}
    others = ", ".join(f"{way}: {min(each):.1f} to {max(each):.1f} s" for way, each in taken.items())
    value = statistics.median(seconds for each in taken.values() for seconds in each)
    return {"rollback_notice_s": Figure(round(value, 1), "s", AGENTS, others)}


def _round(way: str) -> float:
    half = AGENTS // 2
    with stage() as ground, Crowd("tests.bench.agents") as early, Crowd("tests.bench.agents") as late:
        _join(early, ground, 0, half)
        with ROLLBACKS[way](ground.server) as put_back:
            _join(late, ground, half, half)
            early.until(peers=AGENTS, settled=1)
            known = ground.view()
            begun = time.monotonic()
            put_back()
            ended = max(each.until(peers=AGENTS, settled=1, after=known.epoch) for each in (early, late))
        zone = ground.view()
        for each in (early, late):
            each.until(rev=zone.rev)
            each.check_equal(zone)
        if {key: peer.addresses for key, peer in zone.peers.items()} != {
            key: peer.addresses for key, peer in known.peers.items()
        }:
            raise RuntimeError("a node came back with another address")
    return ended - begun


def _join(crowd: Crowd, ground: Stage, first: int, count: int) -> None:
    crowd.start(count, base=first, zone=ZONE, way=words_of(ground.agent_address))
    crowd.ask("join")
    crowd.until(peers=first + count, settled=1)
