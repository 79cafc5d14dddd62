# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this process may look at and change network interfaces, as most commands do."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from jaywalk.core.errors import JaywalkError

CAP_NET_ADMIN = 12
"""Its bit (capabilities(7)); ``wg show`` asks for it, too."""
STATUS = Path("/proc/self/status")


def require(command: str) -> None:
    """Raises ``JaywalkError`` where the command would read half of the truth and fail at the rest."""
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
