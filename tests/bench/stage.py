# SPDX-License-Identifier: GPL-3.0-or-later
"""What the simulated agents meet: a real Redis, a real supervisor, a zone, and the crowd's processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from jaywalk.controller.address import ControllerAddress
from jaywalk.controller.client import ZoneClient
from jaywalk.controller.connection import connect
from jaywalk.zone.requests import Request
from jaywalk.zone.view import ZoneView
from tests.bench.agents import digest_of
from tests.bench.node import Node
from tests.chaos.machines import ENVIRONMENT, ROOT, Controller, SupervisorProcess
from tests.redis_server import RedisServer

ZONE = "zone-bench"
POOLS = ("10.64.0.0/16", "fd00:64::/64")
PASSWORD = "agents-of-the-bench-0123"
PROCESSORS = sorted(os.sched_getaffinity(0))
WORKERS = 8
"""Processes that hold a crowd: with more threads in each, those wait for its interpreter."""
FEW = 1000
"""So many clients are held by one process a processor: of several in turn on one, each finds its caches cold,
which is much of the time that they all take."""
SPARE_FILES = 500
"""Open files that a process needs beside its sockets."""
DEAD_AFTER_SECONDS = 240.0
"""Seconds for a supervisor to answer."""


def most_sockets() -> int:
    """How many clients Redis can have here; raises this process's limit as far as it goes."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return int(hard) - SPARE_FILES


class Stage:
    """A Redis, and one supervisor over one zone."""

    def __init__(self, server: RedisServer, controller: Controller) -> None:
        self.server = server
        self.controller = controller
        self.redis = server.client()

    @property
    def agent_address(self) -> ControllerAddress:
        return self.server.address_of(f"agent-{ZONE}", PASSWORD)

    def add_nodes(self, numbers: Sequence[int]) -> None:
        """Has nodes join that are nobody's agents, and waits until all are in the zone."""
        deadline = time.monotonic() + DEAD_AFTER_SECONDS
        with self.client() as client:
            for number in numbers:
                client.submit(request_of(Node(number)))
            while int(client.client.llen(client.keys.inbox)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the supervisor did not get on within {DEAD_AFTER_SECONDS:g} s")
                time.sleep(0.05)
            # The inbox is empty as soon as the last batch is taken: this answer comes after it.
            client.ask(request_of(Node(numbers[-1])), timeout=DEAD_AFTER_SECONDS).lease_or_raise()

    @contextmanager
    def client(self) -> Iterator[ZoneClient]:
        """An operator's view of the zone."""
        where = self.server.address
        client = ZoneClient(connect(where, "jaywalk-bench"), where, ZONE)
        try:
            yield client
        finally:
            client.client.close()

    def view(self) -> ZoneView:
        with self.client() as client:
            return client.snapshot()


def request_of(node: Node, moved: int = 0) -> Request:
    """A node's request to join, the same one each time but for how often it ``moved`` since."""
    endpoint = Node(node.number + moved).endpoint
    return Request(
        "join", ZONE, node.key, node.name, endpoint=endpoint, seq=node.seq + moved, machine_id=node.machine_id
    )


def counters(server: RedisServer) -> dict[str, float]:
    """Bytes out of Redis and its processor seconds so far."""
    with server.client() as client:
        info: Any = client.info()
    return {"bytes": info["total_net_output_bytes"], "cpu": info["used_cpu_user"] + info["used_cpu_sys"]}


def redis_server(**options: str) -> RedisServer:
    """With an append-only file that is synced each second, as the role sets it, and room for the crowd."""
    return RedisServer(appendfsync="everysec", maxclients=str(most_sockets()), tcp_backlog="4096", **options)


@contextmanager
def stage() -> Iterator[Stage]:
    """A fresh one; all of it is gone at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jw-bench-")))
        server = stack.enter_context(redis_server())
        controller = Controller(server.password, folder, PASSWORD)
        where = f"127.0.0.1:{server.port}"
        controller.add_zone(where, ZONE, POOLS)
        supervisor = SupervisorProcess(controller, 0, where)
        stack.callback(supervisor.kill)
        supervisor.start()
        yield Stage(server, controller)


class Crowd:
    """Worker processes of one kind, each with its share of the clients."""

    def __init__(self, module: str, workers: int = WORKERS) -> None:
        argv = [sys.executable, "-m", module]
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{ROOT}"}
        # In sessions of their own, so that Ctrl-C reaches them only as the end of their input.
        self._processes = [
            subprocess.Popen(
                argv,
                env=environment,
                cwd=ROOT,
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
            for _ in range(workers)
        ]
        _seat(self._processes)

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._processes:
            each.kill()
            each.communicate()

    def tell(self, do: str, **words: Any) -> None:
        self._tell([{"do": do, **words}] * len(self._processes))

    def _tell(self, commands: list[dict[str, Any]]) -> None:
        for process, command in zip(self._processes, commands):
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()

    def answers(self) -> list[Any]:
        answers = []
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a worker of the crowd ended: see what it said above")
            answers.append(json.loads(line))
        return answers

    def ask(self, do: str, **words: Any) -> list[Any]:
        """Has all workers do something; returns when the last has answered."""
        self.tell(do, **words)
        return self.answers()

    def start(self, count: int, **words: Any) -> None:
        """Starts ``count`` clients, spread over the workers."""
        workers = len(self._processes)
        shares = [count // workers + (number < count % workers) for number in range(workers)]
        firsts = [sum(shares[:number]) for number in range(workers)]
        self._tell(
            [{"do": "start", "first": first, "count": share, **words} for first, share in zip(firsts, shares)]
        )
        self.answers()

    def until(self, **goal: int) -> float:
        """When the last client came to the goal, by the monotonic clock."""
        return float(max(self.ask("until", **goal)))

    def check_equal(self, view: ZoneView) -> None:
        """Raises where an agent's copy of the zone is another one than ``view``."""
        if set(self.ask("digest")) != {digest_of(view)}:
            raise RuntimeError("the agents' copies of the zone are not what Redis has")


def _seat(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Gives each process one processor, on which it takes none from others when it wakes (sched(7)).

    An agent has an interpreter to itself.  Here hundreds share one, and where a second wakes amid the turn of
    a first, on another processor or in its place, both only wait for each other.
    """
    for processor, process in zip(cycle(PROCESSORS), processes):
        os.sched_setaffinity(process.pid, {processor})
        os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))


def workers_for(count: int) -> int:
    """How many processes disturb a crowd of this size least."""
    return len(PROCESSORS) if count <= FEW else WORKERS


def words_of(where: ControllerAddress) -> list[str]:
    """An address as a worker is told it."""
    return [where.host, str(where.port), where.user, where.password]
