# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of machines on one host, each with its own systemd, sshd, network and disk.

    lab = Lab(Path("/var/tmp/jaywalk-lab"))
    lab.up(["control", "node1"])
    print(lab.node("node1").run("uname -n").stdout)
    lab.down()

The names below are imported at first use: a machine's supervisor needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lab.errors import CommandFailed, LabError, Unreachable
    from lab.fleet import Lab
    from lab.node import Node
    from lab.settings import Settings
    from lab.ssh import Background, Result

_MODULES = {
    "Background": "lab.ssh",
    "CommandFailed": "lab.errors",
    "Lab": "lab.fleet",
    "LabError": "lab.errors",
    "Node": "lab.node",
    "Result": "lab.ssh",
    "Settings": "lab.settings",
    "Unreachable": "lab.errors",
}

__all__ = ["Background", "CommandFailed", "Lab", "LabError", "Node", "Result", "Settings", "Unreachable"]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'lab' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
