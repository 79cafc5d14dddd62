# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand agents reconnect at once after a week; the log no longer has the events that they missed."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis

from jaywalk_agent.zone import snapshot
from tests.bench.fixture import (
    ZONE,
    BenchFixture,
    WorkerPool,
    arguments_of,
    bench_fixture,
    counters,
    request_of,
)
from tests.bench.node import Node
from tests.bench.results import Figure

AGENTS = 1000
# Commits since the agents disconnected, one node each; the log still has half of them.
WEEK_COMMITS = 1200
PING_SECONDS = 0.002


class Pinger:
    """A client that only pings: its longest wait is the longest time that Redis served no other client."""

    def __init__(self, client: redis.Redis) -> None:
        self.worst = 0.0
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Pinger:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(PING_SECONDS):
            begun = time.monotonic()
            self._client.ping()
            self.worst = max(self.worst, time.monotonic() - begun)


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure seconds and bytes until all copies equal the zone, and the longest wait of another client."""
    log(f"{AGENTS} agents reconnect after a week")
    with bench_fixture() as fixture, tempfile.TemporaryDirectory(prefix="jw-bench-") as folder:
        snapshot_file = Path(folder) / "zone.json"
        _a_week(fixture, snapshot_file)
        with WorkerPool("tests.bench.agents") as workers, Pinger(fixture.server.client()) as pinger:
            rev = fixture.view().rev
            workers.start(
                AGENTS,
                zone=ZONE,
                address=arguments_of(fixture.agent_address),
                snapshot_file=str(snapshot_file),
            )
            time.sleep(1)
            quiet, pinger.worst = pinger.worst, 0.0
            before = counters(fixture.server)
            begun = min(workers.call("join"))
            seconds = workers.wait_until(rev=rev) - begun
            after = counters(fixture.server)
            workers.check_equal(fixture.view())
    return {
        f"snapshot_{AGENTS}": Figure(round(seconds, 2), "s", AGENTS),
        f"snapshot_{AGENTS}_bytes": Figure(
            round((after["bytes"] - before["bytes"]) / AGENTS / 1000, 1), "kB an agent", AGENTS
        ),
        f"snapshot_{AGENTS}_worst_ping": Figure(
            round(pinger.worst * 1000, 1), "ms", AGENTS, f"while nothing happened: {quiet * 1000:.1f} ms"
        ),
    }


def _a_week(fixture: BenchFixture, snapshot_file: Path) -> None:
    """Save a snapshot of the zone, and let a log remain that starts long after it."""
    fixture.add_nodes(range(AGENTS))
    with fixture.client() as client:
        snapshot.save(snapshot_file, client.snapshot())
        for number in range(WEEK_COMMITS):
            client.ask(request_of(Node(AGENTS + number % 10), moved=number), timeout=10).lease_or_raise()
    fixture.redis.xtrim(client.keys.events, maxlen=WEEK_COMMITS // 2, approximate=False)
