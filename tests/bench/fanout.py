# SPDX-License-Identifier: GPL-3.0-or-later
"""One join until the last of M agents has applied it, beside a bare XADD to as many bare XREADs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from jaywalk.zone.redis_keys import ZoneKeys
from jaywalk_supervisor.state.zone_state import wait_ms_of
from tests.bench.node import Node
from tests.bench.results import Figure
from tests.bench.stage import ZONE, Crowd, Stage, most_sockets, request_of, stage, words_of, workers_for

SIZES = (100, 1000, 5000, 10000)
TURNS = 3
"""How often agents and bare readers take turns, since what else runs on the machine comes and goes."""
ROUNDS = 5
"""Joins, or entries, of one turn."""
QUIET = 3.0
"""Seconds between two joins: all agents have read on, have looked after their interface, and wait again."""
HEARD = 0.1
"""Seconds in which the crowd's processes take in what to wait for, so that this falls into no join."""
IDENTITIES = 20
"""Peers of the zone, which the agents share: ten thousand times ten thousand records would fill 80 GB."""
EVENTS = ZoneKeys(ZONE).events


def agents(ground: Stage, count: int) -> list[float]:
    """Seconds from a request to join to the last agent that has applied it, a round each."""
    times = []
    ground.redis.hset(ZoneKeys(ZONE).meta, "wait_ms", wait_ms_of(count))
    with Crowd("tests.bench.agents", workers_for(count)) as crowd, ground.client() as client:
        crowd.start(count, zone=ZONE, way=words_of(ground.agent_address), identities=IDENTITIES)
        crowd.ask("join")
        crowd.until(settled=1)
        rev = ground.view().rev
        for _ in range(ROUNDS):
            time.sleep(QUIET)
            rev += 1
            request = request_of(Node(1000 + rev))
            crowd.tell("until", rev=rev)
            time.sleep(HEARD)
            begun = time.monotonic()
            client.submit(request)
            times.append(max(crowd.answers()) - begun)
    return times


def bare(ground: Stage, count: int) -> list[float]:
    """Seconds from an XADD of the same entry to the last bare reader that has it, a round each."""
    times = []
    stream = f"{{{ZONE}}}:bare"
    newest: Any = ground.redis.xrevrange(EVENTS, count=1)
    entry = newest[0][1]
    with Crowd("tests.bench.bare", workers_for(count)) as crowd:
        pause = wait_ms_of(count) / 1000
        crowd.start(count, stream=stream, way=words_of(ground.server.address), pause=pause)
        for round_ in range(ROUNDS):
            time.sleep(QUIET)
            crowd.tell("until", seen=round_ + 1)
            time.sleep(HEARD)
            begun = time.monotonic()
            ground.redis.xadd(stream, entry)
            times.append(max(crowd.answers()) - begun)
    ground.redis.delete(stream)
    return times


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """All sizes that Redis can have as many clients for here."""
    sizes = [size for size in SIZES if size <= most_sockets()]
    figures = {}
    with stage() as ground:
        ground.add_nodes(range(IDENTITIES))
        for count in sizes:
            say(f"one join to {count} agents")
            ours, other = [], []
            for _ in range(TURNS):
                ours += agents(ground, count)
                other += bare(ground, count)
            figures[f"fanout_last_ms_{count}"] = Figure.against(ours, other, f"bare XADD to {count} XREADs")
    return figures
