# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine boots: Debian with its cloud kernel, and a Python environment, built once.

The lab's other machines share this host's kernel; this one brings its own, with WireGuard in it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import base, host

TOOLS = {"mke2fs": "e2fsprogs", "chroot": "coreutils"}
DISK_SIZE = "2500M"
"""Of a sparse file: it takes what the tree takes."""
PYTHON = "3.11"
"""The tree's own, which decides what wheels its environment takes."""
ENVIRONMENT = "/opt/venv"

# It ends the machine whatever became of the job, and at once: nothing on this disk is kept.
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

# A disk is read and written as a plain tar archive: no file system and no module is needed for that.
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

RECIPE = base.Recipe(
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
    """The parts that a virtual machine starts from; the disk is read only, each run writes elsewhere."""

    kernel: Path
    initrd: Path
    disk: Path


def ensure(
    cache: Path, report: Callable[[str], None], requirements: Sequence[str], constraints: Path
) -> Image:
    """Give the image; build it first (one to two minutes) where its recipe or its requirements are new.

    `requirements` are as pip takes them, with their versions; what they need in turn comes as pip's file
    `constraints` says, and another version of that alone builds no new image.
    """
    words = [RECIPE.digest, DISK_SIZE, *requirements]
    digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:12]
    place = cache / "lab" / f"vm-{digest}"

    def make(growing: Path) -> None:
        report(f"building a virtual machine's disk, once, in {place}")
        host.require(TOOLS)
        growing.mkdir()
        tree = growing / "tree"
        base.build(RECIPE, tree, place.with_suffix(".log"), report)
        (tree / "usr/lib/lab/job").chmod(0o755)
        report("  filling its Python environment...")
        _install(tree, [*requirements, "-c", str(constraints)])
        _pack(tree, growing)

    base.once(place, make)
    return Image(place / "vmlinuz", place / "initrd.img", place / "disk.img")


def _install(tree: Path, wanted: Sequence[str]) -> None:
    """Make a Python environment inside the tree; packages come by this host's ways to an index."""
    wheels = tree / "var/tmp/wheels"
    pip = ["-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet"]
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    host.run([sys.executable, *pip, "download", *target, *wanted, f"--dest={wheels}"])
    inside = ["chroot", str(tree)]
    host.run([*inside, "python3", "-m", "venv", ENVIRONMENT])
    found = [f"/var/tmp/wheels/{each.name}" for each in wheels.iterdir()]
    host.run([*inside, f"{ENVIRONMENT}/bin/python", *pip, "install", "--no-index", "--no-deps", *found])
    shutil.rmtree(wheels)


def _pack(tree: Path, into: Path) -> None:
    """Take the kernel out of the tree and make a disk of it (mke2fs fills one without a mount)."""
    for name in ("vmlinuz", "initrd.img"):
        (found,) = tree.glob(f"boot/{name}-*")
        found.rename(into / name)
    disk = into / "disk.img"
    host.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(disk), DISK_SIZE]
    )
    shutil.rmtree(tree)
