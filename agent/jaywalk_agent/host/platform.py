# SPDX-License-Identifier: GPL-3.0-or-later
"""What a platform has for a zone's service: places, a way out of the boot, and whether paths are mended."""

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
    """``run`` is gone at the next boot; ``disable`` is a command, with ``{zone}`` in it.

    ``mends_paths``: whether broken and missing paths are looked after, which rests on Linux's sockets and
    routes, as do relays, forwarding and network namespaces.  ``backend`` observes and changes interfaces.
    """

    configuration: Path
    state: Path
    run: Path
    disable: tuple[str, ...]
    mends_paths: bool
    backend: Callable[[Runner], Backend]


LINUX = Platform(
    Path("/etc/jaywalk"),
    Path("/var/lib/jaywalk"),
    Path("/run/jaywalk"),
    ("systemctl", "disable", "--quiet", "jaywalk-agent@{zone}"),
    mends_paths=True,
    backend=Linux,
)
DARWIN = Platform(
    Path("/usr/local/etc/wireguard"),
    Path("/usr/local/var/jaywalk"),
    Path("/var/run/jaywalk"),
    ("launchctl", "disable", "system/jaywalk.agent.{zone}"),
    mends_paths=False,
    backend=Darwin,
)


def of(platform: str) -> Platform:
    """The places of a platform, by its ``sys.platform``."""
    return DARWIN if platform == "darwin" else LINUX


PLATFORM = of(sys.platform)
"""Of the machine that this process runs on."""
