# SPDX-License-Identifier: GPL-3.0-or-later
"""The folders of a platform, its WireGuard backend, and what it supports."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaywalk.core.runner import Runner
from jaywalk.wireguard.backend import Backend
from jaywalk.wireguard.darwin import Darwin
from jaywalk.wireguard.linux import Linux


@dataclass(frozen=True)
class Platform:
    """``run_dir`` is empty after a boot; ``disable`` is the command that disables the service of ``{zone}``.

    ``supports_paths``: whether the agent repairs broken paths.  This depends on sockets and routes of Linux,
    as do relays, forwarding and network namespaces.  ``backend`` observes and changes interfaces.
    """

    config_dir: Path
    state_dir: Path
    run_dir: Path
    disable: tuple[str, ...]
    supports_paths: bool
    backend: Callable[[Runner], Backend]


LINUX = Platform(
    Path("/etc/jaywalk"),
    Path("/var/lib/jaywalk"),
    Path("/run/jaywalk"),
    ("systemctl", "disable", "--quiet", "jaywalk-agent@{zone}"),
    supports_paths=True,
    backend=Linux,
)
DARWIN = Platform(
    Path("/usr/local/etc/wireguard"),
    Path("/usr/local/var/jaywalk"),
    Path("/var/run/jaywalk"),
    ("launchctl", "disable", "system/jaywalk.agent.{zone}"),
    supports_paths=False,
    backend=Darwin,
)


def of(platform: str) -> Platform:
    """The platform of a ``sys.platform``."""
    return DARWIN if platform == "darwin" else LINUX


# The platform of this machine.
PLATFORM = of(sys.platform)
