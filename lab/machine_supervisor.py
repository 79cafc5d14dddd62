# SPDX-License-Identifier: GPL-3.0-or-later
"""Supervise one machine after the lab command has ended: `python -m lab.machine_supervisor FOLDER`.

The supervisor boots the machine, boots it again after a reboot, and cleans up when it is off. It holds a
lock in the machine's folder while it runs, so that nobody has to rely on a process id. SIGTERM cuts
the machine's power. The module imports little: there is one supervisor per machine.
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

from lab import cgroup, host, naming, network
from lab.errors import LabError
from lab.records import MachineSpec, Running

LOCK = "supervisor.lock"
# The exit code of systemd-nspawn --keep-unit when its machine reboots.
REBOOT = 133
# The time that systemd-nspawn has to exit once its machine's processes are gone.
NSPAWN_EXIT_SECONDS = 3


class PowerCut(BaseException):
    """SIGTERM arrived. Not an Exception: no handler of those may catch it."""


def nspawn(spec: MachineSpec, root: Path) -> list[str]:
    """Return the command that boots a machine; lab/README.md gives the reason of each flag."""
    name = naming.machine_netns(spec.prefix, spec.name)
    return [
        "systemd-nspawn",
        *("--quiet", "--boot", "--console=pipe", "--register=no", "--keep-unit"),
        *("--link-journal=no", "--resolv-conf=off", "--timezone=off"),
        f"--machine={name}",
        f"--hostname={spec.name}",
        f"--uuid={naming.machine_id(spec.prefix, spec.name)}",
        f"--directory={root}",
        f"--network-namespace-path=/run/netns/{name}",
        "--bind=/dev/net/tun",
        "--capability=CAP_NET_ADMIN,CAP_NET_RAW",
    ]


def mount_root(base: Path, folder: Path) -> Path:
    """Mount the machine's disk: an overlay of the shared base tree and the machine's own files."""
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
    """Run the machine until it is off, and return systemd-nspawn's exit code."""
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
            # The machine's processes first: systemd-nspawn then exits by itself and removes its mounts.
            cgroup.freeze(cgroups, frozen=False)
            cgroup.kill(cgroups, spare=process.pid)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=NSPAWN_EXIT_SECONDS)
            process.kill()
            raise


def run(folder: Path, cgroups: tuple[str, ...]) -> None:
    """Boot the machine, and again after each reboot, until it is off."""
    boots = before.boots if (before := Running.load(folder)) else 0
    root = mount_root(Path(MachineSpec.load(folder).base), folder)
    code = REBOOT
    while code == REBOOT:
        boots += 1
        spec = MachineSpec.load(folder)
        network.create_machine_network(spec)
        Running(os.getpid(), boots, cgroups).save(folder)
        print(f"--- boot {boots} of {spec.name}", flush=True)
        code = boot(spec, root, cgroups)
        print(f"--- systemd-nspawn ended with {code}", flush=True)


def clean_up(folder: Path, cgroups: tuple[str, ...]) -> None:
    """Remove everything of a machine that is off, except for its disk."""
    cgroup.kill(cgroups)
    cgroup.remove(cgroups)
    network.remove_machine_network(MachineSpec.load(folder))
    root = folder / "root"
    while root.is_mount():
        host.run(["umount", str(root)])


def main(folder: Path) -> None:
    """Supervise the machine of that folder, unless another supervisor does already."""

    def cut_power(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise PowerCut

    with (folder / LOCK).open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit(f"{folder.name} is running already")
        spec = MachineSpec.load(folder)
        cgroups = cgroup.create(f"jaywalk-lab-{naming.machine_netns(spec.prefix, spec.name)}")
        signal.signal(signal.SIGTERM, cut_power)
        try:
            run(folder, cgroups)
        except PowerCut:
            print("--- power cut", flush=True)
        except LabError as error:
            sys.exit(f"--- {error}")
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            clean_up(folder, cgroups)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
