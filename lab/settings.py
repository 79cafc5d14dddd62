# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's folder, prefix and network, from the environment."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import addressing, naming
from lab.errors import LabError

# The checkout that contains this package.
ROOT = Path(__file__).resolve().parent.parent

# The owners of all prefixes on this host; a reboot clears it, as it does the namespaces.
RUNTIME = Path("/run/jaywalk-lab")


def control_sockets(prefix: str) -> Path:
    """Return the folder of Ansible's ssh control sockets (short: a socket's path has at most 108 bytes)."""
    return RUNTIME / prefix / "cp"


def switch_socket(prefix: str) -> Path:
    """Return the control socket of the switch between a lab's NAT sites."""
    return RUNTIME / prefix / "switch"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the base trees, which `make clean` does not remove."""
    if chosen := environ.get("JAYWALK_CACHE"):
        return Path(chosen)
    home = Path(environ.get("HOME", "/root"))
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "jaywalk"


@dataclass(frozen=True)
class Settings:
    """One of the labs that may run on this host.

    prefix: the start of its names; None: the first free one of `naming.default_prefixes`.
    network: its IPv4 network; None: the first free one of `addressing.CANDIDATE_NETWORKS`.
    """

    directory: Path
    prefix: str | None
    network: ipaddress.IPv4Network | None

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
            naming.check_prefix(prefix) if prefix else None,
            addressing.parse_network(network) if network else None,
        )
