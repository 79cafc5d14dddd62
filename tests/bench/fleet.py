# SPDX-License-Identifier: GPL-3.0-or-later
"""Figures of a real fleet in the lab: roll-outs, the latency of a join, and loss while others come and go."""

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

from jaywalk.controller.address import ControllerAddress, agent_user
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Request
from lab import playbook_variables
from lab.fleet import Lab
from tests import runs
from tests.bench import heal, tunnels
from tests.bench.apply import random_key, timed
from tests.bench.results import Figure, percentile
from tests.fleet.fleet import MEMBERS, ROOT, UNIT, ZONE, Fleet

JOINS = 100
CHURN = 50
PAUSE = 0.25
"""Seconds between two joins: more than an agent's wait between two reads, so that each finds all idle."""


@contextmanager
def fleet(say: Callable[[str], None]) -> Iterator[Fleet]:
    """Fresh machines, nothing rolled out."""
    directory = Path(os.environ.get("JAYWALK_BENCH_DIR", "/var/tmp/jaywalk-bench"))
    runs.record("lab", str(directory))
    lab = Lab(directory, prefix="jb", report=say)
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
    """site.yml on fresh machines, with nothing to do, and on one machine more."""

    def seconds(*arguments: str) -> Figure:
        return Figure(round(timed(lambda: fleet.play(*arguments)), 1), "s", 1)

    figures = {"rollout_cold": seconds(), "rollout_again": seconds()}
    fleet.lab.add("node4")
    fleet.lab.write_inventory(fleet.inventory.parent)
    figures["rollout_add_one"] = seconds("--limit", "node4")
    fleet.play("--limit", "node4", playbook="uninstall.yml")
    return figures


def zone_client(fleet: Fleet) -> ZoneClient:
    """A node's own way to the zone, from this host."""
    zone = next(each for each in fleet.secrets["jaywalk_zones"] if each["name"] == ZONE)
    where = ControllerAddress(fleet.controller.address, 6379, agent_user(ZONE), zone["agent_password"])
    return ZoneClient(connect(where), where, ZONE)


def join_latency(fleet: Fleet) -> dict[str, Figure]:
    """From the request to the last of three agents having the peer, beside the bare way through Redis."""
    client = zone_client(fleet)
    view = client.snapshot()
    asked: dict[str, float] = {}
    for index in range(JOINS):
        key = random_key()
        begun = time.time()
        client.ask(Request.validated("join", ZONE, key, name=f"bench{index}"), timeout=10).lease_or_raise()
        client.read(view, block=5)
        asked[view.stream_id] = begun
        time.sleep(PAUSE)
        client.ask(Request.validated("leave", ZONE, key), timeout=10).lease_or_raise()
        client.read(view, block=5)
        time.sleep(PAUSE)
    time.sleep(1)
    applied = [_applied(fleet, name) for name in MEMBERS]
    latencies = [
        max(_reached(times, position) for times in applied) - begun for position, begun in asked.items()
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
    """When a node stood at a position or beyond: on a busy machine it takes several events in one step."""
    return min(at for reached, at in times.items() if _order(reached) >= _order(position))


def _order(position: str) -> tuple[int, int]:
    epoch, _, rev = position.partition("-")
    return int(epoch), int(rev)


def _applied(fleet: Fleet, name: str) -> dict[str, float]:
    """When a node's agent said that it stood at which position; the machines share this host's clock."""
    text = fleet[name].run(f"journalctl -u {UNIT} -o json --output-fields=MESSAGE", timeout=60).stdout
    times: dict[str, float] = {}
    for line in text.splitlines():
        entry = json.loads(line)
        words = str(entry["MESSAGE"]).split()
        if words[:2] == ["zone", ZONE] and words[2] == "at":
            times.setdefault(words[3].rstrip(":"), int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000)
    return times


def bare_round_trips(fleet: Fleet, rounds: int = JOINS) -> list[float]:
    """The least that a join must pay: a request to a blocked reader, a write, and three blocked readers."""
    password = fleet.secrets["jaywalk_controller_password"]

    def redis_client() -> redis.Redis:
        return redis.Redis(
            host=fleet.controller.address, username="supervisor", password=password, decode_responses=True
        )

    inbox, events = "{bench}:inbox", "{bench}:events"
    with redis_client() as asker:
        asker.delete(inbox, events)
        times, heard, ended = [], threading.Barrier(4), threading.Event()
        threads = [threading.Thread(target=_answer, args=(redis_client(), inbox, events, ended))]
        threads += [
            threading.Thread(target=_listen, args=(redis_client(), events, heard, ended)) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            time.sleep(0.02)
            begun = time.perf_counter()
            asker.rpush(inbox, "x" * 250)
            heard.wait(10)
            times.append(time.perf_counter() - begun)
        ended.set()
        asker.rpush(inbox, "end")
        for thread in threads:
            thread.join(10)
        asker.delete(inbox, events)
    return times


def _answer(client: redis.Redis, inbox: str, events: str, ended: threading.Event) -> None:
    while not ended.is_set():
        if client.blmpop(2, 1, inbox, direction="LEFT"):
            client.xadd(events, {"o": "x" * 250})


def _listen(client: redis.Redis, events: str, heard: threading.Barrier, ended: threading.Event) -> None:
    last = "0"
    while True:
        found: Any = client.xread({events: last}, block=2000)
        for _, entries in found or []:
            last = entries[-1][0]
        if ended.is_set():
            return
        if found:
            heard.wait(10)


def churn_loss(fleet: Fleet) -> dict[str, Figure]:
    """Packets that a ping of 100 a second loses between two peers while 50 others join and leave."""
    client = zone_client(fleet)
    keys = [random_key() for _ in range(CHURN)]
    with fleet.ping("node1", "node2", per_second=100) as count:
        for index, key in enumerate(keys):
            client.ask(Request.validated("join", ZONE, key, name=f"churn{index}"), 10).lease_or_raise()
            time.sleep(0.05)
        for key in keys:
            client.ask(Request.validated("leave", ZONE, key), 10).lease_or_raise()
            time.sleep(0.05)
    return {"churn_loss": Figure(count.lost, "packets", count.sent)}


def measure(say: Callable[[str], None]) -> dict[str, Figure]:
    """All figures of the fleet."""
    with fleet(say) as machines:
        say("roll-outs: fresh machines, nothing to do, one machine more")
        figures = rollouts(machines)
        say(f"the latency of {JOINS} joins")
        figures |= join_latency(machines)
        say(f"{CHURN} nodes join and leave under a ping")
        figures |= churn_loss(machines)
        figures |= heal.measure(machines, say)
        figures |= tunnels.measure(machines, say)
    return figures
