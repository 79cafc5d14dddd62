# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that this process may read and change network interfaces, as most commands do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jaywalk.core.errors import JaywalkError

# Its bit (capabilities(7)); ``wg show`` needs it too.
CAP_NET_ADMIN = 12
STATUS = Path("/proc/self/status")


def require(command: str) -> None:
    """Raises ``JaywalkError`` if the command would miss a part of the state, and fail at the rest."""
    if not _may_administer():
        raise JaywalkError(f"'jaywalk {command}' needs root", "run it with sudo")


def _may_administer() -> bool:
    if os.geteuid() == 0:
        return True
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        effective = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> CAP_NET_ADMIN & 1)
    return False
