# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast a removed key is out of the WireGuard interfaces of all peers."""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from jaywalk.controller.client import ZoneClient
from jaywalk.controller.login import NodeLogin
from jaywalk.zone.requests import Request
from tests.attacks.installation import Installation
from tests.bench.results import Figure, percentile
from tests.chaos.real_agents import RealAgent
from tests.chaos.relay import Relay
from tests.netns import Namespace
from tests.proven_nodes import Node
from tests.redis_server import RedisServer
from tests.waiting import eventually

ZONE = "zone-bench"
AGENTS = 8
REMOVALS = 100
# Between a join and the removal: longer than an agent's wait between two reads, so that all agents are idle.
PAUSE_SECONDS = 0.3
# A line of an agent about what it applied.
_APPLIED = re.compile(r"^(\S+ \S+) INFO +zone \S+ at (\d+)-(\d+):", re.MULTILINE)


def measure(log: Callable[[str], None]) -> dict[str, Figure]:
    """Measure the seconds from an operator's request until the last agent has applied the removal."""
    log(f"removing {REMOVALS} keys from {AGENTS} real agents")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jwl-bench-")))
        server = stack.enter_context(RedisServer())
        installation = Installation(server, folder, stack)
        installation.start()
        installation.add_zone(ZONE, "--proof", "required")
        agents = [_agent(stack, installation, number) for number in range(AGENTS)]
        operator = installation.operator_client(ZONE)
        eventually(lambda: all(len(agent.peer_keys) == AGENTS - 1 for agent in agents), "all are peers")
        begun = [_remove_one(installation, operator, number) for number in range(REMOVALS)]
        time.sleep(1)
        applied = [_applied_at(agent) for agent in agents]
    seconds = [
        max(min(at for reached, at in times.items() if reached >= position) for times in applied) - started
        for started, position in begun
    ]
    note = f"the longest: {max(seconds) * 1000:.0f} ms, until the last of {AGENTS} agents"
    return {
        f"removal_p{percent}": Figure(round(percentile(seconds, percent) * 1000, 1), "ms", REMOVALS, note)
        for percent in (50, 99)
    }


def _agent(stack: ExitStack, installation: Installation, number: int) -> RealAgent:
    """Start an agent in its own network namespace, which reaches nothing but Redis."""
    namespace = stack.enter_context(Namespace(f"jwr-{number}-{os.getpid()}"))
    relay = stack.enter_context(Relay([installation.server.port], namespace.name))
    agent = RealAgent(number, ZONE, installation.folder, namespace, has_short_waits=False)
    where = f"127.0.0.1:{relay.ports[installation.server.port]}"
    agent.set_controller(where, installation.passwords[ZONE])
    agent.start_if_ended()
    stack.callback(agent.end)
    return agent


def _remove_one(
    installation: Installation, operator: ZoneClient, number: int
) -> tuple[float, tuple[int, int]]:
    """Let a node join and remove it; return when that was requested, and the position of the removal."""
    node = Node(1000 + number, zone=ZONE)
    where = replace(installation.agent_address(ZONE))
    login = NodeLogin(ZONE, lambda: replace(where, user="", password=""), lambda: where, node.prover)
    _reply, member = login.ask(
        login.open("bench"), node.request("join", name=f"r{secrets.token_hex(4)}"), 30, "bench"
    )
    member.client.close()
    time.sleep(PAUSE_SECONDS)
    started = time.time()
    operator.ask(
        Request.validated("block", ZONE, node.key), 30, operator.keys.operator_inbox
    ).lease_or_raise()
    head = operator.head()
    time.sleep(PAUSE_SECONDS)
    return started, (head.epoch, head.rev)


def _applied_at(agent: RealAgent) -> dict[tuple[int, int], float]:
    """Return when an agent logged each position, in seconds since 1970."""
    times: dict[tuple[int, int], float] = {}
    for stamp, epoch, rev in _APPLIED.findall(agent.log):
        at = dt.datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
        times.setdefault((int(epoch), int(rev)), at)
    return times
