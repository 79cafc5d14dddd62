# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet of real machines on one box: each with its own systemd, sshd, network and disk.

lab = Lab(Path("/var/tmp/jaywalk-lab"), "jw", None)
lab.up(["controller", "node1"])
print(lab.node("node1").run("uname -n").stdout)
lab.down()
"""

from __future__ import annotations

from lab.errors import CommandFailed, LabError, Unreachable
from lab.fleet import Lab
from lab.node import Node
from lab.settings import Settings
from lab.ssh import Background, Result

__all__ = ["Background", "CommandFailed", "Lab", "LabError", "Node", "Result", "Settings", "Unreachable"]
