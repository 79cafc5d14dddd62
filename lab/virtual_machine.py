# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one job in a virtual machine with its own kernel: without network, by emulation, with a time-out."""

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
from lab.vm_image import Image

TOOLS = {"qemu-system-x86_64": "qemu-system-x86"}
MEMORY_MIB = 1024
# Of a sparse file: the space for a job's results.
RESULTS_BYTES = 64 << 20
CONSOLE_END_LINES = 40
KERNEL_ARGUMENTS = (
    *("root=/dev/vda", "rw", "console=ttyS0", "quiet"),
    "panic=-1",  # with -no-reboot, a panic ends the machine
    "mitigations=off",  # only the project's own code runs there, and emulation makes them expensive
    "no_timer_check",  # the check fails if this host is so busy that a tick comes late
    *("systemd.show_status=no", "systemd.unit=job.service"),
)


def run(image: Image, job: Path, seconds: float, report: Callable[[str], None]) -> dict[str, str]:
    """Boot, run the job, power off; return the texts of the files in the job's folder $RESULTS, by name.

    `job` is a tar archive with a program `run` at its top. `report` receives the console, line by line. The
    text `code` is the program's exit code. Raises LabError, with the console's last lines, if the machine
    ends without a result or needs more than `seconds`.
    """
    host.require(TOOLS)
    with tempfile.TemporaryDirectory(prefix="jaywalk-vm-") as folder:
        results = Path(folder) / "results"
        with results.open("wb") as file:
            file.truncate(RESULTS_BYTES)
        console_end = _boot(_command(image, job, results), seconds, report)
        texts = _read(results)
    if "code" not in texts:
        raise LabError(f"the virtual machine ended without a result; its console's end:\n{console_end}")
    return texts


def _command(image: Image, job: Path, results: Path) -> list[str]:
    # Not KVM, although it is faster: under some hypervisors it exists and hangs early in a kernel's boot,
    # and a slow run is better than a stuck one.
    drives = (f"{image.disk},snapshot=on", f"{job},read-only=on", str(results))
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-m", str(MEMORY_MIB), "-smp", "2"),
        *("-nodefaults", "-display", "none", "-serial", "stdio", "-net", "none", "-no-reboot"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", " ".join(KERNEL_ARGUMENTS)),
        *(argument for drive in drives for argument in ("-drive", f"format=raw,if=virtio,file={drive}")),
    ]


def _boot(command: list[str], seconds: float, report: Callable[[str], None]) -> str:
    """Run the emulator to its end; return the last lines of its console."""
    last: deque[str] = deque(maxlen=CONSOLE_END_LINES)
    timed_out = threading.Event()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:

        def stop() -> None:
            timed_out.set()
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
    if timed_out.is_set():
        raise LabError(
            f"the virtual machine needed more than {seconds:g} s; its console's end:\n" + "\n".join(last)
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
