# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps one machine running after the lab command has gone: `python -m lab.keeper FOLDER`.

Boots the machine, boots it again when it asks for a reboot, and clears up behind it when it goes
off. While it lives it holds a lock in the machine's folder, so that nobody has to trust a process
id. SIGTERM is the power cord being pulled. Imports little: there is one keeper a machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from lab import cgroup, host, network, plan
from lab.errors import LabError
from lab.spec import MachineSpec, Running

REBOOT = 133
"""What systemd-nspawn --keep-unit exits with when its machine reboots."""


class PowerCut(BaseException):
    """SIGTERM came. Not an Exception: nothing on the way may swallow it."""


def nspawn(spec: MachineSpec, root: Path) -> list[str]:
    """The command that boots a machine; why each flag is there stands in lab/README.md."""
    name = plan.machine_netns(spec.prefix, spec.name)
    return [
        "systemd-nspawn",
        *("--quiet", "--boot", "--console=pipe", "--register=no", "--keep-unit"),
        *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
        f"--machine={name}",
        f"--hostname={spec.name}",
        f"--uuid={plan.machine_id(spec.prefix, spec.name)}",
        f"--directory={root}",
        f"--network-namespace-path=/run/netns/{name}",
        "--bind=/dev/net/tun",
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
    ]


def mount_root(base: Path, folder: Path) -> Path:
    """The machine's disk: the shared base, and over it what this machine wrote."""
    root, upper, work = (folder / part for part in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir(exist_ok=True)
    if not base.is_dir():
        raise LabError(f"the base tree {base} is gone: take the lab down and up again")
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    try:
        host.run(["mount", "-t", "overlay", "jaywalk-lab", "-o", options, str(root)])
    except LabError as error:
        message = f"no overlay in {folder} ({error}): set JAYWALK_LAB_DIR to a folder on ext4, xfs or tmpfs"
        raise LabError(message) from error
    return root


def boot(spec: MachineSpec, root: Path, cgroups: tuple[str, ...]) -> int:
    """Run the machine until it goes off, and give back systemd-nspawn's exit code."""
    environ = os.environ | {"SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network"}
    with subprocess.Popen(
        nspawn(spec, root),
        env=environ,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: cgroup.enter(cgroups),  # noqa: PLW1509 (this process has one thread)
    ) as process:
        try:
            return process.wait()
        except PowerCut:
            # The machine first: systemd-nspawn then leaves in good order and takes its mounts along.
            cgroup.freeze(cgroups, frozen=False)
            cgroup.kill(cgroups, spare=process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=3)
            process.kill()
            raise


def live(folder: Path, cgroups: tuple[str, ...]) -> None:
    """Boot the machine as often as it asks for it."""
    boots = before.boots if (before := Running.load(folder)) else 0
    root = mount_root(Path(MachineSpec.load(folder).base), folder)
    code = REBOOT
    while code == REBOOT:
        boots += 1
        spec = MachineSpec.load(folder)
        network.wire(spec)
        Running(os.getpid(), boots, cgroups).save(folder)
        print(f"--- boot {boots} of {spec.name}", flush=True)
        code = boot(spec, root, cgroups)
        print(f"--- systemd-nspawn ended with {code}", flush=True)


def clear(folder: Path, cgroups: tuple[str, ...]) -> None:
    """Leave nothing of a machine that is off but its disk."""
    cgroup.kill(cgroups)
    cgroup.remove(cgroups)
    network.unwire(MachineSpec.load(folder))
    root = folder / "root"
    if root.is_mount():
        host.run(["umount", str(root)])


def main(folder: Path) -> None:
    """Keep the machine of that folder, unless somebody does already."""

    def cut_power(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise PowerCut

    with (folder / "keeper.lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{folder.name} is running already")
        spec = MachineSpec.load(folder)
        cgroups = cgroup.make(f"jaywalk-lab-{plan.machine_netns(spec.prefix, spec.name)}")
        signal.signal(signal.SIGTERM, cut_power)
        try:
            live(folder, cgroups)
        except PowerCut:
            print("--- power cut", flush=True)
        except LabError as error:
            sys.exit(f"--- {error}")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            clear(folder, cgroups)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
