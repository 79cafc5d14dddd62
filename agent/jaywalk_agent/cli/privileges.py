# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that this process may read and change network interfaces, as most commands do."""

from __future__ import annotations

import os

from jaywalk.core.errors import JaywalkError

from ..host.capabilities import CAP_NET_ADMIN, has_capability


def require(command: str) -> None:
    """Raises ``JaywalkError`` if the command would miss a part of the state, and fail at the rest."""
    if os.geteuid() != 0 and not has_capability(CAP_NET_ADMIN):
        raise JaywalkError(f"'jaywalk {command}' needs root", "run it with sudo")
