# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Redis with a real supervisor process, and the resources of that process."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaywalk.zone.models import Zone
from jaywalk.zone.redis_keys import LEADER, ZoneKeys
from jaywalk_supervisor.store.store import Store
from tests.chaos.machines import Controller, SupervisorProcess
from tests.redis_server import RedisServer

TIMEOUT_SECONDS = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def redis_with(*zones: Zone, **options: Any) -> Iterator[tuple[RedisServer, Store]]:
    """Start a Redis with ``zones`` that are empty; ``options`` are those of redis.conf."""
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
    """Run ``jaywalk-supervisor`` as a service manager does, with its log in a file; kill it at the end."""
    with tempfile.TemporaryDirectory(prefix="jwb-") as folder:
        controller = Controller(server.password, Path(folder), "agents-of-the-bench")
        process = SupervisorProcess(controller, 0, f"127.0.0.1:{server.port}")
        process.start()
        try:
            yield process
        finally:
            process.kill()


def await_served(store: Store, zone: str) -> None:
    """Wait until a supervisor is the leader and has created ``zone``."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while store.redis.exists(LEADER, ZoneKeys(zone).meta) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no supervisor served zone {zone} within {TIMEOUT_SECONDS:.0f} s")
        time.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process, in MB (10^6 bytes)."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise ProcessLookupError(f"process {pid} is gone")
