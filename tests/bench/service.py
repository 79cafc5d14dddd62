# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis and a real supervisor process beside it, and what that process uses."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaywalk.zone.models import Zone
from jaywalk.zone.redis_keys import LEADER, ZoneKeys
from jaywalk_supervisor.store.store import Store
from tests.chaos.machines import Controller, SupervisorProcess
from tests.redis_server import RedisServer

DEAD_AFTER_SECONDS = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def redis_with(*zones: Zone, **options: str) -> Iterator[tuple[RedisServer, Store]]:
    """A Redis of its own that holds ``zones`` and nothing in them; ``options`` are those of redis.conf."""
    with RedisServer(**options) as server:
        store = Store.open(server.address, "bench")
        try:
            for zone in zones:
                store.create(zone)
            yield server, store
        finally:
            store.close()


@contextmanager
def supervisor(server: RedisServer) -> Iterator[SupervisorProcess]:
    """``jaywalk-supervisor`` as a service manager starts it, its log in a file; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="jwb-") as folder:
        controller = Controller(server.password, Path(folder), "agents-of-the-bench")
        process = SupervisorProcess(controller, 0, f"127.0.0.1:{server.port}")
        process.start()
        try:
            yield process
        finally:
            process.kill()


def await_served(store: Store, zone: str) -> None:
    """Until a supervisor leads, and has made ``zone``."""
    until_true = time.monotonic() + DEAD_AFTER_SECONDS
    while store.redis.exists(LEADER, ZoneKeys(zone).meta) < 2:
        if time.monotonic() > until_true:
            raise TimeoutError(f"no supervisor took zone {zone} within {DEAD_AFTER_SECONDS:.0f} s")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """The processor time that a process used so far, in user and system together (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """The memory of a process that lies in RAM, in MB of 10^6 bytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"process {pid} is gone")
