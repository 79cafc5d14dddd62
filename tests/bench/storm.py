# SPDX-License-Identifier: GPL-3.0-or-later
"""N agents join at once until all copies are equal, compared with the original's scheme."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.fixture import ZONE, WorkerPool, arguments_of, bench_fixture, counters, redis_server
from tests.bench.original import OriginalSupervisor
from tests.bench.results import Figure

# With 5,000 agents, their copies of the zone would fill 25 GB here: 25 million records.
SIZES = (200, 400, 1000, 2000)
COMPARED = (200, 400)


@dataclass(frozen=True)
class Storm:
    """The result: seconds, Redis's output bytes per agent, and Redis's processor seconds."""

    seconds: float
    bytes_each: float
    redis_cpu: float


def ours(count: int) -> Storm:
    """Measure agents that are connected, have read the empty zone, and all join then."""
    with bench_fixture() as fixture, WorkerPool("tests.bench.agents") as workers:
        workers.start(count, zone=ZONE, address=arguments_of(fixture.agent_address))
        before = counters(fixture.server)
        begun = min(workers.call("join"))
        ended = workers.wait_until(peers=count, settled=1)
        after = counters(fixture.server)
        workers.check_equal(fixture.view())
    return _storm(ended - begun, count, before, after)


def original(count: int) -> Storm:
    """Measure the same with the original's list at each join; Redis disconnects no slow subscriber."""
    with (
        redis_server(client_output_buffer_limit="pubsub 0 0 0") as server,
        OriginalSupervisor(server),
        WorkerPool("tests.bench.original") as workers,
    ):
        workers.start(count, address=arguments_of(server.address))
        before = counters(server)
        begun = min(workers.call("join"))
        ended = workers.wait_until(peers=count)
        after = counters(server)
    return _storm(ended - begun, count, before, after)


def _storm(seconds: float, count: int, before: dict[str, float], after: dict[str, float]) -> Storm:
    return Storm(seconds, (after["bytes"] - before["bytes"]) / count, after["cpu"] - before["cpu"])


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all sizes, and the original's scheme with the small ones."""
    figures = {}
    for count in SIZES:
        log(f"{count} nodes join at once")
        mine = ours(count)
        figures[f"storm_{count}"] = Figure(round(mine.seconds, 2), "s", count)
        figures[f"storm_{count}_bytes"] = Figure(round(mine.bytes_each / 1000, 1), "kB an agent", count)
        figures[f"storm_{count}_redis_cpu"] = Figure(round(mine.redis_cpu, 2), "s", count)
        if count in COMPARED:
            figures |= _compared(count, mine, log)
    return figures


def _compared(count: int, mine: Storm, log: Callable[[str], None]) -> dict[str, Figure]:
    log(f"{count} nodes join at once, with the original's scheme")
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
