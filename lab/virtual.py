# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs one job in a virtual machine with a kernel of its own: no network, plain emulation, and a time-out."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from lab import host
from lab.errors import LabError
from lab.image import Image

TOOLS = {"qemu-system-x86_64": "qemu-system-x86"}
MEMORY_MIB = 1024
RESULTS_BYTES = 64 << 20
"""Of a sparse file: the room for what a job leaves."""
LAST_LINES = 40
KERNEL_WORDS = (
    *("root=/dev/vda", "rw", "console=ttyS0", "quiet"),
    "panic=-1",  # ends the machine, since it may not reboot
    "no_timer_check",  # which fails where this host is so busy that a tick comes late
    *("systemd.show_status=no", "systemd.unit=job.service"),
)


def run(image: Image, job: Path, seconds: float, report: Callable[[str], None]) -> dict[str, str]:
    """Boot, do the job, power off; give the texts that the job left in its folder $RESULTS, by name.

    `job` is a tar archive with a program `run` at its top.  `report` gets the console, line by line.  The
    text `code` is the program's exit code.  LabError, with the console's last lines, where the machine
    ends without a result or takes longer than `seconds`.
    """
    host.require(TOOLS)
    with tempfile.TemporaryDirectory(prefix="jaywalk-vm-") as folder:
        results = Path(folder) / "results"
        with results.open("wb") as file:
            file.truncate(RESULTS_BYTES)
        last = _boot(_command(image, job, results), seconds, report)
        left = _read(results)
    if "code" not in left:
        raise LabError(f"the virtual machine ended without a result; its last words:\n{last}")
    return left


def _command(image: Image, job: Path, results: Path) -> list[str]:
    # Not KVM, although it would be faster: under some hypervisors it is there and hangs on a kernel's
    # first steps, and a run that may be slow is better than one that may be stuck.
    drives = (f"{image.disk},snapshot=on", f"{job},read-only=on", str(results))
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY_MIB), "-smp", "2"),
        *("-nodefaults", "-display", "none", "-serial", "stdio", "-net", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", " ".join(KERNEL_WORDS)),
        *(word for drive in drives for word in ("-drive", f"format=raw,if=virtio,file={drive}")),
    ]


def _boot(command: list[str], seconds: float, report: Callable[[str], None]) -> str:
    """Run the emulator to its end; give the last lines of its console."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    overdue = threading.Event()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:

        def stop() -> None:
            overdue.set()
            process.kill()

        timer = threading.Timer(seconds, stop)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                last.append(line.rstrip())
                report(last[-1])
        finally:
            timer.cancel()
            process.kill()
    if overdue.is_set():
        raise LabError(
            f"the virtual machine was not done within {seconds:g} s; its last words:\n" + "\n".join(last)
        )
    return "\n".join(last)


def _read(results: Path) -> dict[str, str]:
    try:
        with tarfile.open(fileobj=io.BytesIO(results.read_bytes())) as archive:
            files = [member for member in archive if member.isfile()]
            return {
                Path(member.name).name: file.read().decode(errors="replace")
                for member in files
                if (file := archive.extractfile(member)) is not None
            }
    except tarfile.ReadError:
        return {}
