# SPDX-License-Identifier: GPL-3.0-or-later
"""A Redis that should run on this machine and does not answer: where it says why."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
from pathlib import Path

from jaywalk.controller.address import ControllerAddress
from jaywalk.core.errors import ControllerUnreachable, JaywalkError

# Of the role, and of distributions.
UNITS = ("jaywalk-redis", "redis-server", "valkey-server", "redis", "valkey")
FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
LINES = 5
READ_SECONDS = 3.0


def explanation(error: JaywalkError, where: ControllerAddress) -> str:
    """What the Redis on this machine says, or how to see that; "" where ``error`` is about another one."""
    unit = _unit() if isinstance(error, ControllerUnreachable) and _is_here(where.host) else ""
    if not unit:
        return ""
    said = _last_lines(unit)
    log = f"'journalctl -u {unit} -n {LINES}'"
    return f"{unit} says ({log}): {said}" if said else f"{log} shows what the Redis on this machine says"


def _is_here(host: str) -> bool:
    """Whether ``host`` is an address of this machine, or a name of one."""
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return False
    return any(_is_own(str(each[4][0])) for each in found)


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
    """The first of the units that is installed here; "" for none."""
    return next(
        (unit for unit in UNITS if any((Path(folder) / f"{unit}.service").exists() for folder in FOLDERS)), ""
    )


def _last_lines(unit: str) -> str:
    """The last lines of the unit's log, where this user may read it."""
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
