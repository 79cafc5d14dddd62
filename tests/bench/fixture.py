# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture of simulated agents: a real Redis, a real supervisor, a zone, and the worker processes."""

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
from tests.certificates import Certificates
from tests.chaos.machines import ENVIRONMENT, ROOT, Controller, SupervisorProcess
from tests.redis_server import RedisServer

ZONE = "zone-bench"
POOLS = ("10.64.0.0/16", "fd00:64::/64")
PASSWORD = "agents-of-the-bench-0123"
PROCESSORS = sorted(os.sched_getaffinity(0))
# Worker processes for many clients. With fewer processes, each has more threads that wait for its
# interpreter.
WORKERS = 8
# Up to this number of clients, one process per processor has them all. Several processes that take turns on a
# processor find its caches cold, which is a large part of the measured time.
FEW_CLIENTS = 1000
# Open files of a process in addition to its sockets.
SPARE_FILES = 500
# The time limit for a reply of the supervisor.
TIMEOUT_SECONDS = 240.0


def max_sockets() -> int:
    """Return the largest number of Redis clients here; raises this process's limit to its maximum."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return int(hard) - SPARE_FILES


class BenchFixture:
    """A Redis, and one supervisor with one zone."""

    def __init__(self, server: RedisServer, controller: Controller) -> None:
        self.server = server
        self.controller = controller
        self.redis = server.client()

    @property
    def agent_address(self) -> ControllerAddress:
        return self.server.address_of(f"agent-{ZONE}", PASSWORD)

    def add_nodes(self, numbers: Sequence[int]) -> None:
        """Let nodes without agents join, and wait until all are in the zone."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        with self.client() as client:
            for number in numbers:
                client.submit(request_of(Node(number)))
            while int(client.client.llen(client.keys.inbox)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"the supervisor did not empty its inbox within {TIMEOUT_SECONDS:g} s")
                time.sleep(0.05)
            # The inbox is empty once the supervisor has read the last batch; this reply follows its commit.
            client.ask(request_of(Node(numbers[-1])), timeout=TIMEOUT_SECONDS).lease_or_raise()

    @contextmanager
    def client(self) -> Iterator[ZoneClient]:
        """An operator's client of the zone."""
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
    """Return a node's join request, always the same except for the number of its moves."""
    endpoint = Node(node.number + moved).endpoint
    return Request(
        "join", ZONE, node.key, node.name, endpoint=endpoint, seq=node.seq + moved, machine_id=node.machine_id
    )


def counters(server: RedisServer) -> dict[str, float]:
    """Return Redis's output bytes and processor seconds so far."""
    with server.client() as client:
        info: Any = client.info()
    return {"bytes": info["total_net_output_bytes"], "cpu": info["used_cpu_user"] + info["used_cpu_sys"]}


def redis_server(tls: Certificates | None = None, **options: str) -> RedisServer:
    """Return a Redis with ``appendfsync everysec``, like the role's, and enough client connections."""
    limits = {"maxclients": str(max_sockets()), "tcp_backlog": "4096"}
    return RedisServer(tls=tls, appendfsync="everysec", **limits, **options)


@contextmanager
def bench_fixture(tls: bool = False) -> Iterator[BenchFixture]:
    """Create a fixture, whose Redis speaks TLS or plain text; the end of the block removes it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jw-bench-")))
        server = stack.enter_context(redis_server(Certificates(folder / "tls") if tls else None))
        controller = Controller(server.password, folder, PASSWORD, server.address.tls.ca)
        where = str(server.address)
        # Simulated nodes have no private keys; ``joins_per_s_proven`` measures what proofs cost.
        controller.add_zone(where, ZONE, POOLS, "--proof", "optional")
        supervisor = SupervisorProcess(controller, 0, where)
        stack.callback(supervisor.kill)
        supervisor.start()
        yield BenchFixture(server, controller)


class WorkerPool:
    """Worker processes of one module, each with its share of the clients."""

    def __init__(self, module: str, workers: int = WORKERS) -> None:
        argv = [sys.executable, "-m", module]
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{ROOT}"}
        # In their own sessions, so that Ctrl-C reaches them only as the end of their input.
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
        _pin(self._processes)

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def send(self, do: str, **arguments: Any) -> None:
        self._send([{"do": do, **arguments}] * len(self._processes))

    def _send(self, commands: list[dict[str, Any]]) -> None:
        for process, command in zip(self._processes, commands):
            assert process.stdin is not None
            process.stdin.write(json.dumps(command) + "\n")
            process.stdin.flush()

    def replies(self) -> list[Any]:
        replies = []
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a worker ended: see its output above")
            replies.append(json.loads(line))
        return replies

    def call(self, do: str, **arguments: Any) -> list[Any]:
        """Let all workers run a command; return their replies."""
        self.send(do, **arguments)
        return self.replies()

    def start(self, count: int, **arguments: Any) -> None:
        """Start ``count`` clients, divided between the workers."""
        workers = len(self._processes)
        shares = [count // workers + (number < count % workers) for number in range(workers)]
        firsts = [sum(shares[:number]) for number in range(workers)]
        self._send(
            [
                {"do": "start", "first": first, "count": share, **arguments}
                for first, share in zip(firsts, shares)
            ]
        )
        self.replies()

    def wait_until(self, **goal: int) -> float:
        """Wait until all clients have reached the goal; return the last one's monotonic time."""
        return float(max(self.call("wait_until", **goal)))

    def check_equal(self, view: ZoneView) -> None:
        """Raise RuntimeError if an agent's copy of the zone differs from ``view``."""
        if set(self.call("digest")) != {digest_of(view)}:
            raise RuntimeError("the agents' copies of the zone differ from Redis")


def _pin(processes: Sequence[subprocess.Popen[str]]) -> None:
    """Pin each process to one processor, with SCHED_BATCH: a wakeup preempts no other process (sched(7)).

    A real agent has its own interpreter. Here hundreds share one, and if a second thread wakes during the
    turn of a first, on another processor or instead of it, both only wait for each other.
    """
    for processor, process in zip(cycle(PROCESSORS), processes):
        os.sched_setaffinity(process.pid, {processor})
        os.sched_setscheduler(process.pid, os.SCHED_BATCH, os.sched_param(0))


def workers_for(count: int) -> int:
    """Return the number of processes that disturbs this number of clients least."""
    return len(PROCESSORS) if count <= FEW_CLIENTS else WORKERS


def arguments_of(where: ControllerAddress) -> list[str]:
    """Return host, port, user, password and, with TLS, the CA's file, as a worker expects them."""
    return [where.host, str(where.port), where.user, where.password, *filter(None, [where.tls.ca])]
