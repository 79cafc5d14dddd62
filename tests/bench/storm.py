# SPDX-License-Identifier: GPL-3.0-or-later
"""N joins at once by N agents until all of them are equal, beside the original's scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.original import OriginalSupervisor
from tests.bench.results import Figure
from tests.bench.stage import ZONE, Crowd, counters, redis_server, stage, words_of

SIZES = (200, 400, 1000, 2000)
"""Of 5,000 each agent's own copy of the zone would fill 25 GB here: 25 million records."""
BESIDE = (200, 400)


@dataclass(frozen=True)
class Storm:
    """What one came to: seconds, bytes out of Redis an agent, and seconds of Redis's core."""

    seconds: float
    bytes_each: float
    redis_cpu: float


def ours(count: int) -> Storm:
    """The agents are connected and have read the empty zone; then all of them join."""
    with stage() as ground, Crowd("tests.bench.agents") as crowd:
        crowd.start(count, zone=ZONE, way=words_of(ground.agent_address))
        before = counters(ground.server)
        begun = min(crowd.ask("join"))
        ended = crowd.until(peers=count, settled=1)
        after = counters(ground.server)
        crowd.check_equal(ground.view())
    return _storm(ended - begun, count, before, after)


def original(count: int) -> Storm:
    """The same with the original's list at each join; Redis drops no subscriber that is slow."""
    with (
        redis_server(client_output_buffer_limit="pubsub 0 0 0") as server,
        OriginalSupervisor(server),
        Crowd("tests.bench.original") as crowd,
    ):
        crowd.start(count, way=words_of(server.address))
        before = counters(server)
        begun = min(crowd.ask("join"))
        ended = crowd.until(peers=count)
        after = counters(server)
    return _storm(ended - begun, count, before, after)


def _storm(seconds: float, count: int, before: dict[str, float], after: dict[str, float]) -> Storm:
    return Storm(seconds, (after["bytes"] - before["bytes"]) / count, after["cpu"] - before["cpu"])


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """All sizes, and the original's beside the small ones."""
    figures = {}
    for count in SIZES:
        say(f"{count} nodes join at once")
        mine = ours(count)
        figures[f"storm_{count}"] = Figure(round(mine.seconds, 2), "s", count)
        figures[f"storm_{count}_bytes"] = Figure(round(mine.bytes_each / 1000, 1), "kB an agent", count)
        figures[f"storm_{count}_redis_cpu"] = Figure(round(mine.redis_cpu, 2), "s", count)
        if count in BESIDE:
            figures |= _beside(count, mine, say)
    return figures


def _beside(count: int, mine: Storm, say: Callable[[str], None]) -> dict[str, Figure]:
    say(f"{count} nodes join at once, with the original's scheme")
    other = original(count)
    return {
        f"storm_{count}_original_time": Figure(
            round(other.seconds, 2),
            "s",
            count,
            f"ours: {mine.seconds:.2f} s",
            round(other.seconds / mine.seconds, 1),
        ),
        f"storm_{count}_original_bytes": Figure(
            round(other.bytes_each / 1000, 1),
            "kB an agent",
            count,
            f"ours: {mine.bytes_each / 1000:.1f} kB",
            round(other.bytes_each / mine.bytes_each, 1),
        ),
    }
