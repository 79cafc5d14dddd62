# SPDX-License-Identifier: GPL-3.0-or-later
"""The capabilities of this process (capabilities(7))."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

# Numbers of their bits.  ``wg show`` needs CAP_NET_ADMIN too.
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
STATUS = Path("/proc/self/status")


def has_capability(number: int) -> bool:
    """Whether the capability is effective; False where the kernel does not say, as on macOS."""
    with suppress(OSError, ValueError, StopIteration):
        lines = STATUS.read_text(encoding="ascii").splitlines()
        effective = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(effective.split()[1], 16) >> number & 1)
    return False
