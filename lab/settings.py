# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a lab lives and what it is called, from the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import plan
from lab.errors import LabError

ROOT = Path(__file__).resolve().parent.parent
"""The checkout that this package lies in."""

RUNTIME = Path("/run/jaywalk-lab")
"""Who holds which prefix on this host; gone with a reboot, as the namespaces are."""


def control_sockets(prefix: str) -> Path:
    """Where Ansible keeps its open ssh connections to a lab (short: a socket's path has 108 bytes)."""
    return RUNTIME / prefix / "cp"


def switch_socket(prefix: str) -> Path:
    """Where the switch of a lab's streets takes orders."""
    return RUNTIME / prefix / "switch"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder outside the checkout that survives `make clean` (base trees)."""
    if chosen := environ.get("JAYWALK_CACHE"):
        return Path(chosen)
    home = Path(environ.get("HOME", "/root"))
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "jaywalk"


@dataclass(frozen=True)
class Settings:
    """One lab among those that may run on this box: its folder, the prefix of its names, its network."""

    directory: Path
    prefix: str | None
    """None: the first free one of `plan.prefixes`."""
    network: ipaddress.IPv4Network | None
    """None: the first free one of `plan.CANDIDATES`."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read JAYWALK_LAB_DIR, JAYWALK_LAB_PREFIX, JAYWALK_LAB_NETWORK; raise LabError on a bad value."""
        directory = Path(environ.get("JAYWALK_LAB_DIR") or "/var/tmp/jaywalk-lab")
        if not directory.is_absolute():
            raise LabError(f"JAYWALK_LAB_DIR is {str(directory)!r}: give an absolute path")
        prefix = environ.get("JAYWALK_LAB_PREFIX")
        network = environ.get("JAYWALK_LAB_NETWORK")
        return cls(
            directory,
            plan.check_prefix(prefix) if prefix else None,
            plan.parse_network(network) if network else None,
        )
