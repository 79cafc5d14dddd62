# SPDX-License-Identifier: GPL-3.0-or-later
"""Run this host's own tools, and say clearly which one is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import CommandFailed, LabError

TOOLS = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
}
"""Command -> Debian package: what a lab takes once its base tree is there."""


INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024
"""Linux allows 128 to all of root; a machine takes five to ten, and wireguard-go ends where it gets none."""


def run(command: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Run a command of this host and give back what it printed; CommandFailed if it failed."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise CommandFailed(f"{' '.join(command)}: {said or f'exit code {done.returncode}'}")
    return done.stdout


def require(tools: Mapping[str, str]) -> None:
    """Raise LabError with the remedy where a command is missing; `tools`: command -> Debian package."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise LabError(f"no {', '.join(missing)} here: apt-get install --no-install-recommends {packages}")


def preflight() -> None:
    """Raise LabError with the remedy where this host cannot carry a lab."""
    if os.geteuid() != 0:
        raise LabError("the lab makes namespaces and mounts: run it as root")
    require(TOOLS)
    if not Path("/dev/net/tun").exists():
        raise LabError("/dev/net/tun is missing, which userspace WireGuard needs: modprobe tun")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        run(["modprobe", "overlay"])
    if int(INOTIFY.read_text(encoding="ascii")) < INOTIFY_INSTANCES:
        INOTIFY.write_text(f"{INOTIFY_INSTANCES}\n", encoding="ascii")
