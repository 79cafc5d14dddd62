# SPDX-License-Identifier: GPL-3.0-or-later
"""Labs that tests create, and a check for their remains."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from lab import Lab
from tests import runs


def mark_fleet_tests(items: Iterable[pytest.Item], folder: Path) -> None:
    """Mark all tests of a folder: they need machines, and time."""
    for item in items:
        if folder in item.path.parents:
            item.add_marker(pytest.mark.fleet)
            item.add_marker(pytest.mark.timeout(3600))


def lab_of_this_run(directory: Path, prefix: str | None = None) -> Lab:
    """Return a lab that is also removed if this run of the tests is killed."""
    runs.record("lab", str(directory))
    return Lab(directory, prefix=prefix, report=lambda text: print(f"lab: {text}", flush=True))


def new_lab() -> Lab:
    """Return a lab in a new folder, with a free prefix and network."""
    directory = Path(tempfile.mkdtemp(prefix="jaywalk-lab-test-", dir="/var/tmp"))
    runs.record("path", str(directory))
    return lab_of_this_run(directory)


def leftovers(lab: Lab, prefix: str) -> list[str]:
    """Return everything of a lab that is still on this host."""
    found = [str(path) for path in Path("/run/netns").glob(f"{prefix}[-_]*")]
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/jaywalk-lab-{prefix}-*")]
    found += [
        line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(lab.directory) in line
    ]
    runtime = Path("/run/jaywalk-lab", prefix)
    for command_line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = command_line.read_bytes()
        except OSError:
            continue
        if str(lab.directory).encode() in arguments or f"{runtime}/".encode() in arguments:
            found.append(str(command_line))
    return found + [str(path) for path in (lab.directory, runtime) if path.exists()]
