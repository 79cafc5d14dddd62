# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the log of a Redis that should run on this machine and does not answer."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
from pathlib import Path

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerUnreachable, JaywalkError

# Names of the units of the role and of distributions.
UNITS = ("jaywalk-redis", "redis-server", "valkey-server", "redis", "valkey")
FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
LINES = 5
READ_SECONDS = 3.0


def explanation(error: JaywalkError, where: ControllerAddress) -> str:
    """Returns the last log lines of the Redis on this machine, or the command that shows them.

    Returns "" if ``error`` is about a Redis on another machine.
    """
    unit = _unit() if isinstance(error, ControllerUnreachable) and _is_here(where.host) else ""
    if not unit:
        return ""
    lines = _last_lines(unit)
    log = f"'journalctl -u {unit} -n {LINES}'"
    return f"{unit} logs ({log}): {lines}" if lines else f"{log} shows the log of the Redis on this machine"


def _is_here(host: str) -> bool:
    """Whether ``host`` is an address of this machine, or a name of one."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_own(str(sockaddr[0])) for *_, sockaddr in found)


def _is_own(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.is_loopback:
        return True
    try:
        family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(parsed), 0))
    except OSError:
        return False
    return True


def _unit() -> str:
    """Returns the first of the units that is installed here, or ""."""
    return next(
        (unit for unit in UNITS if any((Path(folder) / f"{unit}.service").exists() for folder in FOLDERS)), ""
    )


def _last_lines(unit: str) -> str:
    """Returns the last lines of the unit's log, or "" if this user may not read it."""
    journalctl = shutil.which("journalctl")
    if journalctl is None:
        return ""
    argv = [journalctl, "--quiet", "--no-pager", "--output=cat", f"--lines={LINES}", f"--unit={unit}"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=READ_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    return " / ".join(lines) if done.returncode == 0 else ""
