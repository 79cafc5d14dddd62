# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand agents that come back at once after a week; the log was trimmed beyond where they stood."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import redis

from jaywalk_agent.zone import snapshot
from tests.bench.node import Node
from tests.bench.results import Figure
from tests.bench.stage import ZONE, Crowd, Stage, counters, request_of, stage, words_of

AGENTS = 1000
WEEK = 1200
"""Commits since they left, one node each, half of which the log still holds."""
PING_SECONDS = 0.002


class Pinger:
    """A client that only pings: what it waits at worst is how long Redis served nobody else."""

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


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """Until all are equal to the zone: seconds, bytes, and how long Redis kept another waiting at worst."""
    say(f"{AGENTS} agents come back after a week")
    with stage() as ground, tempfile.TemporaryDirectory(prefix="jw-bench-") as folder:
        memory = Path(folder) / "zone.json"
        _a_week(ground, memory)
        with Crowd("tests.bench.agents") as crowd, Pinger(ground.server.client()) as pinger:
            rev = ground.view().rev
            crowd.start(AGENTS, zone=ZONE, way=words_of(ground.agent_address), memory=str(memory))
            time.sleep(1)
            quiet, pinger.worst = pinger.worst, 0.0
            before = counters(ground.server)
            begun = min(crowd.ask("join"))
            seconds = crowd.until(rev=rev) - begun
            after = counters(ground.server)
            crowd.check_equal(ground.view())
    return {
        f"snapshot_{AGENTS}": Figure(round(seconds, 2), "s", AGENTS),
        f"snapshot_{AGENTS}_bytes": Figure(
            round((after["bytes"] - before["bytes"]) / AGENTS / 1000, 1), "kB an agent", AGENTS
        ),
        f"snapshot_{AGENTS}_worst_ping": Figure(
            round(pinger.worst * 1000, 1), "ms", AGENTS, f"while nothing happened: {quiet * 1000:.1f} ms"
        ),
    }


def _a_week(ground: Stage, memory: Path) -> None:
    """Leaves a snapshot of the zone in ``memory``, and a log that begins long after it."""
    ground.add_nodes(range(AGENTS))
    with ground.client() as client:
        snapshot.save(memory, client.snapshot())
        for number in range(WEEK):
            client.ask(request_of(Node(AGENTS + number % 10), moved=number), timeout=10).lease_or_raise()
    ground.redis.xtrim(client.keys.events, maxlen=WEEK // 2, approximate=False)
