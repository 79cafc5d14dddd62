# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of a virtual machine: Debian with its cloud kernel and a Python environment, built once.

The lab's other machines share this host's kernel; a virtual machine has its own, with WireGuard.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import base_tree, host

TOOLS = {"mke2fs": "e2fsprogs", "chroot": "coreutils"}
# Of a sparse file: it uses only the size of the tree.
DISK_SIZE = "2500M"
# The version of the tree's Python, which decides the wheels of its environment.
PYTHON = "3.11"
ENVIRONMENT = "/opt/venv"

# It ends the machine after a success and a failure, and at once: nothing on this disk is kept.
UNIT = """[Unit]
Description=Do the job that the second disk brings
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/usr/lib/lab/job
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
"""

# The job's and the results' disks are plain tar archives, which need no file system and no module.
JOB = f"""#!/bin/sh
mkdir -p /var/lib/job /var/lib/results
cd /var/lib/job
tar -xf /dev/vdb
echo "the machine is up: $(uname -r)"
PATH={ENVIRONMENT}/bin:$PATH RESULTS=/var/lib/results LC_ALL=C.UTF-8 HOME=/root ./run
echo $? >/var/lib/results/code
tar -cf /dev/vdc -C /var/lib/results .
sync
"""

RECIPE = base_tree.Recipe(
    packages=(
        *("systemd", "systemd-sysv", "dbus", "udev", "kmod", "initramfs-tools", "linux-image-cloud-amd64"),
        *("python3", "python3-venv", "git", "openssh-client", "procps", "iproute2", "iputils-ping"),
        *("wireguard-tools", "wireguard-go", "redis-server"),
    ),
    files={
        "etc/resolv.conf": "",
        "etc/machine-id": "",
        "etc/systemd/system/job.service": UNIT,
        "usr/lib/lab/job": JOB,
    },
)


@dataclass(frozen=True)
class Image:
    """The files that a virtual machine boots; the disk is read-only, each run writes elsewhere."""

    kernel: Path
    initrd: Path
    disk: Path


def ensure(
    cache: Path, report: Callable[[str], None], requirements: Sequence[str], constraints: Path
) -> Image:
    """Return the image; build it first (one to two minutes) if its recipe or its requirements are new.

    `requirements` are pip's requirements with versions. pip's file `constraints` pins their dependencies;
    a change of that file alone builds no new image.
    """
    inputs = [RECIPE.digest, DISK_SIZE, *requirements]
    digest = hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:12]
    image = cache / "lab" / f"vm-{digest}"

    def build_in(folder: Path) -> None:
        report(f"building a virtual machine's disk, once, in {image}")
        host.require(TOOLS)
        folder.mkdir()
        tree = folder / "tree"
        base_tree.build(RECIPE, tree, image.with_suffix(".log"), report)
        (tree / "usr/lib/lab/job").chmod(0o755)
        report("  installing its Python environment...")
        _install(tree, [*requirements, "-c", str(constraints)])
        _pack(tree, folder)

    base_tree.build_once(image, build_in)
    return Image(image / "vmlinuz", image / "initrd.img", image / "disk.img")


def _install(tree: Path, pip_arguments: Sequence[str]) -> None:
    """Create a Python environment inside the tree; this host's pip downloads the packages."""
    wheels = tree / "var/tmp/wheels"
    pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    host.run([sys.executable, *pip, "download", *target, *pip_arguments, f"--dest={wheels}"])
    inside = ["chroot", str(tree)]
    host.run([*inside, "python3", "-m", "venv", ENVIRONMENT])
    files = [f"/var/tmp/wheels/{wheel.name}" for wheel in wheels.iterdir()]
    host.run([*inside, f"{ENVIRONMENT}/bin/python", *pip, "install", "--no-index", "--no-deps", *files])
    shutil.rmtree(wheels)


def _pack(tree: Path, into: Path) -> None:
    """Move the kernel out of the tree and make a disk of the rest (mke2fs fills one without a mount)."""
    for name in ("vmlinuz", "initrd.img"):
        (file,) = tree.glob(f"boot/{name}-*")
        file.rename(into / name)
    disk = into / "disk.img"
    host.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(disk), DISK_SIZE]
    )
    shutil.rmtree(tree)
