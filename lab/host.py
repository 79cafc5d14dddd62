# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of this host, and checks that it can run a lab."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.errors import CommandFailed, LabError

# Command -> Debian package: what a lab needs once its base tree exists.
TOOLS = {
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
}

# Linux allows 128 inotify instances to all of root's processes; a machine uses five to ten, and
# wireguard-go exits if it gets none.
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024


def run(command: Sequence[str], *, stdin: str = "", check: bool = True) -> str:
    """Run a command of this host and return its standard output; raise CommandFailed if it fails."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if check and done.returncode:
        output = (done.stderr or done.stdout).strip()
        raise CommandFailed(f"{' '.join(command)}: {output or f'exit code {done.returncode}'}")
    return done.stdout


def require(tools: Mapping[str, str]) -> None:
    """Raise LabError with the remedy if a command is missing; `tools`: command -> Debian package."""
    missing = {tool: package for tool, package in tools.items() if shutil.which(tool) is None}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise LabError(
            f"this host has no {', '.join(missing)}: apt-get install --no-install-recommends {packages}"
        )


def preflight() -> None:
    """Raise LabError with the remedy if this host cannot run a lab."""
    if os.geteuid() != 0:
        raise LabError("the lab creates namespaces and mounts: run it as root")
    require(TOOLS)
    if not Path("/dev/net/tun").exists():
        raise LabError("/dev/net/tun is missing, which userspace WireGuard needs: modprobe tun")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text(encoding="ascii"):
        run(["modprobe", "overlay"])
    if int(INOTIFY.read_text(encoding="ascii")) < INOTIFY_INSTANCES:
        INOTIFY.write_text(f"{INOTIFY_INSTANCES}\n", encoding="ascii")
