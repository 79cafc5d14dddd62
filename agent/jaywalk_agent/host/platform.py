# SPDX-License-Identifier: GPL-3.0-or-later
"""What a platform has for a zone's service: places, a way out of the boot, and whether paths are mended."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Platform:
    """``run`` is gone at the next boot; ``disable`` is a command, with ``{zone}`` in it.

    ``mends_paths``: whether broken and missing paths are looked after, which rests on Linux's sockets and
    routes, as do relays, forwarding and network namespaces.
    """

    configuration: Path
    state: Path
    run: Path
    disable: tuple[str, ...]
    mends_paths: bool


LINUX = Platform(
    Path("/etc/jaywalk"),
    Path("/var/lib/jaywalk"),
    Path("/run/jaywalk"),
    ("systemctl", "disable", "--quiet", "jaywalk-agent@{zone}"),
    mends_paths=True,
)
DARWIN = Platform(
    Path("/usr/local/etc/wireguard"),
    Path("/usr/local/var/jaywalk"),
    Path("/var/run/jaywalk"),
    ("launchctl", "disable", "system/jaywalk.agent.{zone}"),
    mends_paths=False,
)


def of(platform: str) -> Platform:
    """The places of a platform, by its ``sys.platform``."""
    return DARWIN if platform == "darwin" else LINUX


PLATFORM = of(sys.platform)
"""Of the machine that this process runs on."""
