# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a real fleet in the lab: roll-outs, join latency, packet loss while others join and leave."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Request
from lab import playbook_variables
from lab.fleet import Lab
from tests import runs
from tests.bench import heal, tunnels
from tests.bench.apply import timed
from tests.bench.results import Figure, percentile
from tests.fleet.fleet import MEMBERS, ROOT, UNIT, ZONE, Fleet
from tests.proven_nodes import NodesClient, pair_of

JOINS = 100
CHURN = 50
# Between two joins: longer than an agent's wait between two reads, so that all agents are idle at each join.
PAUSE_SECONDS = 0.25


@contextmanager
def fleet(log: Callable[[str], None]) -> Iterator[Fleet]:
    """Create fresh machines without a roll-out."""
    directory = Path(os.environ.get("JAYWALK_BENCH_DIR", "/var/tmp/jaywalk-bench"))
    runs.record("lab", str(directory))
    lab = Lab(directory, prefix="jb", report=log)
    lab.down()
    try:
        lab.up(["control", *MEMBERS])
        yield Fleet(
            lab,
            lab.write_inventory(lab.directory / "inventory", variables=playbook_variables.variables(ROOT)),
        )
    finally:
        lab.down()


def rollouts(fleet: Fleet) -> dict[str, Figure]:
    """Measure site.yml on fresh machines, on unchanged machines, and on one more machine."""

    def seconds(*arguments: str) -> Figure:
        return Figure(round(timed(lambda: fleet.play(*arguments)), 1), "s", 1)

    figures = {"rollout_cold": seconds(), "rollout_again": seconds()}
    fleet.lab.add("node4")
    fleet.lab.write_inventory(fleet.inventory.parent)
    figures["rollout_add_one"] = seconds("--limit", "node4")
    fleet.play("--limit", "node4", playbook="uninstall.yml")
    return figures


def zone_client(fleet: Fleet) -> ZoneClient:
    """Return an operator's client of the zone, on this host, which proves the requests of made-up nodes."""
    where = fleet.controller_address("supervisor", fleet.secrets["jaywalk_controller_password"])
    return NodesClient(connect(where), where, ZONE)


def join_latency(fleet: Fleet) -> dict[str, Figure]:
    """Measure from the request until the last of three agents has the peer, compared with bare Redis."""
    client = zone_client(fleet)
    view = client.snapshot()
    begun_at: dict[str, float] = {}
    for index in range(JOINS):
        key = pair_of(f"join {index}").public
        begun = time.time()
        client.ask(Request.validated("join", ZONE, key, name=f"bench{index}"), timeout=10).lease_or_raise()
        client.read(view, block=5)
        begun_at[view.stream_id] = begun
        time.sleep(PAUSE_SECONDS)
        client.ask(Request.validated("leave", ZONE, key), timeout=10).lease_or_raise()
        client.read(view, block=5)
        time.sleep(PAUSE_SECONDS)
    time.sleep(1)
    applied = [_applied(fleet, name) for name in MEMBERS]
    latencies = [
        max(_reached(times, position) for times in applied) - begun for position, begun in begun_at.items()
    ]
    bare = bare_round_trips(fleet)
    figures = {}
    for percent in (50, 99):
        value, other = percentile(latencies, percent) * 1000, percentile(bare, percent) * 1000
        figures[f"join_latency_p{percent}"] = Figure(
            round(value, 2),
            "ms",
            len(latencies),
            f"bare Redis round trips: {other:.2f} ms",
            round(value / other, 2),
        )
    return figures


def _reached(times: dict[str, float], position: str) -> float:
    """Return when a node was at a position or later: on a busy machine it applies several events at once."""
    return min(at for reached, at in times.items() if _order(reached) >= _order(position))


def _order(position: str) -> tuple[int, int]:
    epoch, _, rev = position.partition("-")
    return int(epoch), int(rev)


def _applied(fleet: Fleet, name: str) -> dict[str, float]:
    """Return when a node's agent logged each position; the machines share this host's clock."""
    text = fleet[name].run(f"journalctl -u {UNIT} -o json --output-fields=MESSAGE", timeout=60).stdout
    times: dict[str, float] = {}
    for line in text.splitlines():
        entry = json.loads(line)
        message = str(entry["MESSAGE"]).split()
        if message[:2] == ["zone", ZONE] and message[2] == "at":
            times.setdefault(message[3].rstrip(":"), int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000)
    return times


def bare_round_trips(fleet: Fleet, rounds: int = JOINS) -> list[float]:
    """Measure the minimum of a join: a request to a blocked reader, a write, and three blocked readers."""
    where = fleet.controller_address("supervisor", fleet.secrets["jaywalk_controller_password"])

    def redis_client() -> redis.Redis:
        return redis.Redis(
            host=where.host,
            port=where.port,
            username=where.user,
            password=where.password,
            decode_responses=True,
            ssl=True,
            ssl_ca_certs=where.tls.ca,
        )

    inbox, events = "{bench}:inbox", "{bench}:events"
    with redis_client() as requester:
        requester.delete(inbox, events)
        times, received, ended = [], threading.Barrier(4), threading.Event()
        threads = [threading.Thread(target=_reply, args=(redis_client(), inbox, events, ended))]
        threads += [
            threading.Thread(target=_read, args=(redis_client(), events, received, ended)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(0.02)
            begun = time.perf_counter()
            requester.rpush(inbox, "x" * 250)
            received.wait(10)
            times.append(time.perf_counter() - begun)
        ended.set()
        requester.rpush(inbox, "end")
        for thread in threads:
            thread.join(10)
        requester.delete(inbox, events)
    return times


def _reply(client: redis.Redis, inbox: str, events: str, ended: threading.Event) -> None:
    while not ended.is_set():
        if client.blmpop(2, 1, inbox, direction="LEFT"):
            client.xadd(events, {"o": "x" * 250})


def _read(client: redis.Redis, events: str, received: threading.Barrier, ended: threading.Event) -> None:
    last = "0"
    while True:
        found: Any = client.xread({events: last}, block=2000)
        for _, entries in found or []:
            last = entries[-1][0]
        if ended.is_set():
            return
        if found:
            received.wait(10)


def churn_loss(fleet: Fleet) -> dict[str, Figure]:
    """Count the packets that 100 pings per second between two peers lose while 50 others join and leave."""
    client = zone_client(fleet)
    keys = [pair_of(f"churn {index}").public for index in range(CHURN)]
    with fleet.ping("node1", "node2", per_second=100) as count:
        for index, key in enumerate(keys):
            client.ask(Request.validated("join", ZONE, key, name=f"churn{index}"), 10).lease_or_raise()
            time.sleep(0.05)
        for key in keys:
            client.ask(Request.validated("leave", ZONE, key), 10).lease_or_raise()
            time.sleep(0.05)
    return {"churn_loss": Figure(count.lost, "packets", count.sent)}


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure all figures of the fleet."""
    with fleet(log) as machines:
        log("roll-outs: fresh machines, unchanged machines, one more machine")
        figures = rollouts(machines)
        log(f"the latency of {JOINS} joins")
        figures |= join_latency(machines)
        log(f"{CHURN} nodes join and leave during a ping")
        figures |= churn_loss(machines)
        figures |= heal.measure(machines, log)
        figures |= tunnels.measure(machines, log)
    return figures
