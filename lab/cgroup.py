# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's control groups, below those of its supervisor: to freeze the machine and find its processes.

systemd-nspawn runs in its caller's groups (--keep-unit), so each machine needs its own; otherwise
several would share one. Both the pure v2 hierarchy and the hybrid one (v2 beside v1) work: cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab.deadline import Deadline
from lab.errors import LabError

MOUNT = Path("/sys/fs/cgroup")


def group_paths(proc_self_cgroup: str, label: str, *, hybrid: bool) -> tuple[str, ...]:
    """Return the groups to create for a machine, the v2 one last, from the text of /proc/self/cgroup."""
    v1, v2 = [], []
    for line in proc_self_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        below = path.rstrip("/") + "/" + label
        if controllers == "name=systemd":
            v1.append(f"{MOUNT}/systemd{below}")
        elif not controllers:
            v2.append(f"{MOUNT}/unified{below}" if hybrid else f"{MOUNT}{below}")
    return (*v1, *v2)


def create(label: str) -> tuple[str, ...]:
    """Create a machine's groups below our own in all mounted hierarchies, and return their paths."""
    text = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    candidates = group_paths(text, label, hybrid=(MOUNT / "unified").is_dir())
    paths = tuple(path for path in candidates if Path(path).parent.is_dir())
    for path in paths:
        Path(path).mkdir(exist_ok=True)
    return paths


def enter(paths: Iterable[str]) -> None:
    """Move the calling process into the groups."""
    for path in paths:
        Path(path, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def processes(paths: Iterable[str]) -> set[int]:
    """Return every process in the groups and below them."""
    found: set[int] = set()
    for path in paths:
        for file in Path(path).rglob("cgroup.procs"):
            # A group may disappear between the listing and the read; a v2 one may be "threaded".
            with contextlib.suppress(OSError):
                found.update(int(line) for line in file.read_text(encoding="ascii").split())
    return found


def freeze(paths: Iterable[str], *, frozen: bool) -> None:
    """Freeze or thaw every process of the groups; raise LabError if a freeze has no v2 hierarchy."""
    for path in paths:
        control = Path(path, "cgroup.freeze")
        if control.exists():
            control.write_text(str(int(frozen)), encoding="ascii")
            return
    if frozen:
        raise LabError("this host has no cgroup v2 hierarchy, which freezing a machine needs")


def is_frozen(paths: Iterable[str]) -> bool:
    """Return whether all processes of the groups are frozen now."""
    for path in paths:
        with contextlib.suppress(OSError):
            return "frozen 1" in Path(path, "cgroup.events").read_text(encoding="ascii")
    return False


def kill(paths: Iterable[str], *, spare: int = 0, timeout: float = 10.0) -> None:
    """Kill every process of the groups except `spare`; raise LabError if some do not end in time."""
    paths = tuple(paths)
    deadline = Deadline(timeout)
    while left := processes(paths) - {spare}:
        if deadline.passed:
            raise LabError(f"processes {sorted(left)} survive SIGKILL: inspect them with ps")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def remove(paths: Iterable[str]) -> None:
    """Remove the groups and those below them; a group in use stays."""
    for path in paths:
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
