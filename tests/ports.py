# SPDX-License-Identifier: GPL-3.0-or-later
"""Free ports for the servers that tests start."""

from __future__ import annotations

import os
import socket

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


def free_port() -> int:
    """Return a port of loopback that nobody listens on.

    Nothing reserves it until the server starts, so each worker has its own share of the ports.
    """
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port // 2 % WORKERS == WORKER:  # halved, since most ports from the kernel here are odd
            return port
