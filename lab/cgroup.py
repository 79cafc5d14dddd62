# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's own control groups, below those of its keeper: to freeze it, and to find all of it.

systemd-nspawn takes its caller's groups (--keep-unit), so each machine needs some of its own, or
several would share one. Both the pure v2 hierarchy and the hybrid one (v2 beside v1) are served:
cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from lab.errors import LabError
from lab.patience import Deadline

MOUNT = Path("/sys/fs/cgroup")


def places(proc_self_cgroup: str, label: str, *, hybrid: bool) -> tuple[str, ...]:
    """The groups to make for a machine, the v2 one last, from the text of /proc/self/cgroup."""
    v1, v2 = [], []
    for line in proc_self_cgroup.splitlines():
        _, controllers, path = line.split(":", 2)
        below = path.rstrip("/") + "/" + label
        if controllers == "name=systemd":
            v1.append(f"{MOUNT}/systemd{below}")
        elif not controllers:
            v2.append(f"{MOUNT}/unified{below}" if hybrid else f"{MOUNT}{below}")
    return (*v1, *v2)


def make(label: str) -> tuple[str, ...]:
    """Make a machine's groups below our own, in the hierarchies that are mounted here, and name them."""
    text = Path("/proc/self/cgroup").read_text(encoding="utf-8")
    listed = places(text, label, hybrid=(MOUNT / "unified").is_dir())
    paths = tuple(path for path in listed if Path(path).parent.is_dir())
    for path in paths:
        Path(path).mkdir(exist_ok=True)
    return paths


def enter(paths: Iterable[str]) -> None:
    """Move the calling process into the groups."""
    for path in paths:
        Path(path, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")


def processes(paths: Iterable[str]) -> set[int]:
    """Every process in the groups and below them."""
    found: set[int] = set()
    for path in paths:
        for file in Path(path).rglob("cgroup.procs"):
            # A group may vanish between the look and the read; a v2 one may be "threaded".
            with contextlib.suppress(OSError):
                found.update(int(line) for line in file.read_text(encoding="ascii").split())
    return found


def freeze(paths: Iterable[str], *, frozen: bool) -> None:
    """Stop or continue every process of the groups; LabError where there is no v2 hierarchy to stop them."""
    for path in paths:
        switch = Path(path, "cgroup.freeze")
        if switch.exists():
            switch.write_text(str(int(frozen)), encoding="ascii")
            return
    if frozen:
        raise LabError("this host has no cgroup v2 hierarchy, which freezing a machine needs")


def is_frozen(paths: Iterable[str]) -> bool:
    """Whether all processes of the groups stand still now."""
    for path in paths:
        with contextlib.suppress(OSError):
            return "frozen 1" in Path(path, "cgroup.events").read_text(encoding="ascii")
    return False


def kill(paths: Iterable[str], *, spare: int = 0, timeout: float = 10.0) -> None:
    """Kill every process of the groups but `spare`, and wait until they are gone; LabError if they stay."""
    paths = tuple(paths)
    deadline = Deadline(timeout)
    while left := processes(paths) - {spare}:
        if deadline.passed:
            raise LabError(f"processes {sorted(left)} do not die: look at them with ps")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def remove(paths: Iterable[str]) -> None:
    """Remove the groups and those below them; what is still in use stays."""
    for path in paths:
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                Path(folder).rmdir()
